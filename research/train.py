"""One step of training, whatever is trained."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from research import optim
from research.models import paths
from research.models.heads import Model, initialise
from research.models.noise import make_noise
from research.models.sharing import Layout, layout
from research.objectives.losses import Losses, counts, needs_teacher, terms, wants, weights
from research.objectives.view import Batch, View
from research.optim import Optimizer
from research.terms import Term

Metrics = dict[str, jax.Array]  # float32 scalars: the mean of each loss, and the step's other numbers
CAUSAL = 'causal_'  # before the name of a loss of a causal batch, which is not the loss of masked pieces
WINDOW = 128  # losses: a loss is compared with so many before it


@struct.dataclass
class State:
    """All that training changes, and the key that it never does: each use folds in the step."""

    step: jax.Array  # int32 scalar, the only clock
    key: jax.Array
    params: Any
    moments: Any  # the optimizer's own
    average: Any = None  # the parameters' moving average, where the optimizer keeps one
    # The latest losses of sound steps [WINDOW], NaN before there are so many; of masked and of causal batches apart [2, WINDOW] if
    # there are causal ones; None if unwatched.
    losses: jax.Array | None = None


def evaluated(state: State) -> Any:
    """The parameters that a run is judged by and leaves: their moving average, where the optimizer keeps one."""
    return state.params if state.average is None else state.average


def initial_state(model: Model, optimizer: Optimizer, seed: int, spike: float = 0.0, causal: bool = False) -> State:
    """A State of step 0 with fresh parameters; `spike` is that of `make_step`; causal: whether some batches are causal."""
    key, init = jax.random.split(jax.random.key(seed))
    losses = jnp.full((2, WINDOW) if causal else (WINDOW,), jnp.nan) if spike else None
    return with_params(State(jnp.zeros((), jnp.int32), key, None, None, losses=losses), initialise(model, init), optimizer)


def with_params(state: State, params: Any, optimizer: Optimizer) -> State:
    """`state` with other parameters and an optimizer that has seen no gradient yet."""
    average = jax.tree.map(jnp.copy, params) if optimizer.ema else None
    return dataclasses.replace(state, params=params, moments=optim.build(optimizer).init(params), average=average)


def divide(batch: Batch, parts: int) -> Batch:
    """A batch [B, …] as micro-batches [parts, B / parts, …]. Micro-batch i has rows i, i + parts, …: none leaves its device."""
    return jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch)


def make_step(
    student: Model,
    teacher: Model | None,
    losses: Losses,
    optimizer: Optimizer,
    steps: int,
    accumulate: int = 1,
    spike: float = 0.0,
    norms: bool = False,
) -> Callable[..., tuple[State, Metrics]]:
    """The pure function `step(state, frozen, batch, axis)` -> (State, Metrics).

    `frozen` holds the teacher's parameters under 'teacher' (or nothing); no gradient reaches them. `axis` names
    the mapped axis of a pmap, over which sums are added, and is None under jit. A step that is not sound (`is_sound`) is skipped:
    it changes nothing but the clock, and its metric 'skipped' is 1. norms: adds `group_norms` to the metrics.
    """
    rate = optim.schedule(optimizer, steps)
    rule = optim.build(optimizer)
    layers = layout(student.architecture)
    objective = make_objective(student, teacher, losses)

    def step(state: State, frozen: Mapping[str, Any], batch: Batch, axis: str | None) -> tuple[State, Metrics]:
        batch = {**batch, 'noise': make_noise(jax.random.fold_in(state.key, state.step), number_rows(batch, axis))}
        totals = _sum(counts(losses, batch), axis)
        (loss, found), gradients = _accumulate(objective, state.params, frozen, totals, batch, accumulate)
        loss, found, gradients = _sum((loss, found, gradients), axis)
        scale = optim.multipliers(optimizer, state.params, layers)
        if scale is not None:  # what is frozen counts neither for the norm nor for what clips it
            gradients = jax.tree.map(lambda g, s: jnp.where(s > 0, g, 0), gradients, scale)
        norm = optax.tree.norm(gradients)
        sound = is_sound(loss, norm, find_window(state.losses, batch), spike)
        direction, moments = rule.update(gradients, state.moments, state.params, step=state.step)
        if scale is not None:
            direction = jax.tree.map(jnp.multiply, direction, scale)
        params = jax.tree.map(lambda p, d: p - rate(state.step) * d, state.params, direction)
        average = optim.averaged(optimizer, state.average, params, state.step) if optimizer.ema else None
        moved = {'params': params, 'moments': moments, 'average': average, 'losses': remember(state.losses, batch, loss)}
        kept = {name: jax.tree.map(lambda a, b: jnp.where(sound, a, b), moved[name], getattr(state, name)) for name in moved}
        metrics = {
            'loss': loss,
            **{CAUSAL + name if 'causal' in batch else name: term.mean() for name, term in found.items()},
            'learning_rate': rate(state.step),
            'gradient_norm': norm,
            **(group_norms(gradients, layers) if norms else {}),
            **_sum(count_pairs(batch), axis),
            'tokens': _sum(batch['mask'].astype(jnp.float32).sum(), axis),
            'skipped': 1 - sound.astype(jnp.float32),
        }
        return dataclasses.replace(state, step=state.step + 1, **kept), metrics

    return step


def number_rows(batch: Batch, axis: str | None) -> jax.Array:
    """The number of each row [B] in the whole batch of all devices."""
    rows = len(batch['mask'])
    return jnp.arange(rows) + (0 if axis is None else rows * jax.lax.axis_index(axis))


def is_sound(loss: jax.Array, norm: jax.Array, before: jax.Array | None, spike: float) -> jax.Array:
    """Whether a step's loss and gradient norm are finite, and the loss is no spike among those `before` [WINDOW] (None: unwatched).

    A spike lies more than `spike` standard deviations above the median of a full window.
    """
    sound = jnp.isfinite(loss) & jnp.isfinite(norm)
    if before is None:
        return sound
    # NaN, of a window that is not full, makes the comparison false.
    return sound & ~(loss > jnp.median(before) + spike * jnp.std(before))


def find_window(losses: jax.Array | None, batch: Batch) -> jax.Array | None:
    """The losses [WINDOW] that a batch's is compared with: a causal one lies far from a masked one, and neither is a spike."""
    return losses if losses is None or losses.ndim == 1 else losses[int('causal' in batch)]


