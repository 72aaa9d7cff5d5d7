"""The encoder: embeddings, then layers of attention and feed-forward whose weights may be shared.

Axes, here and in every docstring of the package: B batch, T query position, S key position, D width, F inner width, N heads,
K head width, E embedding, V vocabulary, L layers, G groups, P positions asked for.

The weights of a kind of block are stacked on a leading group axis, and the depth is one `lax.scan`. All that depends on the
sharing map is which slice a layer reads, so every strategy has the same parameters tree.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from research.models.architecture import Architecture
from research.models.sharing import group_counts, layout

Weights = Any  # a nested dict of arrays


@struct.dataclass
class Outputs:
    """What a forward pass leaves behind; `layers` and `attention` only when asked for."""

    hidden: jax.Array  # [B, T, D], of the last layer
    pooled: jax.Array | None = None  # [B, D]
    layers: jax.Array | None = None  # [L + 1, B, T, D], the embeddings first
    attention: jax.Array | None = None  # [L, B, N, T, S], probabilities


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
    """`einsum(equation, x, kernel) + bias` in the dtype of `x`."""
    y = jnp.einsum(equation, x, weights['kernel'].astype(x.dtype))
    bias = weights['bias'].astype(x.dtype)
    if equation.endswith('->bntk'):
        bias = bias[:, None, :]
    return y + bias.reshape((1,) * (y.ndim - bias.ndim) + bias.shape)


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


def sinusoids(positions: int, width: int) -> jax.Array:
    """The fixed position table [positions, width] of Vaswani et al. 2017, §3.5: sines on even columns, cosines on odd ones."""
    # In float64: in float32 the angle of position 511 is off by 3e-5.
    column = np.arange(width)[None, :]
    angle = np.arange(positions)[:, None] / np.power(10000.0, 2 * (column // 2) / width)
    return jnp.asarray(np.where(column % 2 == 0, np.sin(angle), np.cos(angle)), jnp.float32)


def initial_attention(key: jax.Array, a: Architecture, groups: int) -> Weights:
    """The attention blocks of all groups, LayerNorm included."""
    query, key_, value, output = jax.random.split(key, 4)
    k = a.width // a.heads
    inward = (groups, a.width, a.heads, k), (groups, a.heads, k)
    return {
        'query': dense(query, a, *inward),
        'key': dense(key_, a, *inward),
        'value': dense(value, a, *inward),
        'output': dense(output, a, (groups, a.heads, k, a.width), (groups, a.width)),
        'norm': norm((groups, a.width)),
    }


def initial_feed_forward(key: jax.Array, a: Architecture, groups: int) -> Weights:
    """The feed-forward blocks of all groups, LayerNorm included."""
    inner, output = jax.random.split(key)
    return {
        'inner': dense(inner, a, (groups, a.width, a.inner), (groups, a.inner)),
        'output': dense(output, a, (groups, a.inner, a.width), (groups, a.width)),
        'norm': norm((groups, a.width)),
    }


def attend(weights: Weights, x: jax.Array, mask: jax.Array, a: Architecture, key: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Post-LN self-attention: `x` [B, T, D] -> ([B, T, D], probabilities [B, N, T, S]); bool `mask` broadcasts to the latter."""
    keys = (None, None) if key is None else jax.random.split(key)
    query, key_, value = (affine(weights[name], x, 'btd,dnk->bntk') for name in ('query', 'key', 'value'))
    scores = jnp.einsum('bntk,bnsk->bnts', query, key_, preferred_element_type=jnp.float32) / (a.width // a.heads) ** 0.5
    scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
    probabilities = jax.nn.softmax(scores)
    dropped = dropout(keys[0], probabilities, a.attention_dropout).astype(x.dtype)
    context = jnp.einsum('bnts,bnsk->bntk', dropped, value)
    y = affine(weights['output'], context, 'bntk,nkd->btd')
    return layer_norm(weights['norm'], x + dropout(keys[1], y, a.dropout), a.epsilon), probabilities


def feed_forward(weights: Weights, x: jax.Array, a: Architecture, key: jax.Array | None) -> jax.Array:
    """Post-LN position-wise network: [B, T, D] -> [B, T, D]."""
    y = activate(affine(weights['inner'], x, 'btd,df->btf'), a.activation)
    y = affine(weights['output'], y, 'btf,fd->btd')
    return layer_norm(weights['norm'], x + dropout(key, y, a.dropout), a.epsilon)


def _by_layer(stack: Weights, groups: tuple[int, ...]) -> tuple[Any, Callable[[Any], Weights]]:
    """What a scan over layers carries along for one kind of block, and how a layer reads its weights from that.

    Weights of one group are closed over, so that their gradient is summed in place; those of unshared layers are scanned, so
    that a layer's gradient is written once; only the maps in between index the stack.
    """
    if set(groups) == {0}:
        return None, lambda _: jax.tree.map(lambda w: w[0], stack)
    if groups == tuple(range(len(groups))):
        return stack, lambda weights: weights
    return jnp.array(groups), lambda group: jax.tree.map(lambda w: w[group], stack)


class Encoder(nn.Module):
    """Embeddings and layers of an Architecture. Dropout is on exactly when a 'dropout' key is given."""

    architecture: Architecture

    def setup(self) -> None:
        a = self.architecture
        self.word = self.param('word', kernel, a, (a.vocabulary, a.embedding))
        if a.position_kind == 'learned':
            self.position = self.param('position', kernel, a, (a.positions, a.embedding))
        else:
            self.position = sinusoids(a.positions, a.embedding)
        if a.types:
            self.type = self.param('type', kernel, a, (a.types, a.embedding))
        self.norm = self.param('norm', lambda key: norm((a.embedding,)))
        if projected(a):
            self.project = self.param('projection', dense, a, (a.embedding, a.width), (a.width,))
        attention, feed_forward = group_counts(a)
        self.attention = self.param('attention', initial_attention, a, attention)
        self.feed_forward = self.param('feed_forward', initial_feed_forward, a, feed_forward)
        if a.pooler:
            self.pooler = self.param('pooler', dense, a, (a.width, a.width), (a.width,))

    def __call__(
        self,
        ids: jax.Array,
        types: jax.Array,
        mask: jax.Array,
        want: frozenset[str] = frozenset(),
        segments: jax.Array | None = None,
        positions: jax.Array | None = None,
    ) -> Outputs:
        """Encodes `ids`, `types` and `mask` (1 = attended), each int [B, T]; `want` may hold 'layers' and 'attention'.

        Packed sequences: positions attend to those of equal `segments` [B, T] alone, and `positions` [B, T] are theirs.
        """
        a = self.architecture
        key = self.make_rng('dropout') if self.has_rng('dropout') else None
        first, rest = (None, None) if key is None else jax.random.split(key)
        x = self.embed(ids, types, first, positions)
        attended = (mask > 0)[:, None, None, :]
        if segments is not None:
            attended = attended & (segments[:, None, :, None] == segments[:, None, None, :])
        attention_groups, feed_forward_groups = zip(*layout(a), strict=True)
        attention, read_attention = _by_layer(self.attention, attention_groups)
        feed, read_feed = _by_layer(self.feed_forward, feed_forward_groups)
        keys = None if rest is None else jax.random.split(rest, (a.layers, 2))

        def layer(x: jax.Array, scanned: Any) -> tuple[jax.Array, Any]:
            attention, feed, keys = scanned
            first, second = (None, None) if keys is None else keys
            y, probabilities = attend(read_attention(attention), x, attended, a, first)
            y = feed_forward(read_feed(feed), y, a, second)
            return y, (y if 'layers' in want else None, probabilities if 'attention' in want else None)

        body = jax.checkpoint(layer) if a.remat else layer
        last, (layers, maps) = jax.lax.scan(
            body, x, (attention, feed, keys), length=a.layers, unroll=a.unroll if a.unroll else True
        )
        return Outputs(
            hidden=last,
            pooled=jnp.tanh(affine(self.pooler, last[:, 0], 'bd,de->be')) if a.pooler else None,
            layers=None if layers is None else jnp.concatenate([x[None], layers]),
            attention=maps,
        )

    def embed(self, ids: jax.Array, types: jax.Array, key: jax.Array | None, positions: jax.Array | None = None) -> jax.Array:
        """The input of the first layer, [B, T, D] in the Architecture's dtype."""
        a = self.architecture
        x = self.word[ids] + (self.position[None, : ids.shape[1]] if positions is None else self.position[positions])
        if a.types:
            x = x + self.type[types]
        x = dropout(key, layer_norm(self.norm, x, a.epsilon).astype(a.dtype), a.dropout)
        return affine(self.project, x, 'bte,ed->btd') if projected(a) else x


def projected(a: Architecture) -> bool:
    """Whether a dense map leads from the embeddings to the layers."""
    return a.projection or a.embedding != a.width
