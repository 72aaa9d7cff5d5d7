"""The optimizer: SCHEDULES, decay and freezing by path, OPTIMIZERS."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from research import muon
from research.errors import UserError, choose, find_unused
from research.models import paths
from research.models.sharing import Layout


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """The update rule and its schedule. The defaults are BERT's (Devlin et al. 2019, App. A.2)."""

    name: str = 'adamw'  # a row of OPTIMIZERS
    lr: float = 1e-4  # at the end of the warm-up
    warmup: float = 0.01  # a fraction of all steps, or a number of steps when 1 or more
    schedule: str = 'polynomial'  # a row of SCHEDULES: what the rate does after the warm-up
    power: float = 1.0  # schedule `polynomial`: of the decay to zero; 1 = linear, 0 = constant
    decay_from_start: bool = False  # `polynomial`, as Google's code: also during the warm-up, so the rate drops where that ends
    decay: float = 0.2  # schedule `wsd`: the last fraction of all steps, or a number of steps when 1 or more
    weight_decay: float = 0.01  # of all but biases and LayerNorm
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-6
    momentum: float = 0.95  # optimizer `muon`: of the hidden matrices
    bias_correction: bool = True  # Google's code has none
    clip: float = 1.0  # of the gradient's global norm; 0 = none
    layer_decay: float = 1.0  # each layer's rate is the one above's times this, the embeddings' lowest (Clark et al. 2020)
    frozen: tuple[str, ...] = ()  # parts that never move, by the names of models/paths.py: embeddings, layer_0, pooler …
    ema: float = 0.0  # of the moving average of the parameters that is evaluated and kept in their place; 0 = none


def validate(x: Optimizer) -> None:
    """Raises UserError for an optimizer that cannot be built."""
    choose('optimizer (optimizer.name)', x.name, OPTIMIZERS)
    choose('schedule (optimizer.schedule)', x.schedule, SCHEDULES)
    for field in ('lr', 'warmup', 'power', 'decay', 'weight_decay', 'clip'):
        if getattr(x, field) < 0:
            raise UserError(f'optimizer.{field}={getattr(x, field)} must not be negative')
    if x.epsilon <= 0:
        raise UserError(f'optimizer.epsilon={x.epsilon} must be above 0')
    if not 0 < x.layer_decay <= 1:
        raise UserError(f'optimizer.layer_decay={x.layer_decay} must be above 0 and at most 1 (1 turns it off)')
    for field, meaning in (('ema', ' (0 turns it off)'), ('beta1', ''), ('beta2', ''), ('momentum', '')):
        if not 0 <= getattr(x, field) < 1:
            raise UserError(f'optimizer.{field}={getattr(x, field)} must be at least 0 and below 1{meaning}')
    for name in x.frozen:
        if not re.fullmatch(r'\w+(/\w+)*', name):
            raise UserError(
                f"optimizer.frozen names '{name}', which cannot be a part of a model: give such as embeddings, layer_0, pooler"
            )


Curve = Callable[[jax.Array], Any]  # a step, float32 -> the rate there as a part of the highest


class Schedule(NamedTuple):
    """A row of SCHEDULES."""

    build: Callable[[Optimizer, int, int], Curve]  # (options, steps, steps of the warm-up) -> the curve after the warm-up
    options: tuple[str, ...] = ()  # the fields of Optimizer that only some rows read


def _polynomial(x: Optimizer, steps: int, warmup: int) -> Curve:
    """(What is left of the steps)^power. Written out: optax's rounds otherwise, and earlier runs could not be repeated."""
    origin = 0 if x.decay_from_start else warmup
    return lambda step: jnp.clip((steps - step) / max(steps - origin, 1), 0, 1) ** x.power


def _cosine(x: Optimizer, steps: int, warmup: int) -> Curve:
    """Half a cosine down to 0 (Loshchilov and Hutter 2017, §3)."""
    curve = optax.schedules.cosine_decay_schedule(1.0, max(steps - warmup, 1))
    return lambda step: curve(step - warmup)


