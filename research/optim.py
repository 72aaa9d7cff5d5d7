"""How parameters move: schedules, decay by path, OPTIMIZERS."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from research.errors import UserError, choose


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """The update rule and its schedule. The defaults are BERT's (Devlin et al. 2019, App. A.2)."""

    name: str = 'adamw'  # a row of OPTIMIZERS
    lr: float = 1e-4  # at the end of the warm-up
    warmup: float = 0.01  # a fraction of all steps, or a number of steps when 1 or more
    power: float = 1.0  # of the polynomial decay to zero; 1 = linear, 0 = constant
    decay_from_start: bool = False  # Google's code: the decay runs during the warm-up too, so the rate drops where that ends
    weight_decay: float = 0.01  # of all but biases and LayerNorm
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-6
    bias_correction: bool = True  # Google's code has none
    clip: float = 1.0  # of the gradient's global norm; 0 = none
    layer_decay: float = 1.0  # each layer's rate is the one above's times this, the embeddings' lowest (Clark et al. 2020)
    frozen: tuple[str, ...] = ()  # what never moves: 'embeddings', 'layer_0' …, or paths such as 'encoder' or 'encoder/pooler'
    ema: float = 0.0  # of the moving average of the parameters that is evaluated and kept in their place; 0 = none


def validate(x: Optimizer) -> None:
    """Raises UserError for an optimizer that cannot be built."""
    choose('optimizer', x.name, OPTIMIZERS)
    if x.lr < 0 or x.warmup < 0 or x.power < 0 or x.weight_decay < 0 or x.clip < 0 or x.epsilon <= 0:
        raise UserError(
            f'optimizer: lr={x.lr}, warmup={x.warmup}, power={x.power}, weight_decay={x.weight_decay}, clip={x.clip} must not be '
            f'negative, and epsilon={x.epsilon} must be positive'
        )
    if not 0 < x.layer_decay <= 1:
        raise UserError(f'optimizer.layer_decay={x.layer_decay} lies above 0 and not above 1, which is none')
    if not 0 <= x.ema < 1:
        raise UserError(f'optimizer.ema={x.ema} lies in [0, 1); 0 is none')
    if not (0 <= x.beta1 < 1 and 0 <= x.beta2 < 1):
        raise UserError(f'optimizer.beta1={x.beta1} and optimizer.beta2={x.beta2} lie in [0, 1)')


def schedule(x: Optimizer, steps: int) -> Callable[[jax.Array], jax.Array]:
    """The learning rate as a function of the step (0 = the first): linear warm-up, then polynomial decay to 0 at `steps`."""
    warmup = round(x.warmup * steps) if x.warmup < 1 else round(x.warmup)
    if warmup > steps:
        raise UserError(f'optimizer.warmup={x.warmup} is longer than run.steps={steps}; a value below 1 is a fraction of the steps')
    origin = 0 if x.decay_from_start else warmup

    def rate(step: jax.Array) -> jax.Array:
        step = jnp.asarray(step, jnp.float32)
        left = jnp.clip((steps - step) / max(steps - origin, 1), 0, 1)
        return x.lr * jnp.where(step < warmup, step / max(warmup, 1), left**x.power)

    return rate


def decayed(path: tuple[Any, ...]) -> bool:
    """Whether the parameter at `path` is decayed and trust-scaled: all but biases and LayerNorm (as in Google's code)."""
    names = _names(path)
    return names[-1] != 'bias' and 'norm' not in names


STACKED = ('attention', 'feed_forward')


def stacked(path: tuple[Any, ...]) -> bool:
    """Whether the parameter at `path` holds one block per group along its first axis."""
    return bool(set(STACKED) & set(_names(path)))


def _names(path: tuple[Any, ...]) -> list[str]:
    return jax.tree_util.keystr(path, simple=True, separator='/').split('/')


EMBEDDINGS = ('word', 'position', 'type', 'norm', 'projection')
Layers = tuple[tuple[int, int], ...]  # the (attention group, feed-forward group) of each layer


