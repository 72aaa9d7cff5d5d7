"""Packed batches of a task: several examples share a row, so that few positions are padding.

A batch has B examples (`run.batch`), as without packing, and its update is that of the same examples unpacked: each example is a
segment that attends to itself alone, with positions from 0, and heads read the first position of each. The examples of a batch
are drawn so that nearly equal sizes come together in each batch: the rows of a batch are then nearly the same number at every
step, which is a shape that XLA compiles once. They are a pure function of (lengths, B, seed, step); the number of devices
adds nothing but empty rows, so that a run goes on elsewhere with the same batches.

Axes: R rows of a batch, T positions of a row, P places for examples in a row, B examples and S steps of a pool.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from research.data.buckets import POOL, Stream
from research.data.encoding import Encoded, assemble
from research.data.pretraining import Batch

ROOMS = (0.98, 0.97, 0.96, 0.94, 0.92)  # tried: the share of all positions that is to be filled
LENGTHS = 4  # tried: so many multiples of 8, from the longest example on
# Positions of a row that double the cost of each: attention costs T / (6 · width) as much as the products with weights
# (4 · T · width against 24 · width² operations), for a width of a few hundred.
DOUBLE = 2048
SAMPLE = 2048  # examples that a shape is chosen by, at least 8 steps of them
POSITIONS = ('start', 'end')  # targets that are positions
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Shape:
    """The shape of packed batches, and how full they are to be."""

    length: int  # T
    places: int  # P
    rows: int  # R at least
    room: float  # share of the positions that is to be filled


def choose_shape(lengths: Places, batch: int, longest: int) -> Shape:
    """The cheapest Shape for examples of these lengths [N], of which `longest` is the greatest possible: the same for all seeds."""
    sizes = draw_sample(lengths, batch)
    least = -(-int(lengths.max()) // 8) * 8
    shapes = []
    for length in sorted({min(least + 8 * more, longest) for more in range(LENGTHS)}):
        for room in ROOMS:
            # Steps with one row less than nearly all others would need a program of their own.
            rows = int(sizes.sum() * batch / len(sizes) / (length * room) + 0.1)
            shapes.append(Shape(length, length // int(lengths.min()), max(1, rows), room))
    return min(shapes, key=lambda shape: sum(count_rows(sizes, batch, shape)) * shape.length * (1 + shape.length / DOUBLE))


def describe(lengths: Places, batch: int, shape: Shape, divisor: int) -> str:
    """A line on how the batches are packed, by a sample of them."""
    sizes = draw_sample(lengths, batch)
    rows = [-(-each // divisor) * divisor for each in count_rows(sizes, batch, shape)]
    share = sizes.sum() / (sum(rows) * shape.length)
    many = ' or '.join(map(str, sorted(set(rows))))
    whole = f', a multiple of {divisor} (devices × micro-batches)' if divisor > 1 else ''
    return f'train: {batch} examples share {many} rows of {shape.length}{whole}: {share:.1%} of the positions hold a piece'


def draw_sample(lengths: Places, batch: int) -> Places:
    """The lengths [S · B] of the examples of a few steps."""
    steps = min(POOL, max(8, SAMPLE // batch), max(1, len(lengths) // batch))
    return np.resize(np.random.default_rng(0).permutation(lengths), steps * batch)


def count_rows(sizes: Places, batch: int, shape: Shape) -> list[int]:
    """R of each step of a pool."""
    members, rows = deal(sizes, batch, shape)
    return [place(sizes[mine], each, shape.length)[1] for mine, each in zip(members, rows.tolist(), strict=True)]


# ---- The examples of a step -----------------------------------------------------------------------------------------------------


def packed(stream: Stream, train: Encoded, shape: Shape, seed: int, divisor: int, mine: Places) -> Callable[[int], Batch]:
    """The Batch of each step, a pure function of (seed, step); its rows are a multiple of `divisor`.

    mine: the rows of an unpacked batch, of B, that this process would make; it makes the same parts of the R.
    """

    @lru_cache(maxsize=4)
    def pool(first: int, last: int) -> tuple[Places, Places]:
        examples = stream.read(first, last)
        members, rows = deal(train.lengths[examples], stream.batch, shape)
        order = np.random.default_rng([seed, first]).permutation(last - first)
        return examples[members[order]], rows[order]

    def make(step: int) -> Batch:
        begin, end = stream.epoch(step)
        pools = -(-(end - begin) // POOL)  # of nearly equal sizes: a small one would need other numbers of rows
        number = ((step - begin + 1) * pools - 1) // (end - begin)
        first, last = (begin + (end - begin) * each // pools for each in (number, number + 1))
        examples, rows = (each[step - first] for each in pool(first, last))
        row, many = place(train.lengths[examples], int(rows), shape.length)
        many = -(-many // divisor) * divisor
        batch = lay_out(train, examples, row, many, shape)
        kept = np.isin(np.arange(many) * stream.batch // many, mine)
        return batch if kept.all() else {name: array[kept] for name, array in batch.items()}

    return make


def deal(sizes: Places, batch: int, shape: Shape) -> tuple[Places, Places]:
    """A pool of examples, of `sizes` [S · B], divided over S steps: (examples [S, B], the rows [S] that each step has for them).

    Of the B-quantiles by size each step gets one example. Then examples are exchanged, until each step has nearly the share of
    the pieces that its rows are of all rows.
    """
    steps = len(sizes) // batch
    total = int(sizes.sum())
    all_rows = max(int(np.ceil(total / (shape.length * shape.room))), shape.rows * steps)
    rows = all_rows // steps + (np.arange(steps) < all_rows % steps)
    members = np.empty((steps, batch), np.int64)
    over = -total * rows  # the pieces of a step beyond its share, times all rows: whole numbers, the same on every machine
    for place, part in enumerate(np.argsort(-sizes, kind='stable').reshape(batch, steps)):
        to = np.argsort(over, kind='stable')
        members[to, place] = part
        over[to] += sizes[part] * all_rows
    for _ in range(8 * steps):
        one, two = int(over.argmax()), int(over.argmin())
        gap = over[one] - over[two]
        moved = (sizes[members[one]][:, None] - sizes[members[two]][None]) * all_rows
        a, b = divmod(int(np.abs(2 * moved - gap).argmin()), batch)
        if not 0 < moved[a, b] < gap:
            break
        members[one, a], members[two, b] = members[two, b], members[one, a]
        over[one] -= moved[a, b]
        over[two] += moved[a, b]
    return members, rows


def place(sizes: Places, rows: int, length: int) -> tuple[Places, int]:
    """(the row [B] of each example, their number: `rows`, or more if they do not fit into so few)."""
    order = np.argsort(-sizes, kind='stable')
    while True:
        for fullest in (False, True):
            found = fill(sizes[order].tolist(), rows, length, fullest)
            if found:
                return np.array(found)[np.argsort(order)], rows
        rows += 1


def fill(sizes: list[int], rows: int, length: int, fullest: bool) -> list[int]:
    """The row of each example, each put into the emptiest row, or into the fullest that has room; [] if one finds no room."""
    loads, found = [0] * rows, []
    for size in sizes:
        fitting = [load for load in loads if load + size <= length] if fullest else [min(loads)]
        if not fitting or fitting[0] + size > length:
            return []
        at = loads.index(max(fitting))
        loads[at] += size
        found.append(at)
    return found


def lay_out(train: Encoded, examples: Places, row: Places, rows: int, shape: Shape) -> Batch:
    """The Batch of `examples` [B] in their rows [B].

    ids, types, mask, segments (which count the examples of a row from 1; 0 is padding) and positions are [R, T]; starts, weight and
    targets are [R, P], with weight 0 where there is no example. Rows without any have mask 0 throughout.
    """
    order = np.argsort(row, kind='stable')
    examples, row = examples[order], row[order]
    sizes = train.lengths[examples]
    leader = np.searchsorted(row, row)  # the first example of the same row
    before = np.cumsum(sizes) - sizes
    number, start = np.arange(len(row)) - leader, before - before[leader]
    ids, types, mask = assemble([[column[i] for i in examples] for column in train.segments], int(sizes.max()), train.pieces)
    example, position = np.nonzero(mask)
    flat = (row * shape.length + start)[example] + position

    def spread(values: NDArray | int, padding: int = 0) -> NDArray[np.int32]:
        found = np.full(rows * shape.length, padding, np.int32)
        found[flat] = values
        return found.reshape(rows, shape.length)

    def arrange(values: NDArray) -> NDArray:
        found = np.zeros((rows, shape.places), values.dtype)
        found[row, number] = values
        return found

    targets = {name: each[examples] for name, each in train.targets.items()}
    targets |= {name: targets[name] + start.astype(np.int32) for name in POSITIONS if name in targets}
    return {
        'ids': spread(ids[example, position], train.pieces.pad),
        'types': spread(types[example, position]),
        'mask': spread(1),
        'segments': spread(number[example] + 1),
        'positions': spread(position),
        'starts': arrange(start.astype(np.int32)),
        **{name: arrange(each) for name, each in targets.items()},
        'weight': arrange(np.full(len(row), float(train.known), np.float32)),
    }
