"""The losses of tasks on one batch: of labels, scores, choices and answers. They are rows of `losses.LOSSES`."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from research.objectives.view import Batch, View


@dataclasses.dataclass(frozen=True)
class Answer:
    """The options of answers by ALBERT's head for SQuAD 2.0."""

    weight: float = 0.0
    none: float = 0.5  # weight of the class 'no answer' beside the places of answers (google-research/albert, squad_utils.py)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Nats an item: minus the log of the label's probability."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def label(x: object, student: View, teacher: View | None, batch: Batch) -> jax.Array:
    """The label of an example, nats [B]."""
    return cross_entropy(student.logits('label'), batch['label'])


def regression(x: object, student: View, teacher: View | None, batch: Batch) -> jax.Array:
    """The squared distance of the one logit from an example's score [B]: regression (STS-B)."""
    return jnp.square(student.logits('label')[..., 0] - batch['score'])


def choice(x: object, student: View, teacher: View | None, batch: Batch) -> jax.Array:
    """The right one of the candidates, nats an example [B] (Devlin et al. 2019, §4.4)."""
    return cross_entropy(student.logits('choice'), batch['label'])


def span(x: object, student: View, teacher: View | None, batch: Batch) -> jax.Array:
    """The first and the last position of an answer, mean of two, nats an example [B] (Devlin et al. 2019, §4.2)."""
    logits = student.logits('span')
    return (cross_entropy(logits[..., 0], batch['start']) + cross_entropy(logits[..., 1], batch['end'])) / 2


def answer(x: Answer, student: View, teacher: View | None, batch: Batch) -> jax.Array:
    """The places of an answer, as `span`, the end given the right start; and whether there is none; nats an example [B].

    As google-research/albert trains SQuAD 2.0 (squad_utils.py, `v2_model_fn_builder`): the mean of start and end, and `none` times
    the binary cross-entropy of the class. A window without the answer has none.
    """
    logits = student.logits('answer')  # [B, 2 T + 1]
    length = (logits.shape[-1] - 1) // 2
    first = batch['starts'] if 'starts' in batch else jnp.zeros_like(batch['start'])
    empty = (batch['start'] == first).astype(jnp.float32)
    places = cross_entropy(logits[..., :length], batch['start']) + cross_entropy(logits[..., length : 2 * length], batch['end'])
    return places / 2 + x.none * optax.sigmoid_binary_cross_entropy(logits[..., -1], empty)
