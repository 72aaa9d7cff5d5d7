"""The rules that place arrays on a mesh, and the bytes that each device holds by them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from research import parallel, sharding, train
from research.models import paths
from research.models.architecture import Architecture
from research.models.heads import Model, initialise
from research.models.sharing import SHARING
from research.optim import OPTIMIZERS, Optimizer
from research.sharding import DATA, MODEL, Grid, place

EIGHT, MESH, SPLIT = Grid(8, 1, states=True), Grid(4, 2, states=True), Grid(4, 2)
BOTH = (DATA, MODEL)


@pytest.mark.parametrize(
    ('path', 'shape', 'eight', 'mesh', 'split'),
    [
        ('encoder/word', (30522, 768), (None, DATA), (MODEL, DATA), (MODEL,)),
        ('encoder/position', (512, 768), (None, DATA), (None, BOTH), ()),
        ('encoder/attention/query/kernel', (12, 768, 12, 64), (None, DATA), (None, DATA, MODEL), (None, None, MODEL)),
        ('encoder/attention/key/bias', (12, 12, 64), (), (None, MODEL), (None, MODEL)),
        ('encoder/attention/output/kernel', (1, 12, 64, 768), (None, None, None, DATA), (None, MODEL, None, DATA), (None, MODEL)),
        ('encoder/attention/output/bias', (12, 768), (), (), ()),
        ('encoder/feed_forward/inner/kernel', (12, 768, 3072), (None, None, DATA), (None, DATA, MODEL), (None, None, MODEL)),
        ('encoder/feed_forward/inner/bias', (24, 4096), (None, DATA), (None, (MODEL, DATA)), (None, MODEL)),
        ('encoder/feed_forward/output/kernel', (12, 3072, 768), (None, DATA), (None, MODEL, DATA), (None, MODEL)),
        ('encoder/feed_forward/norm/scale', (12, 768), (), (), ()),
        ('encoder/final_norm/scale', (768,), (), (), ()),
        ('encoder/pooler/kernel', (768, 768), (DATA,), (BOTH,), ()),
        ('mlm/output/bias', (30522,), (), (MODEL,), (MODEL,)),
        ('label/output/kernel', (768, 3), (DATA,), (BOTH,), ()),
        ('label/output/kernel', (12, 3), (), (DATA,), ()),  # 8 devices divide neither side, 4 one of them
        ('encoder/attention/query/kernel', (8, 6, 2, 3), (DATA,), (DATA, None, MODEL), (None, None, MODEL)),  # only groups fit
        ('encoder/attention/query/kernel', (8, 16, 3, 5), (None, DATA), (None, BOTH), ()),  # heads that 2 devices cannot share
        ('step', (), (), (), ()),
        ('losses', (128,), (), (), ()),
        ('logits', (64, 8), (), (), ()),
    ],
)
def test_the_rules(path: str, shape: tuple[int, ...], eight: tuple, mesh: tuple, split: tuple) -> None:
    for before in ('', 'params/', 'moments/1/0/first/', 'teacher/') if '/' in path else ('',):
        found = [tuple(place(before + path, shape, grid)) for grid in (EIGHT, MESH, SPLIT)]
        assert found == [eight, mesh, split]
    assert place(path, shape, Grid()) == jax.P()


@pytest.mark.parametrize('sharing', SHARING)
def test_every_array_of_every_model_can_be_placed(small: Architecture, sharing: str) -> None:
    a = dataclasses.replace(small, layers=4, sharing=sharing, groups=2, table=((0, 0), (1, 0), (0, 1), (2, 1)))
    params = jax.eval_shape(lambda: initialise(Model(a, (('mlm', 64), ('pair', 2))), jax.random.key(0)))
    for grid in (EIGHT, MESH, SPLIT, Grid(3, 5, states=True)):
        for keys, leaf in jax.tree_util.tree_leaves_with_path(params):
            path = paths.join(keys)
            sizes = {None: 1, DATA: grid.data, MODEL: grid.model} | dict.fromkeys((BOTH, BOTH[::-1]), grid.data * grid.model)
            spec = tuple(place(path, leaf.shape, grid))
            assert all(size % sizes[axis] == 0 for size, axis in zip(leaf.shape, spec, strict=False))
            parts = int(np.prod([sizes[axis] for axis in spec]))
            assert sharding.count_bytes(path, leaf.shape, grid) * parts == 4 * leaf.size
            if grid == EIGHT and paths.is_weight(path) and leaf.ndim > 1:
                assert (parts == 8) == any(size % 8 == 0 for size in leaf.shape)
                assert paths.stack_of(path) is None or not spec or spec[0] is None


@pytest.mark.parametrize('name', OPTIMIZERS)
def test_moments_and_averages_lie_as_their_parameters(small: Architecture, name: str) -> None:
    model = Model(small, (('mlm', 64),))
    state = jax.eval_shape(lambda: train.initial_state(model, Optimizer(name=name, ema=0.9), 0))
    leaves: dict[str | None, Any] = {}
    for keys, leaf in jax.tree_util.tree_leaves_with_path(state):
        leaves.setdefault(sharding.find_parameter(paths.join(keys)), []).append(place(paths.join(keys), leaf.shape, EIGHT))
    alone = {paths.join(keys) for keys, _ in jax.tree_util.tree_leaves_with_path(state.params)}
    assert set(leaves) == {*alone, None}
    assert all(len(set(specs)) == 1 and len(specs) >= 2 for path, specs in leaves.items() if path)


@pytest.mark.parametrize(('kind', 'model', 'share'), [('jit', 1, 1.0), ('jit', 2, 0.8), ('fsdp', 1, 0.25), ('fsdp', 2, 0.25)])
def test_states_keep_their_shards_over_a_step(
    small: Architecture, make_batch: Callable, kind: str, model: int, share: float
) -> None:
    """The first device holds less than `share` of the state, before a step and after it, and every array as it did."""
    taught = Model(small, (('mlm', 64), ('pair', 2)))
    first = train.initial_state(taught, Optimizer(ema=0.9), 0)
    plan = parallel.PARALLEL[kind].plan(jax.devices(), model)
    state = plan.put_state(first)
    before = jax.tree.map(lambda x: x.sharding, state)
    step = plan.compile(train.make_step(taught, None, train.Losses(), Optimizer(ema=0.9), 10), donate=True)
    after, metrics = step(state, {}, plan.put_batch(make_batch()))
    assert jax.tree.map(lambda x: x.sharding, after) == before
    assert all(value.sharding.is_fully_replicated for value in metrics.values())
    assert all(x.is_deleted() for x in jax.tree.leaves(state) if x.ndim)  # donated
    held = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(after.params))
    assert held <= share * sum(x.nbytes for x in jax.tree.leaves(after.params))


def test_outside_of_a_sharded_program_nothing_is_gathered(small: Architecture) -> None:
    tree = {'word': np.zeros((64, 16), np.float32)}
    assert sharding.gather(tree) is tree
