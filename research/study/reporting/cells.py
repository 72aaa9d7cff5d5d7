"""The numbers of a table's cells, read from run folders."""

import dataclasses
import functools
import json
import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from research.errors import UserError
from research.experiment import Experiment
from research.runs.definition import read_definition
from research.runs.folder import Environment, Result, read_environment, read_result
from research.study.columns import Column
from research.study.curves import is_number
from research.study.states import RunState, run_states
from research.study.study import STATISTICS, Row, Study
from research.study.units import find_unit
from research.wire import setting

CODE = ('commit', 'uncommitted_changes', 'versions')  # fields of an Environment in which the seeds of a cell must agree


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The records of one run; None for a file that is missing, half-written or of another version."""

    state: RunState
    result: Result | None
    environment: Environment | None
    experiment: Experiment | None
    # Runs with one number have the same, and so have all that they start from.
    folder: Path = Path()
    config: int = 0  # settings, the seed left out
    data: int = 0  # fingerprints of the training data


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell: its runs' values, why any are missing, and what differs besides the seed.

    Runs of one unit (fine-tunings of one pretraining) are averaged first; the spread is over units, if there are two.
    """

    values: tuple[float, ...]
    missing: Mapping[str, str]  # run -> why it has no value
    mixed: tuple[str, ...] = ()  # of 'configs', 'code', 'data'
    seeds: tuple[int, ...] = ()  # of each value's unit; () is one unit a value
    kind: str = 'pretraining'  # of these units, as in units.KINDS
    statistic: str = 'mean'  # row of STATISTICS
    error: float | None = None  # of a single run: the standard error of its value over held-out documents
    interval: tuple[float, float] | None = None  # 95 %, over seeds and held-out documents

    @functools.cached_property
    def units(self) -> tuple[float, ...]:
        """The mean value of each unit."""
        if not self.seeds:
            return self.values
        members: dict[int, list[float]] = {}
        for seed, value in zip(self.seeds, self.values, strict=True):
            members.setdefault(seed, []).append(value)
        return tuple(map(statistics.fmean, members.values()))

    @property
    def center(self) -> float:
        """The mean, or the median, over units; there must be one."""
        return STATISTICS[self.statistic](self.units)

    @property
    def deviation(self) -> float:
        """The sample standard deviation (n - 1) over units, or over the runs of the only one; there must be two of either."""
        values = self.units if len(self.units) > 1 else self.values
        return statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan

    @property
    def comparable(self) -> bool:
        """Whether no seed is missing, all values are finite, and the seeds have one config, one code and the same data."""
        return bool(self.values) and not self.missing and not self.mixed and all(map(math.isfinite, self.values))


def gather(study: Study, folder: Path) -> dict[str, Evidence]:
    """The Evidence of every run of the study, in running order."""
    found: dict[str, Evidence] = {}
    numbers: dict[tuple[Any, ...], int] = {}  # settings or fingerprints, with the numbers of the starts -> their number
    for name, state in run_states(study.needs, folder).items():
        try:
            experiment = read_definition(folder / name)
        except UserError:
            experiment = None
        environment = read_environment(folder / name)
        facts = environment.data if environment is not None else {}
        prints = json.dumps([facts[key] if key in facts else None for key in ('fingerprint', 'tokenizer_fingerprint')])
        starts = [found[needed] for needed in study.needs[name]]
        config = (None if experiment is None else setting(experiment), *(start.config for start in starts))
        data = (prints, *(start.data for start in starts))
        config, data = (numbers.setdefault(thing, len(numbers)) for thing in (config, data))
        found[name] = Evidence(state, read_result(folder / name), environment, experiment, folder / name, config, data)
    return found


def look_up(result: Result, key: str) -> float | None:
    """The number at a path such as 'metrics:dev/mlm'; None if the run has none, or one that no sum can hold."""
    found: Any = result
    for level in key.split(':'):
        if isinstance(found, Mapping):
            found = found[level] if level in found else None
        elif dataclasses.is_dataclass(found):
            found = getattr(found, level)
    return float(found) if is_number(found) or (isinstance(found, float) and not math.isfinite(found)) else None


def read_number(name: str, key: str, evidence: Mapping[str, Evidence]) -> tuple[float | None, str]:
    """(the number of a run at `key`, or None; why it has none)."""
    found = evidence[name]
    if found.result is None:
        return None, f'{found.state.state}: {found.state.reason}' if found.state.reason else found.state.state
    value = look_up(found.result, key)
    missing = found.result.floors.missing if found.result.floors is not None else {}
    why = f"its result has no number '{key}'"
    if key.removeprefix('metrics:') in missing:
        why = missing[key.removeprefix('metrics:')]
    return value, '' if value is not None else why


