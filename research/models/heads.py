"""What stands on top of an encoder: a head turns Outputs into logits. HEADS has a row for each."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from research.models.answering import AnswerHead, ask
from research.models.architecture import Architecture
from research.models.encoder import Encoder, Outputs
from research.models.layers import activate, dense, initialise_dense, initialise_norm, layer_norm
from research.models.noise import Noise, dropout, fold, spread

Heads = tuple[tuple[str, int], ...]  # rows of HEADS with their numbers of classes


class MlmHead(nn.Module):
    """Vocabulary logits, tied to the word embeddings: dense to E, activation, LayerNorm, table (Devlin et al. 2019, §3.1)."""

    architecture: Architecture
    classes: int

    def setup(self) -> None:
        a = self.architecture
        self.dense = self.param('dense', initialise_dense, a, (a.width, a.embedding), (a.embedding,))
        self.norm = self.param('norm', lambda key: initialise_norm((a.embedding,)))
        self.output = self.param('output', lambda key: {'bias': jnp.zeros(self.classes)})

    def __call__(self, outputs: Outputs, positions: jax.Array | None, word: jax.Array, noise: Noise | None = None) -> jax.Array:
        """Logits float32 [B, P, V] at `positions` [B, P], or [B, T, V] if that is None; `word` is the table [V, E]."""
        a = self.architecture
        hidden = outputs.hidden
        if positions is not None:
            hidden = jnp.take_along_axis(hidden, positions[:, :, None], axis=1)
        x = layer_norm(self.norm, activate(dense(self.dense, hidden), a.activation), a.epsilon)
        logits = jnp.einsum('bpe,ve->bpv', x, word.astype(x.dtype), preferred_element_type=jnp.float32)
        return logits + self.output['bias'][None, None, :]


class PairHead(nn.Module):
    """The relation of two segments (NSP or SOP): a dense map of the pooled position."""

    architecture: Architecture
    classes: int

    def setup(self) -> None:
        a = self.architecture
        self.output = self.param('output', initialise_dense, a, (a.width, self.classes), (self.classes,))

    def __call__(self, outputs: Outputs, positions: jax.Array | None, word: jax.Array, noise: Noise | None = None) -> jax.Array:
        """Logits float32 [B, classes]."""
        assert outputs.pooled is not None, 'objectives/validation.py asks for a pooler'
        return dense(self.output, outputs.pooled).astype(jnp.float32)


class LabelHead(nn.Module):
    """A label of the whole sequence: dropout and a dense map of the pooled position.

    If the encoder has no pooler, the head has DistilBERT's: a dense map of the first position and ReLU.
    """

    architecture: Architecture
    classes: int

    def setup(self) -> None:
        a = self.architecture
        if not a.pooler:
            self.dense = self.param('dense', initialise_dense, a, (a.width, a.width), (a.width,))
        self.output = self.param('output', initialise_dense, a, (a.width, self.classes), (self.classes,))

    def __call__(self, outputs: Outputs, positions: jax.Array | None, word: jax.Array, noise: Noise | None = None) -> jax.Array:
        """Logits float32 [B, classes], one row for each of `outputs.first`."""
        a = self.architecture
        x = outputs.pooled
        if x is None:
            x = jax.nn.relu(dense(self.dense, outputs.first))
        return dense(self.output, dropout(spread(noise, len(x)), x, a.head_dropout)).astype(jnp.float32)


class SpanHead(nn.Module):
    """The start and the end of an answer: a dense map of every position (Devlin et al. 2019, §4.2)."""

    architecture: Architecture
    classes: int

    def setup(self) -> None:
        a = self.architecture
        self.output = self.param('output', initialise_dense, a, (a.width, self.classes), (self.classes,))

    def __call__(self, outputs: Outputs, positions: jax.Array | None, word: jax.Array, noise: Noise | None = None) -> jax.Array:
        """Logits float32 [B, T, 2]."""
        x = dropout(spread(noise, len(outputs.hidden)), outputs.hidden, self.architecture.span_dropout)
        return dense(self.output, x).astype(jnp.float32)


# ---- The table ----------------------------------------------------------------------------------------------------------------


class Sizes(NamedTuple):
    """What a head's number of classes may depend on."""

    model: Architecture
    labels: Callable[[], int]  # the number of the task's labels, read from the data when called; raises UserError without data
    teacher: Architecture | None = None  # if known


def _as_they_are(logits: jax.Array, batch: Mapping[str, jax.Array]) -> jax.Array:
    return logits


def _of_candidates(logits: jax.Array, batch: Mapping[str, jax.Array]) -> jax.Array:
    """[B · C, 1] as [B, C]."""
    return logits.reshape(batch['ids'].shape[:2])


def _of_examples(logits: jax.Array, batch: Mapping[str, jax.Array]) -> jax.Array:
    """[B, classes]; of packed examples [B · P, classes] as [B, P, classes]."""
    return logits.reshape(*batch['starts'].shape, -1) if 'starts' in batch else logits


def _within_sequence(logits: jax.Array, batch: Mapping[str, jax.Array]) -> jax.Array:
    """[B, T, 2], next to −∞ on padding; of packed examples [B, P, T, 2], next to −∞ outside of each."""
    if 'starts' not in batch:
        return jnp.where(batch['mask'][:, :, None] > 0, logits, -1e9)
    numbers = 1 + jnp.arange(batch['starts'].shape[1])
    inside = batch['segments'][:, None, :] == numbers[None, :, None]
    return jnp.where(inside[:, :, :, None], logits[:, None], -1e9)


def _nothing(batch: Mapping[str, jax.Array], at: Any) -> None:
    return None


