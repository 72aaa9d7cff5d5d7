"""What a user asks for: a config file or a folder, changed keys and sweeps become an Experiment or a Study."""

import dataclasses
import types
from collections.abc import Mapping, Sequence
from pathlib import Path

from research.errors import UserError
from research.experiment import Experiment
from research.runs.definition import read_definition
from research.study.config_files import load, module
from research.study.ledger import read_study
from research.study.study import Study
from research.study.sweep import sweep
from research.validation import refuse_unused
from research.wire import override, override_sibling, value


def define(
    config: str | None, workdir: Path | None, changes: Mapping[str, object], sweeps: Sequence[str] = ()
) -> Experiment | Study:
    """The Experiment or Study of FILE[:size] or, without one, of the folder `workdir`, with changed keys.

    changes: dotted name -> value, or its text. Raises UserError for a key that does not exist, that has another type or that would
    change nothing.
    """
    if config is None and workdir is None:
        raise UserError('give --config=FILE[:size], such as --config=configs/bert.py:tiny, or the --workdir of what to continue')
    asked = load(config) if config else reopen(workdir or Path())
    return change(asked, changes, sweeps, config or '')


def change(
    asked: Experiment | Study, changes: Mapping[str, object], sweeps: Sequence[str] = (), config: str = ''
) -> Experiment | Study:
    """`asked` with some keys changed, in every run of a Study; an Experiment with `sweeps` becomes the Study of its axes.

    config: its file, whose named axes `sweeps` may use.
    """
    if isinstance(asked, Study):
        if sweeps:
            raise UserError(f'{config or asked.name} is a study: it names its runs itself, so --sweep has nothing to multiply')
        runs = {name: override_sibling(x, changes) for name, x in asked.runs.items()}
        for key, new in changes.items():
            taken = [x for x in runs.values() if value(override(x, {key: new}), key) == value(x, key)]
            if not taken:
                siblings = 'in every run it names another run of the study'
                why = 'no run has a score while it trains' if key == 'run.patience' else siblings
                raise UserError(f'{key} would change nothing: {why}')
            refuse_unused(taken, [key])
        return dataclasses.replace(asked, runs=runs)
    asked = override(asked, changes)
    if not sweeps:
        refuse_unused([asked], changes)
        return asked
    study = sweep(asked, sweeps, module(config) if config else types.ModuleType('none'))
    refuse_unused(study.runs.values(), changes)
    return study


def reopen(workdir: Path) -> Experiment | Study:
    """The Experiment of a run folder, or the Study of a study folder."""
    if (workdir / 'study.json').exists():
        return read_study(workdir)
    return read_definition(workdir, hint='; give a --config')
