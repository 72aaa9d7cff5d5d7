"""The study's table: as texts, as numbers for machines, and its caption."""

from collections.abc import Mapping
from typing import Any

import pandas

from research.escape import to_csv
from research.study.columns import FORMATS, Column
from research.study.reporting.cells import Cell, Evidence, find_baselines, find_best, show_number
from research.study.reporting.claims import format_cell
from research.study.reporting.marks import quote
from research.study.reporting.sheets import Entry, Sheet
from research.study.study import Study

MISSING = '—'
ARROWS = {'max': ' ↑', 'min': ' ↓', '': ''}


def has_published(study: Study, column: Column) -> bool:
    """Whether a row has a published number for the column."""
    return any(column.title in row.published for row in study.table.rows)


def main_sheet(study: Study, cells: list[list[Cell]]) -> Sheet:
    """The study's table; published numbers and their difference from the measured follow the column they belong to."""
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
            form = forms[place]
            entries.append(Entry(*format_cell(cell, form), bold=bold[place][index]))
            if has_published(study, column):
                known = row.published[column.title] if column.title in row.published else None
                entries.append(Entry(MISSING if known is None else f'{known:,.{form.digits}f}'))
                apart = MISSING if known is None or not cell.values else f'{cell.mean * form.scale - known:+,.{form.digits}f}'
                entries.append(Entry(apart.replace('-', '−')))
        lines.append(tuple(entries))
    return Sheet(tuple(titles), tuple(lines), 1 + len(facts))


def make_frame(study: Study, cells: list[list[Cell]]) -> pandas.DataFrame:
    """The table for machines: means, deviations, seeds, published numbers and differences, in the units that the table prints."""
    records = []
    for row, line in zip(study.table.rows, cells, strict=True):
        record: dict[str, Any] = {'row': to_csv(row.title), **{to_csv(title): to_csv(text) for title, text in row.facts.items()}}
        for column, cell in zip(study.table.columns, line, strict=True):
            scale, title = FORMATS[column.format].scale, to_csv(column.title)
            record[title] = cell.mean * scale if cell.values else None
            record[f'{title} sd'] = cell.deviation * scale if len(cell.values) > 1 else None
            record[f'{title} n'] = len(cell.values)
            record[f'{title} missing'] = len(cell.missing)
            record[f'{title} mixed'] = ' '.join(cell.mixed)
            if has_published(study, column):
                known = row.published[column.title] if column.title in row.published else None
                record[f'{title} published'] = known
                record[f'{title} difference'] = cell.mean * scale - known if cell.values and known is not None else None
        records.append(record)
    return pandas.DataFrame(records)


def write_caption(study: Study, cells: list[list[Cell]], evidence: Mapping[str, Evidence]) -> list[str]:
    """The sentences under the table: what each column shows, and how to read its marks."""
    columns, rows = study.table.columns, study.table.rows
    lines = []
    for column in columns:
        shares = ' or '.join(show_number(share, FORMATS[column.format]) for share in find_baselines(rows, column, evidence))
        chance = f'always giving the commonest label scores {shares}' if shares else ''
        mean = f'the mean of {quote(", ".join(dict.fromkeys(column.of)))}, each task counting once' if column.of else ''
        share = f"{'minus that of' if column.change else 'relative to'} '{quote(column.relative)}'" if column.relative else ''
        words = '; '.join(part for part in (column.note, mean, share, chance) if part)
        lines += [f'{quote(column.title)}: {words}.'] if words else []
    if any(column.better for column in columns):
        lines.append('Bold: the best of the column (↑ high is good, ↓ low is good), among cells that lack no seed and mix nothing.')
    if any(len(cell.values) > 1 for line in cells for cell in line):
        lines.append('±: the sample standard deviation over n seeds.')
    else:
        lines.append('One seed a cell: no spread is known.')
    if any(has_published(study, column) for column in columns):
        lines.append(f'Published: {quote(study.table.source)}; Δ: measured minus published.')
    if any(cell.mixed for line in cells for cell in line):
        lines.append('†: the runs of the cell differ in more than their seed; see below.')
    return lines
