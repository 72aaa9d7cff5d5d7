"""One step of training, whatever is trained."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from research import optim
from research.models.heads import Model, initialise
from research.models.sharing import layout
from research.objectives.losses import Losses, active, counts, needs_teacher, terms, wants
from research.objectives.view import Batch, View
from research.optim import Optimizer
from research.terms import Term

Metrics = dict[str, jax.Array]  # float32 scalars: the mean of each loss, and the step's other numbers


@struct.dataclass
class State:
    """All that training changes, and the key that it never does: each use folds in the step."""

    step: jax.Array  # int32 scalar, the only clock
    key: jax.Array
    params: Any
    moments: Any  # the optimizer's own
    average: Any = None  # the parameters' moving average, where the optimizer keeps one


def evaluated(state: State) -> Any:
    """The parameters that a run is judged by and leaves: their moving average, where the optimizer keeps one."""
    return state.params if state.average is None else state.average


def initial_state(model: Model, optimizer: Optimizer, seed: int) -> State:
    """A State of step 0 with fresh parameters."""
    key, init = jax.random.split(jax.random.key(seed))
    return with_params(State(jnp.zeros((), jnp.int32), key, None, None), initialise(model, init), optimizer)


def with_params(state: State, params: Any, optimizer: Optimizer) -> State:
    """`state` with other parameters and an optimizer that has seen no gradient yet."""
    average = jax.tree.map(jnp.copy, params) if optimizer.ema else None
    return dataclasses.replace(state, params=params, moments=optim.build(optimizer).init(params), average=average)


def divide(batch: Batch, parts: int) -> Batch:
    """A batch [B, …] as micro-batches [parts, B / parts, …]. Micro-batch i has rows i, i + parts, …: none leaves its device."""
    return jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch)


def make_step(
    student: Model, teacher: Model | None, losses: Losses, optimizer: Optimizer, steps: int, accumulate: int = 1
) -> Callable[..., tuple[State, Metrics]]:
    """The pure function `step(state, frozen, batch, axis)` -> (State, Metrics).

    `frozen` holds the teacher's parameters under 'teacher' (or nothing); no gradient reaches them. `axis` names
    the mapped axis of a pmap, over which sums are added, and is None under jit.
    """
    rate = optim.schedule(optimizer, steps)
    rule = optim.build(optimizer)
    layers = layout(student.architecture)
    objective = make_objective(student, teacher, losses)

    def step(state: State, frozen: Mapping[str, Any], batch: Batch, axis: str | None) -> tuple[State, Metrics]:
        key = jax.random.fold_in(state.key, state.step)
        if axis is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis))
        totals = _sum(counts(losses, batch), axis)
        (loss, found), gradients = _accumulate(objective, state.params, frozen, totals, batch, key, accumulate)
        loss, found, gradients = _sum((loss, found, gradients), axis)
        scale = optim.multipliers(optimizer, state.params, layers)
        if scale is not None:  # what is frozen counts neither for the norm nor for what clips it
            gradients = jax.tree.map(lambda g, s: jnp.where(s > 0, g, 0), gradients, scale)
        direction, moments = rule.update(gradients, state.moments, state.params, step=state.step)
        if scale is not None:
            direction = jax.tree.map(jnp.multiply, direction, scale)
        params = jax.tree.map(lambda p, d: p - rate(state.step) * d, state.params, direction)
        average = optim.averaged(optimizer, state.average, params, state.step) if optimizer.ema else None
        metrics = {
            'loss': loss,
            **{name: term.mean() for name, term in found.items()},
            'learning_rate': rate(state.step),
            'gradient_norm': optax.tree.norm(gradients),
            **_sum(count_pairs(batch), axis),
            'tokens': _sum(batch['mask'].astype(jnp.float32).sum(), axis),
        }
        return dataclasses.replace(state, step=state.step + 1, params=params, moments=moments, average=average), metrics

    return step


def make_objective(student: Model, teacher: Model | None, losses: Losses) -> Callable[..., tuple[jax.Array, dict[str, Term]]]:
    """`objective(params, frozen, totals, batch, key)` -> (the weighted sum of the losses, the Term of each).

    Each loss is divided by `totals`, its count over the whole batch and all devices, so that the gradients of micro-batches and of
    devices add up to that of the whole.
    """
    weights = {name: options.weight for name, options in active(losses).items()}
    want = wants(losses)

    def objective(
        params: Any, frozen: Mapping[str, Any], totals: Mapping[str, jax.Array], batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, Term]]:
        view, teacher_view = View(student, params, batch, key, want), None
        if teacher is not None and needs_teacher(losses):
            teacher_view = View(teacher, jax.lax.stop_gradient(frozen['teacher']), batch, want=want)
        found = terms(losses, view, teacher_view, batch)
        means = [weights[name] * term.total / jnp.maximum(totals[name], 1) for name, term in found.items()]
        return jnp.sum(jnp.stack(means)), found

    return objective


def _accumulate(
    objective: Callable[..., Any], params: Any, frozen: Any, totals: Any, batch: Batch, key: jax.Array, parts: int
) -> tuple[tuple[jax.Array, dict[str, Term]], Any]:
    """((loss, Terms), gradients) of a batch, computed in `parts` micro-batches one after the other."""
    gradient = jax.value_and_grad(objective, has_aux=True)
    if parts == 1:
        return gradient(params, frozen, totals, batch, key)
    divided = divide(batch, parts)
    first = jax.tree.map(lambda x: x[0], divided)
    zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(gradient, params, frozen, totals, first, key))

    def add(sums: Any, part: tuple[jax.Array, Batch]) -> tuple[Any, None]:
        index, rows = part
        return jax.tree.map(jnp.add, sums, gradient(params, frozen, totals, rows, jax.random.fold_in(key, index))), None

    return jax.lax.scan(add, zeros, (jnp.arange(parts), divided))[0]


def count_pairs(batch: Batch) -> dict[str, jax.Array]:
    """How many pairs of a batch have each label, 'label_0' and 'label_1'; nothing if there are no pairs."""
    if 'pair' not in batch:
        return {}
    return {f'label_{label}': ((batch['pair'] == label) * batch['weight']).sum() for label in (0, 1)}


def _sum(tree: Any, axis: str | None) -> Any:
    return tree if axis is None else jax.lax.psum(tree, axis)
