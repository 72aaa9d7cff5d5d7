"""Run a study, or a part of it, by one of EXECUTORS, and continue it when asked again."""

import fnmatch
from collections.abc import Callable
from pathlib import Path

from research.errors import UserError, choose, nearest
from research.study.execution import local, slurm
from research.study.execution.settings import How, validate
from research.study.graph import needs, order, with_origins
from research.study.ledger import enter, states
from research.study.study import Study

EXECUTORS: dict[str, Callable[[Study, Path, list[str], How], None]] = {'local': local.execute, 'slurm': slurm.execute}


def select(study: Study, only: str) -> list[str]:
    """The runs that `only` names and all that they start from, in running order; UserError where it names none."""
    if not only:
        return order(study)
    chosen = [name for name in study.runs if any(fnmatch.fnmatchcase(name, glob) for glob in split(only))]
    if not chosen:
        raise UserError(f"--only='{only}' matches no run{nearest(only, study.runs)} (there are: {', '.join(study.runs)})")
    return with_origins(study, chosen)


def split(only: str) -> list[str]:
    """The globs of --only. The commas of a sweep's names are no separators: a whole that is a run's name stays whole."""
    return [only, *only.split(',')]


def prepare(study: Study, folder: Path, how: How) -> list[str]:
    """Makes `folder` the study's, or refuses it before anything is written, and returns the runs that are asked for."""
    choose('executor', how.executor, EXECUTORS)
    validate(how)
    names = select(study, how.only)
    enter(study, folder)
    return names


def run_study(study: Study, folder: Path, how: How, report: Callable[[Path], object] = lambda folder: None) -> None:
    """Runs what is asked for and not done, each in `folder/NAME` after what it starts from, and has the folder reported.

    A failure blocks the runs that start from it and lets the others go on; a UserError at the end names them all.
    """
    names = prepare(study, folder, how)
    try:
        EXECUTORS[how.executor](study, folder, names, how)
    finally:  # what there is so far is worth reading, also when a run failed
        stand = states(study, folder)
        if any(state.state != 'waiting' for state in stand.values()):
            report(folder)
    problems = [name for name in names if stand[name].state != 'done']
    if problems:
        told = []
        for name in problems:
            reason = f': {stand[name].reason}' if stand[name].reason else ''
            blocked = [needed for needed in needs(study.runs[name]) if stand[needed].state != 'done']
            told.append(
                f"{name} blocked, because it starts from '{blocked[0]}'" if blocked else f'{name} {stand[name].state}{reason}'
            )
        raise UserError(
            f'{len(problems)} of {len(names)} runs have no result (the same command tries them again): {"; ".join(told)}'
        )
