"""From examples to rows: what a task's examples are as sequences, and the batch of some of them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from research.data import tasks
from research.data.pretraining import Batch
from research.data.settings import Data
from research.data.tasks.example import Example
from research.data.tokenizers import Vocabulary, encode
from research.data.windows import Window, mended, windows
from research.errors import UserError

Ids = list[NDArray[np.int32]]


@dataclass(frozen=True, eq=False)
class Questions:
    """One split: its examples, and the R rows that they make, of one sequence each or of one for each candidate."""

    members: list[Example]
    names: tuple[str, ...]  # of the labels, in the order of their numbers
    segments: list[Ids]  # one or two lists of R · candidates arrays, already cut to fit
    candidates: int  # sequences a row
    owner: NDArray[np.int64]  # [R] the example that a row belongs to
    targets: dict[str, NDArray]  # [R] each: what a batch holds beside its sequences
    lengths: NDArray[np.int64]  # [R] pieces of the longest sequence, special ones included
    known: bool  # whether it is known what is to be told
    vocabulary: Vocabulary
    buckets: tuple[int, ...]  # rising; the last is the longest that there may be
    windows: list[Window] = field(default_factory=list)  # kind 'span': [R]

    @property
    def rows(self) -> int:
        """R."""
        return len(self.owner)

    def make(self, rows: NDArray[np.int64]) -> Batch:
        """The Batch of `rows` [B]: ids, types and mask are [B, T], or [B, C, T] with C candidates; T is one of the buckets."""
        length = next(size for size in self.buckets if size >= self.lengths[rows].max())
        members = (rows[:, None] * self.candidates + np.arange(self.candidates)).ravel()
        arrays = assemble([[column[i] for i in members] for column in self.segments], length, self.vocabulary)
        if self.candidates > 1:
            arrays = tuple(array.reshape(len(rows), self.candidates, length) for array in arrays)
        found = dict(zip(('ids', 'types', 'mask'), arrays, strict=True))
        weight = np.full(len(rows), float(self.known), np.float32)
        return found | {name: target[rows] for name, target in self.targets.items()} | {'weight': weight}


def read(data: Data, tokenizer: Tokenizer, pieces: Vocabulary) -> tuple[dict[str, Questions], dict[str, Any]]:
    """The splits of the task that `data` names, and facts about them."""
    if list(data.buckets) != sorted(set(data.buckets)) or any(size < 8 for size in data.buckets):
        raise UserError(f'data.buckets={data.buckets} must rise, from 8 pieces or more')
    row, names = tasks.task(data), tasks.classes(data)
    found = tasks.examples(data)
    reported = tasks.reported(data, found)
    members, selects, how = tasks.selection(data, found)
    official = [
        f'{split} has {len(each):,} examples, the official one {row.sizes[split]:,}'
        for split, each in found.items()
        if split in row.sizes and len(each) != row.sizes[split]
    ] + [f'there is no {split} split' for split in row.sizes if split not in found]
    notices = [f'{data.task}: {"; ".join(official)}'] if official else []
    splits, content = {}, hashlib.sha256()
    for split, each in members.items():
        splits[split], told = READERS[row.kind](each, data, names, tokenizer, pieces, split == 'train')
        notices += [f'{split}: {line}' for line in told]
        content.update(repr([(split, x.text, x.pair, x.label, x.score, x.options, x.answers) for x in each]).encode())
    ids = [each for split in splits.values() for column in split.segments for each in column]
    tokens = sum(map(len, ids))
    return splits, {
        'fingerprint': content.hexdigest()[:16],
        'source': data.task,
        'documents': sum(map(len, members.values())),
        'tokens': tokens,
        'unknown_rate': sum(int((each == pieces.unknown).sum()) for each in ids) / max(1, tokens),
        'unigram_entropy': None,
        'labels': list(names) or None,
        'selects': selects,
        'selection': how,
        'reported': reported,
        'notices': notices,
    }


def finish(
    members: list[Example],
    names: tuple[str, ...],
    segments: list[Ids],
    data: Data,
    pieces: Vocabulary,
    targets: Mapping[str, NDArray],
    candidates: int = 1,
    owner: NDArray[np.int64] | None = None,
    found: list[Window] | None = None,
) -> Questions:
    """The Questions of segments that fit."""
    sizes = np.sum([[len(each) for each in column] for column in segments], axis=0) + 1 + len(segments)
    kind = tasks.task(data).kind
    return Questions(
        members,
        names,
        segments,
        candidates,
        np.arange(len(members)) if owner is None else owner,
        dict(targets),
        sizes.reshape(-1, candidates).max(axis=1),
        tasks.is_known(kind, members[0]),
        pieces,
        (*(size for size in data.buckets if size < data.length), data.length),
        found or [],
    )


def cut(first: Ids, second: Ids | None, length: int) -> list[Ids]:
    """Two texts in the room of `length`: each keeps what the other leaves over, or half of it."""
    if second is None:
        return [[one[: length - 2] for one in first]]
    room = length - 3
    shorter = [one[: max(room - len(two), room - room // 2)] for one, two in zip(first, second, strict=True)]
    return [shorter, [two[: room - len(one)] for one, two in zip(shorter, second, strict=True)]]


def read_texts(
    members: list[Example], data: Data, names: tuple[str, ...], tokenizer: Tokenizer, pieces: Vocabulary, training: bool
) -> tuple[Questions, list[str]]:
    """A text, perhaps a second one, and their label or score; the longer is cut first."""
    first = encode(tokenizer, pieces, [example.text for example in members])
    pairs = [example.pair for example in members]
    segments = cut(first, encode(tokenizer, pieces, pairs) if any(pairs) else None, data.length)
    numbers = {name: number for number, name in enumerate(names)} | {'': 0}
    if tasks.task(data).kind == 'score':
        targets = {'score': np.array([example.score or 0.0 for example in members], np.float32)}
    else:
        targets = {'label': np.array([numbers[example.label] for example in members], np.int32)}
    return finish(members, names, segments, data, pieces, targets), []


def read_choices(
    members: list[Example], data: Data, names: tuple[str, ...], tokenizer: Tokenizer, pieces: Vocabulary, training: bool
) -> tuple[Questions, list[str]]:
    """A passage with each of the candidates, after the question (Lan et al. 2020); the passage is cut first.

    A question with a candidate keeps its end where it is longer than 2 · data.answers.question pieces (128 in ALBERT's code).
    """
    texts = list(dict.fromkeys(example.text for example in members))
    passages = dict(zip(texts, encode(tokenizer, pieces, texts), strict=True))
    asked = encode(tokenizer, pieces, [f'{x.pair} {option}' for x in members for option in x.options])
    room = data.length - 3
    asked = [each[-min(2 * data.answers.question, room - 1) :] for each in asked]
    first = [passages[x.text] for x in members for _ in x.options]
    first = [one[: room - len(two)] for one, two in zip(first, asked, strict=True)]
    targets = {'label': np.array([names.index(example.label) for example in members], np.int32)}
    return finish(members, names, [first, asked], data, pieces, targets, candidates=len(names)), []


def read_spans(
    members: list[Example], data: Data, names: tuple[str, ...], tokenizer: Tokenizer, pieces: Vocabulary, training: bool
) -> tuple[Questions, list[str]]:
    """A question and its context, in windows where that is long; a window without the answer points at [CLS].

    An answer that is not at its offset is looked for in the context; a question of train whose answer is nowhere is left out.
    """
    golds, moved, lost, further, kept = [], 0, 0, 0, []
    for example in members:
        if not example.answers:
            golds.append(None)
            kept.append(example)
            continue
        start, text = example.answers[0]
        place = (start, text) if text and example.pair[start : start + len(text)] == text else mended(example.pair, (start, text))
        further += sum(example.pair[at : at + len(other)] != other for at, other in example.answers[1:])
        moved += place is not None and place[0] != start
        lost += place is None
        if place is None and training:
            continue
        golds.append(place)
        kept.append(example)
    told = []
    if moved or lost:
        done = 'left out of training' if training else 'kept, for their texts are what is scored'
        told.append(
            f'{moved + lost} answers are not at their offset in the context: {moved} moved to the nearest place with their text, '
            f'{lost} that no place has {done}'
        )
    if further:
        told.append(f'{further} further right answers are not at their offset in the context; only their texts count')
    if not kept:
        raise UserError(f"{members[0].where}: no question's answer is in its context, so there is nothing to train on")
    owner, found, starts, ends = [], [], [], []
    cuts = windows(tokenizer, pieces, [(x.text, x.pair) for x in kept], data.length, data.answers)
    for number, (mine, gold) in enumerate(zip(cuts, golds, strict=True)):
        for window in mine:
            place = window.place(*gold) if gold else None
            owner.append(number)
            found.append(window)
            starts.append(place[0] if place else 0)
            ends.append(place[1] if place else 0)
    placed = {number for number, start in zip(owner, starts, strict=True) if start}
    if training and (nowhere := sum(gold is not None for gold in golds) - len(placed)):
        told.append(f'{nowhere} answers are held whole by none of their windows, which are taught that there is none')
    targets = {'start': np.array(starts, np.int32), 'end': np.array(ends, np.int32)}
    segments = [[window.question for window in found], [window.part for window in found]]
    return finish(kept, names, segments, data, pieces, targets, owner=np.array(owner), found=found), told


READERS = {'label': read_texts, 'score': read_texts, 'choice': read_choices, 'span': read_spans}


def assemble(segments: list[list[NDArray]], length: int, vocabulary: Vocabulary) -> tuple[NDArray, NDArray, NDArray]:
    """[CLS] A [SEP] or [CLS] A [SEP] B [SEP], padded: one or two lists of B id arrays -> ids, types, mask [B, T], all int32."""
    column = np.arange(length)[None]
    ids = np.full((len(segments[0]), length), vocabulary.pad, np.int32)
    types = np.zeros_like(ids)
    ids[:, 0] = vocabulary.cls
    at = np.ones((len(ids), 1), np.int64)
    for type, pieces in enumerate(segments):
        end = at + np.array([len(each) for each in pieces])[:, None]
        ids[(column >= at) & (column < end)] = np.concatenate(pieces)
        ids[column == end] = vocabulary.sep
        types[(column >= at) & (column <= end)] = type
        at = end + 1
    return ids, types, (column < at).astype(np.int32)
