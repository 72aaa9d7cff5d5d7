"""The lock of a run folder: one process at a time works on it.

The lock is the kernel's (`flock`) on the file `.locks/NAME` beside the folder. The kernel releases it when the process ends, for
whatever reason, so there are no stale locks, and no heartbeat with its clock is needed. It also holds between the nodes of a
cluster if the file system supports `flock` (NFS 4, Lustre with `flock`, GPFS). The file is beside the folder because a run that is
refused leaves no folder behind.
"""

import contextlib
import dataclasses
import errno
import json
import os
import platform
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from research.errors import UserError
from research.files import make_folder, open_append, take_lock
from research.records import parse_json, parse_record

PATIENCE = 1.0  # seconds to wait: `read_holder` takes the lock for some microseconds only
LONGEST = 4096  # bytes of a lock file


@dataclasses.dataclass(frozen=True)
class Holder:
    """The content of a lock file."""

    process: int
    machine: str
    job: str = ''


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

    Raises HeldError if another process holds it, and UserError if the lock file or its folder is a symbolic link.
    """
    path = find_lock(workdir)
    make_folder(path.parent)
    with open_append(path) as file:
        deadline = time.monotonic() + PATIENCE
        while not take_lock(file.fileno()):
            if time.monotonic() > deadline:
                raise HeldError(f'{workdir} is in use by {describe_holder(_read(file.fileno()))}: wait until it ends, or stop it')
            time.sleep(0.02)
        me = {'process': os.getpid(), 'machine': platform.node(), 'job': os.environ.get('SLURM_JOB_ID', '')}
        file.truncate(0)
        file.write(json.dumps(me))
        file.flush()
        yield


def read_holder(workdir: Path) -> dict[str, Any] | None:
    """The process, machine and Slurm job that hold the lock of `workdir`; None if it is free."""
    try:  # a pipe would wait for a writer, and what a link leads to is no lock of ours
        descriptor = os.open(find_lock(workdir), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode) or take_lock(descriptor, shared=True):
            return None
        return _read(descriptor)
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> dict[str, Any]:
    """The content of a lock file; '?' as the process if the holder has not written it yet."""
    try:
        text = os.pread(descriptor, LONGEST, 0).decode()
        return dataclasses.asdict(parse_record(Holder, parse_json(text, 'the lock')))
    except (ValueError, TypeError, UserError):
        return {'process': '?', 'machine': 'this machine', 'job': ''}
