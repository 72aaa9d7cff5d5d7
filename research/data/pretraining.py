"""Pretraining sequences: which pieces of a corpus make a sequence, and the batch of some of them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from research.data.corpus import Part
from research.data.masking import Masking, corrupt
from research.data.tokenizers import Vocabulary
from research.errors import UserError

Batch = dict[str, NDArray]
PAIRS = ('none', 'nsp', 'sop')


@dataclass(frozen=True, eq=False)
class Sequences:
    """N runs of consecutive units that together hold every piece of a part once.

    A unit is a sentence, or a cut of one that is longer than a sequence; without pairs, whole sections are cut
    without regard to sentences. Positions count the pieces of the part, all sections laid end to end.
    """

    part: Part
    edges: NDArray[np.int64]  # [U + 1] position of each unit's first piece
    first: NDArray[np.int64]  # [N] a sequence's first unit
    last: NDArray[np.int64]  # [N] one beyond its last unit
    section: NDArray[np.int64]  # [N]
    origin: NDArray[np.int64]  # [R + 1] position of each section's first piece
    units: NDArray[np.int64]  # [R + 1] each section's first unit


def sequences(part: Part, length: int, pairs: str, short: float, seed: int) -> Sequences:
    """The sequences of at most `length` pieces, special ones included, that a part of a corpus makes.

    With pairs, a sequence is filled with whole sentences up to a target: the room there is, or, for a share `short`
    of the sequences, a length drawn by `seed`. Raises UserError if nsp has but one document.
    """
    if pairs == 'nsp' and part.document[-1] == 0:
        raise UserError('data.pairs=nsp needs two documents at least in training and in evaluation; use sop or none, or more text')
    ends = np.concatenate([[0], np.cumsum(part.lengths)])
    origin = ends[part.starts]
    if pairs == 'none':
        lengths, starts, room = np.diff(origin), np.arange(len(part.starts)), length - 2
    else:
        lengths, starts, room = part.lengths, part.starts, length - 3

    cuts = -(-lengths // room)
    within = np.arange(cuts.sum()) - np.repeat(np.cumsum(cuts) - cuts, cuts)
    edges = np.append(np.repeat(np.cumsum(lengths) - lengths, cuts) + within * room, origin[-1])
    units = np.concatenate([[0], np.cumsum(cuts)])[starts]
    if pairs == 'none':
        first = np.arange(len(edges) - 1)
        last = first + 1
    else:
        first, last = fill(edges, units, room, short, seed)
    section = np.searchsorted(units, first, side='right') - 1
    return Sequences(part, edges, first, last, section, origin, units)


def fill(
    edges: NDArray[np.int64], units: NDArray[np.int64], room: int, short: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first units and the ends of sequences, each as many whole units as fit its target, one at least.

    All sections advance together, one sequence each a round, so that the loop is as long as one section, not as the
    corpus.
    """
    generator = np.random.default_rng([seed, 0])
    at, stop = units[:-1], units[1:]
    firsts, lasts = [], []
    while len(at):
        target = np.where(generator.random(len(at)) < short, generator.integers(2, room + 1, len(at)), room)
        end = np.searchsorted(edges, edges[at] + target, side='right') - 1
        end = np.clip(end, at + 1, stop)
        firsts.append(at)
        lasts.append(end)
        at, stop = end[end < stop], stop[end < stop]
    first, last = np.concatenate(firsts), np.concatenate(lasts)
    order = np.argsort(first)
    return first[order], last[order]


def masked_batch(
    source: Sequences,
    rows: NDArray[np.int64],
    generator: np.random.Generator,
    *,
    vocabulary: Vocabulary,
    masking: Masking,
    length: int,
    pairs: str,
) -> Batch:
    """The Batch of sequences `rows` [B], masked, and cut and paired by `generator`; weight is 1 in every row."""
    spans = {
        'none': lambda: (whole(source, rows), None),
        'nsp': lambda: next_sentence(source, rows, length - 3, generator),
        'sop': lambda: sentence_order(source, rows, generator),
    }
    segments, pair = spans[pairs]()
    ids, types, mask = assemble([read(source, *segment) for segment in segments], length, vocabulary)
    ids, positions, labels, weights = corrupt(masking, vocabulary, ids, generator)
    result = {
        'ids': ids,
        'types': types,
        'mask': mask,
        'masked_positions': positions,
        'masked_labels': labels,
        'masked_weights': weights,
        'weight': np.ones(len(rows), np.float32),
    }
    return result if pair is None else result | {'pair': pair.astype(np.int32)}