def _masked_positions(batch: Mapping[str, jax.Array], at: Any) -> jax.Array | None:
    return batch['masked_positions'] if at == 'masked' else None


class Head(NamedTuple):
    """A row of HEADS."""

    module: Callable[[Architecture, int], nn.Module]  # (architecture, classes) -> the flax module; its logits are float32
    classes: Callable[[Sizes], int]
    parameters: Callable[[Architecture, int], int]  # (architecture, classes) -> their exact number
    at_positions: bool = False  # whether it scores chosen positions; others give one result a sequence
    reads_pooled: bool = False  # whether it reads the pooled position
    own_pooler: bool = False  # whether it brings a pooler if the encoder has none
    of_candidates: bool = False  # whether it scores the candidates of a choice, each a sequence of its own
    arrange: Callable[[jax.Array, Mapping[str, jax.Array]], jax.Array] = _as_they_are  # its logits on a batch, as losses read them
    reads: Callable[[Mapping[str, jax.Array], Any], Any] = _nothing  # (batch, at) -> the `positions` of its `__call__`
    searches: bool = False  # whether predictions need other logits than losses: then `at` is how much is tried


def _count_label(a: Architecture, classes: int) -> int:
    return (a.width + 1) * classes + (0 if a.pooler else a.width * a.width + a.width)


# 'choice' scores one candidate of a multiple choice: a label head with one class; each candidate is a sequence of its own.
HEADS: dict[str, Head] = {
    'mlm': Head(
        MlmHead,
        lambda sizes: sizes.model.vocabulary,
        lambda a, classes: (a.width + 1) * a.embedding + 2 * a.embedding + classes,
        at_positions=True,
        reads=_masked_positions,
    ),
    'pair': Head(PairHead, lambda sizes: 2, lambda a, classes: (a.width + 1) * classes, reads_pooled=True),
    'label': Head(LabelHead, lambda sizes: sizes.labels(), _count_label, reads_pooled=True, own_pooler=True, arrange=_of_examples),
    'span': Head(SpanHead, lambda sizes: 2, lambda a, classes: (a.width + 1) * classes, arrange=_within_sequence),
    'answer': Head(
        AnswerHead,
        lambda sizes: 1,
        lambda a, classes: 4 * a.width**2 + 6 * a.width + 2 + a.width * classes,
        reads=ask,
        searches=True,
    ),
    'choice': Head(
        LabelHead, lambda sizes: 1, _count_label, reads_pooled=True, own_pooler=True, of_candidates=True, arrange=_of_candidates
    ),
}


# ---- The model ----------------------------------------------------------------------------------------------------------------


class Model(nn.Module):
    """An encoder and the heads that the losses read."""

    architecture: Architecture
    heads: Heads = ()

    def setup(self) -> None:
        self.encoder = Encoder(self.architecture)
        for name, classes in self.heads:
            setattr(self, name, HEADS[name].module(self.architecture, classes))

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
        """The encoder's Outputs for `ids`, `types` and `mask`, each int [B, T], and what packed and causal rows add."""
        return self.encoder(ids, types, mask, want, segments, positions, starts, causal, noise)

    def logits(self, head: str, outputs: Outputs, positions: jax.Array | None = None, noise: Noise | None = None) -> jax.Array:
        """The logits of one head; the head's `__call__` says their shape."""
        return getattr(self, head)(outputs, positions, self.encoder.word, noise)

    def create(self) -> list[Any]:
        """Creates every parameter and computes nothing else: flax runs a module's `setup` when its first parameter is read."""
        return [self.encoder.word, *(getattr(self, name).output for name, _ in self.heads)]


def initialise(model: Model, key: jax.Array) -> dict[str, Any]:
    """Fresh parameters, float32, as a nested dict; `costs.count_parameters` predicts their number."""
    return dict(model.init(key, method='create')['params'])


def find_log_shares(shares: np.ndarray, classes: int) -> np.ndarray:
    """The bias [classes] at which an MLM head without context predicts each piece by its share of the training data.

    shares: [V] of `frequencies.find_shares`, 0 of special pieces: these, and what the model has beyond V, get the share of the
    rarest ordinary piece. All add up to 1, so that log Z is 0.
    """
    found = np.zeros(classes)
    found[: len(shares)] = shares
    found = np.where(found > 0, found, shares[shares > 0].min())
    return np.log(found / found.sum()).astype(np.float32)


def encode(
    model: Model, params: Any, batch: Mapping[str, Any], noise: Noise | None = None, want: frozenset[str] = frozenset()
) -> Outputs:
    """The Outputs for the 'ids', 'types' and 'mask' of a batch, and the 'segments' and 'positions' of a packed one, each [B, T].

    Packed examples of a task also have 'starts' [B, P], causal batches 'causal' [B]. With [B, C, T] the C candidates of a choice
    are sequences of their own, B · C in all. `noise` [B, 2] turns dropout on.
    """
    ids, types, mask = (batch[name].reshape(-1, batch[name].shape[-1]) for name in ('ids', 'types', 'mask'))
    packed = {name: batch[name] for name in ('segments', 'positions', 'starts', 'causal') if name in batch}
    found = model.apply({'params': params}, ids, types, mask, want, **packed, noise=spread(fold(noise, 0), len(ids)))
    return cast(Outputs, found)


def score(model: Model, params: Any, head: str, outputs: Outputs, positions: Any = None, noise: Noise | None = None) -> jax.Array:
    """The logits of one head; the head's `__call__` says their shape. `noise` [B, 2] turns dropout on."""
    return cast(jax.Array, model.apply({'params': params}, head, outputs, positions, fold(noise, 1), method='logits'))
