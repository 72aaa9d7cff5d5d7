"""Pretraining sequences: which pieces of a corpus make a sequence, and the batch of some of them."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from research.data.corpus import Part
from research.data.masking import Masking, corrupt
from research.data.tokenizers import Vocabulary
from research.errors import UserError

Batch = dict[str, NDArray]
Places = NDArray[np.int64]
PAIRS = ('none', 'nsp', 'sop')
# What single segments are cut into: pieces, without regard to sentences; whole sentences of one document; whole sentences
# across documents, with a separator between (the SENTENCES of one document and the FULL-SENTENCES of Liu et al. 2019, §4.2).
FILLS = ('pieces', 'sentences', 'documents')
PLACES = 16  # at which a random next sentence may begin


@dataclass(frozen=True, eq=False)
class Sequences:
    """N runs of consecutive units that together hold every piece of a part once; for sop but what would be alone in its run.

    A unit is a sentence, or a cut of one that is longer than a sequence; with fill `pieces`, whole sections are cut
    without regard to sentences. Positions count the pieces of the part, all sections laid end to end.
    """

    ids: NDArray[Any]  # [P] of the part
    edges: Places  # [U + 1] position of each unit's first piece
    first: Places  # [N] a sequence's first unit
    last: Places  # [N] one beyond its last unit
    section: Places  # [N] of its first unit
    units: Places  # [R + 1] each section's first unit
    document: Places  # [R] the document of each section, rising
    breaks: Places  # positions at which a document that is not the first begins, where sequences cross documents
    bounds: Places | None = None  # packed, [M + 1]: rows bounds[m] to bounds[m + 1] of `members` share a sequence
    members: Places | None = None  # packed, [N]: runs, each with [CLS] and [SEP] of its own

    def __len__(self) -> int:
        return len(self.first) if self.bounds is None else len(self.bounds) - 1


def sequences(
    part: Part, ids: NDArray[Any], *, length: int, pairs: str, short: float, fill: str, pack: bool, seed: int
) -> Sequences:
    """The sequences of at most `length` pieces, special ones included, that a part of a corpus makes; ids [P] are the part's.

    With pairs, a sequence is filled with whole sentences up to a target: the room there is, or, for a share `short`
    of the sequences, a length drawn by `seed`. Raises UserError if nsp has but one document.
    """
    if pairs == 'nsp' and part.document[-1] == 0:
        raise UserError('data.pairs=nsp needs two documents at least in training and in evaluation; use sop or none, or more text')
    ends = np.concatenate([[0], np.cumsum(part.lengths, dtype=np.int64)])
    origin = ends[part.starts]
    whole = pairs == 'none' and fill == 'pieces'
    room = length - (2 if pairs == 'none' else 3)
    lengths, starts = (np.diff(origin), np.arange(len(part.starts))) if whole else (np.asarray(part.lengths), part.starts)

    cuts = -(-lengths.astype(np.int64) // room)
    within = np.arange(cuts.sum()) - np.repeat(np.cumsum(cuts) - cuts, cuts)
    edges = np.append(np.repeat(np.cumsum(lengths, dtype=np.int64) - lengths, cuts) + within * room, origin[-1])
    units = np.concatenate([[0], np.cumsum(cuts)])[starts]
    document = np.asarray(part.document)
    breaks = np.zeros(0, np.int64)
    if whole:
        first = np.arange(len(edges) - 1)
        last = first + 1
    elif fill == 'documents':
        first, last = across(edges, np.repeat(document, np.diff(units)), room)
        breaks = origin[np.flatnonzero(np.diff(document)) + 1]
    else:
        first, last = filled(edges, units, room, short if pairs != 'none' else 0.0, seed)
    if pairs == 'sop':
        two = edges[last] - edges[first] > 1  # a single piece has no order
        first, last = first[two], last[two]
        if not len(first):
            raise UserError('data.pairs=sop needs a document of two pieces at least in training and in evaluation; give none')
    section = np.searchsorted(units, first, side='right') - 1
    found = Sequences(ids, edges, first, last, section, units, document, breaks)
    return packed(found, length, seed) if pack else found


def across(edges: Places, document: Places, room: int) -> tuple[Places, Places]:
    """The first units and the ends of sequences that go on across documents, each document but the last costing a piece more."""
    # Where the last unit of a sequence may end at most, were it to begin at each of the units.
    end = np.searchsorted(edges[1:] + document, edges[:-1] + document + room, side='right')
    end = np.maximum(end, np.arange(1, len(edges)))
    first, at = [], 0
    while at < len(end):
        first.append(at)
        at = int(end[at])
    return np.array(first), np.array([*first[1:], len(end)])


def packed(source: Sequences, length: int, seed: int) -> Sequences:
    """The same runs, several to a sequence: the largest that still fits goes into each, until none does (first-fit decreasing).

    Runs of one size are alike, so that it is done for all sequences of the same sizes at once.
    """
    sizes = source.edges[source.last] - source.edges[source.first] + 2
    order = np.random.default_rng([seed, 1]).permutation(len(sizes))
    order = order[np.argsort(sizes[order], kind='stable')]
    left = np.bincount(sizes, minlength=length + 1)
    taken = np.cumsum(left) - left  # where in `order` the next run of each size is
    members, counts = [], []
    while left.any():
        pattern: dict[int, int] = {}
        room = length
        while len(there := np.flatnonzero(left[: room + 1])) and (size := int(there[-1])):
            pattern[size] = min(room // size, int(left[size]))
            room -= pattern[size] * size
            room = min(room, size - 1) if pattern[size] == left[size] else room
        times = min(int(left[size]) // many for size, many in pattern.items())
        columns = []
        for size, many in pattern.items():
            columns.append(order[taken[size] : taken[size] + times * many].reshape(times, many))
            taken[size] += times * many
            left[size] -= times * many
        members.append(np.concatenate(columns, axis=1).ravel())
        counts.append(np.full(times, sum(pattern.values())))
    bounds = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    return replace(source, bounds=bounds, members=np.concatenate(members))


def filled(
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


@dataclass(frozen=True, eq=False)
class Spans:
    """K runs of pieces in the order in which they lie in B rows, each followed by [SEP]."""

    row: Places  # [K] rising
    begin: Places  # [K] positions
    end: Places  # [K]
    opens: NDArray[np.bool_]  # [K]: preceded by [CLS]


def masked_batch(
    source: Sequences,
    rows: Places,
    generator: np.random.Generator,
    *,
    vocabulary: Vocabulary,
    masking: Masking,
    weights: NDArray[np.float64] | None,
    length: int,
    pairs: str,
) -> Batch:
    """The Batch of sequences `rows` [B], masked, and cut and paired by `generator`; weight is 1 in every row.

    Packed sequences add `segments` [B, T], which counts the runs of a row from 1 (0 is padding), and `positions` [B, T],
    which begins anew in each. weights: of each piece [V], for the masking policy `frequency`.
    """
    pair = None
    if source.bounds is not None:
        spans = members(source, rows)
    elif pairs == 'none':
        spans = whole(source, rows)
    else:
        nsp = pairs == 'nsp'
        segments, pair = next_sentence(source, rows, length - 3, generator) if nsp else sentence_order(source, rows, generator)
        spans = interleaved(*segments)
    result = compose(source.ids, spans, len(rows), length, vocabulary, kinds=(pairs != 'none', source.bounds is not None))
    ids, positions, labels, presence = corrupt(masking, vocabulary, result['ids'], generator, weights)
    result |= {
        'ids': ids,
        'masked_positions': positions,
        'masked_labels': labels,
        'masked_weights': presence,
        'weight': np.ones(len(rows), np.float32),
    }
    return result if pair is None else result | {'pair': pair.astype(np.int32)}


def compose(flat: NDArray[Any], spans: Spans, rows: int, length: int, vocabulary: Vocabulary, kinds: tuple[bool, bool]) -> Batch:
    """The spans in their places: ids, types and mask [B, T], all int32.

    kinds: whether the second span of a row has type 1; whether each span is apart, with `segments` and `positions`.
    """
    paired, apart = kinds
    size = spans.end - spans.begin
    total = size + 1 + spans.opens
    until = np.cumsum(total)
    leader = np.searchsorted(spans.row, np.arange(rows))  # each row's first span
    base = (until - total)[leader]
    at = until - total - base[spans.row]
    start = spans.row * length + at
    ids = np.full((rows, length), vocabulary.pad, np.int32)
    place = ids.reshape(-1)
    pieces = np.cumsum(size)
    run = np.arange(int(pieces[-1]))
    place[run + np.repeat(start + spans.opens - (pieces - size), size)] = flat[run + np.repeat(spans.begin - (pieces - size), size)]
    place[start[spans.opens]] = vocabulary.cls
    place[start + total - 1] = vocabulary.sep

    column = np.arange(length)[None]
    used = np.append(base[1:], until[-1]) - base
    mask = column < used[:, None]
    types = mask & (column >= at[1::2, None]) if paired else np.zeros_like(mask)
    found = {'ids': ids, 'types': types.astype(np.int32), 'mask': mask.astype(np.int32)}
    if apart:
        segments, positions = np.zeros_like(ids), np.zeros_like(ids)
        inside = np.flatnonzero(mask)
        segments.reshape(-1)[inside] = np.repeat(np.arange(len(total)) - leader[spans.row] + 1, total)
        positions.reshape(-1)[inside] = np.arange(int(until[-1])) - np.repeat(until - total, total)
        found |= {'segments': segments, 'positions': positions}
    return found


# A segment: (begin [B], end [B]), positions of the part.
Segment = tuple[Places, Places]


def whole(source: Sequences, rows: Places) -> Spans:
    """Each sequence as one span, or as one of each document in it."""
    begin, end = source.edges[source.first[rows]], source.edges[source.last[rows]]
    low = np.searchsorted(source.breaks, begin, side='right')
    inner = np.searchsorted(source.breaks, end, side='left') - low
    row = np.repeat(np.arange(len(rows)), inner + 1)
    opens = np.append(True, np.diff(row) > 0)
    starts, ends = np.repeat(begin, inner + 1), np.repeat(end, inner + 1)
    cut = np.flatnonzero(~opens)
    number = cut - np.flatnonzero(opens)[row[cut]] - 1
    starts[cut] = ends[cut - 1] = source.breaks[low[row[cut]] + number]
    return Spans(row, starts, ends, opens)


def members(source: Sequences, rows: Places) -> Spans:
    """The runs that share each packed sequence."""
    assert source.bounds is not None and source.members is not None
    begin = source.bounds[rows]
    many = source.bounds[rows + 1] - begin
    place = np.arange(many.sum()) + np.repeat(begin - (np.cumsum(many) - many), many)
    run = source.members[place]
    row = np.repeat(np.arange(len(rows)), many)
    return Spans(row, source.edges[source.first[run]], source.edges[source.last[run]], np.ones(len(row), bool))


def interleaved(one: Segment, two: Segment) -> Spans:
    """Two segments a row: [CLS] A [SEP] B [SEP]."""
    begin, end = (np.stack(both, axis=1).reshape(-1) for both in zip(one, two, strict=True))
    return Spans(np.repeat(np.arange(len(one[0])), 2), begin, end, np.arange(len(begin)) % 2 == 0)


def halves(source: Sequences, rows: Places, generator: np.random.Generator) -> list[Segment]:
    """Each sequence split at a random boundary of its units; a sequence of one unit, after a random piece.

    The second half of a sequence of a single piece is empty.
    """
    first, last = source.first[rows], source.last[rows]
    begin, end = source.edges[first], source.edges[last]
    unit = source.edges[first + generator.integers(1, np.maximum(last - first, 2))]
    piece = np.minimum(begin + generator.integers(1, np.maximum(end - begin, 2)), end)
    cut = np.where(last - first > 1, unit, piece)
    return [(begin, cut), (cut, end)]


def sentence_order(source: Sequences, rows: Places, generator: np.random.Generator) -> tuple[list[Segment], NDArray[np.bool_]]:
    """Two consecutive segments, swapped (1) with probability one half (Lan et al. 2020, §3.1)."""
    (begin, cut), (_, end) = halves(source, rows, generator)
    swapped = generator.random(len(rows)) < 0.5
    one = np.where(swapped, cut, begin), np.where(swapped, end, cut)
    two = np.where(swapped, begin, cut), np.where(swapped, cut, end)
    return [one, two], swapped


def next_sentence(
    source: Sequences, rows: Places, room: int, generator: np.random.Generator
) -> tuple[list[Segment], NDArray[np.bool_]]:
    """A and what follows it (0), or with probability one half what some other document says (1) (Devlin et al. 2019, §A.2).

    A random B is whole units of another document: of PLACES random ones to begin at, that from which its length comes nearest
    to the true one's, so that lengths tell little. The true one is not put back into the epoch: another epoch draws anew.
    """
    (begin, cut), (_, end) = halves(source, rows, generator)
    random = (generator.random(len(rows)) < 0.5) | (cut == end)
    document, section = source.document, source.section[rows]
    own, beyond = (np.searchsorted(document, document[section], side) for side in ('left', 'right'))
    other = generator.integers(0, len(document) - (beyond - own), (PLACES, len(rows)))
    other = np.where(other >= own, other + beyond - own, other)
    unit = generator.integers(source.units[other], source.units[other + 1])
    starts, wanted = source.edges[unit], end - cut
    fit = np.searchsorted(source.edges, starts + wanted, side='right') - 1
    stops = source.edges[np.clip(fit, unit + 1, source.units[other + 1])]
    stops = np.minimum(stops, starts + room - (cut - begin))
    best = np.abs(stops - starts - wanted).argmin(axis=0), np.arange(len(rows))
    return [(begin, cut), (np.where(random, starts[best], cut), np.where(random, stops[best], end))], random


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
        if 'segments' in grown:
            grown['segments'][-missing:, 0] = 1
    return grown
