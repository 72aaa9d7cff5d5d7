"""Rotary positions (Su et al. 2021, §3.2.2): queries and keys are turned by angles that grow with the position.

The product of a query and a key then depends on their positions by the distance alone.
"""

import jax
import jax.numpy as jnp
import numpy as np

Rotation = tuple[jax.Array, jax.Array]  # cosines and sines, float32, each [B or 1, T, 1, K / 2]


def make_table(length: int, size: int) -> np.ndarray:
    """Sines, then cosines, float32 [T, K], of the angles of `length` positions T for heads of width `size` K.

    Pair i of position p turns by p / 10000^(2i / K). RoFormer's files hold this table.
    """
    # In float64, as `make_sinusoids`: in float32 the angle of position 511 is wrong by 3e-5.
    angle = np.arange(length)[:, None] / np.power(10000.0, np.arange(0, size, 2)[None, :] / size)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)


def make_rotation(length: int, size: int, positions: jax.Array | None = None) -> Rotation:
    """The Rotation of rows of `length` positions for heads of width `size`.

    positions: the position numbers [B, T], below T, of packed sequences; else they are 0, 1, …
    """
    table = jnp.asarray(make_table(length, size))
    sine, cosine = jnp.split(table[None] if positions is None else table[positions], 2, axis=2)
    return cosine[:, :, None, :], sine[:, :, None, :]


def rotate(x: jax.Array, rotation: Rotation) -> jax.Array:
    """Queries or keys `x` [B, T, N, K], each pair of neighbouring numbers turned, in float32; in the dtype of `x`."""
    cosine, sine = rotation
    pairs = x.astype(jnp.float32).reshape(*x.shape[:-1], -1, 2)
    one, two = pairs[..., 0], pairs[..., 1]
    turned = jnp.stack([one * cosine - two * sine, two * cosine + one * sine], axis=-1)
    return turned.reshape(x.shape).astype(x.dtype)
