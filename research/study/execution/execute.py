"""Runs a study, or a part of it, by one of EXECUTORS; the same call continues it."""

import fnmatch
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from research.errors import UserError, choose, nearest
from research.files import refuse_link
from research.study.execution import local, slurm
from research.study.execution.settings import Execution, validate_execution
from research.study.graph import order, with_starts
from research.study.ledger import enter
from research.study.planning.resolving import validate_runs
from research.study.states import run_states
from research.study.study import Study

EXECUTORS: dict[str, Callable[[Study, Path, list[str], Execution], None]] = {'local': local.execute, 'slurm': slurm.execute}


OURS = ('.locks', '.output', '.slurm', '.submission', 'figures')  # folders that running and reporting write to


def select(study: Study, only: str) -> list[str]:
    """The runs that `only` names and all that they start from, in running order. Raises UserError if it names none."""
    if not only:
        return order(study.needs)
    chosen = [name for name in study.runs if any(name == glob or fnmatch.fnmatchcase(name, glob) for glob in split_globs(only))]
    if not chosen:
        raise UserError(f"--only='{only}' matches no run{nearest(only, study.runs)} (there are: {', '.join(study.runs)})")
    return with_starts(study.needs, chosen)


def split_globs(only: str) -> list[str]:
    """The globs of --only: its parts between commas, and the whole, which may be one name of a sweep with commas in it."""
    return [only, *only.split(',')]


def prepare(study: Study, folder: Path, execution: Execution) -> list[str]:
    """Writes study.json into `folder` and returns the runs to run.

    Raises UserError before anything is written if a setting, a run of the study or the folder is refused; a symbolic link in the
    place of what is written there is.
    """
    choose('executor', execution.executor, EXECUTORS)
    validate_execution(execution)
    names = select(study, execution.only)
    validate_runs(study, folder)
    for path in (folder / 'study.json', *(folder / name for name in study.runs), *(folder / name for name in OURS)):
        refuse_link(path)
    enter(study, folder)
    return names


def report_apart(folder: Path) -> None:
    """Writes the report in a process of its own, so that a launcher never holds what reports need. Raises UserError if it fails."""
    sys.stdout.flush()
    command = [sys.executable, '-m', 'research.study', 'report', str(folder)]
    settings = {**os.environ, **local.make_path()}
    done = subprocess.run(command, env=settings, stderr=subprocess.PIPE, text=True, errors='replace')
    if done.returncode:
        raise UserError(f'no report was written: {(done.stderr.strip().splitlines() or ["?"])[-1].removeprefix("error: ")}')


def run_study(study: Study, folder: Path, execution: Execution, report: Callable[[Path], object] = lambda folder: None) -> None:
    """Runs the chosen runs that are not done, each in `folder/NAME` after the runs that it starts from; then calls `report`.

    A failure blocks the runs that start from it, and the others go on. Raises UserError at the end, naming all without a result.
    """
    names = prepare(study, folder, execution)
    try:
        EXECUTORS[execution.executor](study, folder, names, execution)
    finally:  # the results so far are worth a report, also if a run failed
        states = run_states(study.needs, folder)
        if (folder / 'study.json').exists() and any(state.state != 'waiting' for state in states.values()):
            report(folder)
    problems = [name for name in names if states[name].state != 'done']
    if not problems:
        return
    reasons = []
    for name in problems:
        blocked = [needed for needed in study.needs[name] if states[needed].state != 'done']
        if blocked:
            reasons.append(f"{name} blocked, because it starts from '{blocked[0]}'")
        else:
            reasons.append(f'{name} {states[name].state}' + (f': {states[name].reason}' if states[name].reason else ''))
    raise UserError(
        f'{len(problems)} of {len(names)} runs have no result (the same command tries them again): {"; ".join(reasons)}'
    )
