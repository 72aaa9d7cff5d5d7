"""The machine that a process runs on: how many cores it may use, where prepared data lie and how fast batches come."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """Where prepared data are stored and how fast batches are made. It never changes the batches."""

    cache: str = 'runs/cache'  # folder of prepared corpora and trained tokenizers; safe to delete
    prefetch: int = 8  # batches made ahead while the model computes (two a worker at least); 0 makes each when asked
    workers: int = 0  # processes that make them, each of which opens the data for itself; 0 is a thread of the run's own


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
