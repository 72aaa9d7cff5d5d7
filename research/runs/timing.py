"""How long a model needs for a whole split, one example after the other, on one core of the CPU."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from research.data.buckets import SortedBatches
from research.data.encoding import Encoded
from research.models.attention import choose_kernel
from research.models.heads import Model
from research.objectives.view import View
from research.parallel import find_processor

THREADS = Path('/proc/self/task')  # Linux: the threads of this process


def measure_pass(model: Model, params: Any, encoded: Encoded, head: str, tried: tuple[int, int]) -> float:
    """Seconds of a pass over `encoded`: the forward pass and what answers are read from (`View.search`) for each row.

    A row begins after the last is done.

    Rows are padded to their bucket. On one core of the CPU, whatever the run trained on (Sanh et al. 2019, Table 3: a CPU, batch
    1). The making of the rows and the compilation for each length are not counted.
    """
    cpu = find_processor()
    kernel, _ = choose_kernel(dataclasses.replace(model.architecture, attention='auto'), frozenset(), 'cpu', training=False)
    plain = Model(dataclasses.replace(model.architecture, attention=kernel), model.heads)
    params = jax.device_put(jax.device_get(params), cpu)
    rows = [{name: batch[name] for name in ('ids', 'types', 'mask')} for batch in SortedBatches(encoded, 1, np.arange(1))]

    @jax.jit
    def answer(params: Any, row: Any) -> jax.Array:
        return View(plain, params, row).search(head, tried)

    with jax.default_device(cpu), keep_to_one_core():
        for row in {row['ids'].shape: row for row in rows}.values():
            jax.block_until_ready(answer(params, row))
        begin = time.perf_counter()
        for row in rows:
            jax.block_until_ready(answer(params, row))
        return time.perf_counter() - begin


@contextlib.contextmanager
def keep_to_one_core() -> Iterator[None]:
    """Keeps every thread of this process on one of the cores it may use; does nothing except on Linux."""
    core = {min(os.sched_getaffinity(0))} if THREADS.is_dir() else set()
    with contextlib.ExitStack() as undo:
        for thread in [int(path.name) for path in THREADS.iterdir()] if core else []:
            with contextlib.suppress(ProcessLookupError):  # it has ended
                undo.callback(_release, thread, os.sched_getaffinity(thread))
                os.sched_setaffinity(thread, core)
        yield


def _release(thread: int, cores: set[int]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.sched_setaffinity(thread, cores)
