"""Batches of sequences of similar length: which rows make a batch, when training and when evaluating."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from research.data.encoding import Encoded
from research.data.pretraining import Batch

POOL = 64  # steps whose rows are sorted by length together


@dataclass(frozen=True, eq=False)
class Stream:
    """The endless, shuffled stream of the rows of a split, as the steps of training take them. Each epoch visits every row once."""

    shuffled: Any  # the row at each place
    rows: int  # of an epoch
    batch: int  # B

    def read(self, first: int, last: int) -> NDArray[np.int64]:
        """The rows of the steps first to last − 1, [(last − first) · B]."""
        return np.array([self.shuffled[place] for place in range(first * self.batch, last * self.batch)], np.int64)

    def epoch(self, step: int) -> tuple[int, int]:
        """(the first step of the epoch that a step belongs to, the first of the next)."""
        epoch = step * self.batch // self.rows
        while self._first_step(epoch + 1) <= step:
            epoch += 1
        return self._first_step(epoch), self._first_step(epoch + 1)

    def _first_step(self, epoch: int) -> int:
        return -(-epoch * self.rows // self.batch)


def by_length(stream: Stream, train: Encoded, seed: int) -> Callable[[int], NDArray[np.int64]]:
    """The rows [B] of each training step, a pure function of (seed, step): sorted by length within a pool of steps.

    Pools end with the epoch, so that each epoch visits every row.
    """

    @lru_cache(maxsize=4)
    def pool(first: int, last: int) -> NDArray[np.int64]:
        rows = stream.read(first, last)
        generator = np.random.default_rng([seed, first])
        by_length = rows[np.argsort(train.lengths[rows] + generator.random(len(rows)))]
        return generator.permutation(by_length.reshape(-1, stream.batch))

    def rows(step: int) -> NDArray[np.int64]:
        if len(train.buckets) == 1:
            return stream.read(step, step + 1)
        begin, end = stream.epoch(step)
        first = begin + (step - begin) // POOL * POOL
        return pool(first, min(first + POOL, end))[step - first]

    return rows


@dataclass(frozen=True, eq=False)
class SortedBatches:
    """The batches of an evaluation split, sorted by length. 'row' [B] holds their rows, −1 for those that fill up the last."""

    encoded: Encoded
    size: int  # B
    mine: NDArray[np.int64]  # which of the B rows of each batch this process makes, increasing

    def __len__(self) -> int:
        return -(-self.encoded.rows // self.size)

    def __getitem__(self, index: int) -> Batch:
        """The rows `mine` of batch `index`."""
        if not 0 <= index < len(self):
            raise IndexError(f'batch {index} of {len(self)}')
        order = np.arange(self.encoded.rows)
        if len(self.encoded.buckets) > 1:
            order = np.argsort(self.encoded.lengths, kind='stable')
        rows = order[index * self.size : (index + 1) * self.size]
        missing = self.size - len(rows)
        batch = self.encoded.make(np.concatenate([rows, np.repeat(rows[:1], missing)]), self.mine)
        numbers = np.concatenate([rows, np.full(missing, -1)]).astype(np.int32)[self.mine]
        batch['weight'][numbers < 0] = 0
        return batch | {'row': numbers}

    def __iter__(self) -> Iterator[Batch]:
        return (self[index] for index in range(len(self)))
