"""A step of which some parts do not move, and others less."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research import train
from research.models.architecture import Architecture
from research.models.heads import Model
from research.objectives.losses import Losses, Plain
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


LOSSES = Losses(mlm=Plain(0.0), label=Plain(1.0))


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
