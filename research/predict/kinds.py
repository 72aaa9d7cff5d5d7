"""The kinds of predictions: what each reads, computes and returns. KINDS has a row for each."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import softmax

from research.data import tasks
from research.data.json_lines import string as read_text_field
from research.data.settings import Answers
from research.evaluation.spans import READINGS, Answer, choose_reading
from research.models.heads import HEADS, Model, encode, score
from research.predict.inputs import Input, Reader, Sequence, read_masked, read_question, read_text
from research.surgery import Donor

TOP = 5  # pieces that fill-mask returns for a mask


# ---- What each kind computes ----------------------------------------------------------------------------------------------------


def fill(model: Model, settings: Answers, params: Any, batch: dict[str, jax.Array]) -> Any:
    """The most probable pieces at `masked_positions` [B, P]: probabilities and ids, both [B, P, TOP]."""
    logits = score(model, params, 'mlm', encode(model, params, batch), batch['masked_positions'])
    return jax.lax.top_k(jax.nn.softmax(logits), min(TOP, logits.shape[-1]))


def hide_unused(reader: Reader, params: Any) -> Any:
    """The parameters with which the MLM head never predicts an id that has no piece: a vocabulary may be padded."""
    bias = params['mlm']['output']['bias']
    used = jnp.zeros(bias.shape, bool).at[jnp.array(list(reader.tokenizer.get_vocab().values()))].set(True)
    output = {**params['mlm']['output'], 'bias': jnp.where(used, bias, -jnp.inf)}
    return {**params, 'mlm': {**params['mlm'], 'output': output}}


def classify(model: Model, settings: Answers, params: Any, batch: dict[str, jax.Array]) -> Any:
    """The logits of the labels [B, C]."""
    return score(model, params, 'label', encode(model, params, batch))


def answer(model: Model, settings: Answers, params: Any, batch: dict[str, jax.Array]) -> Any:
    """What one of READINGS reads: the logits of an answer's first and last piece [B, T, 2], or the spans that are tried."""
    head = choose_reading(dict(model.heads))
    asked = HEADS[head].reads(batch, (settings.starts, settings.ends))
    return score(model, params, head, encode(model, params, batch), asked)


def embed(model: Model, settings: Answers, params: Any, batch: dict[str, jax.Array]) -> Any:
    """The last hidden states of all pieces, special ones included, as one vector by each row of POOLINGS [B, D]."""
    hidden = encode(model, params, batch).hidden.astype(jnp.float32)
    mask = batch['mask'][:, :, None].astype(jnp.float32)
    return {name: pool(hidden, mask) for name, pool in POOLINGS.items()}


def _take_last(hidden: jax.Array, mask: jax.Array) -> jax.Array:
    last = mask.sum(1, keepdims=True).astype(jnp.int32) - 1
    return jnp.take_along_axis(hidden, last, axis=1)[:, 0]


def _weigh_by_place(hidden: jax.Array, mask: jax.Array) -> jax.Array:
    weights = mask * jnp.arange(1, hidden.shape[1] + 1, dtype=jnp.float32)[None, :, None]
    return (hidden * weights).sum(1) / weights.sum(1)


# Ways to make one vector [B, D] of hidden states [B, T, D] and their mask [B, T, 1], as sentence-transformers' module Pooling.
POOLINGS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    'cls': lambda hidden, mask: hidden[:, 0],
    'max': lambda hidden, mask: jnp.where(mask > 0, hidden, -1e9).max(1),
    'mean': lambda hidden, mask: (hidden * mask).sum(1) / mask.sum(1),
    'mean_sqrt_len': lambda hidden, mask: (hidden * mask).sum(1) / jnp.sqrt(mask.sum(1)),
    'weightedmean': _weigh_by_place,
    'lasttoken': _take_last,
}


def hidden(model: Model, settings: Answers, params: Any, batch: dict[str, jax.Array]) -> Any:
    """The hidden states of all layers, the embeddings first [B, L + 1, T, D]."""
    layers = encode(model, params, batch, want=frozenset({'layers'})).layers
    assert layers is not None
    return layers.swapaxes(0, 1).astype(jnp.float32)


# ---- What each kind returns -----------------------------------------------------------------------------------------------------


def describe_filled(donor: Donor, reader: Reader, x: Input, rows: list[tuple[Sequence, Any]]) -> dict[str, Any]:
    """The most probable pieces of each [MASK], in the order of the text."""
    ((one, (probabilities, ids)),) = rows
    return {
        'masks': [
            [
                {'piece': reader.tokenizer.id_to_token(int(id)), 'probability': number(probability)}
                for id, probability in zip(ids[i], probabilities[i], strict=True)
            ]
            for i in range(len(one.positions))
        ]
    }


