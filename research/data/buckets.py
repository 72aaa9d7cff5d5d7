"""Batches of sequences of like length: which rows make a batch, when training and when evaluating."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from research.data.encoding import Questions
from research.data.pretraining import Batch

POOL = 64  # steps whose rows are sorted by length together


def by_length(shuffled: Any, questions: Questions, batch: int, seed: int) -> Callable[[int], NDArray[np.int64]]:
    """The rows [B] of each training step, a pure function of (seed, step): sorted by length within a pool of steps.

    shuffled: the row at each place of the endless, shuffled stream. Pools end with the epoch, so that each epoch visits every row.
    """

    def stream(begin: int, end: int) -> NDArray[np.int64]:
        return np.array([shuffled[place] for place in range(begin, end)], np.int64)

    def first_step(epoch: int) -> int:
        return -(-epoch * questions.rows // batch)

    @lru_cache(maxsize=4)
    def pool(first: int, last: int) -> NDArray[np.int64]:
        rows = stream(first * batch, last * batch)
        generator = np.random.default_rng([seed, first])
        ranked = rows[np.argsort(questions.lengths[rows] + generator.random(len(rows)))]
        return generator.permutation(ranked.reshape(-1, batch))

    def rows(step: int) -> NDArray[np.int64]:
        if len(questions.buckets) == 1:
            return stream(step * batch, (step + 1) * batch)
        epoch = step * batch // questions.rows
        while first_step(epoch + 1) <= step:
            epoch += 1
        first = first_step(epoch) + (step - first_step(epoch)) // POOL * POOL
        return pool(first, min(first + POOL, first_step(epoch + 1)))[step - first]

    return rows


@dataclass(frozen=True, eq=False)
class Ranked:
    """The batches of an evaluation split, shorter sequences first; 'row' says which rows, −1 for those that fill the last up."""

    questions: Questions
    size: int  # B

    def __len__(self) -> int:
        return -(-self.questions.rows // self.size)

    def __getitem__(self, index: int) -> Batch:
        """Batch `index`."""
        if not 0 <= index < len(self):
            raise IndexError(f'batch {index} of {len(self)}')
        order = np.arange(self.questions.rows)
        if len(self.questions.buckets) > 1:
            order = np.argsort(self.questions.lengths, kind='stable')
        rows = order[index * self.size : (index + 1) * self.size]
        missing = self.size - len(rows)
        batch = self.questions.make(np.concatenate([rows, np.repeat(rows[:1], missing)]))
        batch['weight'][len(rows) :] = 0
        return batch | {'row': np.concatenate([rows, np.full(missing, -1)]).astype(np.int32)}

    def __iter__(self) -> Iterator[Batch]:
        return (self[index] for index in range(len(self)))
