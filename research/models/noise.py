"""Random numbers for dropout: a hash of (key, row, place, entry), computed where it is needed and never stored.

A row's numbers depend on nothing else, so they are the same however rows are divided over devices, processes and micro-batches. On
a CPU a mask costs a fifteenth of what `jax.random.bits` takes for it (benchmarks/RESULTS.md).
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Noise = jax.Array  # uint32 [B, 2]: two words for each row

# Multipliers and shifts of a 32-bit hash whose output bits each depend on every input bit (Ettinger's lowbias32, Wellons 2018).
FIRST, SECOND = 0x7FEB352D, 0x846CA68B
STRIDE = 0x9E3779B9  # 2^32 divided by the golden ratio: keeps the words of neighbouring places apart


def make_noise(key: jax.Array, rows: jax.Array) -> Noise:
    """The Noise of the rows with these numbers, int [B]; `key` is a key of jax.random."""
    return jax.vmap(lambda row: jax.random.key_data(jax.random.fold_in(key, row))[:2].astype(jnp.uint32))(rows)


def fold(noise: Noise | None, place: Any) -> Noise | None:
    """The Noise of one place in the model, numbered by an int or an int scalar array; None stays None."""
    return None if noise is None else _fold(noise, place)


def _fold(noise: Noise, place: Any) -> Noise:
    number = jnp.asarray(place).astype(jnp.uint32) * jnp.uint32(STRIDE)
    return jnp.stack([_mix(noise[:, 0] ^ number, noise[:, 1]), _mix(noise[:, 1] ^ number, noise[:, 0])], axis=1)


def spread(noise: Noise | None, rows: int) -> Noise | None:
    """The Noise of `rows` sequences, a multiple of the rows of `noise`: each of those has as many sequences of its own."""
    if noise is None or len(noise) == rows:
        return noise
    return jax.vmap(partial(_fold, noise), out_axes=1)(jnp.arange(rows // len(noise))).reshape(rows, 2)


def _mix(x: jax.Array, word: jax.Array) -> jax.Array:
    """A hash of uint32 `x` and a word, entry by entry."""
    x = (x ^ (x >> 16)) * jnp.uint32(FIRST)
    x = ((x ^ (x >> 15)) + word) * jnp.uint32(SECOND)
    return x ^ (x >> 16)


def draw_bits(noise: Noise, shape: tuple[int, ...]) -> jax.Array:
    """uint32 bits of a shape [B, …]: those of a row depend on its words and the entry's place in the row alone."""
    counter = jnp.zeros((1, *shape[1:]), jnp.uint32)
    stride = 1
    for axis in reversed(range(1, len(shape))):
        counter += jax.lax.broadcasted_iota(jnp.uint32, (1, *shape[1:]), axis) * np.uint32(stride)
        stride *= shape[axis]
    words = noise.reshape(-1, 2, *(1,) * (len(shape) - 1))
    return _mix(counter ^ words[:, 0], words[:, 1])


def dropout(noise: Noise | None, x: jax.Array, rate: float) -> jax.Array:
    """`x` [B, …] with a fraction `rate` of its entries set to 0 and the rest scaled up; `x` itself if there is no noise."""
    return x if noise is None or rate == 0 else _drop(rate, noise, x)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _drop(rate: float, noise: Noise, x: jax.Array) -> jax.Array:
    kept = draw_bits(noise, x.shape) >= jnp.uint32(min(round(rate * 2**32), 2**32 - 1))
    return jnp.where(kept, x * jnp.asarray(1 / (1 - rate), x.dtype), jnp.zeros((), x.dtype))


# The backward pass draws the mask again, so none is kept.
_drop.defvjp(lambda rate, noise, x: (_drop(rate, noise, x), noise), lambda rate, noise, g: (None, _drop(rate, noise, g)))
