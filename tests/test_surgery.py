"""Start from a donor: which layers, which groups, what stays random, and what is refused."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from research.errors import UserError
from research.models.architecture import Architecture
from research.models.heads import Model, initialise
from research.surgery import Donor, Surgery, choose_layers, inherit, transplant

HEADS = (('mlm', 64), ('pair', 2))
EVENLY = Surgery()


@pytest.fixture(scope='module')
def deep(small: Architecture) -> Architecture:
    return dataclasses.replace(small, layers=12)


@pytest.fixture(scope='module')
def donate() -> Callable[[Architecture], Donor]:
    """A donor in which layer (or group) i holds i everywhere, and every other parameter is fresh."""

    def donate(a: Architecture) -> Donor:
        model = Model(a, HEADS)
        params = jax.tree.map(np.asarray, initialise(model, jax.random.key(1)))
        for block in ('attention', 'feed_forward'):
            params['encoder'][block] = jax.tree.map(
                lambda w: np.broadcast_to(np.arange(len(w), dtype=np.float32).reshape(-1, *[1] * (w.ndim - 1)), w.shape),
                params['encoder'][block],
            )
        return Donor('run (step 7)', a, HEADS, params, None)

    return donate


def start(a: Architecture, donor: Donor, surgery: Surgery = EVENLY, heads: Any = HEADS) -> tuple[Any, Any, Any]:
    """(fresh parameters, parameters after surgery, transfer)."""
    model = Model(a, heads)
    fresh = initialise(model, jax.random.key(0))
    return fresh, *transplant(model, fresh, donor, surgery)


def held(params: Any, block: str) -> list[float]:
    """What each group of a block holds, the same number in each of its parameters."""
    leaves = [np.asarray(leaf).reshape(len(leaf), -1) for leaf in jax.tree.leaves(params['encoder'][block])]
    assert all((leaf == leaf[:, :1]).all() and (leaf[:, 0] == leaves[0][:, 0]).all() for leaf in leaves)
    return leaves[0][:, 0].tolist()


@pytest.mark.parametrize(
    ('layers', 'expected'),
    [(6, (0, 2, 4, 7, 9, 11)), (12, tuple(range(12))), (2, (0, 11)), (1, (0,)), (24, tuple(i // 2 for i in range(24)))],
)
def test_layers_are_evenly_spaced_by_default(deep: Architecture, donate: Callable, layers: int, expected: tuple[int, ...]) -> None:
    _, params, transfer = start(dataclasses.replace(deep, layers=layers), donate(deep))
    assert transfer.layers == expected
    assert held(params, 'attention') == held(params, 'feed_forward') == list(expected)


def test_layers_can_be_chosen(deep: Architecture, donate: Callable) -> None:
    _, params, transfer = start(dataclasses.replace(deep, layers=3), donate(deep), Surgery(layers=(5, 0, 11)))
    assert held(params, 'attention') == [5, 0, 11] and transfer.layers == (5, 0, 11)
    assert transfer.lines()[0] == f"start: took {len(transfer.taken)} parameters, layers from the start's [5, 0, 11]"
    assert transfer.lines()[1:] == ['start: random: nothing', 'start: ignored: nothing']


def test_all_else_is_taken_as_it_is(deep: Architecture, donate: Callable) -> None:
    donor = donate(deep)
    _, params, transfer = start(dataclasses.replace(deep, layers=6), donor)
    for module in ('word', 'position', 'type', 'norm', 'pooler'):
        jax.tree.map(np.testing.assert_array_equal, params['encoder'][module], donor.params['encoder'][module])
    jax.tree.map(np.testing.assert_array_equal, params['mlm'], donor.params['mlm'])
    assert not transfer.random and not transfer.ignored


def test_a_shared_block_is_the_mean_of_the_layers_it_starts_from(deep: Architecture, donate: Callable) -> None:
    shared = dataclasses.replace(deep, layers=6, sharing='all')
    _, params, _ = start(shared, donate(deep))
    assert held(params, 'attention') == pytest.approx([np.mean([0, 2, 4, 7, 9, 11])])
    _, params, _ = start(shared, donate(deep), Surgery(layers=(3,)))
    assert held(params, 'feed_forward') == [3]
    _, params, _ = start(dataclasses.replace(deep, sharing='groups', groups=3), donate(deep))
    assert held(params, 'attention') == pytest.approx([1.5, 5.5, 9.5])
    _, params, _ = start(dataclasses.replace(deep, sharing='attention'), donate(deep))
    assert held(params, 'attention') == [5.5] and held(params, 'feed_forward') == list(range(12))


def test_layers_can_start_from_a_shared_donor(deep: Architecture, donate: Callable) -> None:
    donor = donate(dataclasses.replace(deep, sharing='groups', groups=2))
    _, params, _ = start(dataclasses.replace(deep, layers=4), donor)
    assert held(params, 'attention') == [0, 0, 1, 1]


def test_what_is_dropped_stays_random(deep: Architecture, donate: Callable) -> None:
    fresh, params, transfer = start(deep, donate(deep), Surgery(drop=('pair', 'encoder/position', 'pooler')))
    assert set(transfer.random) == {
        'pair/output/kernel',
        'pair/output/bias',
        'encoder/position',
        'encoder/pooler/kernel',
        'encoder/pooler/bias',
    }
    np.testing.assert_array_equal(params['encoder']['position'], fresh['encoder']['position'])
    np.testing.assert_array_equal(params['pair']['output']['kernel'], fresh['pair']['output']['kernel'])


def test_one_layer_can_stay_random(deep: Architecture, donate: Callable) -> None:
    fresh, params, transfer = start(deep, donate(deep), Surgery(drop=('layer_1',)))
    kernel = params['encoder']['attention']['query']['kernel']
    same = [bool((kernel[layer] == fresh['encoder']['attention']['query']['kernel'][layer]).all()) for layer in range(deep.layers)]
    assert same == [layer == 1 for layer in range(deep.layers)]
    assert transfer.random_layers == (1,)


def test_what_only_one_side_has_is_told(small: Architecture, donate: Callable) -> None:
    a = dataclasses.replace(small, types=0, pooler=False)
    _, params, transfer = start(a, donate(small), heads=(('mlm', 64), ('label', 3)))
    assert {path.split('/')[0] for path in transfer.random} == {'label'}
    assert {path for path in transfer.ignored if path.startswith('encoder')} == {
        'encoder/type',
        'encoder/pooler/kernel',
        'encoder/pooler/bias',
    }
    assert 'type' not in params['encoder']


@pytest.mark.parametrize(
    'changes', [{}, {'sharing': 'all', 'embedding': 8}, {'types': 0}, {'pooler': False}, {'position_kind': 'sinusoidal'}]
)
def test_a_model_without_types_and_pooler_starts_from_any_teacher(
    deep: Architecture, donate: Callable, changes: dict[str, Any]
) -> None:
    donor = donate(dataclasses.replace(deep, **changes))
    surgery = Surgery(inherit=True, keep=0.5, without=('types', 'pooler'))
    a = inherit(surgery, deep, donor.architecture)
    _, params, transfer = start(a, donor, surgery, heads=(('mlm', 64),))
    assert not transfer.random and transfer.layers == (0, 2, 4, 7, 9, 11) and not {'type', 'pooler'} & set(params['encoder'])
    left_out = {path for path in transfer.ignored if path.startswith('encoder')}
    types = {'encoder/type'} if donor.architecture.types else set()
    pooler = {'encoder/pooler/kernel', 'encoder/pooler/bias'} if donor.architecture.pooler else set()
    assert left_out == types | pooler


def test_a_part_that_is_none_is_refused_with_the_nearest(small: Architecture) -> None:
    with pytest.raises(UserError, match=r"no surgery.without named 'poler'; did you mean 'pooler'"):
        inherit(Surgery(inherit=True, without=('poler',)), small, small)


def test_a_shorter_model_takes_the_first_positions(small: Architecture, donate: Callable) -> None:
    donor = donate(small)
    _, params, _ = start(dataclasses.replace(small, positions=8), donor)
    np.testing.assert_array_equal(params['encoder']['position'], donor.params['encoder']['position'][:8])


@pytest.mark.parametrize(
    ('changes', 'surgery', 'message'),
    [
        (
            {'positions': 32},
            Surgery(),
            'start: encoder/position has shape (16, 16) in run (step 7) but (32, 16) here; '
            'make the architectures agree, or leave it random with --config.surgery.drop=encoder/position',
        ),
        ({'inner': 32}, Surgery(), 'leave it random with --config.surgery.drop=encoder/feed_forward'),
        ({}, Surgery(layers=(0, 12)), 'surgery.layers names layer 12, but the start has layers 0 to 11'),
        ({}, Surgery(layers=(-1, 2)), 'surgery.layers names layer -1, but the start has layers 0 to 11'),
        ({}, Surgery(layers=(0, 1, 2)), 'surgery.layers=(0, 1, 2) names 3 layers for the 2 of the model: give one for each'),
        (
            {},
            Surgery(drop=('labl',)),
            "surgery.drop names 'labl', which the model does not have (there are: embeddings, layer_0 to layer_",
        ),
    ],
)
def test_surgery_that_does_not_fit_is_refused(
    small: Architecture, deep: Architecture, donate: Callable, changes: dict[str, Any], surgery: Surgery, message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        start(dataclasses.replace(small, **changes), donate(deep), surgery)


def test_an_inherited_architecture_keeps_only_rates_and_compute_settings(small: Architecture) -> None:
    donor = dataclasses.replace(small, layers=7, sharing='all', activation='relu', types=0)
    mine = Architecture(dropout=0.3, attention_dropout=0.2, head_dropout=0.4, dtype='bfloat16', unroll=3, remat='block', layers=2)
    expected = dataclasses.replace(
        donor,
        dropout=0.3,
        attention_dropout=0.2,
        head_dropout=0.4,
        span_dropout=mine.span_dropout,
        deviation=mine.deviation,
        dtype='bfloat16',
        unroll=3,
        remat='block',
    )
    assert inherit(Surgery(), mine, donor) == expected
    assert inherit(Surgery(keep=0.5), mine, donor) == dataclasses.replace(expected, layers=4)
    assert inherit(Surgery(keep=0.01), mine, donor) == dataclasses.replace(expected, layers=1)
    grouped = inherit(Surgery(sharing='groups'), dataclasses.replace(mine, groups=3), donor)
    assert grouped == dataclasses.replace(expected, sharing='groups', groups=3)


@pytest.mark.parametrize('keep', [0.0, -0.5, 1.5])
def test_the_share_of_layers_to_keep_is_a_share(small: Architecture, keep: float) -> None:
    with pytest.raises(UserError, match=f'surgery.keep={keep} must be a share'):
        inherit(Surgery(keep=keep), small, small)


def test_the_evenly_spaced_layers_of_every_pair_of_depths_rise_and_keep_the_ends() -> None:
    for depth in range(2, 25):
        for layers in range(2, depth + 1):
            chosen = choose_layers(Surgery(), Architecture(layers=layers), Architecture(layers=depth))
            assert chosen[0] == 0 and chosen[-1] == depth - 1 and list(chosen) == sorted(set(chosen))
