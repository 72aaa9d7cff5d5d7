"""Sharing: maps, groups and gradients; nothing else changes."""

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.errors import UserError
from research.models.architecture import Architecture
from research.models.heads import Model, encode, initialise
from research.models.sharing import SHARING, count_groups, layout

TABLE = ((0, 0), (1, 0), (0, 1), (2, 1))
# (layer, strategy) by hand, for 4 layers and 2 groups.
MAPS = {
    'none': ((0, 0), (1, 1), (2, 2), (3, 3)),
    'all': ((0, 0), (0, 0), (0, 0), (0, 0)),
    'attention': ((0, 0), (0, 1), (0, 2), (0, 3)),
    'ffn': ((0, 0), (1, 0), (2, 0), (3, 0)),
    'groups': ((0, 0), (0, 0), (1, 1), (1, 1)),
    'cycle': ((0, 0), (1, 1), (0, 0), (1, 1)),
    'table': TABLE,
}


@pytest.fixture(scope='module')
def shared(small: Architecture) -> Callable[..., Architecture]:
    """shared(strategy, unroll) -> 4 layers under a strategy of SHARING."""

    def shared(sharing: str, unroll: int = 1) -> Architecture:
        return dataclasses.replace(small, layers=4, sharing=sharing, groups=2, table=TABLE, unroll=unroll)

    return shared


@pytest.fixture(scope='module')
def batch(make_batch: Callable) -> dict[str, jax.Array]:
    return jax.tree.map(jnp.asarray, make_batch(rows=4))


def fresh(a: Architecture) -> Any:
    return initialise(Model(a), jax.random.key(0))['encoder']


@functools.cache
def program(a: Architecture) -> Callable[[Any, dict[str, jax.Array]], tuple[jax.Array, Any]]:
    """(parameters, batch) -> (a number that depends on every hidden state, its gradient); compiled once for each architecture."""

    def objective(params: Any, batch: dict[str, jax.Array]) -> jax.Array:
        return jnp.sum(jnp.sin(encode(Model(a), {'encoder': params}, batch).hidden) * batch['mask'][:, :, None])

    return jax.jit(jax.value_and_grad(objective))


@pytest.mark.parametrize('sharing', SHARING)
def test_a_strategy_maps_layers_to_groups(shared: Callable[..., Architecture], sharing: str) -> None:
    assert layout(shared(sharing)) == MAPS[sharing]


def test_the_sizes_of_groups_differ_by_at_most_one_layer(small: Architecture) -> None:
    runs = [pair[0] for pair in layout(dataclasses.replace(small, layers=7, sharing='groups', groups=3))]
    assert runs == sorted(runs) and sorted(map(runs.count, set(runs))) == [2, 2, 3]


@pytest.mark.parametrize('sharing', SHARING)
def test_each_group_has_a_gradient_which_unrolling_does_not_change(
    shared: Callable[..., Architecture], batch: dict[str, jax.Array], sharing: str
) -> None:
    a = shared(sharing)
    params = fresh(a)
    value, gradient = program(a)(params, batch)
    for part, block in enumerate(('attention', 'feed_forward')):
        groups = len({pair[part] for pair in MAPS[sharing]})
        assert count_groups(a)[part] == groups
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradient[block]):
            assert leaf.shape[0] == groups
            # Softmax does not see a bias of the keys.
            if "'key'" not in str(path) or "'bias'" not in str(path):
                assert (np.abs(leaf).reshape(groups, -1).max(1) > 1e-3).all(), path

    unrolled = shared(sharing, unroll=0)
    assert jax.tree.structure(jax.eval_shape(lambda: fresh(unrolled))) == jax.tree.structure(params)
    other_value, other_gradient = program(unrolled)(params, batch)
    np.testing.assert_allclose(other_value, value, rtol=1e-5)
    jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4), other_gradient, gradient)


@pytest.mark.parametrize('sharing', ['all', 'attention', 'ffn', 'cycle', 'table'])
def test_a_shared_model_equals_an_unshared_one_with_copies(
    shared: Callable[..., Architecture], batch: dict[str, jax.Array], sharing: str
) -> None:
    a, whole = shared(sharing), shared('none')
    params = fresh(a)
    copied = dict(params)
    for part, block in enumerate(('attention', 'feed_forward')):
        layers = np.array([pair[part] for pair in MAPS[sharing]])
        copied[block] = jax.tree.map(lambda stack, layers=layers: stack[layers], params[block])
    value, gradient = program(a)(params, batch)
    other_value, other_gradient = program(whole)(copied, batch)
    np.testing.assert_allclose(other_value, value, rtol=1e-5)
    for part, block in enumerate(('attention', 'feed_forward')):
        layers = np.array([pair[part] for pair in MAPS[sharing]])
        groups = count_groups(a)[part]
        summed = jax.tree.map(
            lambda g, layers=layers, groups=groups: np.stack([np.asarray(g)[layers == k].sum(0) for k in range(groups)]),
            other_gradient[block],
        )
        jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4), summed, gradient[block])


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'sharing': 'al'}, "no sharing strategy (model.sharing) named 'al'; did you mean 'all'? (there are: none, all, attention"),
        ({'sharing': 'groups', 'groups': 3}, 'model.groups=3 with model.layers=2: give 1 to 2 groups'),
        ({'sharing': 'cycle', 'groups': 0}, 'model.groups=0 with model.layers=2: give 1 to 2 groups'),
        ({'sharing': 'table', 'table': ((0, 0),)}, 'must hold one (attention group, feed-forward group) for each of the 2 layers'),
        ({'sharing': 'table', 'table': ((0, 0), (1,))}, 'must hold one (attention group, feed-forward group) for each'),
        ({'sharing': 'table', 'table': ((0, 0), (2, 0))}, 'the attention groups of model.table are [0, 2]; they must be 0 … 1'),
        ({'sharing': 'table', 'table': ((0, 1), (0, 1))}, 'the feed-forward groups of model.table are [1]; they must be 0 … 0'),
    ],
)
def test_a_map_that_does_not_fit_is_refused(small: Architecture, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        layout(dataclasses.replace(small, **changes))
