"""The numbers of a table's cells, read from run folders."""

import dataclasses
import json
import math
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from research.errors import UserError
from research.experiment import Experiment
from research.files import read_record
from research.runs.environment import sessions
from research.runs.folder import read
from research.study.columns import Column, Format
from research.study.graph import needs
from research.study.ledger import RunState, states
from research.study.study import Row, Study
from research.wire import differences, setting

CODE = ('commit', 'uncommitted_changes', 'versions')  # of an environment.json: what the seeds of a cell must have in common


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What the folder of one run says; a file that is not there, half-written or of another version is None."""

    state: RunState
    result: Mapping[str, Any] | None
    environment: Mapping[str, Any] | None
    experiment: Experiment | None


@dataclasses.dataclass(frozen=True)
class Cell:
    """The numbers of the seeds of one experiment; for each run that has none, why; and what the others mix that they must not."""

    values: tuple[float, ...]
    missing: Mapping[str, str]
    mixed: tuple[str, ...] = ()

    @property
    def mean(self) -> float:
        """The mean over seeds; there must be one."""
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float:
        """The sample standard deviation over seeds (n - 1); there must be two."""
        return statistics.stdev(self.values) if all(map(math.isfinite, self.values)) else math.nan

    @property
    def comparable(self) -> bool:
        """Whether all seeds are here, all are numbers, and all are seeds of one experiment, by one code, on the same data."""
        return bool(self.values) and not self.missing and not self.mixed and all(map(math.isfinite, self.values))


def gather(study: Study, folder: Path) -> dict[str, Evidence]:
    """What every run of the study says, in running order."""
    found = {}
    for name, state in states(study, folder).items():
        try:
            held = read(folder / name)
        except UserError:
            held = None
        result, environment = (read_record(folder / name / f'{file}.json') for file in ('result', 'environment'))
        found[name] = Evidence(state, result, environment, held)
    return found


def look_up(record: Mapping[str, Any], key: str) -> float | None:
    """The number at a path such as 'metrics:dev/mlm'; None when there is none."""
    found: Any = record
    for level in key.split(':'):
        if not isinstance(found, Mapping) or level not in found:
            return None
        found = found[level]
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def number(name: str, key: str, evidence: Mapping[str, Evidence]) -> tuple[float | None, str]:
    """(the number that a run has at `key`, or None; why it has none)."""
    found = evidence[name]
    if found.result is None:
        return None, f'{found.state.state}: {found.state.reason}' if found.state.reason else found.state.state
    value = look_up(found.result, key)
    return value, '' if value is not None else f"its result has no number '{key}'"


def read_cell(study: Study, names: tuple[str, ...], key: str, evidence: Mapping[str, Evidence]) -> Cell:
    """The Cell of the runs `names`."""
    found = {name: number(name, key, evidence) for name in names}
    values = tuple(value for value, _ in found.values() if value is not None)
    missing = {name: why for name, (value, why) in found.items() if value is None}
    return Cell(values, missing, mixed(study, names, evidence))


def row_cell(study: Study, row: Row, column: Column, evidence: Mapping[str, Evidence]) -> Cell:
    """The Cell at `row` and `column`; an empty one where the row has no run in the column's role."""
    if column.of:
        titled = {each.title: each for each in study.table.columns}
        cell = _average(study, row, [titled[title] for title in column.of], evidence)
    else:
        cell = read_cell(study, row.runs[column.role], column.key, evidence) if column.role in row.runs else Cell((), {})
    if not column.relative:
        return cell
    base = next(each for each in study.table.rows if each.title == column.relative)
    whole = row_cell(study, base, dataclasses.replace(column, relative=''), evidence)
    if not whole.comparable or whole.mean == 0:
        return Cell((), {**cell.missing, **whole.missing}, cell.mixed)
    return dataclasses.replace(cell, values=tuple(value / whole.mean for value in cell.values))


