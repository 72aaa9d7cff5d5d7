"""One model on one batch, as losses see it."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from research.models.encoder import Outputs
from research.models.heads import Model, encode, score

Batch = Mapping[str, jax.Array]


class View:
    """One model on one batch, as a loss sees it: the forward pass and each head's logits, computed when first asked for.

    What no loss asks for is never traced, so it costs nothing in the compiled program.
    """

    def __init__(self, model: Model, params: Any, batch: Batch, key: jax.Array | None = None) -> None:
        self._model, self._params, self._batch = model, params, batch
        self._keys = (None, None) if key is None else tuple(jax.random.split(key))
        self._outputs: Outputs | None = None
        self._logits: dict[tuple[str, str], jax.Array] = {}

    @property
    def outputs(self) -> Outputs:
        """The encoder's Outputs."""
        if self._outputs is None:
            self._outputs = encode(self._model, self._params, self._batch, self._keys[0])
        return self._outputs

    def logits(self, head: str, at: str = 'attended') -> jax.Array:
        """The logits of `head`; for 'mlm' at the 'masked' positions [B, P, V] or at all of them [B, T, V].

        For 'choice' they are those of the candidates [B, C]; for 'span' those beyond the sequence are next to −∞.
        """
        if (head, at) not in self._logits:
            positions = self._batch['masked_positions'] if at == 'masked' else None
            found = score(self._model, self._params, head, self.outputs, positions, self._keys[1])
            if head == 'choice':
                found = found.reshape(self._batch['ids'].shape[:2])
            elif head == 'span':
                found = jnp.where(self._batch['mask'][:, :, None] > 0, found, -1e9)
            self._logits[head, at] = found
        return self._logits[head, at]

    def hidden(self, at: str) -> jax.Array:
        """The last hidden states at the 'masked' positions [B, P, D] or at all of them [B, T, D]."""
        hidden = self.outputs.hidden
        if at == 'masked':
            hidden = jnp.take_along_axis(hidden, self._batch['masked_positions'][:, :, None], axis=1)
        return hidden.astype(jnp.float32)
