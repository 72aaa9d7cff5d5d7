"""Sequences: runs of pieces of a corpus."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from research.data.corpus import Part
from research.errors import UserError

Places = NDArray[np.int64]
# How single segments are filled: with pieces, without regard to sentences; with whole sentences of one document; with whole
# sentences across documents, a separator between them (DOC-SENTENCES and FULL-SENTENCES of Liu et al. 2019, §4.2).
FILLS = ('pieces', 'sentences', 'documents')


@dataclass(frozen=True, eq=False)
class Sequences:
    """N runs of consecutive units that together hold every piece of a part once; for sop, except runs of a single piece.

    With pairs a run may exceed the room of its row, which then holds a part of it. A unit is a sentence, or a cut of one that is
    longer than a sequence; with fill `pieces`, whole sections are cut without regard to sentences. Positions count the pieces of
    the part, all sections laid end to end.
    """

    ids: NDArray[Any]  # [P] of the part
    edges: Places  # [U + 1] position of each unit's first piece
    first: Places  # [N] a sequence's first unit
    last: Places  # [N] one beyond its last unit
    section: Places  # [N] of its first unit
    units: Places  # [R + 1] each section's first unit
    document: Places  # [R] the document of each section, increasing
    breaks: Places  # positions at which a document that is not the first begins, where sequences cross documents
    bounds: Places | None = None  # packed, [M + 1]: rows bounds[m] to bounds[m + 1] of `members` share a sequence
    members: Places | None = None  # packed, [N]: runs, each with [CLS] and [SEP] of its own

    def __len__(self) -> int:
        return len(self.first) if self.bounds is None else len(self.bounds) - 1

    def documents(self, rows: Places) -> Places:
        """The document of each of `rows` [B]; of a row that holds several, the first in it."""
        if self.bounds is not None and self.members is not None:
            rows = self.members[self.bounds[rows]]
        return self.document[self.section[rows]]


def sequences(part: Part, *, length: int, pairs: str, short: float, fill: str, pack: bool, seed: int) -> Sequences:
    """The sequences of at most `length` pieces, special ones included, that a part of a corpus makes.

    With pairs, a sequence ends with the sentence that reaches a target: the room there is, or, in a share `short` of the documents,
    a length drawn by `seed`. Raises UserError if the part has too few documents or pieces for the pairs.
    """
    if pairs == 'nsp' and part.document[-1] == 0:
        raise UserError('data.pairs=nsp needs two documents at least in training and in evaluation; use sop or none, or more text')
    ends = np.concatenate([[0], np.cumsum(part.lengths, dtype=np.int64)])
    origin = ends[part.starts]
    whole = pairs == 'none' and fill == 'pieces'
    room = length - (2 if pairs == 'none' else 3)
    edges, units = cut_units(part, origin, whole, room)
    document = np.asarray(part.document)
    breaks = np.zeros(0, np.int64)
    if whole:
        first = np.arange(len(edges) - 1)
        last = first + 1
    elif fill == 'documents':
        first, last = fill_across(edges, np.repeat(document, np.diff(units)), room)
        breaks = origin[np.flatnonzero(np.diff(document)) + 1]
    else:
        targets = np.full(len(document), room)
        if pairs != 'none':
            targets = draw_targets(document, room, short, seed)
        first, last = fill_sections(edges, units, targets, beyond=pairs != 'none')
    if pairs == 'sop':
        two = edges[last] - edges[first] > 1  # a single piece has no order
        first, last = first[two], last[two]
        if not len(first):
            raise UserError('data.pairs=sop needs a document of two pieces at least in training and in evaluation; give none')
    section = np.searchsorted(units, first, side='right') - 1
    found = Sequences(part.ids, edges, first, last, section, units, document, breaks)
    return pack_runs(found, length, seed) if pack else found


def cut_units(part: Part, origin: Places, whole: bool, room: int) -> tuple[Places, Places]:
    """(edges [U + 1], units [R + 1]) of Sequences: sentences, or whole sections, cut where they exceed `room` pieces.

    origin [R + 1]: the position of each section's first piece.
    """
    lengths, starts = (np.diff(origin), np.arange(len(part.starts))) if whole else (np.asarray(part.lengths), part.starts)
    cuts = -(-lengths.astype(np.int64) // room)
    inside = np.arange(cuts.sum()) - np.repeat(np.cumsum(cuts) - cuts, cuts)
    edges = np.append(np.repeat(np.cumsum(lengths, dtype=np.int64) - lengths, cuts) + inside * room, origin[-1])
    return edges, np.concatenate([[0], np.cumsum(cuts)])[starts]


def fill_across(edges: Places, document: Places, room: int) -> tuple[Places, Places]:
    """(first units, ends) of sequences that go on across documents; each separator takes a piece of the room."""
    # The greatest end of a sequence that begins at each of the units.
    end = np.searchsorted(edges[1:] + document, edges[:-1] + document + room, side='right')
    end = np.maximum(end, np.arange(1, len(edges)))
    first, at = [], 0
    while at < len(end):
        first.append(at)
        at = int(end[at])
    return np.array(first), np.array([*first[1:], len(end)])


def pack_runs(source: Sequences, length: int, seed: int) -> Sequences:
    """The same runs, several to a sequence: each takes the largest run that still fits, until none does (first-fit decreasing).

    Runs of one size are interchangeable, so that all sequences of the same sizes are packed at once.
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


def draw_targets(document: Places, room: int, short: float, seed: int) -> Places:
    """The target of each section [R]: `room`, or, in a share `short` of the documents, a length from 2 to it, one a document."""
    generator = np.random.default_rng([seed, 0])
    number = np.unique(document, return_inverse=True)[1]
    many = int(number[-1]) + 1
    return np.where(generator.random(many) < short, generator.integers(2, room + 1, many), room)[number]


def fill_sections(edges: Places, units: Places, targets: Places, beyond: bool) -> tuple[Places, Places]:
    """(first units, ends) of sequences, each with as many whole units as fit the target of its section [R], one at least.

    beyond: a sequence ends with the unit that reaches the target, not before it (the code of Devlin et al. and of Lan et al.). All
    sections advance together, one sequence each a round, so that the number of rounds is that of one section's sequences, not of
    the corpus's.
    """
    at, stop = units[:-1], units[1:]
    firsts, lasts = [], []
    while len(at):
        goal = edges[at] + targets
        end = np.searchsorted(edges, goal) if beyond else np.searchsorted(edges, goal, side='right') - 1
        end = np.clip(end, at + 1, stop)
        firsts.append(at)
        lasts.append(end)
        left = end < stop
        at, stop, targets = end[left], stop[left], targets[left]
    first, last = np.concatenate(firsts), np.concatenate(lasts)
    order = np.argsort(first)
    return first[order], last[order]
