"""The encoder: embeddings, then layers of attention and feed-forward whose weights may be shared.

Axes in every docstring of this package: B batch, T query position, S key position, D width, F inner width, N heads, K head width,
E embedding, V vocabulary, L layers, G groups, P requested positions.

The weights of all attention blocks are stacked on a first axis of groups, and so are those of all feed-forward blocks. The layers
are one `lax.scan`. Sharing decides only which slice a layer reads, so the tree of parameters is the same for every strategy.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from research.models.architecture import Architecture
from research.models.attention import attend, initialise_attention
from research.models.layers import Weights, activate, dense, draw_kernel, initialise_dense, initialise_norm, layer_norm
from research.models.noise import Noise, dropout, fold
from research.models.remat import scan_layers
from research.models.sharing import count_groups, layout
from research.sharding import gather


@struct.dataclass
class Outputs:
    """The results of a forward pass; `layers`, `attention` and `relations` only on request (names of WANTS)."""

    hidden: jax.Array  # [B, T, D], of the last layer
    first: jax.Array  # [B, D], of the last layer at the first position; [B · P, D] at the P starts of packed examples
    pooled: jax.Array | None = None  # the same shape
    layers: jax.Array | None = None  # [L + 1, B, T, D], the embeddings first
    attention: jax.Array | None = None  # [L, B, N, T, S], probabilities
    relations: tuple[jax.Array, jax.Array, jax.Array] | None = None  # queries, keys and values, each [L, B, N, T, K]


# Optional results of a forward pass. The compiled program does not compute those that are not requested.
WANTS = ('layers', 'attention', 'relations')


def make_sinusoids(positions: int, width: int) -> jax.Array:
    """The fixed position table [positions, width]: sines in even columns, cosines in odd ones (Vaswani et al. 2017, §3.5)."""
    # Computed in float64: in float32 the angle of position 511 is wrong by 3e-5.
    column = np.arange(width)[None, :]
    angle = np.arange(positions)[:, None] / np.power(10000.0, 2 * (column // 2) / width)
    return jnp.asarray(np.where(column % 2 == 0, np.sin(angle), np.cos(angle)), jnp.float32)


def initialise_feed_forward(key: jax.Array, a: Architecture, groups: int) -> Weights:
    """Initial weights of the feed-forward blocks of all groups, stacked on the first axis; LayerNorm included."""
    inner, output = jax.random.split(key)
    return {
        'inner': initialise_dense(inner, a, (groups, a.width, a.inner), (groups, a.inner)),
        'output': initialise_dense(output, a, (groups, a.inner, a.width), (groups, a.width)),
        'norm': initialise_norm((groups, a.width)),
    }


def feed_forward(weights: Weights, x: jax.Array, a: Architecture, noise: Noise | None) -> jax.Array:
    """Post-LN feed-forward network applied to each position: [B, T, D] -> [B, T, D]."""
    with jax.named_scope('inner'):
        y = activate(dense(weights['inner'], x), a.activation)
    with jax.named_scope('output'):
        y = dense(weights['output'], y)
    return layer_norm(weights['norm'], x + dropout(noise, y, a.dropout), a.epsilon)


def _split_by_layer(stack: Weights, groups: tuple[int, ...], path: str) -> tuple[Any, Callable[[Any], Weights]]:
    """(the scanned input for one kind of block, the function that returns a layer's weights, given its slice of that input).

    One shared group is a constant of the scan, so its gradient is summed in place. Unshared layers are scanned, so each gradient
    is written once. Only the other sharing maps index the stack. path: of the block. Weights that are divided over the devices are
    gathered by each layer for itself, those of one shared group once.
    """
    if set(groups) == {0}:
        shared = gather(stack, path)
        return None, lambda _: jax.tree.map(lambda w: w[0], shared)
    if groups == tuple(range(len(groups))):
        return stack, lambda weights: gather(weights, path, sliced=True)
    return jnp.array(groups), lambda group: gather(jax.tree.map(lambda w: w[group], stack), path, sliced=True)


class Encoder(nn.Module):
    """Embeddings and layers of an Architecture. Dropout is on if there is `noise`, else off."""

    architecture: Architecture

    def setup(self) -> None:
        a = self.architecture
        self.word = self.param('word', draw_kernel, a, (a.vocabulary, a.embedding))
        if a.position_kind == 'learned':
            self.position = self.param('position', draw_kernel, a, (a.positions, a.embedding))
        else:
            self.position = make_sinusoids(a.positions, a.embedding)
        if a.types:
            self.type = self.param('type', draw_kernel, a, (a.types, a.embedding))
        self.norm = self.param('norm', lambda key: initialise_norm((a.embedding,)))
        if has_projection(a):
            self.project = self.param('projection', initialise_dense, a, (a.embedding, a.width), (a.width,))
        attention, feed_forward = count_groups(a)
        self.attention = self.param('attention', initialise_attention, a, attention)
        self.feed_forward = self.param('feed_forward', initialise_feed_forward, a, feed_forward)
        if a.pooler:
            self.pooler = self.param('pooler', initialise_dense, a, (a.width, a.width), (a.width,))

    def __call__(
        self,
        ids: jax.Array,
        types: jax.Array,
        mask: jax.Array,
        want: frozenset[str] = frozenset(),
        segments: jax.Array | None = None,
        positions: jax.Array | None = None,
        starts: jax.Array | None = None,
        causal: jax.Array | None = None,
        noise: Noise | None = None,
    ) -> Outputs:
        """Encodes `ids`, `types` and `mask` (1 = attended), each int [B, T]; `want` holds names of WANTS.

        For packed sequences, a position attends only to positions with the same number in `segments` [B, T], `positions` [B, T]
        are the position numbers, and `starts` [B, P] the first positions of the examples in a row. In rows where `causal` [B] is
        not 0, a position attends to itself and to those before it. `noise` [B, 2]: two words a row.
        """
        a = self.architecture
        x = self.embed(ids, types, fold(noise, 0), positions)
        attended = (mask > 0)[:, None, None, :]
        if segments is not None:
            attended = attended & (segments[:, None, :, None] == segments[:, None, None, :])
        if causal is not None:
            before = jnp.tri(ids.shape[1], dtype=bool)
            attended = attended & (before[None, None] | (causal == 0)[:, None, None, None])
        attention_groups, feed_forward_groups = zip(*layout(a), strict=True)
        attention, read_attention = _split_by_layer(self.attention, attention_groups, 'encoder/attention')
        feed, read_feed = _split_by_layer(self.feed_forward, feed_forward_groups, 'encoder/feed_forward')
        places = 1 + 3 * jnp.arange(a.layers)

        def layer(x: jax.Array, scanned: Any) -> tuple[jax.Array, Any]:
            attention, feed, place = scanned
            with jax.named_scope('attention'):
                found = attend(read_attention(attention), x, attended, a, fold(noise, place))
            with jax.named_scope('feed_forward'):
                y = feed_forward(read_feed(feed), found.output, a, fold(noise, place + 2))
            kept = {'layers': y, 'attention': found.probabilities, 'relations': found.relations}
            return y, {name: kept[name] for name in want}

        last, kept = scan_layers(layer, x, (attention, feed, places), a)
        first = last[:, 0] if starts is None else jnp.take_along_axis(last, starts[:, :, None], axis=1).reshape(-1, a.width)
        return Outputs(
            hidden=last,
            first=first,
            pooled=jnp.tanh(dense(self.pooler, first)) if a.pooler else None,
            layers=jnp.concatenate([x[None], kept['layers']]) if 'layers' in want else None,
            attention=kept['attention'] if 'attention' in want else None,
            relations=kept['relations'] if 'relations' in want else None,
        )

    def embed(self, ids: jax.Array, types: jax.Array, noise: Noise | None, positions: jax.Array | None = None) -> jax.Array:
        """The input of the first layer, [B, T, D] in the Architecture's dtype."""
        a = self.architecture
        x = self.word[ids] + (self.position[None, : ids.shape[1]] if positions is None else self.position[positions])
        if a.types:
            x = x + self.type[types]
        x = dropout(noise, layer_norm(self.norm, x, a.epsilon).astype(a.dtype), a.dropout)
        return dense(self.project, x) if has_projection(a) else x


def has_projection(a: Architecture) -> bool:
    """Whether a dense map projects the embeddings to the width of the layers."""
    return a.projection or a.embedding != a.width
