"""Batches of sequences of a corpus: spans in their places, pairs, masks."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from research.data.corruption import corrupt, follow
from research.data.masking import Masking
from research.data.sequences import Places, Sequences
from research.data.tokenizers import Vocabulary

Batch = dict[str, NDArray]
PAIRS = ('none', 'nsp', 'sop')
PLACES = 16  # random units at which a random next sentence may begin


@dataclass(frozen=True, eq=False)
class Spans:
    """K runs of pieces in B rows, in their order, each followed by [SEP]."""

    row: Places  # [K] increasing
    begin: Places  # [K] positions
    end: Places  # [K]
    opens: NDArray[np.bool_]  # [K]: preceded by [CLS]


def masked_batch(
    source: Sequences,
    rows: Places,
    generator: np.random.Generator,
    mine: Places | None = None,
    *,
    pieces: Vocabulary,
    masking: Masking,
    room: int = 0,
    weights: NDArray[np.float64] | None,
    length: int,
    pairs: str,
    causal: bool = False,
) -> Batch:
    """The Batch of sequences `rows` [B], masked, and cut and paired by `generator`; weight is 1 in every row.

    room: P, for a masking that asks for less in some steps than in others; 0: what it needs. causal: nothing is masked, and the
    pieces to predict are those that follow each position; `causal` [B] is 1 in every row.

    mine: which of the B rows are assembled, increasing (None: all). One generator draws for all rows, so that a row is the same
    whichever others are assembled; what follows from a row alone is computed for `mine` only. weights: of each piece [V], for a
    masking policy that weighs pieces. Packed sequences add `segments` [B, T], which counts the runs of a row from 1 (0 is
    padding), and `positions` [B, T], which begins anew in each.
    """
    pair = None
    if source.bounds is not None:
        spans = members(source, rows)
    elif pairs == 'none':
        spans = whole(source, rows)
    else:
        nsp = pairs == 'nsp'
        (a, b), pair = next_sentence(source, rows, length - 3, generator) if nsp else sentence_order(source, rows, generator)
        spans = interleave(*truncate(a, b, length - 3, generator))
    if mine is None:
        mine = np.arange(len(rows))
    every = place_spans(source.ids, spans, len(rows), length, pieces)
    if causal:
        ids = every[mine]
        positions, labels, presence = follow(ids, pieces)
    else:
        ids, positions, labels, presence = corrupt(masking, pieces, every, generator, weights, mine, room)
    result = {
        'ids': ids,
        **describe_spans(select_spans(spans, mine, len(rows)), len(mine), length, pairs != 'none', source.bounds is not None),
        'masked_positions': positions,
        'masked_labels': labels,
        'masked_weights': presence,
        'weight': np.ones(len(mine), np.float32),
    }
    if causal:
        result['causal'] = np.ones(len(mine), np.int32)
    return result if pair is None else result | {'pair': pair[mine].astype(np.int32)}


def measure_spans(spans: Spans, rows: int) -> tuple[Places, Places, Places]:
    """(pieces [K] of each span with its special ones, where it begins in its row [K], the first span of each row [B])."""
    total = spans.end - spans.begin + 1 + spans.opens
    before = np.cumsum(total) - total
    leader = np.searchsorted(spans.row, np.arange(rows))
    return total, before - before[leader][spans.row], leader


def place_spans(flat: NDArray[Any], spans: Spans, rows: int, length: int, pieces: Vocabulary) -> NDArray[np.int32]:
    """The ids [B, T] of the spans in their places."""
    size = spans.end - spans.begin
    total, at, _ = measure_spans(spans, rows)
    start = spans.row * length + at
    ids = np.full((rows, length), pieces.pad, np.int32)
    place = ids.reshape(-1)
    ends = np.cumsum(size)
    run = np.arange(int(ends[-1]))
    place[run + np.repeat(start + spans.opens - (ends - size), size)] = flat[run + np.repeat(spans.begin - (ends - size), size)]
    place[start[spans.opens]] = pieces.cls
    place[start + total - 1] = pieces.sep
    return ids


def select_spans(spans: Spans, mine: Places, rows: int) -> Spans:
    """The spans of the rows `mine`, increasing, which are then rows 0, 1, …"""
    if len(mine) == rows:
        return spans
    place = np.full(rows, -1)
    place[mine] = np.arange(len(mine))
    kept = place[spans.row] >= 0
    return Spans(place[spans.row[kept]], spans.begin[kept], spans.end[kept], spans.opens[kept])


def describe_spans(spans: Spans, rows: int, length: int, paired: bool, apart: bool) -> Batch:
    """What is to be known of the pieces of the spans, besides their ids: types and mask [B, T], both int32.

    paired: whether the second span of a row has type 1. apart: whether spans do not attend to each other: `segments`, `positions`.
    """
    total, at, leader = measure_spans(spans, rows)
    column = np.arange(length)[None]
    mask = column < np.bincount(spans.row, total, rows)[:, None]
    types = mask & (column >= at[1::2, None]) if paired else np.zeros_like(mask)
    found = {'types': types.astype(np.int32), 'mask': mask.astype(np.int32)}
    if apart:
        segments, positions = np.zeros((2, rows, length), np.int32)
        inside = np.flatnonzero(mask)
        segments.reshape(-1)[inside] = np.repeat(np.arange(len(total)) - leader[spans.row] + 1, total)
        positions.reshape(-1)[inside] = np.arange(int(total.sum())) - np.repeat(np.cumsum(total) - total, total)
        found |= {'segments': segments, 'positions': positions}
    return found


# A segment: (begin [B], end [B]), positions of the part.
Segment = tuple[Places, Places]


def whole(source: Sequences, rows: Places) -> Spans:
    """Each sequence as one span, or as one span for each document in it."""
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


def interleave(one: Segment, two: Segment) -> Spans:
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
    """Two consecutive segments, swapped (1) with probability 1/2 (Lan et al. 2020, §3.1)."""
    (begin, cut), (_, end) = halves(source, rows, generator)
    swapped = generator.random(len(rows)) < 0.5
    one = np.where(swapped, cut, begin), np.where(swapped, end, cut)
    two = np.where(swapped, begin, cut), np.where(swapped, cut, end)
    return [one, two], swapped


def next_sentence(
    source: Sequences, rows: Places, room: int, generator: np.random.Generator
) -> tuple[list[Segment], NDArray[np.bool_]]:
    """A and the text that follows it (0), or with probability 1/2 text of another document (1) (Devlin et al. 2019, §A.2).

    A random B is whole units of another document. It begins at one of PLACES random units and ends before or with the unit that
    reaches the true B's length: the one of these that brings the pair nearest to the true one's length once it is truncated, then
    B to the true B's, so that lengths reveal little. The true B is not used elsewhere in the epoch.
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
    stops = np.concatenate([source.edges[np.clip(each, unit + 1, source.units[other + 1])] for each in (fit, fit + 1)])
    starts = np.concatenate([starts, starts])
    sizes, left = stops - starts, room - (cut - begin)
    apart = np.abs(np.minimum(sizes, left) - np.minimum(wanted, left)), np.abs(sizes - wanted)
    best = (2**32 * apart[0] + apart[1]).argmin(axis=0), np.arange(len(rows))
    return [(begin, cut), (np.where(random, starts[best], cut), np.where(random, stops[best], end))], random


