"""Floors of tasks: what the commonest answer and a bag of words score, beside the rows of a table."""

from collections.abc import Mapping, Sequence

from research.data import tasks
from research.evaluation.floors import PREFIX, TITLES
from research.study.columns import Column
from research.study.reporting.cells import Cell, Evidence
from research.study.study import Row, Study

BELOW = ' ‡'  # the mark of a cell that is not above a floor


def find_floor(name: str, column: Column, floor: str, evidence: Mapping[str, Evidence]) -> float | None:
    """The score of a floor on the data of a run; None if the column is no score of a task, or the floor is of another metric."""
    result, x = evidence[name].result, evidence[name].experiment
    if result is None or x is None or column.relative or not (column.key == 'score' or column.key.startswith('metrics:')):
        return None
    key = column.key.removeprefix('metrics:') if column.key != 'score' else f'{result.reported}/score'
    split, _, metric = key.partition('/')
    majority = result.baseline.majority if result.baseline is not None else {}
    recorded = f'{split}/{PREFIX}{floor}'
    if recorded in result.metrics and x.data.task in tasks.TASKS:
        row = tasks.task(x.data)
        same = metric == 'score' and (len(row.metrics) == 1 or row.kind == 'span')  # the score is that metric
        return result.metrics[recorded] if metric == row.selects or same else None
    if floor == 'commonest' and column.key.removeprefix('metrics:') in majority:  # of every metric; all that older runs have
        return majority[column.key.removeprefix('metrics:')]
    return None


def find_floors(rows: Sequence[Row], column: Column, floor: str, evidence: Mapping[str, Evidence]) -> list[float]:
    """The different floors of a column's runs, in increasing order: one for each different test set."""
    names = [name for row in rows if column.role in row.runs for name in row.runs[column.role]]
    return sorted({share for name in names if (share := find_floor(name, column, floor, evidence)) is not None})


def list_floors(study: Study, evidence: Mapping[str, Evidence]) -> dict[str, list[list[float]]]:
    """Floor -> its scores under each column, [] where there is none; only floors that a column has."""
    found: dict[str, list[list[float]]] = {}
    for floor in TITLES:
        known = {column.title: find_floors(study.table.rows, column, floor, evidence) for column in study.table.columns}
        for column in study.table.columns:
            parts = [known[title] for title in column.of]
            if parts and all(len(part) == 1 for part in parts) and not column.relative:
                known[column.title] = [sum(part[0] for part in parts) / len(parts)]
        if any(known.values()):
            found[floor] = list(known.values())
    return found


def find_beaten(row: Row, column: Column, cell: Cell, evidence: Mapping[str, Evidence]) -> list[str]:
    """The floors that a cell is not above."""
    found = []
    for floor in TITLES if cell.values else ():
        shares = find_floors([row], column, floor, evidence)
        if shares and cell.center <= shares[-1]:
            found.append(floor)
    return found