def multipliers(x: Optimizer, params: Any, layers: Layers) -> Any:
    """What the rate of each parameter is multiplied by, a tree like `params` of arrays that broadcast; 0 is frozen.

    The heads and the pooler have 1, layer l of L has layer_decay^(L − l), the embeddings have layer_decay^(L + 1); a block that
    layers share has that of the highest. None where all are 1. Raises UserError for a frozen name that nothing has, and for a
    frozen layer that shares its block with one that is not.
    """
    if x.layer_decay == 1 and not x.frozen:
        return None
    names = ['/'.join(_names(path)) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    still = {int(name[6:]) for name in x.frozen if name.startswith('layer_') and name[6:].isdigit()}
    tops = sorted({'/'.join(name.split('/')[:2]) if name.startswith('encoder/') else name.split('/')[0] for name in names})
    for name in x.frozen:
        known = (
            name == 'embeddings'
            or (name.startswith('layer_') and name[6:].isdigit() and int(name[6:]) < len(layers))
            or any(f'{each}/'.startswith(f'{name}/') for each in names)
        )
        if not known:
            raise UserError(
                f"optimizer.frozen names '{name}', which the model does not have (it has: embeddings, layer_0 to "
                f'layer_{len(layers) - 1}, encoder, {", ".join(tops)})'
            )

    def group(part: int, number: int) -> float:
        users = [layer for layer, pair in enumerate(layers) if pair[part] == number]
        if still & set(users) and not still >= set(users):
            free = min(set(users) - still)
            raise UserError(f'optimizer.frozen names layer_{min(still & set(users))}, whose block layer_{free} shares: name both')
        return 0.0 if still >= set(users) else x.layer_decay ** (len(layers) - max(users))

    def one(path: tuple[Any, ...], leaf: Any) -> Any:
        parts = _names(path)
        own = len(parts) > 1 and parts[0] == 'encoder'
        embedding = own and parts[1] in EMBEDDINGS
        if any(f'{"/".join(parts)}/'.startswith(f'{name}/') for name in x.frozen) or (embedding and 'embeddings' in x.frozen):
            return jnp.zeros((1,) * leaf.ndim)
        if own and parts[1] in STACKED:
            found = jnp.array([group(STACKED.index(parts[1]), number) for number in range(leaf.shape[0])])
            return found.reshape(-1, *(1,) * (leaf.ndim - 1))
        return jnp.full((1,) * leaf.ndim, x.layer_decay ** (len(layers) + 1) if embedding else 1.0)

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
    """Decoupled decay of the parameters that `decayed` names."""
    return optax.add_decayed_weights(
        x.weight_decay, mask=lambda params: jax.tree_util.tree_map_with_path(lambda path, _: decayed(path), params)
    )


def trust_ratio() -> optax.GradientTransformation:
    """LAMB's scaling by ‖weights‖ / ‖update‖, 1 where either is 0 (You et al. 2020, Algorithm 2).

    The norm is that of one block: stacked parameters have one ratio a group, as if each stood alone.
    """

    def scale(path: tuple[Any, ...], update: jax.Array, param: jax.Array) -> jax.Array:
        if not decayed(path):
            return update
        axes = tuple(range(1, param.ndim)) if stacked(path) else None
        w = jnp.sqrt(jnp.square(param).sum(axes, keepdims=True))
        u = jnp.sqrt(jnp.square(update).sum(axes, keepdims=True))
        return update * jnp.where((w > 0) & (u > 0), w / jnp.where(u > 0, u, 1), 1)

    def update(updates: Any, state: optax.OptState, params: Any = None) -> tuple[Any, optax.OptState]:
        return jax.tree_util.tree_map_with_path(scale, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


OPTIMIZERS: dict[str, Callable[[Optimizer], optax.GradientTransformation]] = {
    'adamw': lambda x: optax.chain(moments(x), weight_decay(x)),
    'lamb': lambda x: optax.chain(moments(x), weight_decay(x), trust_ratio()),
    'sgd': lambda x: weight_decay(x),
}


def build(x: Optimizer) -> optax.GradientTransformationExtraArgs:
    """The optimizer: `update(gradients, state, params, step=…)` gives a direction; the step itself is minus the rate times it."""
    clip = [optax.clip_by_global_norm(x.clip)] if x.clip else []
    return optax.with_extra_args_support(optax.chain(*clip, OPTIMIZERS[x.name](x)))
