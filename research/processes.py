"""Several processes that make one run together: how they find each other, wait for each other and stop together."""

import contextlib
import os
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils


def join_processes() -> None:
    """Connects to the other processes of this run if Slurm's `srun` started several. Call it before jax is first used."""
    if int(os.environ.get('SLURM_STEP_NUM_TASKS', '1')) > 1 and not jax.distributed.is_initialized():
        jax.distributed.initialize()


def get_process() -> int:
    """The number of this process in its run, from 0."""
    return jax.process_index()


def is_alone() -> bool:
    """Whether this process makes its run alone."""
    return jax.process_count() == 1


def agree_to_stop(step: int) -> bool:
    """Whether all processes of this run stop after `step`, since one of them got SIGTERM. To be asked by all after every step."""
    return multihost_utils.reached_preemption_sync_point(step)


def is_chief() -> bool:
    """Whether this process writes the files of the run."""
    return get_process() == 0


@contextlib.contextmanager
def chief_first() -> Iterator[None]:
    """Runs the block in the first process, then in the others, which find what the first has prepared."""
    if not is_chief():
        multihost_utils.sync_global_devices('the first process has finished')
    try:
        yield
    finally:  # also after an error, or the others would wait forever
        if is_chief() and jax.process_count() > 1:
            multihost_utils.sync_global_devices('the first process has finished')
