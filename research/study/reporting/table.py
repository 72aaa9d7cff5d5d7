"""The study's table: as texts, as numbers for machines, and its caption."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pandas

from research.escape import to_csv
from research.evaluation import statistics
from research.evaluation.floors import TITLES
from research.study.columns import FORMATS, Column
from research.study.reporting.budgets import describe_budgets
from research.study.reporting.cells import Cell, Evidence
from research.study.reporting.floors import BELOW, find_beaten, list_floors
from research.study.reporting.items import make_runs, pair_items, read_items
from research.study.reporting.marks import quote
from research.study.reporting.numbers import MISSING, count_runs, find_best, format_cell, show_number
from research.study.reporting.published import explain_published, find_differences, has_published, write_difference
from research.study.reporting.sheets import Entry, Sheet
from research.study.study import STATISTICS, Row, Study
from research.study.units import KINDS, find_unit

ARROWS = {'max': ' ↑', 'min': ' ↓', '': ''}


def add_interval(study: Study, row: Row, column: Column, cell: Cell, evidence: Mapping[str, Evidence]) -> Cell:
    """The cell with its interval over seeds and held-out documents, if its column has standard errors and it has two seeds."""
    if not column.error or not cell.comparable or len(cell.units) < 2:
        return cell
    names = row.runs[column.role]
    seeds = [find_unit(name, study.runs).seed for name in names]
    items = pair_items([[read_items(evidence[name], column.key) for name in names]])
    numbers = sorted(set(seeds))
    alone = statistics.make_number_runs(cell.values, [numbers.index(seed) for seed in seeds])
    found = statistics.multi_bootstrap(alone if items is None else make_runs(items[0], seeds))
    return dataclasses.replace(cell, interval=(found.low, found.high))


def main_sheet(study: Study, cells: list[list[Cell]], evidence: Mapping[str, Evidence]) -> Sheet:
    """The study's table; published numbers and their difference from the measured follow the column they belong to.

    Below the study's rows is one for each floor that a column of a task has.
    """
    columns, rows = study.table.columns, study.table.rows
    facts = list(dict.fromkeys(title for row in rows for title in row.facts))
    titles = ['', *map(quote, facts)]
    for column in columns:
        titles.append(quote(column.title) + ARROWS[column.better])
        titles += ['published', 'Δ'] if has_published(study, column) else []
    forms = [FORMATS[column.format] for column in columns]
    bold = [find_best([line[place] for line in cells], column.better, forms[place]) for place, column in enumerate(columns)]
    lines = []
    for index, (row, line) in enumerate(zip(rows, cells, strict=True)):
        entries = [Entry(quote(row.title)), *(Entry(quote(row.facts[title]) if title in row.facts else '') for title in facts)]
        for place, (column, cell) in enumerate(zip(columns, line, strict=True)):
            text, remark = format_cell(cell, forms[place])
            remark += BELOW if find_beaten(row, column, cell, evidence) else ''
            entries.append(Entry(text, remark, bold=bold[place][index]))
            if has_published(study, column):
                known = row.published[column.title] if column.title in row.published else None
                entries.append(Entry(MISSING if known is None else f'{known:,.{forms[place].digits}f}'))
                entries.append(Entry(write_difference(study, row, column, cell)))
        lines.append(tuple(entries))
    for floor, scores in list_floors(study, evidence).items():
        entries = [Entry(f'floor: {TITLES[floor]}'), *(Entry('') for _ in facts)]
        for column, shares, form in zip(columns, scores, forms, strict=True):
            entries.append(Entry(' or '.join(show_number(share, form) for share in shares)))
            entries += [Entry(''), Entry('')] if has_published(study, column) else []
        lines.append(tuple(entries))
    return Sheet(tuple(titles), tuple(lines), 1 + len(facts))


def make_frame(study: Study, cells: list[list[Cell]]) -> pandas.DataFrame:
    """The table for machines, in the units that it prints: means, medians, deviations, seeds, published numbers and differences."""
    records = []
    for row, line in zip(study.table.rows, cells, strict=True):
        record: dict[str, Any] = {'row': to_csv(row.title), **{to_csv(title): to_csv(text) for title, text in row.facts.items()}}
        for column, cell in zip(study.table.columns, line, strict=True):
            scale, title = FORMATS[column.format].scale, to_csv(column.title)
            record[title] = cell.center * scale if cell.values else None
            for name, function in STATISTICS.items():
                record[f'{title} {name}'] = function(cell.units) * scale if cell.values else None
            record[f'{title} sd'] = cell.deviation * scale if len(cell.values) > 1 else None
            if column.error:
                record[f'{title} error'] = cell.error * scale if cell.error is not None else None
                low, high = cell.interval if cell.interval is not None else (None, None)
                record |= {f'{title} low': low and low * scale, f'{title} high': high and high * scale}
            record[f'{title} n'], record[f'{title} runs'] = len(cell.units), len(cell.values)
            record[f'{title} missing'] = len(cell.missing)
            record[f'{title} mixed'] = ' '.join(cell.mixed)
            if has_published(study, column):
                known = row.published[column.title] if column.title in row.published else None
                record[f'{title} published'] = known
                alike = cell.values and known is not None and not find_differences(study, row, column)
                record[f'{title} difference'] = cell.center * scale - known if alike and known is not None else None
        records.append(record)
    return pandas.DataFrame(records)


def write_caption(study: Study, cells: list[list[Cell]], evidence: Mapping[str, Evidence]) -> list[str]:
    """The sentences under the table: what each column shows, and how to read its marks."""
    columns, rows = study.table.columns, study.table.rows
    lines = []
    for column in columns:
        mean = f'the mean of {quote(", ".join(dict.fromkeys(column.of)))}, each task counting once' if column.of else ''
        share = f"{'minus that of' if column.change else 'relative to'} '{quote(column.relative)}'" if column.relative else ''
        words = '; '.join(part for part in (column.note, mean, share) if part)
        lines += [f'{quote(column.title)}: {words}.'] if words else []
    if any(column.better for column in columns):
        lines.append('Bold: the best of the column (↑ high is good, ↓ low is good), among cells that lack no seed and mix nothing.')
    every = [cell for line in cells for cell in line]
    lines += explain_spread(every, study.table.statistic)
    lines += [text for text in [describe_budgets(study, evidence)] if text]
    if any(has_published(study, column) for column in columns):
        lines += explain_published(study)
    placed = [(row, *pair) for row, line in zip(rows, cells, strict=True) for pair in zip(columns, line, strict=True)]
    if any(find_beaten(row, column, cell, evidence) for row, column, cell in placed):
        lines.append(f'{BELOW.strip()}: not above a floor; see below.')
    if any(cell.mixed for cell in every):
        lines.append('†: the runs of the cell differ in more than their seed; see below.')
    return lines


def explain_spread(cells: Sequence[Cell], statistic: str) -> list[str]:
    """The sentences on what cells with several runs print, and what ± and n are over."""
    several = [cell for cell in cells if len(cell.values) > 1]
    if not several:
        return ['One seed a cell: no spread is known.', *_explain_errors(cells)]
    kinds = dict.fromkeys(cell.kind for cell in several)
    over = ' or '.join(KINDS[kind] for kind in kinds)
    lines = [f'Numbers are {statistic}s over n {over}; ±: their sample standard deviation.']
    if any(count_runs(cell)[1] > 1 and count_runs(cell)[0] > 1 for cell in several):
        lines.append('n × m: m fine-tunings of each pretraining, which are averaged first.')
    if any(len(cell.units) == 1 for cell in several):
        lines.append('n=1 × m: one pretraining; ± is over m fine-tunings of it and says nothing about another pretraining.')
    if any(len(cell.units) == 1 for cell in cells if len(cell.values) == 1):
        lines.append('A number without ± is of one seed.')
    return lines + _explain_errors(cells)


def _explain_errors(cells: Sequence[Cell]) -> list[str]:
    """The sentences on standard errors and intervals, where cells have some."""
    lines = ['s.e.: the standard error over held-out documents.'] if any(cell.error is not None for cell in cells) else []
    if any(cell.interval is not None for cell in cells):
        lines.append(
            '[low, high]: the 95 % interval over seeds × held-out documents (multi-bootstrap, Sellam et al. 2022, with Student’s t'
            ' for the part of the few seeds); over seeds alone if the runs left no sums of the same documents.'
        )
    return lines
