"""One process at a time works on a run folder.

The lock is the kernel's (`flock`) on `.locks/NAME` beside the folder: it goes when its process does, however that ends, so nothing
stale is left to be judged by a clock, which is what a heartbeat would need. It holds between the nodes of a cluster wherever the
file system passes `flock` on (NFS 4, Lustre with `flock`, GPFS). It lies beside the folder because a run that was never possible
leaves no folder behind.
"""

import contextlib
import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from research.errors import UserError

PATIENCE = 1.0  # seconds: whoever only asks who holds a lock holds it for some microseconds


class HeldError(UserError):
    """Another process works on the run folder."""


def path_of(workdir: Path) -> Path:
    """The file that stands for the right to work on `workdir`."""
    whole = workdir.resolve()  # '.' has no name
    return whole.parent / '.locks' / whole.name


def told(holder: dict[str, Any]) -> str:
    """'process 12 on node1 (Slurm job 3)'."""
    job = f' (Slurm job {holder["job"]})' if holder['job'] else ''
    return f'process {holder["process"]} on {holder["machine"]}{job}'


@contextlib.contextmanager
def hold(workdir: Path) -> Iterator[None]:
    """Holds the lock of `workdir`; HeldError where another process does."""
    path = path_of(workdir)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('a+', encoding='utf-8') as file:
        until = time.monotonic() + PATIENCE
        while not _taken(file.fileno(), fcntl.LOCK_EX):
            if time.monotonic() > until:
                raise HeldError(f'{workdir} is being worked on by {told(_read(path))}: wait for it, or end it')
            time.sleep(0.02)
        me = {'process': os.getpid(), 'machine': platform.node(), 'job': os.environ.get('SLURM_JOB_ID', '')}
        file.truncate(0)
        file.write(json.dumps(me))
        file.flush()
        yield


def holder(workdir: Path) -> dict[str, Any] | None:
    """Who works on `workdir`: its process, machine and Slurm job; None where nobody does."""
    path = path_of(workdir)
    try:
        file = path.open(encoding='utf-8')
    except FileNotFoundError:
        return None
    with file:
        return None if _taken(file.fileno(), fcntl.LOCK_SH) else _read(path)


def _taken(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except ValueError:  # taken a moment ago, and not signed yet
        return {'process': '?', 'machine': 'this machine', 'job': ''}