def _average(study: Study, row: Row, columns: list[Column], evidence: Mapping[str, Evidence]) -> Cell:
    """The mean of other columns, one named twice counting twice, seed by seed: the first seed of each, the second of each …"""
    parts = [row.runs[column.role] if column.role in row.runs else () for column in columns]
    values, missing = [], {}
    for names in zip(*parts, strict=False):
        found = [(name, *number(name, column.key, evidence)) for name, column in zip(names, columns, strict=True)]
        numbers = [value for _, value, _ in found if value is not None]
        missing |= {name: why for name, value, why in found if value is None}
        if len(numbers) == len(columns):
            values.append(statistics.fmean(numbers))
    different = [what for names in parts for what in mixed(study, names, evidence)]
    return Cell(tuple(values), missing, tuple(dict.fromkeys(different)))


def mixed(study: Study, names: tuple[str, ...], evidence: Mapping[str, Evidence]) -> tuple[str, ...]:
    """In what the finished runs of one cell differ that seeds must not: 'configs', 'code', 'data'."""
    runs = [name for name in names if evidence[name].result is not None]
    kinds = {
        'configs': {_config(study, name, evidence) for name in runs}
        | {None for name in runs if _redefined(study.runs[name], evidence[name].experiment)},
        'code': {_chosen(session, CODE) for name in runs for session in sessions(evidence[name].environment or {})},
        'data': {_data(evidence, name, study) for name in runs},
    }
    return tuple(kind for kind, different in kinds.items() if len(different) > 1)


def _chosen(record: Mapping[str, Any] | None, keys: Iterable[str]) -> str:
    return json.dumps(None if record is None else {key: record[key] for key in keys if key in record}, sort_keys=True)


def _data(evidence: Mapping[str, Evidence], name: str, study: Study) -> str:
    """The fingerprints of what a run and those it starts from learnt from."""
    environment = evidence[name].environment
    mine = _chosen(environment['data'] if environment is not None else None, ('fingerprint', 'tokenizer_fingerprint'))
    return mine + ''.join(_data(evidence, needed, study) for needed in needs(study.runs[name]))


def _config(study: Study, name: str, evidence: Mapping[str, Evidence]) -> tuple[Experiment | None, ...]:
    """The settings of a run and of those that it starts from, which seeds of one experiment have in common."""
    found = evidence[name].experiment
    mine = None if found is None else setting(found)
    return (mine, *(each for needed in needs(study.runs[name]) for each in _config(study, needed, evidence)))


def _redefined(defined: Experiment, held: Experiment | None) -> bool:
    """Whether a run folder holds another experiment than the study defines, or one of another version; what it inherits aside."""
    if held is not None and defined.surgery.inherit:
        held = dataclasses.replace(held, model=defined.model)
    return held is None or bool(differences(held, defined))


def baseline(name: str, column: Column, evidence: Mapping[str, Evidence]) -> float | None:
    """What always giving the commonest answer scores; None unless the column is one of a task's metrics and the run done."""
    result = evidence[name].result
    return None if result is None else look_up(result, f'baseline:majority:{column.key.removeprefix("metrics:")}')


def baselines(rows: tuple[Row, ...], column: Column, evidence: Mapping[str, Evidence]) -> list[float]:
    """The different baselines of a column's runs: one number for each different test set."""
    names = [name for row in rows if column.role in row.runs for name in row.runs[column.role]]
    return sorted({share for name in names if (share := baseline(name, column, evidence)) is not None})


def show(value: float, form: Format) -> str:
    """One number under a format."""
    return f'{value * form.scale:,.{form.digits}f}'


def best(cells: list[Cell], better: str, form: Format) -> list[bool]:
    """Which cells are set in bold: those whose printed mean is the best, unless all comparable ones print the same."""
    rounded = [round(cell.mean * form.scale, form.digits) if cell.comparable else math.nan for cell in cells]
    known = {value for value in rounded if not math.isnan(value)}
    if not better or len(known) < 2:
        return [False] * len(cells)
    top = max(known) if better == 'max' else min(known)
    return [value == top for value in rounded]
