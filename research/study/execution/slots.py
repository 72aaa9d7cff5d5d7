"""This machine, divided between simultaneous runs."""

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from research.errors import UserError

PCI = Path('/sys/bus/pci/devices')
FILES = Path('/dev')
GOOGLE = '0x1ae0'
# The PCI ids of TPU chips, v3 to 7x, among other devices of Google such as its network card (as in jax's own hardware_utils).
TPUS = ('0x0027', '0x0056', '0x005e', '0x0062', '0x0063', '0x006f', '0x0076')
PORT = 8476  # libtpu's own; the process of chip i listens on PORT + i


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


def find_tpus() -> list[str]:
    """The TPU chips of this machine, as TPU_VISIBLE_CHIPS names them. jax is not asked: it would take them all.

    They are counted by their PCI ids, but no more than there are device files: a container has only some of them. libtpu prefers
    TPU_VISIBLE_CHIPS to its older name, TPU_VISIBLE_DEVICES.
    """
    for name in ('TPU_VISIBLE_CHIPS', 'TPU_VISIBLE_DEVICES'):
        if os.environ.get(name):
            return [each for each in os.environ[name].split(',') if each]
    if 'tpu' not in os.environ.get('JAX_PLATFORMS', '') and os.environ.get('JAX_PLATFORMS'):
        return []
    chips = [each for each in PCI.glob('*') if _read(each / 'vendor') == GOOGLE and _read(each / 'device') in TPUS]
    # accel0 … of TPU v2 to v4; vfio/0 … of later ones, beside vfio/vfio, which is no chip.
    files = [each for pattern in ('accel*', 'vfio/*') for each in FILES.glob(pattern) if re.fullmatch(r'(accel)?\d+', each.name)]
    return [str(number) for number in range(min(len(chips), len(files)))]


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ''


def make_slots(jobs: int) -> list[Slot]:
    """This machine divided into `jobs` slots; 0 = one for each GPU or TPU chip, or a single one without either.

    Each slot has one GPU, shared if there are more jobs than GPUs, or one TPU chip, and its share of the cores. A single job has
    all TPU chips. Raises UserError for more jobs than TPU chips.
    """
    gpus, tpus = find_gpus(), find_tpus()
    if tpus and not gpus and jobs > len(tpus):
        raise UserError(
            f'--jobs={jobs}: this machine has {len(tpus)} TPU chip(s), and a chip serves one process; give --jobs={len(tpus)}'
        )
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else list(range(os.cpu_count() or 1))
    parts = jobs or len(gpus) or len(tpus) or 1
    found = []
    for part in range(parts):
        mine = cores[part * len(cores) // parts : (part + 1) * len(cores) // parts] or [cores[part % len(cores)]]
        settings = share_gpus(gpus, part, parts) if gpus else one_chip(tpus, part) if tpus and parts > 1 else {}
        found.append(Slot(settings, tuple(mine)))
    return found


def share_gpus(gpus: list[str], part: int, parts: int) -> dict[str, str]:
    """The environment variables of slot `part` of `parts`: its GPU, and its share of that GPU's memory if several slots have it."""
    sharers = len(range(part % len(gpus), parts, len(gpus)))
    memory = {'XLA_PYTHON_CLIENT_MEM_FRACTION': f'{0.9 / sharers:.3f}'} if sharers > 1 else {}
    return {'CUDA_VISIBLE_DEVICES': gpus[part % len(gpus)], **memory}


def one_chip(tpus: list[str], part: int) -> dict[str, str]:
    """The environment variables by which libtpu takes chip `part` alone, as a whole TPU of one chip and one process.

    They are those that jax sets for its own tests of several processes on one host. Each process needs a port of its own.
    """
    port = str(PORT + part)
    return {
        'TPU_VISIBLE_CHIPS': tpus[part],
        'TPU_VISIBLE_DEVICES': tpus[part],
        'TPU_CHIPS_PER_PROCESS_BOUNDS': '1,1,1',
        'TPU_PROCESS_BOUNDS': '1,1,1',
        'TPU_PROCESS_ADDRESSES': f'localhost:{port}',
        'TPU_PROCESS_PORT': port,
        'CLOUD_TPU_TASK_ID': '0',
        'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
    }
