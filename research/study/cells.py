"""The numbers of a table's cells, read from run folders."""

import dataclasses
import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from research.study.graph import Column, Format, Row
from research.study.ledger import RunState, read_record


@dataclasses.dataclass(frozen=True)
class Cell:
    """The numbers of the seeds of one experiment, and for each run that has none: why."""

    values: tuple[float, ...]
    missing: Mapping[str, str]

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
        """Whether all seeds are here and all are numbers."""
        return bool(self.values) and not self.missing and all(map(math.isfinite, self.values))


def look_up(record: Mapping[str, Any], key: str) -> float | None:
    """The number at a path such as 'metrics:dev/mlm'; None when there is none."""
    found: Any = record
    for level in key.split(':'):
        if not isinstance(found, Mapping) or level not in found:
            return None
        found = found[level]
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def read_cell(names: tuple[str, ...], key: str, folder: Path, stand: Mapping[str, RunState]) -> Cell:
    """The Cell of the runs `names`, whose states are in `stand`."""
    values: list[float] = []
    missing: dict[str, str] = {}
    for name in names:
        result = read_record(folder / name / 'result.json')
        value = None if result is None else look_up(result, key)
        if value is not None:
            values.append(value)
        elif result is not None:
            missing[name] = f"its result has no number '{key}'"
        else:
            missing[name] = f'{stand[name].state}: {stand[name].reason}' if stand[name].reason else stand[name].state
    return Cell(tuple(values), missing)


def row_cell(row: Row, column: Column, folder: Path, stand: Mapping[str, RunState]) -> Cell:
    """The Cell at `row` and `column`; an empty one where the row has no run in the column's role."""
    return read_cell(row.runs.get(column.role, ()), column.key, folder, stand)


def baseline(name: str, column: Column, folder: Path) -> float | None:
    """What always giving the commonest label scores; None unless the column is one of a task's metrics and the run done."""
    result = read_record(folder / name / 'result.json')
    return None if result is None else look_up(result, f'baseline:majority:{column.key.removeprefix("metrics:")}')


def baselines(rows: tuple[Row, ...], column: Column, folder: Path) -> list[float]:
    """The different baselines of a column's runs: one number for each different test set."""
    names = [name for row in rows for name in row.runs.get(column.role, ())]
    return sorted({share for name in names if (share := baseline(name, column, folder)) is not None})


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
