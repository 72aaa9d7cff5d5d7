"""Multi-head self-attention (Vaswani et al. 2017, §3.2)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from research.models.architecture import Architecture
from research.models.layers import Weights, affine, dropout, initialise_dense, initialise_norm, layer_norm


def initialise_attention(key: jax.Array, a: Architecture, groups: int) -> Weights:
    """Initial weights of the attention blocks of all groups, stacked on the first axis; LayerNorm included."""
    query, key_, value, output = jax.random.split(key, 4)
    k = a.width // a.heads
    shapes = (groups, a.width, a.heads, k), (groups, a.heads, k)  # of a kernel and its bias
    return {
        'query': initialise_dense(query, a, *shapes),
        'key': initialise_dense(key_, a, *shapes),
        'value': initialise_dense(value, a, *shapes),
        'output': initialise_dense(output, a, (groups, a.heads, k, a.width), (groups, a.width)),
        'norm': initialise_norm((groups, a.width)),
    }


class Attended(NamedTuple):
    """The results of self-attention in one layer."""

    output: jax.Array  # [B, T, D], after the residual connection and LayerNorm
    probabilities: jax.Array  # [B, N, T, S], before dropout
    relations: tuple[jax.Array, jax.Array, jax.Array]  # queries, keys and values, each [B, N, T, K]


def attend(weights: Weights, x: jax.Array, mask: jax.Array, a: Architecture, key: jax.Array | None) -> Attended:
    """Post-LN self-attention of `x` [B, T, D]. The bool `mask` broadcasts to [B, N, T, S]; False = not attended to."""
    keys = (None, None) if key is None else jax.random.split(key)
    query, key_, value = (affine(weights[name], x, 'btd,dnk->bntk') for name in ('query', 'key', 'value'))
    scores = jnp.einsum('bntk,bnsk->bnts', query, key_, preferred_element_type=jnp.float32) / (a.width // a.heads) ** 0.5
    scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
    probabilities = jax.nn.softmax(scores)
    dropped = dropout(keys[0], probabilities, a.attention_dropout).astype(x.dtype)
    context = jnp.einsum('bnts,bnsk->bntk', dropped, value)
    y = affine(weights['output'], context, 'bntk,nkd->btd')
    output = layer_norm(weights['norm'], x + dropout(keys[1], y, a.dropout), a.epsilon)
    return Attended(output, probabilities, (query, key_, value))
