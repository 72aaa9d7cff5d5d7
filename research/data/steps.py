"""Batches to train on, each a pure function of (seed, step)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import grain

from research.data.pretraining import Batch
from research.data.settings import Causal, Data, has_causal, is_causal, shapes, stages


def boundary(data: Data, steps: int) -> int:
    """The first step of the last stage."""
    return round(steps * stages(data)[0].share) if len(stages(data)) > 1 else 0


def number_of_steps(steps: int, epochs: float, examples: int, batch: int) -> int:
    """The steps of a run: by `epochs` of so many examples if that is not 0, else `steps`."""
    return math.ceil(epochs * examples / batch) if epochs else steps


def first_steps(data: Data, steps: int, first: int = 0) -> frozenset[int]:
    """The first step, from `first` on, of each shape that a run's batches have: its program is compiled there."""
    change, many = boundary(data, steps), len(shapes(data))
    end = round(data.causal.until * steps) if has_causal(data) else 0  # all later batches are masked
    found: dict[tuple[bool, bool], int] = {}
    for step in (*range(first, end), max(first, end), max(first, end, change)):
        found.setdefault((step >= change, step < end and is_causal(data.causal, step, steps)), step)
        if len(found) == many:
            break
    return frozenset(found.values())


def count_unmasked(data: Data, steps: int) -> int:
    """The number of steps before the first whose batch is masked."""
    return round(data.causal.until * steps) if has_causal(data) and data.causal.share == 1 else 0


# (how much of the run is over, whether the batch is causal) -> a batch of rows that are drawn already.
Draft = Callable[[float, bool], Batch]


def keep(batch: Batch) -> Draft:
    """The Draft of a batch that is the same at every step."""
    return lambda progress, causal: batch


@dataclass(frozen=True, eq=False)
class Steps:
    """The batches to train on, without end: batch `step` is a pure function of (seed, step, the steps of the run)."""

    stages: tuple[grain.MapDataset[Draft], ...]  # one or two, each counting its own steps from 0
    steps: int  # of the run
    boundary: int = 0  # the first step of the last stage
    causal: Causal = Causal()

    def place(self, step: int) -> tuple[int, int]:
        """The stage of a step, and its number there."""
        return (0, step) if step < self.boundary else (len(self.stages) - 1, step - self.boundary)

    def __getitem__(self, step: int) -> Batch:
        stage, number = self.place(step)
        draft = self.stages[stage][number]
        assert draft is not None  # a MapDataset holds None only where a row was filtered out
        return draft(min(step / max(self.steps - 1, 1), 1.0), is_causal(self.causal, step, self.steps))
