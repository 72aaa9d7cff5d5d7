"""One attempt at one run of a study, in a process of its own: what both executors start."""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from research.errors import UserError
from research.experiment import Experiment
from research.files import read_record
from research.runs import lock
from research.study.ledger import read_study, record_failure
from research.study.study import Study

# Exit statuses, beside 0 and those of every command (research.errors): what a launcher reads is the run folder.
FAILED, HELD = 1, 4


def attempt(study: Study, folder: Path, name: str, run: Callable[[Experiment, Path], object]) -> int:
    """Runs one run of the study and returns an exit status; why it failed is in its failure.json, whose attempts grow by one.

    A run that another process works on is left to that.
    """
    workdir = folder / name
    try:
        run(study.runs[name], workdir)
        reason, trace, again = '', '', True
        if read_record(workdir / 'result.json') is None and not follower():
            reason = 'it ended without a result.json'
    except lock.HeldError as error:
        print(f'{name}: {error}', file=sys.stderr)
        return HELD
    except UserError as error:
        reason, trace, again = str(error), '', False
    except Exception as error:
        trace, again = traceback.format_exc(), True
        reason = f'{type(error).__name__}: {(str(error).strip().splitlines() or [""])[0]} (all of it in {workdir / "failure.json"})'
    if not reason:
        return 0
    print(trace or f'error: {reason}', file=sys.stderr)
    if not follower():
        record_failure(workdir, reason, trace, again)
    return FAILED


def follower() -> bool:
    """Whether this is another than the first process of a run over several, of which the first alone writes."""
    return os.environ.get('SLURM_PROCID', '0') != '0'


def start(folder: Path, name: str, cores: str = '', tied: bool = False) -> int:
    """The whole life of the process that `python -m research.study run FOLDER NAME` is.

    `cores`, such as '0,1', are those that it may use; a `tied` one ends when its standard input does: when its launcher is gone.
    """
    if cores and hasattr(os, 'sched_setaffinity'):  # macOS has no such thing
        os.sched_setaffinity(0, {int(core) for core in cores.split(',')})
    if tied:
        threading.Thread(target=_end_with_launcher, daemon=True).start()
    study = read_study(folder)
    from research.runs.run import run  # jax counts the cores when it is loaded

    return attempt(study, folder, name, run)


def _end_with_launcher() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGKILL)  # as any other kill: nothing is lost but the steps since the last checkpoint
