"""Rows that are all padding, and rows of which every piece is masked: everything stays finite, and other rows do not notice."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.models.architecture import Architecture
from research.models.encoder import WANTS
from research.models.heads import Model, encode, initialise
from research.objectives.losses import LOSSES, WEIGHTS, Losses, Mlm, Plain, active, counts, terms
from research.objectives.view import View

ALL = (('mlm', 64), ('pair', 2), ('label', 3), ('span', 2), ('choice', 1))
PADDING, MASKED = (0, 1), 2  # rows; two of padding, so that all candidates of one choice are
MASK = 4
NONE = Losses(mlm=Mlm(0.0))
MATCHES = [(name, at) for name, row in LOSSES.items() if row.teacher for at in row.places]


def with_odd_rows(batch: dict[str, Any], filler: int) -> dict[str, Any]:
    """`batch` whose first two rows are padding (pieces `filler`, no weight) and whose third is masked all over."""
    batch = {name: np.array(x) for name, x in batch.items()} | {'score': np.linspace(0, 5, len(batch['ids']), dtype=np.float32)}
    for row in PADDING:
        batch['ids'][row], batch['mask'][row], batch['types'][row] = filler, 0, 0
        batch['masked_weights'][row] = batch['weight'][row] = 0
    batch['mask'][MASKED], batch['ids'][MASKED], batch['weight'][MASKED] = 1, MASK, 1
    batch['masked_weights'][MASKED] = 1
    return jax.tree.map(jnp.asarray, batch)


def for_losses(losses: Losses, batch: Any) -> Any:
    """The batch as the losses see it: for a choice two rows are the candidates of one example."""
    options = active(losses).values()
    if not losses.choice.weight and not any('at' in vars(each) and each.at == 'choice' for each in options):
        return batch
    sequences = {name: batch[name].reshape(-1, 2, batch[name].shape[-1]) for name in ('ids', 'types', 'mask')}
    return {**batch, **sequences, 'weight': batch['weight'][::2], 'label': batch['label'][::2] % 2}


def groups() -> list[Losses]:
    """Losses that together have every row of LOSSES at every place where it may match; those of one group share a batch."""
    plain = {name: Plain(1.0) for name, row in LOSSES.items() if not row.teacher and name not in ('mlm', 'choice')}
    found = [dataclasses.replace(NONE, mlm=Mlm(1.0, z=0.1), **plain), dataclasses.replace(NONE, choice=Plain(1.0))]
    for place in dict.fromkeys(at for _, at in MATCHES):
        rows = {name: dataclasses.replace(getattr(NONE, name), weight=1.0, at=at) for name, at in MATCHES if at == place}
        found.append(dataclasses.replace(NONE, **rows))
    return found


@pytest.fixture(scope='module', params=['float32', 'bfloat16'])
def models(request: pytest.FixtureRequest, small: Architecture) -> tuple[Model, Any, Any]:
    """(a model of each dtype with every head, two sets of parameters of it)."""
    model = Model(dataclasses.replace(small, layers=1, dtype=request.param), ALL)
    return model, initialise(model, jax.random.key(0)), initialise(model, jax.random.key(1))


def is_finite(tree: Any) -> bool:
    return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree))


def test_hidden_states_are_finite_and_other_rows_do_not_notice(models: tuple[Model, Any, Any], make_batch: Callable) -> None:
    model, params, _ = models
    forward = jax.jit(lambda params, batch: encode(model, params, batch, want=frozenset(WANTS)))
    batch = make_batch(rows=8)
    found, other = (jax.device_get(forward(params, with_odd_rows(batch, filler))) for filler in (0, 63))
    assert is_finite(found)
    np.testing.assert_array_equal(found.hidden[MASKED:], other.hidden[MASKED:])
    alone = jax.device_get(forward(params, jax.tree.map(lambda x: x[MASKED:], with_odd_rows(batch, 0))))
    np.testing.assert_allclose(found.hidden[MASKED:].astype(np.float32), alone.hidden.astype(np.float32), atol=5e-2)
    padding = found.attention[:, list(PADDING)].astype(np.float32)
    np.testing.assert_allclose(padding, 1 / padding.shape[-1], rtol=1e-2)  # where nothing may be attended to, everything is alike
    packed = {**with_odd_rows(batch, 0), 'segments': jnp.asarray(batch['mask']).at[jnp.array(PADDING)].set(0)}
    packed['positions'] = jnp.broadcast_to(jnp.arange(16), (8, 16))
    assert is_finite(forward(params, packed))


@pytest.mark.parametrize('losses', [pytest.param(losses, id='+'.join(active(losses))) for losses in groups()])
def test_every_loss_and_its_gradient_are_finite_and_blind_to_rows_of_padding(
    models: tuple[Model, Any, Any], make_batch: Callable, losses: Losses
) -> None:
    model, params, teacher = models

    @jax.jit
    @jax.value_and_grad
    def total(params: Any, batch: Any) -> jax.Array:
        batch = for_losses(losses, batch)
        found = terms(losses, View(model, params, batch), View(model, teacher, batch), batch)
        return jnp.sum(jnp.stack([found[name].total / jnp.maximum(count, 1) for name, count in counts(losses, batch).items()]))

    batch = make_batch(rows=8)
    value, gradient = total(params, with_odd_rows(batch, 0))
    assert value > 0 and is_finite((value, gradient))
    other, other_gradient = total(params, with_odd_rows(batch, 63))
    np.testing.assert_allclose(value, other, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), gradient, other_gradient)

    nothing = with_odd_rows(batch, 0)  # a batch of padding alone
    nothing |= {name: jnp.zeros_like(nothing[name]) for name in ('mask', *WEIGHTS.values())}
    value, gradient = total(params, nothing)
    assert value == 0 and all(not leaf.any() for leaf in jax.tree.leaves(gradient))


def test_every_loss_is_in_a_group() -> None:
    assert {name for losses in groups() for name in active(losses)} == set(LOSSES)
