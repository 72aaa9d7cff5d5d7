"""ALBERT's head for SQuAD 2.0: an end that depends on the start, and a class for 'no answer'.

It is XLNet's, by google-research/albert (squad_utils.py, `create_v2_model`): Lan et al. 2020, §A.3, "an additional classifier for
predicting answerability". Axes beside the legend: P examples of a row, 1 unless packed; K starts and M ends that are tried.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.models.architecture import Architecture
from research.models.encoder import Outputs
from research.models.layers import Weights, dense, draw_kernel, initialise_dense, initialise_norm, layer_norm, multiply
from research.models.noise import Noise, dropout, spread

NOWHERE = -1e9  # the logit of a place where no answer can be


class Asked(NamedTuple):
    """What the head reads of a batch beside the encoder's Outputs."""

    allowed: jax.Array  # [B, P, T]: whether an answer of the example can begin or end there: in the context, or at [CLS] for none
    numbers: jax.Array | None  # [B, T]: the example of each position, of packed ones
    start: jax.Array | None  # [B, P]: the right starts, for training; None: try the best ones
    tried: tuple[int, int]  # (K, M)


def ask(batch: Mapping[str, jax.Array], tried: tuple[int, int] | None) -> Asked:
    """What a batch asks of the head: ends given the right starts, or the best K starts and M ends of each that are `tried`.

    The context is the second segment, without its [SEP].
    """
    there, types = batch['mask'] > 0, batch['types'] > 0
    place = jnp.arange(there.shape[1])[None, None, :]
    if 'starts' in batch:
        number = 1 + jnp.arange(batch['starts'].shape[1])
        inside = batch['segments'][:, None, :] == number[None, :, None]
        first, numbers = batch['starts'], jnp.maximum(batch['segments'] - 1, 0)
    else:
        inside, first, numbers = there[:, None, :], jnp.zeros((len(there), 1), jnp.int32), None
    last = jnp.where(inside, place, -1).max(-1, keepdims=True)
    allowed = inside & (types[:, None, :] & (place < last) | (place == first[:, :, None]))
    if tried is not None:
        return Asked(allowed, numbers, None, tried)
    start = batch['start']
    return Asked(allowed, numbers, start if start.ndim == 2 else start[:, None], (0, 0))


class AnswerHead(nn.Module):
    """Logits of an answer's first piece, of its last piece given the first, and of 'no answer'."""

    architecture: Architecture
    classes: int

    def setup(self) -> None:
        a = self.architecture
        self.start = self.param('start', initialise_dense, a, (a.width, 1), (1,))
        self.join = self.param('join', initialise_dense, a, (2 * a.width, a.width), (a.width,))
        self.norm = self.param('norm', lambda key: initialise_norm((a.width,)))
        self.end = self.param('end', initialise_dense, a, (a.width, 1), (1,))
        self.summary = self.param('summary', initialise_dense, a, (2 * a.width, a.width), (a.width,))
        self.output = self.param('output', lambda key: {'kernel': draw_kernel(key, a, (a.width, self.classes))})

    def __call__(self, outputs: Outputs, positions: Asked, word: jax.Array, noise: Noise | None = None) -> jax.Array:
        """Of right starts: float32 [B, 2 T + 1], of packed examples [B, P, 2 T + 1]: each position's logit as the first piece, each
        as the last, and the logit of 'no answer'; next to −∞ where no answer can be.

        Of tried starts: float32 [B, 1 + K · M, 4]: (the logit of 'no answer', 0, 0, 0), then of each span its first and last
        position and the log-probabilities of the first and of the last given the first.
        """
        asked = positions
        hidden = outputs.hidden
        starts = jnp.where(asked.allowed, dense(self.start, hidden)[:, None, :, 0].astype(jnp.float32), NOWHERE)  # [B, P, T]
        none = self.classify(outputs, starts, noise)  # [B, P]
        if asked.start is None:
            return self.search(hidden, asked, starts[:, 0], none[:, 0])
        begun = self.project_starts(jnp.take_along_axis(hidden, asked.start[:, :, None], axis=1))  # [B, P, D]
        if asked.numbers is not None:  # each position of a row has the start of its own example
            begun = jnp.take_along_axis(begun, asked.numbers[:, :, None], axis=1)
        ends = jnp.where(asked.allowed, self.find_ends(self.project_ends(hidden), begun)[:, None, :], NOWHERE)
        found = jnp.concatenate([starts, ends, none[:, :, None]], axis=-1)
        return found[:, 0] if asked.numbers is None else found

    def project_ends(self, hidden: jax.Array) -> jax.Array:
        """What a position adds to the hidden layer of the end [B, T, D]: `join` maps (last piece, first piece)."""
        return multiply(1, hidden, self.join['kernel'][: self.architecture.width])

    def project_starts(self, hidden: jax.Array) -> jax.Array:
        """What a start adds to it, bias included [B, …, D]."""
        weights: Weights = {'kernel': self.join['kernel'][self.architecture.width :], 'bias': self.join['bias']}
        return dense(weights, hidden)

    def find_ends(self, places: jax.Array, begun: jax.Array) -> jax.Array:
        """The logit of each position as the last piece [B, T]; places: [B, T, D]; begun: [B, 1 or T, D]."""
        joined = layer_norm(self.norm, jnp.tanh(places + begun), self.architecture.epsilon)
        return dense(self.end, joined)[:, :, 0].astype(jnp.float32)

    def classify(self, outputs: Outputs, starts: jax.Array, noise: Noise | None) -> jax.Array:
        """The logit of 'no answer' [B, P]: of the mean state by the probabilities of starts, and the state at [CLS]."""
        a, hidden = self.architecture, outputs.hidden
        mean = jnp.einsum('bpt,btd->bpd', jax.nn.softmax(starts).astype(hidden.dtype), hidden)
        joined = jnp.concatenate([mean, outputs.first.reshape(mean.shape)], axis=-1).reshape(-1, 2 * a.width)
        summary = dropout(spread(noise, len(joined)), jnp.tanh(dense(self.summary, joined)), a.head_dropout)
        logits: Any = multiply(1, summary, self.output['kernel'])
        return logits[:, 0].astype(jnp.float32).reshape(mean.shape[:2])

    def search(self, hidden: jax.Array, asked: Asked, starts: jax.Array, none: jax.Array) -> jax.Array:
        """The best starts [B, T] and for each the best ends, with `none` [B] in front: see `__call__`."""
        length = starts.shape[1]
        many, ends_each = (min(each, length) for each in asked.tried)
        likely, first = jax.lax.top_k(jax.nn.log_softmax(starts), many)  # [B, K]
        begun = self.project_starts(jnp.take_along_axis(hidden, first[:, :, None], axis=1))
        places = self.project_ends(hidden)
        # One start after another, so that [B, T, D] is held once and not K times.
        ends = jax.lax.map(lambda one: self.find_ends(places, one[:, None, :]), begun.swapaxes(0, 1)).swapaxes(0, 1)  # [B, K, T]
        close, last = jax.lax.top_k(jax.nn.log_softmax(jnp.where(asked.allowed, ends, NOWHERE)), ends_each)  # [B, K, M]
        columns = jnp.broadcast_arrays(first[:, :, None], last, likely[:, :, None], close)
        spans = jnp.stack([each.astype(jnp.float32).reshape(len(none), -1) for each in columns], axis=-1)
        return jnp.concatenate([jnp.pad(none[:, None, None], ((0, 0), (0, 0), (0, 3))), spans], axis=1)
