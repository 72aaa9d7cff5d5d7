"""Slurm's queue, and the states of runs that wait in it."""

import dataclasses
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from research.errors import UserError
from research.records import read_as
from research.study.graph import Needs
from research.study.states import RunState, run_state, run_states

Queue = Mapping[str, tuple[str, str]]  # id of a job, 'ARRAY_TASK' in an array -> (state, reason)


def ask_slurm(*command: str) -> str:
    """The output of one of Slurm's commands. Raises UserError with its message if it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        raise UserError(f"Slurm's {command[0]} is not on this machine: give --executor=local, or go to a login node") from None
    except subprocess.CalledProcessError as error:
        raise UserError(f'{command[0]} says: {" ".join((error.stderr or error.stdout).split())}') from None


def read_queue() -> dict[str, tuple[str, str]]:
    """The user's jobs in the queue."""
    lines = ask_slurm('squeue', '--noheader', '--array', '--me', '--format=%i|%T|%r').splitlines()
    return {job: (state, reason) for job, state, reason in (line.split('|', 2) for line in lines if line.count('|') > 1)}


def job_file(folder: Path, name: str) -> Path:
    """The file in which the launcher records the job of a run."""
    return folder / '.slurm' / 'jobs' / f'{name}.json'


@dataclasses.dataclass(frozen=True)
class Job:
    """The record of a run's job: its id, and the failed attempts at the run before it."""

    job: str
    attempts: int


def read_job(folder: Path, name: str) -> Job | None:
    """The job that a launcher recorded for a run; None if there is none, or no id of Slurm's."""
    found: Job | None = read_as(Job, job_file(folder, name))
    return found if found is not None and re.fullmatch(r'[0-9]+(_[0-9]+)?', found.job) else None


def find_jobs(names: Iterable[str], folder: Path, queue: Queue) -> dict[str, str]:
    """The runs whose job is in the queue -> its id."""
    recorded = {name: record.job for name in names if (record := read_job(folder, name)) is not None}
    return {name: job for name, job in recorded.items() if job in queue}


def states_with_queue(needs: Needs, folder: Path, queue: Queue) -> dict[str, RunState]:
    """`run_states`, and for a run that has not begun to work the state of its job."""
    states = run_states(needs, folder)
    for name, job in find_jobs(needs, folder, queue).items():
        if states[name].state in ('done', 'running'):
            continue
        state, reason = queue[job]
        attempts = run_state(folder / name).attempts
        if state == 'PENDING':
            states[name] = RunState('waiting', f'Slurm job {job}: {reason}', attempts)
        else:
            states[name] = RunState('running', f'Slurm job {job}: {state.lower()}', attempts)
    return states


def current_states(needs: Needs, folder: Path) -> dict[str, RunState]:
    """The state of every run; the queue is asked if the study was submitted and this machine has Slurm."""
    if (folder / '.slurm' / 'jobs').is_dir() and shutil.which('squeue'):
        return states_with_queue(needs, folder, read_queue())
    return run_states(needs, folder)
