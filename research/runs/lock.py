"""The lock of a run folder: one process at a time works on it.

The lock is the kernel's (`flock`) on the file `.locks/NAME` beside the folder. The kernel releases it when the process ends, for
whatever reason, so there are no stale locks, and no heartbeat with its clock is needed. It also holds between the nodes of a
cluster if the file system supports `flock` (NFS 4, Lustre with `flock`, GPFS). The file is beside the folder because a run that is
refused leaves no folder behind.
"""

import contextlib
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from research.errors import UserError
from research.files import take_lock

PATIENCE = 1.0  # seconds to wait: `read_holder` takes the lock for some microseconds only


class HeldError(UserError):
    """Another process works on the run folder."""


def find_lock(workdir: Path) -> Path:
    """The lock file of `workdir`."""
    whole = workdir.resolve()  # '.' has no name
    return whole.parent / '.locks' / whole.name


def describe_holder(holder: dict[str, Any]) -> str:
    """'process 12 on node1 (Slurm job 3)'."""
    job = f' (Slurm job {holder["job"]})' if holder['job'] else ''
    return f'process {holder["process"]} on {holder["machine"]}{job}'


@contextlib.contextmanager
def hold(workdir: Path) -> Iterator[None]:
    """Holds the lock of `workdir` during the block.

    Raises HeldError if another process holds it.
    """
    path = find_lock(workdir)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('a+', encoding='utf-8') as file:
        deadline = time.monotonic() + PATIENCE
        while not take_lock(file.fileno()):
            if time.monotonic() > deadline:
                raise HeldError(f'{workdir} is in use by {describe_holder(_read(path))}: wait until it ends, or stop it')
            time.sleep(0.02)
        me = {'process': os.getpid(), 'machine': platform.node(), 'job': os.environ.get('SLURM_JOB_ID', '')}
        file.truncate(0)
        file.write(json.dumps(me))
        file.flush()
        yield


def read_holder(workdir: Path) -> dict[str, Any] | None:
    """The process, machine and Slurm job that hold the lock of `workdir`; None if it is free."""
    path = find_lock(workdir)
    try:
        file = path.open(encoding='utf-8')
    except FileNotFoundError:
        return None
    with file:
        return None if take_lock(file.fileno(), shared=True) else _read(path)


def _read(path: Path) -> dict[str, Any]:
    """The content of a lock file; '?' as the process if the holder has not written it yet."""
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except ValueError:
        return {'process': '?', 'machine': 'this machine', 'job': ''}
