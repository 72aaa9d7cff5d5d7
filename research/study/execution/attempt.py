"""One attempt at one run of a study, in a process of its own, which both executors start."""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from research.errors import UserError, choose
from research.experiment import Experiment
from research.runs import lock
from research.runs.folder import read_result
from research.study.ledger import read_study
from research.study.states import record_failure
from research.study.study import Study

# Exit statuses, beside 0 and those of every command. Why a run failed stands in its folder.
FAILED, HELD = 1, 4
GRACE = 60.0  # seconds that a run has to save its state after SIGTERM


def attempt(study: Study, folder: Path, name: str, run: Callable[[Experiment, Path], object]) -> int:
    """Runs one run of the study and returns an exit status. A failure is written to failure.json, with one attempt more.

    A run that another process works on is left to that process: status HELD.
    """
    workdir = folder / name
    try:
        run(study.runs[name], workdir)
        reason, trace, again = '', '', True
        if read_result(workdir) is None and not is_follower():
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
    if not is_follower():
        record_failure(workdir, reason, trace, again)
    return FAILED


def is_follower() -> bool:
    """Whether this is one of several processes of a run, but not the first, which alone writes."""
    return os.environ.get('SLURM_PROCID', '0') != '0'


def start_run(folder: Path, name: str, cores: str = '', tied: bool = False) -> int:
    """The work of `python -m research.study run FOLDER NAME`. Returns the exit status. Raises UserError for an unknown run.

    `cores`, such as '0,1', are those that it may use ('' = all). A `tied` process ends when its standard input does, so with its
    launcher.
    """
    if cores and hasattr(os, 'sched_setaffinity'):  # macOS lacks it
        os.sched_setaffinity(0, {int(core) for core in cores.split(',')})
    if tied:
        threading.Thread(target=_end_with_launcher, daemon=True).start()
    study = read_study(folder)
    choose(f'run of {folder}', name, study.runs)
    from research.runs.run import run  # after the cores are set: jax counts them when it is loaded

    return attempt(study, folder, name, run)


def _end_with_launcher() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # the run saves its state
    time.sleep(GRACE)
    os.kill(os.getpid(), signal.SIGKILL)
