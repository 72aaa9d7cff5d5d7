"""What Slurm's queue says of the jobs of a study."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from research.errors import UserError
from research.files import read_record
from research.study.ledger import RunState, run_state, states
from research.study.study import Study


def ask(*command: str) -> str:
    """What a command of Slurm's answers; UserError with its words where it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        raise UserError(f"Slurm's {command[0]} is not on this machine: give --executor=local, or go to a login node") from None
    except subprocess.CalledProcessError as error:
        raise UserError(f'{command[0]} says: {" ".join((error.stderr or error.stdout).split())}') from None


def queue() -> dict[str, tuple[str, str]]:
    """My jobs in the queue: id, 'ARRAY_TASK' in an array -> (state, reason)."""
    lines = ask('squeue', '--noheader', '--array', '--me', '--format=%i|%T|%r').splitlines()
    return {job: (state, reason) for job, state, reason in (line.split('|', 2) for line in lines)}


def job_file(folder: Path, name: str) -> Path:
    """Where the launcher notes the job of a run."""
    return folder / '.slurm' / 'jobs' / f'{name}.json'


def jobs(study: Study, folder: Path, queued: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """The runs whose job is in the queue, with its id."""
    noted = {name: record['job'] for name in study.runs if (record := read_record(job_file(folder, name))) is not None}
    return {name: job for name, job in noted.items() if job in queued}


def standing(study: Study, folder: Path, queued: Mapping[str, tuple[str, str]]) -> dict[str, RunState]:
    """`states`, with what the queue knows of jobs that have not begun to work."""
    stand = states(study, folder)
    for name, job in jobs(study, folder, queued).items():
        state, reason = queued[job]
        if stand[name].state in ('done', 'running'):
            continue
        if state == 'PENDING':
            stand[name] = RunState('waiting', f'Slurm job {job}: {reason}', run_state(folder / name).attempts)
        else:
            stand[name] = RunState('running', f'Slurm job {job}: {state.lower()}', run_state(folder / name).attempts)
    return stand


def look(study: Study, folder: Path) -> dict[str, RunState]:
    """The state of every run of a study, with the queue's word where it went to a cluster that can be asked here."""
    if (folder / '.slurm' / 'jobs').is_dir() and shutil.which('squeue'):
        return standing(study, folder, queue())
    return states(study, folder)