# A segment: (section [B], begin [B], end [B]), positions of the part.
Segment = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def whole(source: Sequences, rows: NDArray[np.int64]) -> list[Segment]:
    """Each sequence as one segment."""
    return [(source.section[rows], source.edges[source.first[rows]], source.edges[source.last[rows]])]


def halves(source: Sequences, rows: NDArray[np.int64], generator: np.random.Generator) -> list[Segment]:
    """Each sequence split at a random boundary of its units; a sequence of one unit, after a random piece.

    The second half of a sequence of a single piece is empty.
    """
    first, last = source.first[rows], source.last[rows]
    begin, end = source.edges[first], source.edges[last]
    unit = source.edges[first + generator.integers(1, np.maximum(last - first, 2))]
    piece = np.minimum(begin + generator.integers(1, np.maximum(end - begin, 2)), end)
    cut = np.where(last - first > 1, unit, piece)
    section = source.section[rows]
    return [(section, begin, cut), (section, cut, end)]


def sentence_order(
    source: Sequences, rows: NDArray[np.int64], generator: np.random.Generator
) -> tuple[list[Segment], NDArray[np.bool_]]:
    """Two consecutive segments, swapped (1) with probability one half (Lan et al. 2020, §3.1)."""
    (section, begin, cut), (_, _, end) = halves(source, rows, generator)
    swapped = (generator.random(len(rows)) < 0.5) & (cut < end)
    one = section, np.where(swapped, cut, begin), np.where(swapped, end, cut)
    two = section, np.where(swapped, begin, cut), np.where(swapped, cut, end)
    return [one, two], swapped


def next_sentence(
    source: Sequences, rows: NDArray[np.int64], room: int, generator: np.random.Generator
) -> tuple[list[Segment], NDArray[np.bool_]]:
    """A and what follows it (0), or with probability one half what some other document says (1) (Devlin et al. 2019, §A.2).

    A random B begins at a random sentence and has as many whole units as fit the place of the true one, one at least,
    so that lengths tell nothing. The true one is not put back into the epoch: another epoch draws anew.
    """
    (section, begin, cut), (_, _, end) = halves(source, rows, generator)
    random = (generator.random(len(rows)) < 0.5) | (cut == end)
    document = source.part.document
    own, beyond = (np.searchsorted(document, document[section], side) for side in ('left', 'right'))
    other = generator.integers(0, len(document) - (beyond - own))
    other = np.where(other >= own, other + beyond - own, other)
    unit = generator.integers(source.units[other], source.units[other + 1])
    start = source.edges[unit]
    fit = np.searchsorted(source.edges, start + (end - cut), side='right') - 1
    stop = source.edges[np.clip(fit, unit + 1, source.units[other + 1])]
    stop = np.minimum(stop, start + room - (cut - begin))
    two = np.where(random, other, section), np.where(random, start, cut), np.where(random, stop, end)
    return [(section, begin, cut), two], random


def read(source: Sequences, section: NDArray[np.int64], begin: NDArray[np.int64], end: NDArray[np.int64]) -> list[NDArray]:
    """The ids of each segment."""
    records = source.part.read(section)
    base = source.origin[section]
    return [record[a:b] for record, a, b in zip(records, (begin - base).tolist(), (end - base).tolist(), strict=True)]


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


def filler(real: Batch, size: int, vocabulary: Vocabulary) -> Batch:
    """A batch grown to `size` rows by rows that count for nothing: [CLS] alone, every weight 0."""
    missing = size - len(real['ids'])
    grown = {name: np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)]) for name, array in real.items()}
    if missing:
        grown['ids'][-missing:] = vocabulary.pad
        grown['ids'][-missing:, 0] = vocabulary.cls
        grown['mask'][-missing:, 0] = 1
    return grown
