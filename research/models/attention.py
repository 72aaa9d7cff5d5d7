"""Multi-head self-attention (Vaswani et al. 2017, §3.2), by one of the kernels of ATTENTION."""

from collections.abc import Callable, Set
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from research.errors import UserError, choose
from research.models.architecture import Architecture
from research.models.layers import Weights, dense, initialise_dense, initialise_norm, layer_norm
from research.models.noise import Noise, dropout, fold


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
    probabilities: jax.Array | None  # [B, N, T, S], before dropout; None where the kernel does not have them
    relations: tuple[jax.Array, jax.Array, jax.Array]  # queries, keys and values, each [B, N, T, K]


def attend(weights: Weights, x: jax.Array, mask: jax.Array, a: Architecture, noise: Noise | None) -> Attended:
    """Post-LN self-attention of `x` [B, T, D]. The bool `mask` broadcasts to [B, N, T, S]; False = not attended to."""
    parts = tuple(dense(weights[name], x) for name in ('query', 'key', 'value'))
    rate = 0.0 if noise is None else a.attention_dropout
    kernel = ATTENTION['plain' if a.attention == 'auto' else a.attention]
    context, probabilities = kernel.compute(*parts, mask, rate, fold(noise, 0))
    y = dense(weights['output'], context)
    output = layer_norm(weights['norm'], x + dropout(fold(noise, 1), y, a.dropout), a.epsilon)
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
) -> tuple[jax.Array, None]:
    """cuDNN's flash attention (Dao 2023), which keeps no probabilities: (context [B, T, N, K], None).

    cuDNN draws its own dropout, by a counter of the process: a run that was stopped goes on with other masks.
    """
    rows, length = query.shape[:2]
    mask = jnp.broadcast_to(mask, (rows, 1, length, length))
    if not rate:
        return jax.nn.dot_product_attention(query, key, value, mask=mask, implementation='cudnn'), None
    # jax.nn.dot_product_attention has no dropout.
    from jax._src.cudnn.fused_attention_stablehlo import dot_product_attention

    bias = jnp.where(mask, 0, jnp.finfo(query.dtype).min).astype(query.dtype)
    found: Any = dot_product_attention(query, key, value, bias, scale=query.shape[-1] ** -0.5, dropout_rate=rate)
    return found, None


class Kernel(NamedTuple):
    """A row of ATTENTION."""

    compute: Callable[..., tuple[jax.Array, jax.Array | None]]  # (query, key, value [B, T, N, K], mask, rate, noise)
    fault: Callable[[Architecture, Set[str], str], str]  # (model, wants of the losses, platform) -> why not this kernel, or ''
    repeats: bool = True  # whether a run that was stopped goes on with the same dropout


def _fault_of_fused(a: Architecture, want: Set[str], platform: str) -> str:
    size = a.width // a.heads
    if platform not in ('gpu', 'cuda'):
        return f'it needs a CUDA GPU, and this is a {platform.upper()}'
    if a.dtype != 'bfloat16':
        return f'it computes in bfloat16, and model.dtype is {a.dtype}'
    if size % 8 or size > 128:
        return f'it needs heads of a multiple of 8 up to 128, and model.width ÷ model.heads is {size}'
    if 'attention' in want:
        return 'a loss reads the attention probabilities, which it does not keep'
    return ''


ATTENTION: dict[str, Kernel] = {
    'plain': Kernel(plain, lambda a, want, platform: ''),
    'fused': Kernel(fused, _fault_of_fused, repeats=False),
}


def validate(a: Architecture) -> None:
    """Raises UserError for a kernel that there is not."""
    choose('model.attention', a.attention, ('auto', *ATTENTION))


def choose_kernel(a: Architecture, want: Set[str], platform: str, training: bool) -> tuple[str, str]:
    """(the row of ATTENTION that `model.attention` asks for on this platform, a log line on why).

    'auto' takes the fused kernel where it can be used and a stop changes nothing, else the plain one. `want`: what the losses read
    of the forward pass. Raises UserError if the named kernel cannot be used.
    """
    if a.attention != 'auto':
        fault = ATTENTION[a.attention].fault(a, want, platform)
        if fault:
            raise UserError(f"model.attention='{a.attention}' cannot be used: {fault}; give --config.model.attention=auto")
        return a.attention, f'attention: {a.attention}, as model.attention says'
    fault = ATTENTION['fused'].fault(a, want, platform)
    if fault:
        return 'plain', f'attention: plain; not fused, since {fault}'
    if training and a.attention_dropout and not ATTENTION['fused'].repeats:
        return 'plain', (
            'attention: plain, whose dropout is the same after a stop; '
            '--config.model.attention=fused is faster, and --config.model.attention_dropout=0 lets auto take it'
        )
    return 'fused', "attention: fused, cuDNN's"