def describe_label(donor: Donor, reader: Reader, x: Input, rows: list[tuple[Sequence, Any]]) -> dict[str, Any]:
    """The most probable label and the probability of each label; for a model with one label, a scale, the score on it."""
    ((_, logits),) = rows
    names = donor.labels or tuple(f'LABEL_{i}' for i in range(len(logits)))
    if len(names) == 1:
        return {'label': names[0], 'score': number(logits[0])}
    probabilities = softmax(logits)
    return {
        'label': names[int(probabilities.argmax())],
        'probabilities': {name: number(p) for name, p in zip(names, probabilities, strict=True)},
    }


def describe_answer(donor: Donor, reader: Reader, x: Input, rows: list[tuple[Sequence, Any]]) -> dict[str, Any]:
    """The most probable span of the context: its text, its characters [start, end), and its probability within its window.

    'no_answer' is by how much 'no answer' leads, in the window where it does so least: its logit minus that of this span, or the
    logit of its own class; None if the context has no span. If it exceeds the threshold, the answer is '': that of the reader, or
    the one that a model was trained with whose task has questions without an answer.
    """
    reading = READINGS[choose_reading(dict(donor.heads))]
    found = [each for one, logits in rows for each in reading.find(logits, one, reader.data.answers.longest, 1)]
    best = max(found, key=lambda each: each.probability, default=Answer(0, 0, 0.0, 0.0))
    threshold, lead = reader.no_answer, None
    if threshold is None and reader.data.task and tasks.task(reader.data).no_answer:
        threshold = reader.data.answers.threshold
    if found:
        highest = max(each.logit for each in found)
        lead = min(reading.lead(logits, highest) for _, logits in rows)
        best = Answer(0, 0, 0.0, 0.0) if threshold is not None and lead > threshold else best
    return {
        'answer': x.fields['context'][best.start : best.end],
        'start': best.start,
        'end': best.end,
        'score': number(best.probability),
        'no_answer': None if lead is None else number(lead),
    }


def describe_vector(donor: Donor, reader: Reader, x: Input, rows: list[tuple[Sequence, Any]]) -> dict[str, Any]:
    """The vector of the text, by the model's Pooling."""
    ((_, vectors),) = rows
    vector = np.concatenate([vectors[mode] for mode in donor.pooling.modes])
    if donor.pooling.normalise:
        vector = vector / max(np.linalg.norm(vector), 1e-12)
    return {'embedding': [number(component) for component in vector]}


def describe_hidden(donor: Donor, reader: Reader, x: Input, rows: list[tuple[Sequence, Any]]) -> dict[str, Any]:
    """hidden_l [T, D] of each layer."""
    ((one, layers),) = rows
    return {f'hidden_{i}': layer[: len(one.ids)] for i, layer in enumerate(layers)}


def read_longest(donor: Donor) -> int:
    """How many pieces of a text become a vector, at most."""
    return donor.pooling.length or donor.architecture.positions


def number(x: Any) -> float:
    """A float32 as the float with the shortest decimal form."""
    return float(str(np.float32(x)))


@dataclasses.dataclass(frozen=True)
class Kind:
    """A row of KINDS."""

    heads: tuple[str, ...]  # it reads the first of these that the model has; () is the encoder alone
    fields: tuple[str, ...]  # of an input line
    read: Callable[[Reader, list[Input]], list[list[Sequence]]]
    compute: Callable[[Model, Answers, Any, dict[str, jax.Array]], Any]
    describe: Callable[[Donor, Reader, Input, list[tuple[Sequence, Any]]], dict[str, Any]]
    prepare: Callable[[Reader, Any], Any] = lambda reader, params: params  # the parameters that it computes with
    longest: Callable[[Donor], int] = lambda donor: donor.architecture.positions  # pieces of a sequence that it reads, at most
    fault: Callable[[Donor], str] = lambda donor: ''  # why it cannot be computed though the head is there


KINDS = {
    'fill-mask': Kind(('mlm',), ('text',), read_masked, fill, describe_filled, hide_unused),
    'classify': Kind(('label',), ('text',), read_text, classify, describe_label),
    'answer': Kind(tuple(READINGS), ('question', 'context'), read_question, answer, describe_answer),
    'embed': Kind((), ('text',), read_text, embed, describe_vector, longest=read_longest, fault=lambda donor: donor.pooling.fault),
    'hidden': Kind((), ('text',), read_text, hidden, describe_hidden),
}


def read_input(fields: Mapping[str, Any], where: str, kind: Kind) -> Input:
    """One input of a kind from its fields: those that the kind names, and 'pair', a second text, beside 'text'.

    Raises UserError for a field that is missing or is not a text.
    """
    names = (*kind.fields, *(('pair',) if 'pair' in fields and kind.fields == ('text',) else ()))
    return Input(where, {name: read_text_field(fields, name, where) for name in names})
