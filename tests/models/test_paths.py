"""Names of parts of a model, the same in all config keys."""

import jax
import pytest

from research.errors import UserError
from research.models import paths
from research.models.architecture import Architecture
from research.models.heads import Model, initialise
from research.models.sharing import layout
from research.optim import Optimizer, multipliers

OWN = ((0, 0), (1, 1), (2, 2))  # three layers that share nothing
ATTENTION = ((0, 0), (0, 1), (0, 2))  # three layers that share attention


@pytest.fixture(scope='module')
def every() -> list[str]:
    """The paths of all parameters of a small model with two heads."""
    a = Architecture(vocabulary=64, layers=3, width=16, heads=2, inner=24, embedding=8, positions=16)
    model = Model(a, (('mlm', 64), ('label', 3)))
    shapes = jax.eval_shape(lambda key: initialise(model, key), jax.random.key(0))
    assert layout(a) == OWN
    return [paths.join(keys) for keys, _ in jax.tree_util.tree_leaves_with_path(shapes)]


def chosen(name: str, every: list[str], layers: tuple[tuple[int, int], ...] = OWN) -> dict[str, tuple[bool, ...]]:
    """The parameters that a name selects, at least in part."""
    found = {path: paths.select((name,), path, layers) for path in every}
    return {path: groups for path, groups in found.items() if any(groups)}


def test_every_parameter_belongs_to_one_part(every: list[str]) -> None:
    assert {paths.top(path) for path in every} == {
        *(f'encoder/{name}' for name in ('word', 'position', 'type', 'norm', 'projection', 'attention', 'feed_forward', 'pooler')),
        'mlm',
        'label',
    }
    for path in every:
        kinds = paths.is_embedding(path), paths.stack_of(path) is not None, paths.top(path) in ('encoder/pooler', 'mlm', 'label')
        assert sum(kinds) == 1, path


def test_the_final_norm_is_above_the_layers_and_no_weight() -> None:
    path = 'encoder/final_norm/scale'
    assert paths.top(path) == 'encoder/final_norm' and paths.stack_of(path) is None
    assert not paths.is_embedding(path) and not paths.is_weight(path)
    a = Architecture(vocabulary=64, layers=3, width=16, heads=2, inner=24, embedding=16, norm='pre')
    params = jax.eval_shape(lambda: initialise(Model(a), jax.random.key(0)))
    found = multipliers(Optimizer(layer_decay=0.5), params, OWN)
    assert found['encoder']['final_norm']['scale'].tolist() == [1.0] and found['encoder']['word'].tolist() == [[0.0625]]


@pytest.mark.parametrize(
    ('name', 'tops'),
    [
        ('pooler', {'encoder/pooler'}),
        ('encoder/pooler', {'encoder/pooler'}),
        ('word', {'encoder/word'}),
        ('embeddings', {f'encoder/{name}' for name in paths.EMBEDDINGS}),
        ('label', {'label'}),
        ('mlm/dense', {'mlm'}),
        ('layer_1', {'encoder/attention', 'encoder/feed_forward'}),
        ('attention', {'encoder/attention'}),
    ],
)
def test_a_name_selects_its_part(every: list[str], name: str, tops: set[str]) -> None:
    paths.validate('optimizer.frozen', (name,), every, OWN)
    assert {paths.top(path) for path in chosen(name, every)} == tops


def test_encoder_selects_everything_but_the_heads(every: list[str]) -> None:
    assert set(chosen('encoder', every)) == {path for path in every if path.startswith('encoder/')}


def test_a_layer_selects_only_its_groups(every: list[str]) -> None:
    found = chosen('layer_1', every)
    assert set(found.values()) == {(False, True, False)}
    found = {path: paths.select(('layer_0', 'layer_1', 'layer_2'), path, ATTENTION) for path in every if paths.stack_of(path) == 0}
    assert set(found.values()) == {(True,)}


@pytest.mark.parametrize(
    ('names', 'layers', 'message'),
    [
        (('poler',), OWN, "surgery.drop names 'poler', which the model does not have.*encoder/pooler"),
        (('layer_3',), OWN, "names 'layer_3', which the model does not have.*layer_0 to layer_2"),
        (('layer_x',), OWN, "names 'layer_x'"),
        (('layer_0',), ATTENTION, 'surgery.drop names layer_0, which shares a block with layer_1: name both'),
    ],
)
def test_unknown_names_and_parts_of_shared_blocks_are_refused(
    every: list[str], names: tuple[str, ...], layers: tuple[tuple[int, int], ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        paths.validate('surgery.drop', names, every, layers)


def test_a_layer_may_be_named_if_another_name_covers_its_shared_block(every: list[str]) -> None:
    paths.validate('surgery.drop', ('layer_0', 'attention'), every, ATTENTION)
