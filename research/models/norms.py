"""The residual connection and LayerNorm around each block of a layer, as `model.norm` says."""

import dataclasses
from collections.abc import Callable
from typing import TypeVar

import jax

from research.models.architecture import NORMS, Architecture
from research.models.layers import Weights, layer_norm
from research.models.noise import Noise, dropout

More = TypeVar('More')


def connect(
    norm: Weights, x: jax.Array, block: Callable[[jax.Array], tuple[jax.Array, More]], a: Architecture, noise: Noise | None
) -> tuple[jax.Array, More]:
    """(the hidden states [B, T, D] after a block of a layer, what else the block found) for its input `x` [B, T, D].

    norm: the weights of its LayerNorm. block: hidden states -> (hidden states, what else); dropout follows it.
    """
    row = NORMS[a.norm]
    y, more = block(layer_norm(norm, x, a.epsilon) if row.before else x)
    alpha = row.alpha(a.layers)
    total = (x if alpha == 1 else alpha * x) + dropout(noise, y, a.dropout)
    return (total if row.before else layer_norm(norm, total, a.epsilon)), more


def damp(a: Architecture) -> Architecture:
    """`a` with the deviation of the initial weights that the output of a block is linear in: `model.deviation` times β."""
    return dataclasses.replace(a, deviation=a.deviation * NORMS[a.norm].beta(a.layers))
