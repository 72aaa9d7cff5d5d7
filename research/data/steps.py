"""Batches to train on, each a pure function of (seed, step)."""

import math
from dataclasses import dataclass

import grain

from research.data.pretraining import Batch
from research.data.settings import Data, stages


def boundary(data: Data, steps: int) -> int:
    """The first step of the last stage."""
    return round(steps * stages(data)[0].share) if len(stages(data)) > 1 else 0


def number_of_steps(steps: int, epochs: float, examples: int, batch: int) -> int:
    """The steps of a run: by `epochs` of so many examples if that is not 0, else `steps`."""
    return math.ceil(epochs * examples / batch) if epochs else steps


@dataclass(frozen=True, eq=False)
class Steps:
    """The batches to train on, without end: batch `step` is a pure function of (seed, step)."""

    stages: tuple[grain.MapDataset[Batch], ...]  # one or two, each counting its own steps from 0
    boundary: int  # the first step of the last stage

    def place(self, step: int) -> tuple[int, int]:
        """The stage of a step, and its number there."""
        return (0, step) if step < self.boundary else (len(self.stages) - 1, step - self.boundary)

    def __getitem__(self, step: int) -> Batch:
        stage, number = self.place(step)
        batch = self.stages[stage][number]
        assert batch is not None  # a MapDataset holds None only where a row was filtered out
        return batch
