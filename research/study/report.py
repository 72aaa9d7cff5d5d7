"""What a study found, read from its run folders alone: a table, a figure, its claims judged, and how it was made."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rich.box
import rich.console
import rich.table
import rich.text
import scipy.stats

from research.errors import UserError
from research.study.cells import Cell, baseline, baselines, best, look_up, read_cell, row_cell, show
from research.study.figure import draw
from research.study.graph import FORMATS, Claim, Format, Study, needs
from research.study.ledger import RunState, check, read_record, states, write_whole

MISSING = '—'
ARROWS = {'max': ' ↑', 'min': ' ↓', '': ''}
SIGNIFICANCE = 0.05
ENVIRONMENT = {
    'command': 'Command',
    'commit': 'Commit',
    'uncommitted_changes': 'Uncommitted changes',
    'devices': 'Devices',
    'machine': 'Machine',
    'python': 'Python',
    'versions': 'Versions',
}
FIGURE = '![Held-out MLM loss over steps; score against size](report.png)'


def cell_text(cell: Cell, form: Format, bold: bool) -> tuple[str, str]:
    """(the number, its remark): ('83.1 ± 0.4', ' (n=2 of 3)'), with the number between ** when bold."""
    seeds = len(cell.values) + len(cell.missing)
    if not cell.values:
        return MISSING, ''
    number, remark = show(cell.mean, form), ''
    if seeds > 1 and not (form.exact and len(set(cell.values)) == 1 and not cell.missing):
        spread = f' ± {show(cell.deviation, form)}' if len(cell.values) > 1 else ''
        remark = f' (n={len(cell.values)} of {seeds})' if cell.missing else f' (n={seeds})'
        number += spread
    return (f'**{number}**' if bold else number), remark


def markdown_table(titles: list[str], rows: list[list[str]], left: int) -> str:
    """A GitHub table whose columns after the first `left` are numbers, aligned right."""
    marks = [':---'] * left + ['---:'] * (len(titles) - left)
    return '\n'.join('| ' + ' | '.join(text.replace('|', r'\|') for text in line) + ' |' for line in (titles, marks, *rows))


def duration(seconds: float) -> str:
    """'2 h 05 min', '3 min 20 s' or '12 s'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    if hours:
        return f'{hours} h {left:02d} min'
    return f'{minutes} min {rest:02d} s' if minutes else f'{rest} s'


def subject(names: tuple[str, ...], study: Study) -> str:
    """What a claim calls some runs: the title of the row that has just these in one role, else their names."""
    for row in study.table.rows:
        if names in row.runs.values():
            return row.title
    return ', '.join(names)


def judge(claim: Claim, study: Study, folder: Path, stand: Mapping[str, RunState]) -> str:
    """The line of a claim: 'holds', 'does not hold' or 'not known', the sentence, both numbers and their spread."""
    cells = [read_cell(names, key, folder, stand) for names, key in claim.sides()]
    formats = {column.key: FORMATS[column.format] for column in study.table.columns}
    shown = []
    for (_, key), cell in zip(claim.sides(), cells, strict=True):
        form = formats[key] if key in formats else FORMATS['plain']
        shown.append(' '.join(''.join(cell_text(cell, form, bold=False)).split()))
    subjects = [subject(names, study) for names, _ in claim.sides()]
    text = claim.text.replace('{a}', subjects[0]).replace('{b}', subjects[1])
    both = f'{text}: {shown[0]} against {shown[1]}'
    missing = {name: why for cell in cells for name, why in cell.missing.items()}
    if missing:
        return f'**not known** — {text}: ' + '; '.join(f'{name} has no number ({why})' for name, why in missing.items())
    left, right = cells
    if not (left.comparable and right.comparable) or left.mean >= right.mean:
        return f'**does not hold** — {both}'
    if min(len(left.values), len(right.values)) < 2:
        return f'**holds** — {both} (one seed on a side: no spread is known, so chance is not excluded)'
    if left.deviation == right.deviation == 0:
        return f'**holds** — {both} (no spread over seeds)'
    test = scipy.stats.ttest_ind_from_stats(
        *(number for cell in cells for number in (cell.mean, cell.deviation, len(cell.values))),
        equal_var=False,
        alternative='less',
    )
    chance = f"Welch's one-sided t-test, p = {test.pvalue:.2g}"
    if test.pvalue < SIGNIFICANCE:
        return f'**holds** — {both} ({chance})'
    return f'**does not hold** — {both} (below in the mean, but within the spread of seeds: {chance})'