def truncate(one: Segment, two: Segment, room: int, generator: np.random.Generator) -> tuple[Segment, Segment]:
    """Two segments that fit the room together: the longer loses pieces, each at a random end, until they do.

    Of equal ones the second loses the next. (`truncate_seq_pair` in the code of Devlin et al. and of Lan et al.)
    """
    sizes = [end - begin for begin, end in (one, two)]
    excess, apart = np.maximum(sizes[0] + sizes[1] - room, 0), sizes[0] - sizes[1]
    rest = np.maximum(excess - np.abs(apart), 0)  # beyond what makes them equal
    lost = [
        np.where(apart > 0, excess - rest, 0) + rest // 2,
        np.where(apart < 0, excess - rest, 0) + (rest + 1) // 2,
    ]
    front = [generator.binomial(each, 0.5) for each in lost]
    a, b = ((begin + f, end - (each - f)) for (begin, end), each, f in zip((one, two), lost, front, strict=True))
    return a, b


def filler(real: Batch, size: int, pieces: Vocabulary) -> Batch:
    """A batch grown to `size` rows with rows of weight 0: [CLS] alone."""
    missing = size - len(real['ids'])
    grown = {name: np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)]) for name, array in real.items()}
    if missing:
        grown['ids'][-missing:] = pieces.pad
        grown['ids'][-missing:, 0] = pieces.cls
        grown['mask'][-missing:, 0] = 1
        if 'segments' in grown:
            grown['segments'][-missing:, 0] = 1
    return grown
