"""Whether a study's numbers support its claims, and whether they have the order of the published numbers."""

import math
from collections.abc import Mapping

import scipy.stats

from research.study.columns import FORMATS, Format
from research.study.reporting.cells import Cell, Evidence, read_cell, read_row_cell, show_number
from research.study.reporting.marks import quote
from research.study.study import Claim, Study

SHOWN = 4  # pairs of rows in another order that are named
SIGNIFICANCE = 0.05


def format_cell(cell: Cell, form: Format) -> tuple[str, str]:
    """(number, remark) of a cell: ('83.1 ± 0.4', ' (n=2 of 3)')."""
    seeds = len(cell.values) + len(cell.missing)
    if not cell.values:
        return '—', ''
    text, remark = show_number(cell.mean, form), ''
    if seeds > 1 and not (form.exact and len(set(cell.values)) == 1 and not cell.missing):
        text += f' ± {show_number(cell.deviation, form)}' if len(cell.values) > 1 else ''
        remark = f' (n={len(cell.values)} of {seeds})' if cell.missing else f' (n={seeds})'
    return text, remark + (' †' if cell.mixed else '')


def name_runs(names: tuple[str, ...], study: Study) -> str:
    """The name of some runs in a claim: the title of the row that has exactly these in one role, else their own names."""
    for row in study.table.rows:
        if names in row.runs.values():
            return row.title
    return ', '.join(names)


def judge(claim: Claim, study: Study, evidence: Mapping[str, Evidence]) -> str:
    """The line of a claim: its verdict, the sentence, both numbers and their spread.

    The verdict is 'holds', 'does not hold', 'is not shown' (chance may explain the difference) or 'not known' (a side has no
    number). While a side lacks some seeds, the line says 'so far'.
    """
    cells = [read_cell(study, names, key, evidence) for names, key in claim.sides()]
    formats = {column.key: FORMATS[column.format] for column in study.table.columns}
    shown = []
    for (_, key), cell in zip(claim.sides(), cells, strict=True):
        form = formats[key] if key in formats else FORMATS['plain']
        shown.append(' '.join(''.join(format_cell(cell, form)).split()))
    subjects = [quote(name_runs(names, study)) for names, _ in claim.sides()]
    text = claim.text.replace('{a}', subjects[0]).replace('{b}', subjects[1])
    both = f'{text}: {shown[0]} against {shown[1]}'
    missing = {name: why for cell in cells for name, why in cell.missing.items()}
    if not all(cell.values for cell in cells):
        return f'**not known** — {text}: ' + '; '.join(quote(f'{name} has no number ({why})') for name, why in missing.items())
    sides = zip((names for names, _ in claim.sides()), cells, strict=True)
    counted = [pair for names, cell in sides for pair in zip([x for x in names if x not in cell.missing], cell.values, strict=True)]
    broken = [name for name, value in counted if not math.isfinite(value)]
    if broken:
        return f'**not known** — {both} ({", ".join(f"{quote(name)} is not finite" for name in broken)})'
    verdict, why = _verdict(*cells)
    reservations = [quote(f'so far: {name} has no number ({why})') for name, why in missing.items()]
    reservations += [f'mixed {what}' for what in dict.fromkeys(what for cell in cells for what in cell.mixed)]
    aside = '; '.join(part for part in (why, *reservations) if part)
    return f'**{verdict}** — {both}' + (f' ({aside})' if aside else '')


def _verdict(left: Cell, right: Cell) -> tuple[str, str]:
    """('holds', 'does not hold' or 'is not shown', why) of the claim that `left` is below `right`."""
    if not left.mean < right.mean:
        return 'does not hold', ''
    if min(len(left.values), len(right.values)) < 2:
        return 'holds', 'one seed on a side: no spread is known, and chance is not excluded'
    if left.deviation == right.deviation == 0:
        return 'holds', 'no spread over seeds'
    test = scipy.stats.ttest_ind_from_stats(
        *(number for cell in (left, right) for number in (cell.mean, cell.deviation, len(cell.values))),
        equal_var=False,
        alternative='less',
    )
    chance = f"Welch's one-sided t-test, p = {test.pvalue:.2g}"
    if test.pvalue < SIGNIFICANCE:
        return 'holds', chance
    return 'is not shown', f'the mean is below, but within the spread of seeds: {chance}'


def order_of_published(study: Study, evidence: Mapping[str, Evidence]) -> list[str]:
    """A line for each column with published numbers: in how many pairs of rows the measured means have the published order."""
    lines = []
    for column in study.table.columns:
        known = []
        for row in study.table.rows:
            cell = read_row_cell(study, row, column, evidence)
            if column.title in row.published and cell.comparable:
                known.append((row.title, row.published[column.title], cell.mean))
        pairs = [(a, b) for place, a in enumerate(known) for b in known[place + 1 :] if a[1] != b[1]]
        if not pairs:
            continue
        wrong = [quote(f"'{a[0]}' and '{b[0]}'") for a, b in pairs if (a[1] < b[1]) != (a[2] < b[2]) or a[2] == b[2]]
        line = f'{quote(column.title)}: {len(pairs) - len(wrong)} of {len(pairs)} pairs of rows are in the published order'
        more = f'; and {len(wrong) - SHOWN} more' if len(wrong) > SHOWN else ''
        lines.append(line + (f'; not: {"; ".join(wrong[:SHOWN])}{more}.' if wrong else '.'))
    return lines