def caption(study: Study, cells: list[list[Cell]], folder: Path) -> list[str]:
    """What a reader must know to read the table."""
    columns, rows = study.table.columns, study.table.rows
    lines = []
    for column in columns:
        shares = ' or '.join(show(share, FORMATS[column.format]) for share in baselines(rows, column, folder))
        chance = f'always giving the commonest label scores {shares}' if shares else ''
        if column.note or chance:
            lines.append(f'{column.title}: {"; ".join(part for part in (column.note, chance) if part)}.')
    if any(column.better for column in columns):
        lines.append('Bold: the best of the column (↑ more is better, ↓ less is), among cells that lack no seed.')
    if any(len(cell.values) > 1 for line in cells for cell in line):
        lines.append('±: the sample standard deviation over n seeds.')
    else:
        lines.append('One seed a cell: no spread is known.')
    return lines


def remarks(study: Study, cells: list[list[Cell]], folder: Path, stand: Mapping[str, RunState]) -> list[str]:
    """What is wrong with the table: runs that are not done, numbers that a result lacks, models that learnt nothing."""
    missing = dict.fromkeys(pair for line in cells for cell in line for pair in cell.missing.items())
    lines = [f'{MISSING} for `{name}`: {why}.' for name, why in missing]
    told_of = {name for name, _ in missing}
    others = [name for name, state in stand.items() if state.state != 'done' and name not in told_of]
    lines += [f'Not done either: {", ".join(f"`{name}` ({stand[name].state})" for name in others)}.'] if others else []
    for column in study.table.columns:
        for name in [name for row in study.table.rows for name in row.runs.get(column.role, ())]:
            chance, cell = baseline(name, column, folder), read_cell((name,), column.key, folder, stand)
            if chance is not None and cell.comparable and cell.mean <= chance:
                lines.append(f'`{name}` scores no better than the commonest label: it has learnt nothing of its task.')
    for name in stand:
        result = read_record(folder / name / 'result.json')
        entropy, loss = (None if result is None else look_up(result, key) for key in ('unigram_entropy', 'metrics:dev/mlm'))
        if entropy is not None and loss is not None and loss >= entropy:
            lines.append(
                f'`{name}` has a held-out MLM loss of {loss:.3f}, not below the unigram entropy of {entropy:.3f}:'
                ' it has not learnt more than how frequent each piece is.'
            )
    return lines


def told(value: Any) -> str:
    """A value of environment.json in words."""
    if isinstance(value, Mapping):
        return ', '.join(f'{key} {told(item)}' for key, item in value.items())
    if isinstance(value, list):
        return shlex.join(map(str, value))
    return {True: 'yes', False: 'no', None: 'unknown'}[value] if value is None or isinstance(value, bool) else str(value)


