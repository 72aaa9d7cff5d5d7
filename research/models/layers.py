"""The parts of encoders and heads: initial weights, affine maps, LayerNorm, dropout, activations."""

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


def affine(weights: Weights, x: jax.Array, equation: str) -> jax.Array:
    """`einsum(equation, x, kernel) + bias` in the dtype of `x`; the bias has the axes that the kernel adds to `x`."""
    inputs, result = equation.split('->')
    of_x, of_kernel = inputs.split(',')
    y = jnp.einsum(equation, x, weights['kernel'].astype(x.dtype))
    sizes = dict(zip(of_kernel, weights['kernel'].shape, strict=True))
    added = [axis for axis in of_kernel if axis not in of_x]
    # The bias gets the axes of the result in their order; axes that it lacks have size 1 and broadcast.
    return y + weights['bias'].astype(x.dtype).reshape([sizes[axis] if axis in added else 1 for axis in result])


def layer_norm(weights: Weights, x: jax.Array, epsilon: float) -> jax.Array:
    """LayerNorm over the last axis, computed in float32, returned in the dtype of `x`."""
    y = x.astype(jnp.float32)
    y = y - y.mean(-1, keepdims=True)
    y = y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + epsilon)
    shape = (1,) * (x.ndim - 1) + (-1,)
    return (y * weights['scale'].reshape(shape) + weights['bias'].reshape(shape)).astype(x.dtype)


def dropout(key: jax.Array | None, x: jax.Array, rate: float) -> jax.Array:
    """`x` with a fraction `rate` of its entries set to 0 and the rest scaled up; `x` itself if there is no key."""
    if key is None or rate == 0:
        return x
    # 16 random bits an entry, half of what a float needs: drawing bits is most of a mask's time on a CPU. Rates round to 2^-16.
    threshold = round(rate * 2**16)
    pairs = (x.size + 1) // 2  # two entries share a 32-bit number
    bits = jax.random.bits(key, (pairs,), jnp.uint32)
    halves = jax.lax.bitcast_convert_type(bits, jnp.uint16).reshape(-1)[: x.size].reshape(x.shape)
    return jnp.where(halves >= threshold, x / (1 - threshold / 2**16), jnp.zeros((), x.dtype))


def activate(x: jax.Array, kind: str) -> jax.Array:
    """The activation function `kind` (one of ACTIVATIONS) of `x`."""
    if kind == 'relu':
        return jax.nn.relu(x)
    return jax.nn.gelu(x, approximate=kind == 'gelu_tanh')
