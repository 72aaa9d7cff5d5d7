"""Multi-head self-attention (Vaswani et al. 2017, §3.2), by one of the kernels of ATTENTION."""

from collections.abc import Callable, Set
from typing import NamedTuple

import jax
import jax.numpy as jnp

from research.errors import UserError, choose
from research.models.architecture import Architecture
from research.models.layers import Weights, dense, initialise_dense, initialise_norm
from research.models.noise import Noise, dropout, fold
from research.models.norms import connect, damp
from research.models.rotary import Rotation, rotate


def initialise_attention(key: jax.Array, a: Architecture, groups: int) -> Weights:
    """Initial weights of the attention blocks of all groups, stacked on the first axis; LayerNorm included."""
    query, key_, value, output = jax.random.split(key, 4)
    k = a.width // a.heads
    shapes = (groups, a.width, a.heads, k), (groups, a.heads, k)  # of a kernel and its bias
    return {
        'query': initialise_dense(query, a, *shapes),
        'key': initialise_dense(key_, a, *shapes),
        'value': initialise_dense(value, damp(a), *shapes),
        'output': initialise_dense(output, damp(a), (groups, a.heads, k, a.width), (groups, a.width)),
        'norm': initialise_norm((groups, a.width)),
    }


class Attended(NamedTuple):
    """The results of self-attention in one layer."""

    output: jax.Array  # [B, T, D], after the residual connection and, LayerNorm unless that comes before the block
    probabilities: jax.Array | None  # [B, N, T, S], before dropout; None where the kernel does not have them
    # Queries, keys and values, each [B, N, T, K], as their products read them: after the rotation of rotary positions.
    relations: tuple[jax.Array, jax.Array, jax.Array]


def attend(
    weights: Weights, x: jax.Array, mask: jax.Array, a: Architecture, noise: Noise | None, rotation: Rotation | None = None
) -> Attended:
    """Self-attention of `x` [B, T, D] with its residual connection and LayerNorm.

    The bool `mask` broadcasts to [B, N, T, S]; False = not attended to. rotation: of rotary positions.
    """
    rate = 0.0 if noise is None else a.attention_dropout
    kernel = ATTENTION['plain' if a.attention == 'auto' else a.attention]

    def block(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array | None, list[jax.Array]]]:
        parts = []
        for name in ('query', 'key', 'value'):
            with jax.named_scope(name):
                part = dense(weights[name], x)
                parts.append(part if rotation is None or name == 'value' else rotate(part, rotation))
        with jax.named_scope('softmax'):
            context, probabilities = kernel.compute(*parts, mask, rate, fold(noise, 0))
        with jax.named_scope('output'):
            return dense(weights['output'], context), (probabilities, parts)

    output, (probabilities, parts) = connect(weights['norm'], x, block, a, fold(noise, 1))
    query, key, value = (part.swapaxes(1, 2) for part in parts)
    return Attended(output, probabilities, (query, key, value))


# ---- The kernels ----------------------------------------------------------------------------------------------------------------


def plain(
    query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array, rate: float, noise: Noise | None
) -> tuple[jax.Array, jax.Array]:
    """Softmax attention by products of jax: (context [B, T, N, K], probabilities [B, N, T, S], float32, before dropout)."""
    query, key, value = (part.swapaxes(1, 2) for part in (query, key, value))
    query = query * jnp.asarray(query.shape[-1] ** -0.5, query.dtype)
    scores = jnp.einsum('bntk,bnsk->bnts', query, key, preferred_element_type=jnp.float32)
    probabilities = jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(jnp.float32).min))
    dropped = dropout(noise, probabilities, rate).astype(value.dtype)
    return jnp.einsum('bnts,bnsk->bntk', dropped, value).swapaxes(1, 2), probabilities


def fused(
    query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array, rate: float, noise: Noise | None
) -> tuple[jax.Array, jax.Array | None]:
    """cuDNN's flash attention (Dao 2023), which keeps no probabilities: (context [B, T, N, K], None). `rate` must be 0.

    Its gradient does not exist for sequences of an odd length, which take the plain kernel.
    """
    rows, length = query.shape[:2]
    if length % 2:
        return plain(query, key, value, mask, rate, noise)
    mask = jnp.broadcast_to(mask, (rows, 1, length, length))
    return jax.nn.dot_product_attention(query, key, value, mask=mask, implementation='cudnn'), None


class Kernel(NamedTuple):
    """A row of ATTENTION."""

    compute: Callable[..., tuple[jax.Array, jax.Array | None]]  # (query, key, value [B, T, N, K], mask, rate, noise)
    fault: Callable[[Architecture, Set[str], str, bool], str]  # (model, wants, platform, training) -> why not this kernel, or ''


def _fault_of_fused(a: Architecture, want: Set[str], platform: str, training: bool) -> str:
    size = a.width // a.heads
    if platform != 'cuda':
        return f'it needs a CUDA GPU of compute capability 8.0 or more, and this is {platform.upper()}'
    if a.dtype != 'bfloat16':
        return f'it computes in bfloat16, and model.dtype is {a.dtype}'
    if size % 8 or size > 128:
        return f'it needs heads of a multiple of 8 up to 128, and model.width ÷ model.heads is {size}'
    if 'attention' in want:
        return 'a loss reads the attention probabilities, which it does not keep'
    if training and a.attention_dropout:
        # cuDNN's mask depends on how often the kernel has run in this process, so a rolled backward pass would meet another mask.
        return 'its dropout cannot be repeated: --config.model.attention_dropout=0 allows it'
    return ''


ATTENTION: dict[str, Kernel] = {
    'plain': Kernel(plain, lambda a, want, platform, training: ''),
    'fused': Kernel(fused, _fault_of_fused),
}


def validate(a: Architecture) -> None:
    """Raises UserError if no kernel has this name."""
    choose('model.attention', a.attention, ('auto', *ATTENTION))


def choose_kernel(a: Architecture, want: Set[str], platform: str, training: bool) -> tuple[str, str]:
    """(the row of ATTENTION that `model.attention` asks for, a log line on why); 'auto' takes the fused kernel where it can.

    want: what the losses read of the forward pass. platform: as `parallel.find_platform` says. Raises UserError if the kernel that
    is named cannot be used.
    """
    if a.attention == 'auto':
        fault = ATTENTION['fused'].fault(a, want, platform, training)
        return ('plain', f'attention: plain; not fused, since {fault}') if fault else ('fused', "attention: fused, cuDNN's")
    fault = ATTENTION[a.attention].fault(a, want, platform, training)
    if fault:
        raise UserError(f"model.attention='{a.attention}' cannot be used: {fault}; --config.model.attention=auto takes what can")
    return a.attention, f'attention: {a.attention}, as model.attention says'
