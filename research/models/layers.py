"""The parts of encoders and heads: initial weights, dense maps, LayerNorm, activations.

Gradients are written out where jax's own would cost a CPU more passes over memory.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from research.models.architecture import Architecture

Weights = Any  # a nested dict of arrays
PRODUCT = 'product'  # the name of what `multiply` computes, for policies of rematerialisation
# Of the tanh form of GELU (Hendrycks and Gimpel 2016, §2): tanh(ROOT · (x + CUBE · x³)).
ROOT, CUBE = math.sqrt(2 / math.pi), 0.044715


@partial(jax.jit, static_argnums=1)
def _draw(key: jax.Array, size: int) -> jax.Array:
    return jax.random.truncated_normal(key, -2, 2, (size,))


def draw_kernel(key: jax.Array, a: Architecture, shape: Sequence[int]) -> jax.Array:
    """Initial weights of a shape: a normal distribution truncated at two deviations, as in Google's code."""
    size = math.prod(shape)
    # Chunks of two sizes need two compiled programs; drawing each shape directly would compile half a second for every shape.
    chunk = 2**16 if size < 2**20 else 2**20
    count = math.ceil(size / chunk)
    chunks = [_draw(jax.random.fold_in(key, i), chunk) for i in range(count)]
    return a.deviation * jnp.concatenate(chunks)[:size].reshape(shape)


def initialise_dense(key: jax.Array, a: Architecture, shape: Sequence[int], bias: Sequence[int]) -> Weights:
    """The initial weights of an affine map."""
    return {'kernel': draw_kernel(key, a, shape), 'bias': jnp.zeros(bias)}


def initialise_norm(shape: Sequence[int]) -> Weights:
    """The initial weights of a LayerNorm."""
    return {'scale': jnp.ones(shape), 'bias': jnp.zeros(shape)}


def dense(weights: Weights, x: jax.Array) -> jax.Array:
    """`x · kernel + bias` in the dtype of `x`; the last axes of `x` meet the first of the kernel.

    The bias has the axes that the kernel adds: kernel [D, N, K] and bias [N, K] map [B, T, D] to [B, T, N, K].
    """
    y: Any = multiply(weights['bias'].ndim, x, weights['kernel'])
    return y + _align(weights['bias'].astype(x.dtype), y)


def _align(v: jax.Array, x: jax.Array) -> jax.Array:
    """`v` with axes of size 1 in front, as many as `x` has."""
    return v.reshape((1,) * (x.ndim - v.ndim) + v.shape)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def multiply(added: int, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`x · kernel` in the dtype of `x`, where the last `added` axes of the kernel are new and the others are the last of `x`."""
    return _multiply(added, x, kernel)


def _multiply(added: int, x: jax.Array, kernel: jax.Array) -> jax.Array:
    met = kernel.ndim - added
    axes = tuple(range(x.ndim - met, x.ndim)), tuple(range(met))
    return checkpoint_name(jax.lax.dot_general(x, kernel.astype(x.dtype), (axes, ((), ()))), PRODUCT)


def _multiply_backward(added: int, kept: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
    met = kernel.ndim - added
    rows = tuple(range(x.ndim - met))
    outer = tuple(range(g.ndim - added, g.ndim)), tuple(range(met, kernel.ndim))
    to_x = jax.lax.dot_general(g, kernel.astype(x.dtype), (outer, ((), ())))

    def direct(x: jax.Array, g: jax.Array) -> jax.Array:
        return jax.lax.dot_general(x, g, ((rows, rows), ((), ())), preferred_element_type=kernel.dtype)

    def swapped(x: jax.Array, g: jax.Array) -> jax.Array:
        # XLA writes the transpose of a product's first operand to memory, slowly on a CPU: the narrower of the two comes first.
        # Without the barrier XLA would swap them back.
        return jnp.moveaxis(jax.lax.optimization_barrier(direct(g, x)), range(added), range(-added, 0))

    narrower = math.prod(kernel.shape[:met]) <= math.prod(kernel.shape[met:])
    return to_x, jax.lax.platform_dependent(x, g, cpu=direct if narrower else swapped, default=direct)


multiply.defvjp(lambda added, x, kernel: (_multiply(added, x, kernel), (x, kernel)), _multiply_backward)


def layer_norm(weights: Weights, x: jax.Array, epsilon: float) -> jax.Array:
    """LayerNorm over the last axis, computed in float32, returned in the dtype of `x`."""
    y: Any = _normalise(epsilon, x.astype(jnp.float32))
    return (y * _align(weights['scale'], y) + _align(weights['bias'], y)).astype(x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _normalise(epsilon: float, x: jax.Array) -> jax.Array:
    return _normalise_forward(epsilon, x)[0]


def _normalise_forward(epsilon: float, x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    y = x - x.mean(-1, keepdims=True)
    inverse = jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + epsilon)
    return y * inverse, (y * inverse, inverse)


def _normalise_backward(epsilon: float, kept: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array]:
    y, inverse = kept
    return (inverse * (g - g.mean(-1, keepdims=True) - y * (g * y).mean(-1, keepdims=True)),)


_normalise.defvjp(_normalise_forward, _normalise_backward)


def activate(x: jax.Array, kind: str) -> jax.Array:
    """The activation function `kind` (one of ACTIVATIONS) of `x`."""
    return jax.nn.relu(x) if kind == 'relu' else _gelu(kind == 'gelu_tanh', x)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gelu(approximate: bool, x: jax.Array) -> jax.Array:
    return 0.5 * x * (1 + _bend(approximate, x))


def _bend(approximate: bool, x: jax.Array) -> jax.Array:
    return jnp.tanh(ROOT * (x + CUBE * x * x * x)) if approximate else jax.lax.erf(x * math.sqrt(0.5))


def _gelu_backward(approximate: bool, x: jax.Array, g: jax.Array) -> tuple[jax.Array]:
    bend = _bend(approximate, x)
    slope = ROOT * (1 + 3 * CUBE * x * x) * (1 - bend * bend) if approximate else ROOT * jnp.exp(-0.5 * x * x)
    return (g * 0.5 * (1 + bend + x * slope),)


# Only the input is kept for the backward pass.
_gelu.defvjp(lambda approximate, x: (_gelu(approximate, x), x), _gelu_backward)
