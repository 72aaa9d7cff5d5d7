"""What a study found, read from its folder alone: tables, figures, its claims judged, and how the numbers came about."""

import base64
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas
import rich.box
import rich.table
import rich.text

from research.environment import sessions
from research.records import write_whole
from research.study.cells import Cell, Evidence, baseline, baselines, best, gather, look_up, read_cell, row_cell, show
from research.study.claims import cell_text, judge, order_of_published
from research.study.figure import Drawn
from research.study.figures import FIGURES, draw
from research.study.graph import FORMATS, Column, Study, needs
from research.study.ledger import read_study
from research.study.progress import console, duration
from research.study.sheet import Entry, Sheet, inline, latex, markdown, plain, web

MISSING = '—'
ARROWS = {'max': ' ↑', 'min': ' ↓', '': ''}
ENVIRONMENT = {
    'command': 'Command',
    'commit': 'Commit',
    'uncommitted_changes': 'Uncommitted changes',
    'devices': 'Devices',
    'cores': 'Cores',
    'machine': 'Machine',
    'python': 'Python',
    'versions': 'Versions',
}
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
.wide { overflow-x: auto; } table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #e4e4e4; text-align: left; white-space: nowrap; }
th { border-bottom: 2px solid #1a1a1a; } .n { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; } code { background: #f4f4f4; padding: 0 .2em; white-space: normal; }
"""


class Heading(NamedTuple):
    """What begins a section of a report."""

    text: str


Part = Heading | str | list[str] | Sheet | Drawn  # of a report, as it is read: a list is one of items


def published(study: Study, column: Column) -> bool:
    """Whether a row has a published number for the column."""
    return any(column.title in row.published for row in study.table.rows)


def main_sheet(study: Study, cells: list[list[Cell]]) -> Sheet:
    """The study's table; a column with published numbers is followed by these and by the difference."""
    columns, rows = study.table.columns, study.table.rows
    facts = list(dict.fromkeys(title for row in rows for title in row.facts))
    titles = ['', *facts]
    for column in columns:
        titles.append(column.title + ARROWS[column.better])
        titles += ['published', 'Δ'] if published(study, column) else []
    bold = [best([line[place] for line in cells], column.better, FORMATS[column.format]) for place, column in enumerate(columns)]
    lines = []
    for index, (row, line) in enumerate(zip(rows, cells, strict=True)):
        entries = [Entry(row.title), *(Entry(row.facts[title] if title in row.facts else '') for title in facts)]
        for place, (column, cell) in enumerate(zip(columns, line, strict=True)):
            form = FORMATS[column.format]
            entries.append(Entry(*cell_text(cell, form), bold=bold[place][index]))
            if published(study, column):
                known = row.published[column.title] if column.title in row.published else None
                entries.append(Entry(MISSING if known is None else f'{known:,.{form.digits}f}'))
                apart = MISSING if known is None or not cell.values else f'{cell.mean * form.scale - known:+,.{form.digits}f}'
                entries.append(Entry(apart.replace('-', '−')))
        lines.append(tuple(entries))
    return Sheet(tuple(titles), tuple(lines), 1 + len(facts))


def numbers(study: Study, cells: list[list[Cell]]) -> pandas.DataFrame:
    """The table for machines: means, deviations, seeds, published numbers and differences, in the units that the table prints."""
    records = []
    for row, line in zip(study.table.rows, cells, strict=True):
        record: dict[str, Any] = {'row': row.title, **row.facts}
        for column, cell in zip(study.table.columns, line, strict=True):
            scale = FORMATS[column.format].scale
            record[column.title] = cell.mean * scale if cell.values else None
            record[f'{column.title} sd'] = cell.deviation * scale if len(cell.values) > 1 else None
            record[f'{column.title} n'] = len(cell.values)
            record[f'{column.title} missing'] = len(cell.missing)
            record[f'{column.title} mixed'] = ' '.join(cell.mixed)
            if published(study, column):
                known = row.published[column.title] if column.title in row.published else None
                record[f'{column.title} published'] = known
                record[f'{column.title} difference'] = cell.mean * scale - known if cell.values and known is not None else None
        records.append(record)
    return pandas.DataFrame(records)


def caption(study: Study, cells: list[list[Cell]], evidence: Mapping[str, Evidence]) -> list[str]:
    """What a reader must know to read the table."""
    columns, rows = study.table.columns, study.table.rows
    lines = []
    for column in columns:
        shares = ' or '.join(show(share, FORMATS[column.format]) for share in baselines(rows, column, evidence))
        chance = f'always giving the commonest label scores {shares}' if shares else ''
        mean = f'the mean of {", ".join(dict.fromkeys(column.of))}, each task counting once' if column.of else ''
        share = f"relative to '{column.relative}'" if column.relative else ''
        told = '; '.join(part for part in (column.note, mean, share, chance) if part)
        lines += [f'{column.title}: {told}.'] if told else []
    if any(column.better for column in columns):
        lines.append('Bold: the best of the column (↑ more is better, ↓ less is), among cells that lack no seed and mix nothing.')
    if any(len(cell.values) > 1 for line in cells for cell in line):
        lines.append('±: the sample standard deviation over n seeds.')
    else:
        lines.append('One seed a cell: no spread is known.')
    if any(published(study, column) for column in columns):
        lines.append(f'Published: {study.table.source}; Δ: measured minus published.')
    if any(cell.mixed for line in cells for cell in line):
        lines.append('†: the runs of the cell differ in more than their seed; see below.')
    return lines


def remarks(study: Study, cells: list[list[Cell]], evidence: Mapping[str, Evidence]) -> list[str]:
    """What is wrong with the table: runs not done, cells that mix, numbers that a result lacks, models that learnt nothing."""
    missing = dict.fromkeys(pair for line in cells for cell in line for pair in cell.missing.items())
    lines = [f'{MISSING} for `{name}`: {why}.' for name, why in missing]
    told_of = {name for name, _ in missing}
    others = [name for name, found in evidence.items() if found.state.state != 'done' and name not in told_of]
    lines += [f'Not done either: {", ".join(f"`{name}` ({evidence[name].state.state})" for name in others)}.'] if others else []
    for row, line in zip(study.table.rows, cells, strict=True):
        for column, cell in zip(study.table.columns, line, strict=True):
            if cell.mixed:
                names = ', '.join(f'`{name}`' for name in row.runs[column.role]) if column.role in row.runs else row.title
                lines.append(f'† {row.title}, {column.title}: mixed {" and ".join(cell.mixed)} among {names}.')
    for column in study.table.columns:
        for name in [name for row in study.table.rows if column.role in row.runs for name in row.runs[column.role]]:
            chance, cell = baseline(name, column, evidence), read_cell(study, (name,), column.key, evidence)
            if chance is not None and cell.values and cell.mean <= chance:
                lines.append(f'`{name}` scores no better than the commonest label: it has learnt nothing of its task.')
    for name, found in evidence.items():
        entropy, loss = (
            None if found.result is None else look_up(found.result, key) for key in ('unigram_entropy', 'metrics:dev/mlm')
        )
        rare = study.runs[name].data.masking.policy == 'frequency'  # rare pieces are hidden more: their frequencies say less
        if entropy is not None and loss is not None and loss >= entropy and not rare:
            lines.append(
                f'`{name}` has a held-out MLM loss of {loss:.3f}, not below the unigram entropy of {entropy:.3f}:'
                ' it has not learnt more than how frequent each piece is.'
            )
    return list(dict.fromkeys(lines))


def told(value: Any) -> str:
    """A value of environment.json in words."""
    if isinstance(value, Mapping):
        return ', '.join(f'{key} {told(item)}' for key, item in value.items())
    if isinstance(value, list):
        return shlex.join(map(str, value))
    return {True: 'yes', False: 'no', None: 'unknown'}[value] if value is None or isinstance(value, bool) else str(value)


def provenance(study: Study, evidence: Mapping[str, Evidence]) -> tuple[Sheet, list[str]]:
    """How the numbers came about: a table of the runs, then what their environments say and where they differ."""
    lines = []
    for name, found in evidence.items():
        data = MISSING if found.environment is None else told(found.environment['data']['fingerprint'])
        seed = MISSING if found.experiment is None else told(found.experiment.seed)
        steps, training, wall = (
            None if found.result is None else look_up(found.result, key) for key in ('steps', 'train_seconds', 'wall_seconds')
        )
        texts = [f'`{name}`', found.state.state, ', '.join(needs(study.runs[name])) or MISSING, data, seed]
        texts.append(MISSING if steps is None else f'{steps:,.0f}')
        texts += [MISSING if seconds is None else duration(seconds) for seconds in (training, wall)]
        lines.append(tuple(map(Entry, texts)))
    titles = ('Run', 'State', 'From', 'Data', 'Seed', 'Steps', 'Training', 'All of it')
    facts = []
    for key, title in ENVIRONMENT.items():
        holders: dict[str, list[str]] = {}
        for name, found in evidence.items():
            for session in sessions(found.environment or {}):
                value = told(session[key]) if key in session else 'not recorded'
                holders.setdefault(value, []).append(name)
        for value, names in holders.items():
            facts.append(f'{title}: `{value}`' + (f' (of {", ".join(dict.fromkeys(names))})' if len(holders) > 1 else ''))
    return Sheet(titles, tuple(lines), left=4), facts


def show_table(title: str, sheet: Sheet, lines: list[str]) -> None:
    """The table on the terminal: without colours, and as wide as it needs, where the output is none."""
    out = console()
    shown = rich.table.Table(title=rich.text.Text(title), title_justify='left', box=rich.box.SIMPLE_HEAD)
    for place, column in enumerate(sheet.titles):
        shown.add_column(rich.text.Text(column), justify='left' if place < sheet.left else 'right', no_wrap=place == 0)
    for line in sheet.lines:
        shown.add_row(*(rich.text.Text.assemble((each.text, 'bold' if each.bold else ''), each.remark) for each in line))
    if sheet.titles:
        out.print(shown)
    for line in lines:
        out.print(plain(line), markup=False, soft_wrap=True)


def report(folder: Path) -> Path:
    """Writes report.md, report.html, table.tex, table.csv and figures/ into the folder of a study; the path of report.md.

    The folder is all that is read, whatever the states of its runs. Prints the table, the remarks and the claims. UserError where
    `folder` holds no study.
    """
    study = read_study(folder)
    evidence = gather(study, folder)
    cells = [[row_cell(study, row, column, evidence) for column in study.table.columns] for row in study.table.rows]
    sheet = main_sheet(study, cells)
    notes, wrong = caption(study, cells, evidence), remarks(study, cells, evidence)
    sections = {
        'The order of the published numbers': order_of_published(study, evidence),
        'Claims': [judge(claim, study, evidence) for claim in study.claims],
    }
    figures = draw(study, evidence, folder)
    write_figures(folder / 'figures', figures)
    runs, facts = provenance(study, evidence)
    parts: list[Part] = [study.note.strip(), sheet, ' '.join(notes), wrong]
    for title, lines in sections.items():
        parts += [Heading(title), lines] if lines else []
    parts += [Heading('Figures'), *figures] if figures else []
    parts += [Heading('How these numbers came about'), runs, facts]
    write_whole(folder / 'table.csv', numbers(study, cells).to_csv(index=False).encode())
    write_whole(folder / 'table.tex', latex(sheet, study.table.title, notes).encode())
    write_whole(folder / 'report.html', as_html(study.table.title, parts).encode())
    write_whole(folder / 'report.md', as_markdown(study.table.title, parts).encode())
    show_table(
        study.table.title,
        sheet,
        [*wrong, *(line for lines in sections.values() for line in lines), f'report: {folder / "report.md"}'],
    )
    return folder / 'report.md'


def write_figures(folder: Path, figures: list[Drawn]) -> None:
    """Each figure as NAME.png and NAME.pdf; those of an earlier report that are no more are taken away."""
    for name in FIGURES:
        for kind in ('png', 'pdf'):
            (folder / f'{name}.{kind}').unlink(missing_ok=True)
    for each in figures:
        write_whole(folder / f'{each.name}.png', each.png)
        write_whole(folder / f'{each.name}.pdf', each.pdf)


def as_markdown(title: str, parts: list[Part]) -> str:
    """report.md."""

    def block(part: Part) -> str:
        match part:
            case Heading(text):
                return f'## {text}'
            case Sheet():
                return markdown(part)
            case Drawn():
                return f'![{part.title}](figures/{part.name}.png)'
            case str():
                return part
        return '\n'.join(f'- {line}' for line in part)

    return '\n\n'.join(text for text in (f'# {title}', *map(block, parts)) if text) + '\n'


def as_html(title: str, parts: list[Part]) -> str:
    """report.html: one file, with its figures inside."""

    def block(part: Part) -> str:
        match part:
            case Heading(text):
                return f'<h2>{inline(text)}</h2>'
            case Sheet():
                return web(part)
            case Drawn():
                image, name = base64.b64encode(part.png).decode(), inline(part.title)
                return f'<h3>{name}</h3>\n<img alt="{name}" src="data:image/png;base64,{image}">'
            case str():
                return f'<p>{inline(part)}</p>' if part else ''
        return '<ul>\n' + ''.join(f'<li>{inline(line)}</li>\n' for line in part) + '</ul>' if part else ''

    body = '\n'.join(text for text in (f'<h1>{inline(title)}</h1>', *map(block, parts)) if text)
    head = f'<meta charset="utf-8">\n<title>{inline(title)}</title>\n<style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}\n</body>\n</html>\n'