def remember(losses: jax.Array | None, batch: Batch, loss: jax.Array) -> jax.Array | None:
    """`losses` with that of a batch in the place of the oldest of its window."""
    window = find_window(losses, batch)
    if losses is None or window is None:
        return None
    window = jnp.append(window[1:], loss)
    return window if losses.ndim == 1 else losses.at[int('causal' in batch)].set(window)


def group_norms(gradients: Any, layers: Layout) -> Metrics:
    """The gradient's norm in each part of the model: 'gradient_norm/embeddings', …/layer_0, …/pooler and one for each head.

    A block that layers share counts for the first of them.
    """
    squares: dict[str, jax.Array] = {}
    for keys, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        path = paths.join(keys)
        place = paths.stack_of(path)
        if place is None:
            name = 'embeddings' if paths.is_embedding(path) else paths.top(path).removeprefix('encoder/')
            squares[name] = squares.get(name, jnp.zeros(())) + jnp.square(gradient).sum()
            continue
        for group, square in enumerate(jnp.square(gradient).sum(tuple(range(1, gradient.ndim)))):
            name = f'layer_{[pair[place] for pair in layers].index(group)}'
            squares[name] = squares.get(name, jnp.zeros(())) + square
    return {f'gradient_norm/{name}': jnp.sqrt(square) for name, square in squares.items()}


def make_objective(student: Model, teacher: Model | None, losses: Losses) -> Callable[..., tuple[jax.Array, dict[str, Term]]]:
    """`objective(params, frozen, totals, batch)` -> (the weighted sum of the losses and their penalties, the Term of each).

    Each is divided by `totals`, its count over the whole batch and all devices, so that the gradients of micro-batches and of
    devices add up to that of the whole.
    """
    share = weights(losses)
    want = wants(losses)

    def objective(
        params: Any, frozen: Mapping[str, Any], totals: Mapping[str, jax.Array], batch: Batch
    ) -> tuple[jax.Array, dict[str, Term]]:
        view, teacher_view = View(student, params, batch, batch['noise'], want), None
        if teacher is not None and needs_teacher(losses):
            teacher_view = View(teacher, jax.lax.stop_gradient(frozen['teacher']), batch, want=want)
        found = terms(losses, view, teacher_view, batch)
        means = [share[name] * term.total / jnp.maximum(totals[name], 1) for name, term in found.items()]
        return jnp.sum(jnp.stack(means)), found

    return objective


def _accumulate(
    objective: Callable[..., Any], params: Any, frozen: Any, totals: Any, batch: Batch, parts: int
) -> tuple[tuple[jax.Array, dict[str, Term]], Any]:
    """((loss, Terms), gradients) of a batch, computed in `parts` micro-batches one after the other."""
    gradient = jax.value_and_grad(objective, has_aux=True)
    if parts == 1:
        return gradient(params, frozen, totals, batch)
    divided = divide(batch, parts)
    first = jax.tree.map(lambda x: x[0], divided)
    zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(gradient, params, frozen, totals, first))

    def add(sums: Any, rows: Batch) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, sums, gradient(params, frozen, totals, rows)), None

    return jax.lax.scan(add, zeros, divided)[0]


def count_pairs(batch: Batch) -> dict[str, jax.Array]:
    """How many pairs of a batch have each label, 'label_0' and 'label_1'; nothing if there are no pairs."""
    if 'pair' not in batch:
        return {}
    return {f'label_{label}': ((batch['pair'] == label) * batch['weight']).sum() for label in (0, 1)}


def _sum(tree: Any, axis: str | None) -> Any:
    return tree if axis is None else jax.lax.psum(tree, axis)