def _warmup_stable_decay(x: Optimizer, steps: int, warmup: int) -> Curve:
    """Constant, and over the last `decay` steps 1 − √(their part that is over) (Hu et al. 2024; Hägele et al. 2024)."""
    decay = _count_steps('decay', x.decay, steps)
    if warmup + decay > steps:
        raise UserError(
            f'optimizer.warmup={x.warmup} and optimizer.decay={x.decay} are {warmup + decay} steps: the run has {steps}'
        )
    over = optax.schedules.linear_schedule(0.0, 1.0, max(decay, 1), transition_begin=steps - decay)
    return lambda step: 1 - jnp.sqrt(over(step))


SCHEDULES: dict[str, Schedule] = {
    'polynomial': Schedule(_polynomial, ('power', 'decay_from_start')),
    'constant': Schedule(lambda x, steps, warmup: optax.schedules.constant_schedule(1.0)),
    'cosine': Schedule(_cosine),
    'wsd': Schedule(_warmup_stable_decay, ('decay',)),
}


def _count_steps(field: str, value: float, steps: int) -> int:
    """A fraction of all steps, or a number of steps when 1 or more, as a number. Raises UserError if the run has fewer."""
    found = round(value * steps) if value < 1 else round(value)
    if found > steps:
        raise UserError(
            f'optimizer.{field}={value} is longer than the {steps} steps of the run; a value below 1 is a fraction of them'
        )
    return found


def schedule(x: Optimizer, steps: int) -> Callable[[jax.Array], jax.Array]:
    """The learning rate as a function of the step (0 = the first): linear warm-up, then the curve of SCHEDULES up to `steps`.

    Raises UserError for a warm-up or a decay that the run has no room for.
    """
    warmup = _count_steps('warmup', x.warmup, steps)
    curve = SCHEDULES[x.schedule].build(x, steps, warmup)

    def rate(step: jax.Array) -> jax.Array:
        step = jnp.asarray(step, jnp.float32)
        return x.lr * jnp.where(step < warmup, step / max(warmup, 1), curve(step))

    return rate


def multipliers(x: Optimizer, params: Any, layout: Layout) -> Any:
    """What the rate of each parameter is multiplied by: a tree like `params` of arrays that broadcast; 0 is frozen.

    The heads and the pooler have 1, layer l of L has layer_decay^(L − l), the embeddings have layer_decay^(L + 1). A block that
    layers share has the multiplier of the highest of them. None if all are 1. Raises UserError for a frozen name that the model
    does not have, and for a frozen layer that shares a block with one that is not frozen.
    """
    if x.layer_decay == 1 and not x.frozen:
        return None
    paths.validate(
        'optimizer.frozen', x.frozen, [paths.join(keys) for keys, _ in jax.tree_util.tree_leaves_with_path(params)], layout
    )

    def one(keys: tuple[Any, ...], leaf: Any) -> Any:
        path = paths.join(keys)
        place, frozen = paths.stack_of(path), paths.select(x.frozen, path, layout)
        if place is None:
            decay = x.layer_decay ** (len(layout) + 1) if paths.is_embedding(path) else 1.0
            return jnp.full((1,) * leaf.ndim, 0.0 if frozen[0] else decay)
        highest = [max(layer for layer, pair in enumerate(layout) if pair[place] == group) for group in range(leaf.shape[0])]
        rates = [0.0 if still else x.layer_decay ** (len(layout) - top) for still, top in zip(frozen, highest, strict=True)]
        return jnp.array(rates).reshape(-1, *(1,) * (leaf.ndim - 1))

    return jax.tree_util.tree_map_with_path(one, params)


def averaged(x: Optimizer, average: Any, params: Any, step: jax.Array) -> Any:
    """The moving average after `step` (0 = the first): of the first steps, over fewer, so that it soon forgets where it began."""
    n = jnp.asarray(step, jnp.float32) + 1
    keep = jnp.minimum(x.ema, n / (n + 9))
    return jax.tree.map(lambda a, p: a + (1 - keep) * (p - a), average, params)


