"""One model on one batch, as losses see it."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from research.models.encoder import Outputs
from research.models.heads import HEADS, Model, encode, score
from research.models.noise import Noise
from research.sharding import gather

Batch = Mapping[str, jax.Array]


class View:
    """One model on one batch: the forward pass and each head's logits, computed when first asked for.

    What no loss asks for is never traced, so it costs nothing in the compiled program. `want` (rows of WANTS) is what the losses
    together want of the forward pass besides its last hidden states.
    """

    def __init__(
        self, model: Model, params: Any, batch: Batch, noise: Noise | None = None, want: frozenset[str] = frozenset()
    ) -> None:
        self._model, self._params, self._batch, self._want = model, gather(params), batch, want
        self._noise = noise
        self._outputs: Outputs | None = None
        self._logits: dict[tuple[str, Any], jax.Array] = {}

    @property
    def outputs(self) -> Outputs:
        """The encoder's Outputs."""
        if self._outputs is None:
            self._outputs = encode(self._model, self._params, self._batch, self._noise, self._want)
        return self._outputs

    def logits(self, head: str, at: str = 'attended') -> jax.Array:
        """The logits of `head`: of one at positions those at the 'masked' ones [B, P, V], or at all of them [B, T, V].

        For 'choice' they are [B, C], one a candidate; for 'span' [B, T, 2], next to −∞ on padding; for 'answer' [B, 2 T + 1], of
        ends given the right starts: `heads.AnswerHead`. Of packed examples, P a row, those of 'label' are [B, P, classes], those of
        'span' [B, P, T, 2] and those of 'answer' [B, P, 2 T + 1].
        """
        return self._find(head, at if HEADS[head].at_positions and at == 'masked' else None)

    def search(self, head: str, tried: tuple[int, int]) -> jax.Array:
        """What predictions are read from: the logits of `head`, of 'answer' the spans that are `tried` [B, 1 + K · M, 4]."""
        return self._find(head, tried if HEADS[head].searches else None)

    def _find(self, head: str, at: Any) -> jax.Array:
        if (head, at) not in self._logits:
            row = HEADS[head]
            found = score(self._model, self._params, head, self.outputs, row.reads(self._batch, at), self._noise)
            self._logits[head, at] = row.arrange(found, self._batch)
        return self._logits[head, at]

    def hidden(self, at: str) -> jax.Array:
        """The last hidden states, float32, at the 'masked' positions [B, P, D] or at all of them [B, T, D]."""
        hidden = self.outputs.hidden
        if at == 'masked':
            hidden = jnp.take_along_axis(hidden, self._batch['masked_positions'][:, :, None], axis=1)
        return hidden.astype(jnp.float32)

    def layers(self) -> jax.Array:
        """The hidden states of all layers, the embeddings first, float32 [L + 1, B, T, D]. The loss must want 'layers'."""
        assert self.outputs.layers is not None, "add 'layers' to the loss's `wants`"
        return self.outputs.layers.astype(jnp.float32)

    def attention(self) -> jax.Array:
        """The attention probabilities of all layers, float32 [L, B, N, T, S]. The loss must want 'attention'."""
        assert self.outputs.attention is not None, "add 'attention' to the loss's `wants`"
        return self.outputs.attention.astype(jnp.float32)

    def relations(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries, keys and values of all layers, float32, each [L, B, N, T, K]. The loss must want 'relations'."""
        assert self.outputs.relations is not None, "add 'relations' to the loss's `wants`"
        query, key, value = self.outputs.relations
        return query.astype(jnp.float32), key.astype(jnp.float32), value.astype(jnp.float32)
