"""What the backward pass recomputes: the same values, and fewer arrays kept."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from research import train
from research.models.architecture import REMATS, Architecture
from research.models.heads import Model
from research.models.remat import POLICIES, group_size
from research.objectives.losses import Losses, Match
from research.optim import Optimizer

PLAIN = Optimizer(name='sgd', lr=1.0, warmup=0.0, power=0.0, weight_decay=0.0, clip=0.0)


def build(a: Architecture, remat: str, batch: Any) -> tuple[Any, train.State]:
    """(the lowered step of a model with dropout and a teacher, its first state)."""
    a = dataclasses.replace(a, layers=4, dropout=0.1, attention_dropout=0.1, remat=remat)
    model = Model(a, (('mlm', 64),))
    state = train.initial_state(model, PLAIN, 0)
    step = train.make_step(model, model, Losses(cosine=Match(1.0)), PLAIN, 10)
    return jax.jit(lambda state, batch: step(state, {'teacher': state.params}, batch, None)).lower(state, batch), state


@pytest.mark.parametrize('sharing', ['none', 'all', 'cycle'])
@pytest.mark.parametrize('remat', [name for name in REMATS if name != 'none'])
def test_what_is_recomputed_has_the_same_value(small: Architecture, make_batch: Callable, remat: str, sharing: str) -> None:
    batch, a = make_batch(), dataclasses.replace(small, sharing=sharing, groups=2)
    (plain, state), (lowered, _) = build(a, 'none', batch), build(a, remat, batch)
    one, metrics = plain.compile()(state, batch)
    two, found = lowered.compile()(state, batch)
    assert float(metrics['loss']) == pytest.approx(float(found['loss']), rel=1e-6)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-6), one.params, two.params)


def test_each_policy_needs_less_memory_than_none(small: Architecture, make_batch: Callable) -> None:
    a, batch = dataclasses.replace(small, width=32, inner=128, embedding=32), make_batch(rows=64)
    needed = {remat: build(a, remat, batch)[0].compile().memory_analysis().temp_size_in_bytes for remat in REMATS}
    assert needed['block'] < needed['products'] < needed['none'] and needed['everything'] < needed['none']


def test_every_policy_has_a_row() -> None:
    assert tuple(POLICIES) == REMATS


@pytest.mark.parametrize(('layers', 'size'), [(1, 1), (4, 2), (7, 1), (12, 3), (24, 4), (48, 6)])
def test_groups_hold_about_the_root_of_the_layers(layers: int, size: int) -> None:
    assert group_size(layers) == size