def moments(x: Optimizer) -> optax.GradientTransformationExtraArgs:
    """Adam's direction. Its clock is the `step` that `update` is given, so that State.step is the only one."""

    def init(params: optax.Params) -> optax.OptState:
        return {'first': jax.tree.map(jnp.zeros_like, params), 'second': jax.tree.map(jnp.zeros_like, params)}

    def update(updates: Any, state: Any, params: Any = None, **extra_args: Any) -> tuple[Any, Any]:
        first = jax.tree.map(lambda m, g: x.beta1 * m + (1 - x.beta1) * g, state['first'], updates)
        second = jax.tree.map(lambda v, g: x.beta2 * v + (1 - x.beta2) * jnp.square(g), state['second'], updates)
        n = jnp.asarray(extra_args['step'], jnp.float32) + 1
        a, b = (1 - x.beta1**n, 1 - x.beta2**n) if x.bias_correction else (1.0, 1.0)
        direction = jax.tree.map(lambda m, v: (m / a) / (jnp.sqrt(v / b) + x.epsilon), first, second)
        return direction, {'first': first, 'second': second}

    return optax.GradientTransformationExtraArgs(init, update)


def weight_decay(x: Optimizer) -> optax.GradientTransformation:
    """Decoupled decay of all parameters but biases and LayerNorm (`paths.is_weight`)."""
    return optax.add_decayed_weights(
        x.weight_decay,
        mask=lambda params: jax.tree_util.tree_map_with_path(lambda keys, _: paths.is_weight(paths.join(keys)), params),
    )


def trust_ratio() -> optax.GradientTransformation:
    """LAMB's scaling by ‖weights‖ / ‖update‖, 1 where either is 0 (You et al. 2020, Algorithm 2).

    The norm is that of one block: stacked parameters have one ratio a group, as if each block were a separate parameter.
    """

    def scale(keys: tuple[Any, ...], update: jax.Array, param: jax.Array) -> jax.Array:
        path = paths.join(keys)
        if not paths.is_weight(path):
            return update
        axes = None if paths.stack_of(path) is None else tuple(range(1, param.ndim))
        w = jnp.sqrt(jnp.square(param).sum(axes, keepdims=True))
        u = jnp.sqrt(jnp.square(update).sum(axes, keepdims=True))
        return update * jnp.where((w > 0) & (u > 0), w / jnp.where(u > 0, u, 1), 1)

    def update(updates: Any, state: optax.OptState, params: Any = None) -> tuple[Any, optax.OptState]:
        return jax.tree_util.tree_map_with_path(scale, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _muon(x: Optimizer) -> optax.GradientTransformationExtraArgs:
    """Muon for the hidden matrices, Adam for embeddings, heads, biases and LayerNorm."""
    return optax.partition({muon.HIDDEN: muon.orthogonal_momentum(x.momentum), muon.REST: moments(x)}, muon.label)


class Rule(NamedTuple):
    """A row of OPTIMIZERS."""

    build: Callable[[Optimizer], optax.GradientTransformation]  # the direction of the update, before the rate
    options: tuple[str, ...] = ()  # the fields of Optimizer that only some rules read


ADAM = ('beta1', 'beta2', 'epsilon', 'bias_correction')
OPTIMIZERS: dict[str, Rule] = {
    'adamw': Rule(lambda x: optax.chain(moments(x), weight_decay(x)), ADAM),
    'muon': Rule(lambda x: optax.chain(_muon(x), weight_decay(x)), (*ADAM, 'momentum')),
    'lamb': Rule(lambda x: optax.chain(moments(x), weight_decay(x), trust_ratio()), ADAM),
    'sgd': Rule(lambda x: weight_decay(x)),
}


def unused(x: Optimizer) -> dict[str, str]:
    """Each key that other optimizers or schedules read and this one's do not -> why a change of it does nothing."""
    rules = find_unused('optimizer', 'name', x.name, {name: row.options for name, row in OPTIMIZERS.items()})
    return rules | find_unused('optimizer', 'schedule', x.schedule, {name: row.options for name, row in SCHEDULES.items()})


def build(x: Optimizer) -> optax.GradientTransformationExtraArgs:
    """The optimizer: `update(gradients, state, params, step=…)` gives a direction; the step itself is minus the rate times it."""
    clip = [optax.clip_by_global_norm(x.clip)] if x.clip else []
    return optax.with_extra_args_support(optax.chain(*clip, OPTIMIZERS[x.name].build(x)))
