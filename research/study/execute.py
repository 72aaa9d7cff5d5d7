"""Run a study on this machine, one run after the other, and continue it when asked again."""

import time
import traceback
from collections.abc import Callable
from pathlib import Path

from research.errors import UserError
from research.experiment import Experiment
from research.study.graph import Study, needs, order
from research.study.ledger import enter, run_state, write_record


def attempt(experiment: Experiment, workdir: Path, run: Callable[[Experiment, Path], object]) -> str:
    """Run one experiment: '' when it left a result, else the reason in one line, which its failure.json keeps."""
    failure = workdir / 'failure.json'
    attempts = run_state(workdir).attempts + 1
    failure.unlink(missing_ok=True)
    trace = ''
    try:
        run(experiment, workdir)
        reason = '' if run_state(workdir).state == 'done' else 'it ended without a result.json'
    except UserError as error:
        reason = str(error)
    except Exception as error:
        trace = traceback.format_exc()
        reason = f'{type(error).__name__}: {(str(error).strip().splitlines() or [""])[0]} (all of it in {failure})'
    if reason:
        write_record(failure, {'reason': reason, 'attempts': attempts, 'traceback': trace})
    return reason


def run_study(study: Study, folder: Path, run: Callable[[Experiment, Path], object]) -> None:
    """Run what is not done, each in `folder/NAME` after what it starts from; `run` continues what it finds begun.

    A failure blocks the runs that start from it and lets the others go on; a UserError at the end names them all.
    """
    names = order(study)
    enter(study, folder)
    problems: dict[str, str] = {}

    def say(name: str, what: str) -> None:
        print(f'[{names.index(name) + 1}/{len(names)}] {name}: {what}', flush=True)

    for name in names:
        before = run_state(folder / name)
        missing = [needed for needed in needs(study.runs[name]) if needed in problems]
        if before.state == 'done':
            say(name, 'done before, kept')
        elif missing:
            problems[name] = f"blocked, because it starts from '{missing[0]}', which has no result"
            say(name, problems[name])
        else:
            again = {'waiting': 'starts', 'unfinished': 'continues', 'failed': f'tries again after: {before.reason}'}
            say(name, again[before.state])
            began = time.monotonic()
            reason = attempt(study.runs[name], folder / name, run)
            if reason:
                problems[name] = f'failed: {reason}'
            say(name, problems[name] if reason else f'done in {time.monotonic() - began:.0f} s')
    if problems:
        told = '; '.join(f'{name} {what}' for name, what in problems.items())
        raise UserError(f'{len(problems)} of {len(names)} runs have no result (the same command tries them again): {told}')
