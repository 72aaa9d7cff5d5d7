"""The states of a study's runs, read from their folders and locks. Nothing here loads jax."""

import dataclasses
import functools
from pathlib import Path

from research.records import read_as, to_json, write_record
from research.runs import lock
from research.runs.folder import read_result
from research.study.graph import Needs, order


@dataclasses.dataclass(frozen=True)
class RunState:
    """The state of a run: 'waiting', 'running', 'interrupted', 'done', 'failed' or 'blocked', and why."""

    state: str
    reason: str = ''
    attempts: int = 0  # failed ones
    again: bool = True  # whether another attempt may succeed: after a crash it may, after a mistake in the definition not


@dataclasses.dataclass(frozen=True)
class Failure:
    """failure.json: why the last attempt at a run failed, and how many have."""

    reason: str
    attempts: int
    again: bool
    traceback: str = ''


def begun(workdir: Path) -> bool:
    """Whether a run left anything in its folder beside the reason why it failed."""
    return workdir.is_dir() and any(item.name != 'failure.json' for item in workdir.iterdir())


def has_result(workdir: Path) -> bool:
    """Whether a run has a whole result.json. One that has not changed is not read again: a launcher asks three times a second."""
    try:
        found = (workdir / 'result.json').stat()
    except OSError:
        return False
    return _read_once(workdir, found.st_ino, found.st_mtime_ns, found.st_size)


@functools.lru_cache(10_000)
def _read_once(workdir: Path, inode: int, changed: int, size: int) -> bool:
    """Whether the result.json of this inode, time and size is a Result."""
    return read_result(workdir) is not None


def run_state(workdir: Path) -> RunState:
    """The state of one run, from its folder and its lock alone: never 'blocked'."""
    holder = lock.read_holder(workdir)  # first: a process that ends in between has written its last file before it lets go
    failure: Failure | None = read_as(Failure, workdir / 'failure.json')
    attempts = failure.attempts if failure is not None else 0
    if has_result(workdir):
        return RunState('done', attempts=attempts)
    if holder is not None:
        return RunState('running', lock.describe_holder(holder), attempts)
    if failure is not None:
        return RunState('failed', failure.reason, attempts, failure.again)
    if (workdir / 'result.json').exists():
        return RunState('interrupted', 'its result.json is half-written or from another version of this code')
    return RunState('interrupted' if begun(workdir) else 'waiting')


def record_failure(workdir: Path, reason: str, trace: str = '', again: bool = True) -> None:
    """Writes failure.json: why an attempt failed, and how many have."""
    attempts = run_state(workdir).attempts + 1
    write_record(workdir / 'failure.json', to_json(Failure(reason, attempts, again, trace)) | {'traceback': trace})


def run_states(needs: Needs, folder: Path) -> dict[str, RunState]:
    """The state of every run, in running order; one that starts from a failed or blocked run is blocked unless done or running."""
    found: dict[str, RunState] = {}
    for name in order(needs):
        found[name] = run_state(folder / name)
        stopped = [needed for needed in needs[name] if found[needed].state in ('failed', 'blocked')]
        if stopped and found[name].state not in ('done', 'running'):
            first = found[stopped[0]]
            why = f': {first.reason}' if first.state == 'failed' else ''
            found[name] = RunState('blocked', f"it starts from '{stopped[0]}', which is {first.state}{why}")
    return found