def provenance(study: Study, folder: Path, stand: Mapping[str, RunState]) -> str:
    """How the numbers came about: a table of the runs, then what their environments say and where they differ."""
    lines, environments = [], {}
    for name, state in stand.items():
        wire, environment, result = (
            read_record(folder / name / f'{file}.json') for file in ('experiment', 'environment', 'result')
        )
        environments |= {} if environment is None else {name: environment}
        data = MISSING if environment is None else told(environment['data']['fingerprint'])
        seed = MISSING if wire is None else told(wire['seed'])
        steps, seconds = (None if result is None else look_up(result, key) for key in ('steps', 'train_seconds'))
        numbers = [MISSING if steps is None else f'{steps:,.0f}', MISSING if seconds is None else duration(seconds)]
        origins = ', '.join(needs(study.runs[name])) or MISSING
        lines.append([f'`{name}`', state.state, origins, data, seed, *numbers])
    parts = [markdown_table(['Run', 'State', 'From', 'Data', 'Seed', 'Steps', 'Training time'], lines, left=4)]
    facts = []
    for key, title in ENVIRONMENT.items():
        holders: dict[str, list[str]] = {}
        for name, environment in environments.items():
            holders.setdefault(told(environment[key]) if key in environment else 'not recorded', []).append(name)
        for value, names in holders.items():
            facts.append(f'- {title}: `{value}`' + (f' (of {", ".join(names)})' if len(holders) > 1 else ''))
    return '\n\n'.join([*parts, '\n'.join(facts)]) if facts else parts[0]


def show_table(study: Study, texts: list[list[tuple[str, str]]], lines: list[str]) -> None:
    """The table on the terminal: without colours, and as wide as it needs, where the output is none."""
    terminal = sys.stdout.isatty()
    console = rich.console.Console(file=sys.stdout, force_terminal=terminal, width=None if terminal else 240, highlight=False)
    shown = rich.table.Table(title=rich.text.Text(study.table.title), title_justify='left', box=rich.box.SIMPLE_HEAD)
    shown.add_column('', no_wrap=True)
    for column in study.table.columns:
        shown.add_column(rich.text.Text(column.title + ARROWS[column.better]), justify='right')
    for row, line in zip(study.table.rows, texts, strict=True):
        found = [
            rich.text.Text.assemble((number.strip('*'), 'bold' if number.startswith('**') else ''), remark)
            for number, remark in line
        ]
        shown.add_row(rich.text.Text(row.title), *found)
    console.print(shown)
    for line in lines:
        console.print(line.replace('**', '').replace('`', ''), markup=False, soft_wrap=True)


def report(study: Study, folder: Path) -> Path:
    """Write report.md and report.png into `folder`, print the table and the claims, and return the path of report.md.

    Run folders are all that is read, whatever their states; a UserError where `folder` is not this study's.
    """
    if check(study, folder) is None:
        raise UserError(f"{folder} holds no study (it has no study.json): run study '{study.name}' there first")
    stand = states(study, folder)
    columns, rows = study.table.columns, study.table.rows
    cells = [[row_cell(row, column, folder, stand) for column in columns] for row in rows]
    bold = [best([line[place] for line in cells], column.better, FORMATS[column.format]) for place, column in enumerate(columns)]
    texts = [
        [
            cell_text(cell, FORMATS[column.format], bold[place][line])
            for place, (cell, column) in enumerate(zip(found, columns, strict=True))
        ]
        for line, found in enumerate(cells)
    ]
    table = markdown_table(
        ['', *(column.title + ARROWS[column.better] for column in columns)],
        [[row.title, *(number + remark for number, remark in line)] for row, line in zip(rows, texts, strict=True)],
        left=1,
    )
    notes = remarks(study, cells, folder, stand)
    claims = [judge(claim, study, folder, stand) for claim in study.claims]
    picture = draw(study, folder, stand)
    if picture is None:
        (folder / 'report.png').unlink(missing_ok=True)
    else:
        write_whole(folder / 'report.png', picture)
    parts = [f'# {study.table.title}', study.note.strip(), table, ' '.join(caption(study, cells, folder))]
    parts += ['\n'.join(f'- {note}' for note in notes)]
    parts += ['## Figure', FIGURE] if picture is not None else []
    parts += ['## Claims', '\n'.join(f'- {claim}' for claim in claims)] if claims else []
    parts += ['## How these numbers came about', provenance(study, folder, stand)]
    path = folder / 'report.md'
    write_whole(path, ('\n\n'.join(part for part in parts if part) + '\n').encode())
    show_table(study, texts, [*notes, *claims, f'report: {path}'])
    return path
