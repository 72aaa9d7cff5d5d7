"""A step of which some parts do not move, and others less."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import train
from research.models.architecture import Architecture
from research.models.heads import Model
from research.objectives.losses import Losses, Mlm, Plain
from research.optim import Optimizer

RATE = Optimizer(name='sgd', lr=1.0, warmup=0.0, power=0.0, weight_decay=0.1, clip=0.0)


def step(small: Architecture, make_batch: Callable, **options: Any) -> tuple[Any, Any, float]:
    """The parameters before and after one step, and the norm of its gradient."""
    optimizer = dataclasses.replace(RATE, **options)
    model = Model(small, (('label', 3),))
    state = train.initial_state(model, optimizer, 0)
    function = jax.jit(lambda state, batch: train.make_step(model, None, LOSSES, optimizer, 2)(state, {}, batch, None))
    after, metrics = function(state, jax.tree.map(jnp.asarray, make_batch()))
    return jax.device_get(state.params), jax.device_get(after.params), float(metrics['gradient_norm'].mean())


LOSSES = Losses(mlm=Mlm(0.0), label=Plain(1.0))


def test_frozen_parts_stay_and_others_move_as_they_would(small: Architecture, make_batch: Callable) -> None:
    before, free, norm = step(small, make_batch)
    _, held, less = step(small, make_batch, frozen=('embeddings', 'layer_0'))
    encoder, others = held['encoder'], free['encoder']
    np.testing.assert_array_equal(encoder['word'], before['encoder']['word'])
    for part in ('attention', 'feed_forward'):
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[0], b[0]), encoder[part], before['encoder'][part])
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b[1], atol=1e-6), encoder[part], others[part])
    assert 0 < less < norm
    assert np.abs(others['word'] - before['encoder']['word']).max() > 0


def test_layers_move_by_their_rates(small: Architecture, make_batch: Callable) -> None:
    before, free, _ = step(small, make_batch)
    _, decayed, _ = step(small, make_batch, layer_decay=0.5)

    def moved(params: Any) -> Any:
        return jax.tree.map(lambda a, b: a - b, params, before)

    one, two = moved(free), moved(decayed)
    np.testing.assert_allclose(two['encoder']['word'], one['encoder']['word'] / 8, atol=1e-6)
    for layer, share in ((0, 4), (1, 2)):
        query = [each['encoder']['attention']['query']['kernel'][layer] for each in (one, two)]
        np.testing.assert_allclose(query[1], query[0] / share, atol=1e-6)
    np.testing.assert_allclose(two['label']['output']['kernel'], one['label']['output']['kernel'], atol=1e-6)


# ---- Broken steps ---------------------------------------------------------------------------------------------------------------

KEPT = Optimizer(lr=1e-2, warmup=0.0, power=0.0, ema=0.5)


@pytest.fixture(scope='module')
def watched(small: Architecture, make_batch: Callable) -> tuple[train.State, Callable[..., tuple[train.State, dict[str, Any]]]]:
    """(a first state, watched(state, weight) -> one step whose examples weigh `weight`, with spikes and norms looked at)."""
    model = Model(small, (('label', 3),))
    step = train.make_step(model, None, LOSSES, KEPT, 100, spike=3.0, norms=True)
    compiled = jax.jit(lambda state, batch: step(state, {}, batch, None))
    batch = jax.tree.map(jnp.asarray, make_batch())

    def walk(state: train.State, weight: float = 1.0) -> tuple[train.State, dict[str, Any]]:
        after, metrics = compiled(state, {**batch, 'weight': jnp.full(16, weight)})
        return after, jax.device_get(metrics)

    return train.initial_state(model, KEPT, 0, spike=3.0), walk


def changing(state: train.State) -> list[Any]:
    return jax.device_get(jax.tree.leaves((state.params, state.moments, state.average, state.losses)))


@pytest.mark.parametrize('weight', [float('nan'), float('inf')])
def test_a_broken_step_moves_nothing_but_the_clock(watched: Any, weight: float) -> None:
    first, walk = watched
    before, metrics = walk(first)
    assert metrics['skipped'] == 0
    after, metrics = walk(before, weight)
    assert metrics['skipped'] == 1 and int(after.step) == int(before.step) + 1 == 2
    assert not np.isfinite(metrics['loss'])
    for a, b in zip(changing(before), changing(after), strict=True):
        np.testing.assert_array_equal(a, b)
    on, metrics = walk(after)
    assert metrics['skipped'] == 0 and np.isfinite(metrics['loss'])
    assert np.abs(on.params['encoder']['word'] - after.params['encoder']['word']).max() > 0


def test_a_spike_is_a_loss_far_above_a_full_window(watched: Any) -> None:
    first, walk = watched
    _, metrics = walk(first)
    loss = float(metrics['loss'])
    window = loss / 2 + 0.01 * jnp.where(jnp.arange(train.WINDOW) % 2 == 0, 1, -1)  # standard deviation 0.01
    for losses, skipped in (
        (window, 1),
        (window.at[5].set(jnp.nan), 0),
        (window + loss / 2 - 0.02, 0),
        (window + loss / 2 - 0.04, 1),
    ):
        after, metrics = walk(dataclasses.replace(first, losses=losses))
        assert metrics['skipped'] == skipped and np.isfinite(metrics['loss'])
        np.testing.assert_array_equal(after.losses, losses if skipped else jnp.append(losses[1:], loss))


def test_a_loss_is_compared_with_those_of_batches_of_its_kind() -> None:
    losses = jnp.stack([jnp.full(train.WINDOW, 6.0), jnp.full(train.WINDOW, 4.0)])
    masked, causal = {'weight': jnp.ones(2)}, {'weight': jnp.ones(2), 'causal': jnp.ones(2)}
    for batch, sound in ((masked, 6.0), (causal, 4.0)):
        assert train.is_sound(jnp.array(sound), jnp.array(1.0), train.find_window(losses, batch), 3.0)
        assert not train.is_sound(jnp.array(7.0), jnp.array(1.0), train.find_window(losses, batch), 3.0)
    after = train.remember(losses, causal, jnp.array(3.0))
    assert after is not None and after[0].tolist() == losses[0].tolist() and after[1].tolist() == [4.0] * (train.WINDOW - 1) + [3.0]
    assert train.remember(None, causal, jnp.array(3.0)) is None and train.find_window(losses[0], causal) is not None


def test_the_norms_of_all_parts_make_up_the_norm(watched: Any) -> None:
    first, walk = watched
    _, metrics = walk(first)
    parts = {name: value for name, value in metrics.items() if name.startswith('gradient_norm/')}
    assert [name.partition('/')[2] for name in sorted(parts)] == ['embeddings', 'label', 'layer_0', 'layer_1', 'pooler']
    assert all(value > 0 for value in parts.values())
    np.testing.assert_allclose(np.sqrt(sum(value**2 for value in parts.values())), metrics['gradient_norm'], rtol=1e-5)


def test_the_norm_of_a_shared_block_is_that_of_the_first_layer_that_has_it() -> None:
    gradients = {'encoder': {'attention': {'kernel': jnp.array([[3.0]])}, 'feed_forward': {'kernel': jnp.array([[4.0], [1.0]])}}}
    found = train.group_norms(gradients, ((0, 0), (0, 1), (0, 1)))
    assert {name: float(value) for name, value in found.items()} == {'gradient_norm/layer_0': 5.0, 'gradient_norm/layer_1': 1.0}
