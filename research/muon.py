"""Muon: momentum whose matrices are made orthogonal (Jordan et al. 2024), scaled as Adam's updates are (Liu et al. 2025, §2.2)."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from research.models import paths

RMS = 0.2  # of an update's entries, as Adam's usually have: one rate and one weight decay serve both (Liu et al. 2025, §2.2)
HIDDEN, REST = 'hidden', 'rest'  # the labels of `label`


def label(params: Any) -> Any:
    """A tree like `params`: HIDDEN for the kernels of attention and feed-forward blocks, REST for all other parameters."""
    return jax.tree_util.tree_map_with_path(lambda keys, _: HIDDEN if is_hidden(paths.join(keys)) else REST, params)


def is_hidden(path: str) -> bool:
    """Whether a parameter is a kernel of an attention or a feed-forward block."""
    return paths.stack_of(path) is not None and paths.is_weight(path)


def _sides(keys: tuple[Any, ...], kernel: jax.Array) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which axes of a stacked kernel are the rows and which the columns of a matrix; the first, of groups, is neither.

    Attention's query, key and value [groups, D, N, K] are D × (N·K), its output [groups, N, K, D] is (N·K) × D.
    """
    first = 3 if paths.is_under(paths.join(keys), 'attention/output') else 2  # of the columns
    return tuple(range(1, first)), tuple(range(first, kernel.ndim))


def orthogonal_momentum(momentum: float) -> optax.GradientTransformation:
    """Nesterov's momentum of stacked kernels, each group's matrix made orthogonal and scaled by RMS · √max(rows, columns).

    optax's five Newton–Schulz steps leave singular values between about 0.7 and 1.2 (Jordan et al. 2024). Its momentum is not used,
    since it counts steps: State.step is the only clock.
    """

    def find_axes(tree: Any) -> Any:
        return jax.tree_util.tree_map_with_path(lambda *leaf: optax.contrib.MuonDimensionNumbers(*_sides(*leaf)), tree)

    newton_schulz = optax.contrib.scale_by_muon(beta=0.0, nesterov=False, weight_dimension_numbers=find_axes)

    def scale(keys: tuple[Any, ...], matrix: jax.Array) -> jax.Array:
        longer = max(math.prod(matrix.shape[axis] for axis in side) for side in _sides(keys, matrix))
        return RMS * math.sqrt(longer) * matrix

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        average = jax.tree.map(lambda m, g: momentum * m + (1 - momentum) * g, state['first'], updates)
        ahead = jax.tree.map(lambda m, g: momentum * m + (1 - momentum) * g, average, updates)
        orthogonal, _ = newton_schulz.update(ahead, newton_schulz.init(ahead))
        return jax.tree_util.tree_map_with_path(scale, orthogonal), {'first': average}

    return optax.GradientTransformation(lambda params: {'first': jax.tree.map(jnp.zeros_like, params)}, update)
