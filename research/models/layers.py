"""The parts that encoders and heads are made of: affine maps, LayerNorm, dropout, activations, initial weights."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from research.models.architecture import Architecture

Weights = Any  # a nested dict of arrays


@partial(jax.jit, static_argnums=1)
def _draw(key: jax.Array, size: int) -> jax.Array:
    return jax.random.truncated_normal(key, -2, 2, (size,))


def kernel(key: jax.Array, a: Architecture, shape: Sequence[int]) -> jax.Array:
    """Initial weights of one shape: the normal distribution of Google's code, truncated at two deviations."""
    size = math.prod(shape)
    # Pieces of two sizes share two compiled programs; a draw of each shape's own takes XLA half a second a shape.
    piece = 2**16 if size < 2**20 else 2**20
    pieces = [_draw(jax.random.fold_in(key, i), piece) for i in range(-(-size // piece))]
    return a.deviation * jnp.concatenate(pieces)[:size].reshape(shape)


def dense(key: jax.Array, a: Architecture, shape: Sequence[int], bias: Sequence[int]) -> Weights:
    """The initial weights of an affine map."""
    return {'kernel': kernel(key, a, shape), 'bias': jnp.zeros(bias)}


def norm(shape: Sequence[int]) -> Weights:
    """The initial weights of a LayerNorm."""
    return {'scale': jnp.ones(shape), 'bias': jnp.zeros(shape)}


def affine(weights: Weights, x: jax.Array, equation: str) -> jax.Array:
    """`einsum(equation, x, kernel) + bias` in the dtype of `x`; the bias spans the axes that the kernel adds to `x`."""
    inputs, result = equation.split('->')
    of_x, of_kernel = inputs.split(',')
    y = jnp.einsum(equation, x, weights['kernel'].astype(x.dtype))
    sizes = dict(zip(of_kernel, weights['kernel'].shape, strict=True))
    added = [axis for axis in of_kernel if axis not in of_x]
    # Each axis of the bias stands where the equation's result has it; along all others it is repeated.
    return y + weights['bias'].astype(x.dtype).reshape([sizes[axis] if axis in added else 1 for axis in result])


def layer_norm(weights: Weights, x: jax.Array, epsilon: float) -> jax.Array:
    """LayerNorm over the last axis, computed in float32, returned in the dtype of `x`."""
    y = x.astype(jnp.float32)
    y = y - y.mean(-1, keepdims=True)
    y = y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + epsilon)
    shape = (1,) * (x.ndim - 1) + (-1,)
    return (y * weights['scale'].reshape(shape) + weights['bias'].reshape(shape)).astype(x.dtype)


def dropout(key: jax.Array | None, x: jax.Array, rate: float) -> jax.Array:
    """`x` with a share `rate` of its entries zeroed and the rest scaled up; `x` itself without a key."""
    if key is None or rate == 0:
        return x
    # Half the random bits of a float comparison: threefry is what a dropout mask costs on a CPU. 2^-16 is the rate's grain.
    threshold = round(rate * 2**16)
    bits = jax.random.bits(key, (-(-x.size // 2),), jnp.uint32)
    halves = jax.lax.bitcast_convert_type(bits, jnp.uint16).reshape(-1)[: x.size].reshape(x.shape)
    return jnp.where(halves >= threshold, x / (1 - threshold / 2**16), jnp.zeros((), x.dtype))


def activate(x: jax.Array, kind: str) -> jax.Array:
    """The activation named `kind` (a row of ACTIVATIONS)."""
    if kind == 'relu':
        return jax.nn.relu(x)
    return jax.nn.gelu(x, approximate=kind == 'gelu_tanh')
