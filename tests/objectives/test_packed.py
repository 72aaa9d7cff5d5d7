"""Packed examples: the same losses and gradients as the same examples unpacked, and none that sees another."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import parallel, train
from research.data.encoding import Encoded
from research.data.packing import Shape, lay_out, place
from research.data.pretraining import Batch
from research.data.tokenizers import Vocabulary
from research.models.architecture import Architecture
from research.models.heads import Model
from research.objectives.losses import AT, LOSSES, Losses, Match, Mlm, Plain, Soft
from research.objectives.view import View
from research.optim import Optimizer

EXAMPLES = 13
LENGTH = 16  # positions of the model, and of a row
NONE = Losses(mlm=Mlm(0.0))
PLAIN = Optimizer(name='sgd', lr=1.0, warmup=0.0, power=0.0, weight_decay=0.0, clip=0.0)
# Kind of a task -> losses that read it. Together they are all that data of a task that can be packed allow.
TASKS = {
    'label': dataclasses.replace(NONE, label=Plain(1.0), soft=Soft(2.0, at='label'), mse=Match(0.5, at='label'), cosine=Match(1.0)),
    'score': dataclasses.replace(NONE, regression=Plain(1.0), mse=Match(0.5, at='score')),
    'span': dataclasses.replace(NONE, span=Plain(1.0), soft=Soft(2.0, at='span'), mse=Match(0.5, at='span')),
}
HEADS = {'label': (('label', 3),), 'score': (('label', 1),), 'span': (('span', 2),)}


@pytest.fixture(scope='module')
def encoded() -> Encoded:
    """Examples of 5 to 7 pieces, of two texts each, with targets of every kind."""
    draw = np.random.default_rng(0)
    special = np.arange(64) < 5
    pieces = Vocabulary(64, 0, 1, 2, 3, 4, word_start=special, special=special, fingerprint='')
    sizes = draw.integers(1, 3, (2, EXAMPLES))
    segments = [[draw.integers(5, 64, size).astype(np.int32) for size in column] for column in sizes]
    lengths = sizes.sum(axis=0) + 3
    targets = {
        'label': draw.integers(0, 3, EXAMPLES).astype(np.int32),
        'score': draw.random(EXAMPLES).astype(np.float32),
        'start': draw.integers(0, lengths).astype(np.int32),
        'end': draw.integers(0, lengths).astype(np.int32),
    }
    return Encoded([], (), segments, 1, np.arange(EXAMPLES), targets, lengths, True, pieces, (LENGTH,))


def pack(encoded: Encoded, divisor: int = 1) -> Batch:
    """All examples in as few rows as they need, a multiple of `divisor`."""
    row, rows = place(encoded.lengths, 1, LENGTH)
    return lay_out(encoded, np.arange(EXAMPLES), row, -(-rows // divisor) * divisor, Shape(LENGTH, 3, 1, 1.0))


@functools.cache
def compiled(small: Architecture, kind: str, way: tuple[str, int, int]) -> tuple[parallel.Plan, Callable[..., Any], Any, Any]:
    """(the plan, the step, the first state, what is frozen), each made once. way: a row of PARALLEL, devices, micro-batches."""
    name, devices, accumulate = way
    plan = parallel.PARALLEL[name].plan(jax.devices()[:devices])
    model = Model(small, HEADS[kind])
    frozen = {'teacher': train.initial_state(model, PLAIN, 1).params}
    function = plan.compile(train.make_step(model, model, TASKS[kind], PLAIN, 1, accumulate))
    return plan, function, plan.put_state(train.initial_state(model, PLAIN, 0)), plan.put_state(frozen)


def step(small: Architecture, kind: str, batch: Batch, way: tuple[str, int, int] = ('jit', 1, 1)) -> tuple[Any, dict[str, float]]:
    """The parameters after a step whose rate is 1, and its numbers."""
    plan, function, state, frozen = compiled(small, kind, way)
    after, metrics = function(state, frozen, plan.put_batch(batch))
    return jax.device_get(after.params), {name: float(value.mean()) for name, value in metrics.items()}


TASKS_OF = {kind: [name for name in LOSSES if getattr(losses, name).weight] for kind, losses in TASKS.items()}


def assert_same_update(one: tuple[Any, dict[str, float]], other: tuple[Any, dict[str, float]]) -> None:
    """Losses, tokens and gradients agree to rounding."""
    assert one[1] == pytest.approx(other[1], rel=2e-6, abs=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), one[0], other[0])


@pytest.mark.parametrize(
    ('kind', 'way'),
    [
        ('label', ('jit', 1, 1)),
        ('label', ('jit', 4, 2)),
        ('label', ('pmap', 2, 2)),
        ('score', ('jit', 1, 1)),
        ('span', ('jit', 1, 2)),
    ],
)
def test_packed_examples_give_the_update_of_the_same_examples_unpacked(
    small: Architecture, encoded: Encoded, kind: str, way: tuple[str, int, int]
) -> None:
    batch = pack(encoded, way[1] * way[2])
    assert len(batch['ids']) < EXAMPLES and (way[1] == 1 or not batch['mask'][-1].any())
    one = step(small, kind, encoded.make(np.arange(EXAMPLES)))
    assert one[1]['loss'] > 0.1 and one[1]['gradient_norm'] > 0.1
    assert_same_update(step(small, kind, batch, way), one)


def test_a_model_without_a_pooler_reads_the_first_positions_too(small: Architecture, encoded: Encoded) -> None:
    small = dataclasses.replace(small, pooler=False)
    assert_same_update(step(small, 'label', pack(encoded)), step(small, 'label', encoded.make(np.arange(EXAMPLES))))


def test_an_update_without_segments_is_another(small: Architecture, encoded: Encoded) -> None:
    """The law above can fail: by examples that see one another, or by positions that go on."""
    batch = pack(encoded)
    right = step(small, 'label', batch)[1]['gradient_norm']
    together = {**batch, 'segments': np.minimum(batch['segments'], 1)}
    onward = {**batch, 'positions': np.arange(LENGTH, dtype=np.int32)[None].repeat(len(batch['ids']), 0)}
    for wrong in (together, onward, {**batch, 'starts': batch['starts'] * 0}):
        assert abs(step(small, 'label', wrong)[1]['gradient_norm'] - right) > 1e-3


@pytest.mark.parametrize('head', ['label', 'span'])
def test_no_example_sees_another(small: Architecture, encoded: Encoded, head: str) -> None:
    """Other pieces in one example change none of the logits of the others, in no bit, and all of its own."""
    model = Model(small, HEADS[head])
    params = train.initial_state(model, PLAIN, 0).params
    batch = pack(encoded)
    changed = batch['segments'] == 2
    assert changed.any(axis=1).sum() > 2
    other = {**batch, 'ids': np.where(changed, 63 - batch['ids'] % 50, batch['ids']).astype(np.int32)}

    @jax.jit
    def logits(batch: Any) -> jax.Array:
        return View(model, params, batch).logits(head)

    one, two = (np.asarray(logits(jax.tree.map(jnp.asarray, each))) for each in (batch, other))
    assert one.shape[:2] == batch['starts'].shape
    there = batch['weight'] > 0
    second = np.zeros_like(there)
    second[:, 1] = there[:, 1]
    np.testing.assert_array_equal(one[there & ~second], two[there & ~second])
    moved = np.abs(one - two).reshape(*there.shape, -1).max(axis=-1)
    assert (moved[second] > 1e-3).all()
    if head == 'span':  # next to −∞ outside of the example
        assert ((one[:, :, :, 0] > -1e8) == (batch['segments'][:, None] == 1 + np.arange(3)[None, :, None])).all()


def test_every_loss_of_such_tasks_is_compared() -> None:
    read = {name for names in TASKS_OF.values() for name in names}
    packed = {name for name, at in AT.items() if at in ('label', 'span')}
    assert read >= {name for name, row in LOSSES.items() if row.needs(getattr(NONE, name)) in ('label', 'score', 'span')}
    for name, row in LOSSES.items():
        compared = {getattr(losses, name).at for losses in TASKS.values() if row.places and getattr(losses, name).weight}
        assert compared >= packed & set(row.places)
