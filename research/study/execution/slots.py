"""This machine divided between simultaneous runs."""

import os
import subprocess
from typing import NamedTuple

# ---- Several runs: each its part of this machine --------------------------------------------------------------------------------


class Slot(NamedTuple):
    """What one of several simultaneous runs may use of this machine."""

    settings: dict[str, str]  # environment variables
    cores: tuple[int, ...]


def accelerators() -> list[str]:
    """The GPUs of this machine by the names that CUDA_VISIBLE_DEVICES takes; jax is not started, which would take their memory."""
    named = os.environ.get('CUDA_VISIBLE_DEVICES')
    if named is not None:
        return [each for each in named.split(',') if each and each != '-1']
    try:
        told = subprocess.run(['nvidia-smi', '-L'], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [str(number) for number, line in enumerate(line for line in told.splitlines() if line.startswith('GPU '))]


def slots(jobs: int) -> list[Slot]:
    """This machine divided into `jobs` parts, or as many as it has GPUs (one without any) where that is 0.

    Each has one GPU, shared where there are more jobs than GPUs, and its share of the cores.
    """
    devices = accelerators()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else list(range(os.cpu_count() or 1))
    parts = jobs or max(1, len(devices))
    found = []
    for part in range(parts):
        mine = cores[part * len(cores) // parts : (part + 1) * len(cores) // parts] or [cores[part % len(cores)]]
        settings = {}
        if devices:
            sharers = len(range(part % len(devices), parts, len(devices)))
            settings['CUDA_VISIBLE_DEVICES'] = devices[part % len(devices)]
            if sharers > 1:
                settings['XLA_PYTHON_CLIENT_MEM_FRACTION'] = f'{0.9 / sharers:.3f}'
        found.append(Slot(settings, tuple(mine)))
    return found
