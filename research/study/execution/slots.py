"""This machine, divided between simultaneous runs."""

import os
import subprocess
from typing import NamedTuple


class Slot(NamedTuple):
    """The share of this machine of one of several simultaneous runs."""

    settings: dict[str, str]  # environment variables
    cores: tuple[int, ...]


def find_gpus() -> list[str]:
    """The GPUs of this machine, as CUDA_VISIBLE_DEVICES names them. jax is not asked: it would take their memory."""
    named = os.environ.get('CUDA_VISIBLE_DEVICES')
    if named is not None:
        return [each for each in named.split(',') if each and each != '-1']
    try:
        listed = subprocess.run(['nvidia-smi', '-L'], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [str(number) for number, line in enumerate(line for line in listed.splitlines() if line.startswith('GPU '))]


def make_slots(jobs: int) -> list[Slot]:
    """This machine divided into `jobs` slots; 0 = one for each GPU, or a single one without GPUs.

    Each slot has one GPU, shared if there are more jobs than GPUs, and its share of the cores.
    """
    devices = find_gpus()
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
