"""From examples to rows: a task's splits as ids, and the batch of some of their rows."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from research.data import tasks
from research.data.facts import SupervisedFacts
from research.data.pretraining import Batch
from research.data.settings import Data
from research.data.tasks.example import Example, Task
from research.data.tokenizers import Vocabulary, encode
from research.data.windows import Window, repair_answer, windows
from research.errors import UserError

Ids = list[NDArray[np.int32]]
Gold = tuple[int, str]  # first character of an answer in its context, text


@dataclass(frozen=True, eq=False)
class Encoded:
    """A split as ids: its examples, and the R rows that they make, of one sequence each or of one for each candidate."""

    members: list[Example]
    names: tuple[str, ...]  # of the labels, in the order of their numbers
    segments: list[Ids]  # one or two lists of R · candidates arrays, already cut to fit
    candidates: int  # sequences a row
    owner: NDArray[np.int64]  # [R] the example that a row belongs to
    targets: dict[str, NDArray]  # [R] each: what a batch holds beside its sequences
    lengths: NDArray[np.int64]  # [R] pieces of the longest sequence, special ones included
    known: bool  # whether the examples are labelled
    pieces: Vocabulary
    buckets: tuple[int, ...]  # increasing; the last is the greatest length
    windows: list[Window] = field(default_factory=list)  # kind 'span': [R]

    @property
    def rows(self) -> int:
        """R."""
        return len(self.owner)

    def make(self, rows: NDArray[np.int64], mine: NDArray[np.int64] | None = None) -> Batch:
        """The Batch of `rows` [B]: ids, types and mask are [B, T], or [B, C, T] with C candidates; T is one of the buckets.

        mine: which of the B rows are assembled, in a T that fits all of them; None: all.
        """
        length = next(size for size in self.buckets if size >= self.lengths[rows].max())
        rows = rows if mine is None else rows[mine]
        members = (rows[:, None] * self.candidates + np.arange(self.candidates)).ravel()
        arrays = assemble([[column[i] for i in members] for column in self.segments], length, self.pieces)
        if self.candidates > 1:
            arrays = tuple(array.reshape(len(rows), self.candidates, length) for array in arrays)
        found = dict(zip(('ids', 'types', 'mask'), arrays, strict=True))
        weight = np.full(len(rows), float(self.known), np.float32)
        return found | {name: target[rows] for name, target in self.targets.items()} | {'weight': weight}


@dataclass(frozen=True, eq=False)
class Encoder:
    """What examples are encoded with."""

    data: Data
    task: Task
    names: tuple[str, ...]  # of the labels, in the order of their numbers
    tokenizer: Tokenizer
    pieces: Vocabulary

    def encode(self, texts: list[str]) -> Ids:
        """The ids of each text, without special pieces."""
        return encode(self.tokenizer, self.pieces, texts)


def read(data: Data, cache: str, tokenizer: Tokenizer, pieces: Vocabulary) -> tuple[dict[str, Encoded], SupervisedFacts]:
    """The splits of the task that `data` names, and facts about them."""
    encoder = Encoder(data, tasks.task(data), tasks.classes(data), tokenizer, pieces)
    found = tasks.examples(data, cache)
    members, selects, how = tasks.selection(data, found)
    notices = encoder.task.notices(data) + compare_sizes(data.task, encoder.task, found)
    splits = {}
    for split, each in members.items():
        splits[split], more = ENCODERS[encoder.task.kind](each, encoder, split == 'train')
        notices += [f'{split}: {line}' for line in more]
    ids = [each for split in splits.values() for column in split.segments for each in column]
    tokens = sum(map(len, ids))
    return splits, SupervisedFacts(
        fingerprint=fingerprint_examples(members),
        source=data.task,
        documents=sum(map(len, members.values())),
        tokens=tokens,
        unknown_rate=sum(int((each == pieces.unknown).sum()) for each in ids) / max(1, tokens),
        labels=list(encoder.names) or None,
        selects=selects,
        selection=how,
        reported=tasks.reported(data, found),
        notices=notices,
        tokenizer_fingerprint=pieces.fingerprint,
        pieces=pieces.size,
        examples=splits['train'].rows if 'train' in splits else 0,
    )


def fingerprint_examples(splits: Mapping[str, list[Example]]) -> str:
    """A fingerprint of the texts and the gold of all splits, in their order."""
    content = hashlib.sha256()
    for split, each in splits.items():
        content.update(repr([(split, x.text, x.pair, x.label, x.score, x.options, x.answers) for x in each]).encode())
    return content.hexdigest()[:16]


def compare_sizes(name: str, task: Task, splits: Mapping[str, list[Example]]) -> list[str]:
    """A line about the splits whose sizes differ from those of the official ones, if any."""
    other = [
        f'{split} has {len(each):,} examples, the official one {task.sizes[split]:,}'
        for split, each in splits.items()
        if split in task.sizes and len(each) != task.sizes[split]
    ]
    other += [f'there is no {split} split' for split in task.sizes if split not in splits]
    return [f'{name}: {"; ".join(other)}'] if other else []


def cut(first: Ids, second: Ids | None, length: int) -> list[Ids]:
    """Two texts in the room of `length`: each keeps what the other leaves over, or half of it."""
    if second is None:
        return [[one[: length - 2] for one in first]]
    room = length - 3
    shorter = [one[: max(room - len(two), room - room // 2)] for one, two in zip(first, second, strict=True)]
    return [shorter, [two[: room - len(one)] for one, two in zip(shorter, second, strict=True)]]


def count_pieces(segments: list[Ids]) -> NDArray[np.int64]:
    """[N] the pieces of each sequence in all of its segments."""
    return np.sum([[len(each) for each in column] for column in segments], axis=0)


def describe_losses(losses: NDArray[np.int64], what: str, encoder: Encoder) -> list[str]:
    """A line about the examples that lose text to data.length or data.answers.question, if any; losses: pieces of each [N]."""
    cut_short = int((losses > 0).sum())
    if not cut_short:
        return []
    setting = f'data.length={encoder.data.length}'
    if encoder.task.kind in ('choice', 'span'):
        setting += f' and data.answers.question={encoder.data.answers.question}'
    return [f'{cut_short:,} of {len(losses):,} examples lose {what}: they are longer than {setting} allows']


def encoded(
    members: list[Example],
    encoder: Encoder,
    segments: list[Ids],
    targets: dict[str, NDArray],
    candidates: int = 1,
    found: list[tuple[int, Window]] | None = None,
) -> Encoded:
    """The Encoded of segments that fit; found: of kind 'span', the example and the window of each row."""
    sizes = count_pieces(segments) + 1 + len(segments)
    return Encoded(
        members=members,
        names=encoder.names,
        segments=segments,
        candidates=candidates,
        owner=np.array([owner for owner, _ in found]) if found else np.arange(len(members)),
        targets=targets,
        lengths=sizes.reshape(-1, candidates).max(axis=1),
        known=tasks.is_labelled(encoder.task.kind, members[0]),
        pieces=encoder.pieces,
        buckets=(*(size for size in encoder.data.buckets if size < encoder.data.length), encoder.data.length),
        windows=[window for _, window in found or ()],
    )


def encode_texts(members: list[Example], encoder: Encoder, training: bool) -> tuple[Encoded, list[str]]:
    """A text, perhaps a second one, and their label or score; the longer is cut first."""
    del training
    first = encoder.encode([example.text for example in members])
    pairs = [example.pair for example in members]
    second = encoder.encode(pairs) if any(pairs) else None
    segments = cut(first, second, encoder.data.length)
    losses = count_pieces([first, *([] if second is None else [second])]) - count_pieces(segments)
    numbers = {name: number for number, name in enumerate(encoder.names)} | {'': 0}
    if encoder.task.kind == 'score':
        targets = {'score': np.array([example.score or 0.0 for example in members], np.float32)}
    else:
        targets = {'label': np.array([numbers[example.label] for example in members], np.int32)}
    return encoded(members, encoder, segments, targets), describe_losses(losses, 'pieces of their texts', encoder)


def encode_choices(members: list[Example], encoder: Encoder, training: bool) -> tuple[Encoded, list[str]]:
    """A passage with each of the candidates, after the question (Lan et al. 2020); the passage is cut first.

    A question with a candidate keeps its end if it is longer than 2 · data.answers.question pieces (128 in ALBERT's code).
    """
    del training
    texts = list(dict.fromkeys(example.text for example in members))
    passages = dict(zip(texts, encoder.encode(texts), strict=True))
    asked = encoder.encode([f'{x.pair} {option}' for x in members for option in x.options])
    room = encoder.data.length - 3
    first = [passages[x.text] for x in members for _ in x.options]
    whole = count_pieces([first, asked])
    asked = [each[-min(2 * encoder.data.answers.question, room - 1) :] for each in asked]
    first = [one[: room - len(two)] for one, two in zip(first, asked, strict=True)]
    losses = (whole - count_pieces([first, asked])).reshape(len(members), -1).max(axis=1)
    targets = {'label': np.array([encoder.names.index(example.label) for example in members], np.int32)}
    notices = describe_losses(losses, 'pieces of their passage, question or candidates', encoder)
    return encoded(members, encoder, [first, asked], targets, candidates=len(encoder.names)), notices


def encode_spans(members: list[Example], encoder: Encoder, training: bool) -> tuple[Encoded, list[str]]:
    """A question and its context, in windows if that is long; the target of a window without the answer is [CLS].

    Raises UserError if no question is left.
    """
    kept, golds, notices = place_answers(members, training)
    if not kept:
        raise UserError(f"{members[0].where}: no question's answer is in its context, so there is nothing to train on")
    asked = [(x.text, x.pair) for x in kept]
    cuts = list(windows(encoder.tokenizer, encoder.pieces, asked, encoder.data.length, encoder.data.answers))
    found = [(owner, window) for owner, mine in enumerate(cuts) for window in mine]
    places = []
    for owner, window in found:
        gold = golds[owner]
        places.append(window.place(*gold) if gold else None)
    placed = {owner for (owner, _), place in zip(found, places, strict=True) if place}
    if training and (nowhere := sum(gold is not None for gold in golds) - len(placed)):
        notices.append(f"{nowhere} answers fit into none of their windows, whose target is then 'no answer'")
    kept_pieces = np.array([len(mine[0].question) for mine in cuts])
    notices += describe_losses(
        count_pieces([encoder.encode([x.text for x in kept])]) - kept_pieces, 'the end of the question', encoder
    )
    starts, ends = np.array([place or (0, 0) for place in places], np.int32).T
    segments = [[window.question for _, window in found], [window.part for _, window in found]]
    return encoded(kept, encoder, segments, {'start': starts, 'end': ends}, found=found), notices


def place_answers(members: list[Example], training: bool) -> tuple[list[Example], list[Gold | None], list[str]]:
    """(the questions that are kept, the first answer of each, or None, and what was done to others).

    An answer that is not at its offset is looked for in the context; a question of train whose answer is nowhere is left out.
    """
    kept, golds = [], []
    moved = lost = further = 0
    for example in members:
        gold = None
        if example.answers:
            start, text = example.answers[0]
            gold = (start, text) if text and is_at(example, start, text) else repair_answer(example.pair, (start, text))
            further += sum(not is_at(example, *other) for other in example.answers[1:])
            moved += gold is not None and gold[0] != start
            lost += gold is None
            if gold is None and training:
                continue
        golds.append(gold)
        kept.append(example)
    notices = []
    if moved or lost:
        done = 'left out of training' if training else 'kept, since only their texts are scored'
        notices.append(
            f'{moved + lost} answers are not at their offset in the context: {moved} moved to the nearest place with their text, '
            f'{lost} without such a place {done}'
        )
    if further:
        notices.append(f'{further} further right answers are not at their offset in the context; only their texts count')
    return kept, golds, notices


def is_at(example: Example, start: int, text: str) -> bool:
    """Whether the context has the text at this character."""
    return start >= 0 and example.pair[start : start + len(text)] == text


# Kind of a task -> (examples, encoder, whether they are trained on) -> the split, and lines about what was done to it.
ENCODERS: dict[str, Callable[[list[Example], Encoder, bool], tuple[Encoded, list[str]]]] = {
    'label': encode_texts,
    'score': encode_texts,
    'choice': encode_choices,
    'span': encode_spans,
}


def assemble(segments: list[list[NDArray]], length: int, pieces: Vocabulary) -> tuple[NDArray, NDArray, NDArray]:
    """[CLS] A [SEP] or [CLS] A [SEP] B [SEP], padded: one or two lists of B id arrays -> ids, types, mask [B, T], all int32."""
    column = np.arange(length)[None]
    ids = np.full((len(segments[0]), length), pieces.pad, np.int32)
    types = np.zeros_like(ids)
    ids[:, 0] = pieces.cls
    at = np.ones((len(ids), 1), np.int64)
    for type, texts in enumerate(segments):
        end = at + np.array([len(each) for each in texts])[:, None]
        ids[(column >= at) & (column < end)] = np.concatenate(texts)
        ids[column == end] = pieces.sep
        types[(column >= at) & (column <= end)] = type
        at = end + 1
    return ids, types, (column < at).astype(np.int32)