def read_cell(study: Study, names: tuple[str, ...], key: str, evidence: Mapping[str, Evidence]) -> Cell:
    """The Cell of the runs `names`."""
    found = {name: read_number(name, key, evidence) for name in names}
    values = {name: value for name, (value, _) in found.items() if value is not None}
    missing = {name: why for name, (value, why) in found.items() if value is None}
    return make_cell(study, tuple(values), tuple(values.values()), missing, find_mixed(study, names, evidence))


def make_cell(
    study: Study, names: tuple[str, ...], values: tuple[float, ...], missing: Mapping[str, str], mixed: tuple[str, ...]
) -> Cell:
    """The Cell of the values of the runs `names`."""
    units = [find_unit(name, study.runs) for name in names]
    kind = units[0].kind if units else 'pretraining'
    return Cell(values, missing, mixed, tuple(unit.seed for unit in units), kind, study.table.statistic)


def read_row_cell(study: Study, row: Row, column: Column, evidence: Mapping[str, Evidence]) -> Cell:
    """The Cell at `row` and `column`; an empty one if the row has no run in the column's role."""
    names = row.runs[column.role] if column.role in row.runs else ()
    if column.of:
        titled = {each.title: each for each in study.table.columns}
        cell = _average(study, row, [titled[title] for title in column.of], evidence)
    else:
        cell = read_cell(study, names, column.key, evidence)
    if column.error and len(names) == 1:
        cell = dataclasses.replace(cell, error=read_number(names[0], column.error, evidence)[0])
    if not column.relative:
        return cell
    base = next(each for each in study.table.rows if each.title == column.relative)
    whole = read_row_cell(study, base, dataclasses.replace(column, relative='', change=False), evidence)
    if not whole.comparable or (whole.center == 0 and not column.change):
        return Cell((), {**cell.missing, **whole.missing}, cell.mixed)
    if column.change:
        bases = dict(zip(dict.fromkeys(whole.seeds), whole.units, strict=True))
        apart = [
            value - (bases[seed] if seed in bases else whole.center) for seed, value in zip(cell.seeds, cell.values, strict=True)
        ]
        return dataclasses.replace(cell, values=tuple(apart))
    return dataclasses.replace(cell, values=tuple(value / whole.center for value in cell.values))


def _average(study: Study, row: Row, columns: list[Column], evidence: Mapping[str, Evidence]) -> Cell:
    """The mean of other columns, seed by seed: of the first seeds of all, of the second seeds … One named twice counts twice."""
    parts = [row.runs[column.role] if column.role in row.runs else () for column in columns]
    values: dict[str, float] = {}
    missing: dict[str, str] = {}
    for names in zip(*parts, strict=False):
        found = [(name, *read_number(name, column.key, evidence)) for name, column in zip(names, columns, strict=True)]
        numbers = [value for _, value, _ in found if value is not None]
        missing |= {name: why for name, value, why in found if value is None}
        if len(numbers) == len(columns):
            values[names[0]] = statistics.fmean(numbers)
    different = [what for names in parts for what in find_mixed(study, names, evidence)]
    return make_cell(study, tuple(values), tuple(values.values()), missing, tuple(dict.fromkeys(different)))


def find_mixed(study: Study, names: tuple[str, ...], evidence: Mapping[str, Evidence]) -> tuple[str, ...]:
    """Which of 'configs', 'code' and 'data' differ between the finished runs of a cell."""
    runs = [name for name in names if evidence[name].result is not None]
    kinds = {
        'configs': {evidence[name].config for name in runs}
        | {None for name in runs if _redefined(study.runs[name], evidence[name].experiment)},
        'code': {code for name in runs for code in _codes(evidence[name].environment)},
        'data': {evidence[name].data for name in runs},
    }
    return tuple(kind for kind, different in kinds.items() if len(different) > 1)


def _codes(environment: Environment | None) -> set[str]:
    """The code of each session of a run, as text."""
    sessions = environment.all_sessions() if environment is not None else ()
    return {json.dumps([getattr(session, key) for key in CODE], sort_keys=True) for session in sessions}


def _redefined(defined: Experiment, stored: Experiment | None) -> bool:
    """Whether a run's experiment.json differs from the study's definition, or cannot be read. An inherited model does not count."""
    if stored is not None and defined.surgery.inherit:
        stored = dataclasses.replace(stored, model=defined.model)
    return stored != defined  # which leaves out the machine
