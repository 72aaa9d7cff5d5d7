"""Rotary positions (Su et al. 2021, §3.2.2): queries and keys are turned by angles that grow with the position.

The product of a query and a key then depends on their positions by the distance alone.
"""

import jax
import jax.numpy as jnp
import numpy as np

Rotation = tuple[jax.Array, jax.Array]  # cosines and sines, float32, each [B or 1, T, 1, K / 2]


def make_rotation(length: int, size: int, positions: jax.Array | None = None) -> Rotation:
    """The Rotation of `length` positions T for heads of width `size` K: pair i of position p turns by p / 10000^(2i / K).

    positions: the position numbers [B, T], below T, of packed sequences; else they are 0, 1, …
    """
    # In float64, as `make_sinusoids`: in float32 the angle of position 511 is wrong by 3e-5.
    angle = np.arange(length)[:, None] / np.power(10000.0, np.arange(0, size, 2)[None, :] / size)
    tables = (jnp.asarray(table, jnp.float32) for table in (np.cos(angle), np.sin(angle)))
    cosine, sine = (table[None] if positions is None else table[positions] for table in tables)
    return cosine[:, :, None, :], sine[:, :, None, :]


def rotate(x: jax.Array, rotation: Rotation) -> jax.Array:
    """Queries or keys `x` [B, T, N, K], each pair of neighbouring numbers turned, in float32; in the dtype of `x`."""
    cosine, sine = rotation
    pairs = x.astype(jnp.float32).reshape(*x.shape[:-1], -1, 2)
    one, two = pairs[..., 0], pairs[..., 1]
    turned = jnp.stack([one * cosine - two * sine, two * cosine + one * sine], axis=-1)
    return turned.reshape(x.shape).astype(x.dtype)
