"""How the numbers of cells are written."""

import math

from research.study.columns import Format
from research.study.reporting.cells import Cell

MISSING = '—'


def show_number(value: float, form: Format) -> str:
    """One number under a format."""
    return f'{value * form.scale:,.{form.digits}f}'


def count_runs(cell: Cell) -> tuple[int, int]:
    """(units of a cell, the most runs of one)."""
    seeds = cell.seeds or range(len(cell.values))
    return len(cell.units), max((list(seeds).count(seed) for seed in seeds), default=0)


def spell_count(cell: Cell) -> str:
    """'n=3'; 'n=3 × 2': three seeds, two fine-tunings of each; 'n=2, 1 missing'."""
    units, runs = count_runs(cell)
    return f'n={units}' + (f' × {runs}' if runs > 1 else '') + (f', {len(cell.missing)} missing' if cell.missing else '')


def format_cell(cell: Cell, form: Format) -> tuple[str, str]:
    """(number, remark) of a cell: ('83.1 ± 0.4', ' (n=2)')."""
    if not cell.values:
        return MISSING, ''
    text, remark = show_number(cell.center, form), ''
    several = len(cell.values) + len(cell.missing) > 1
    if several and not (form.exact and len(set(cell.values)) == 1 and not cell.missing):
        text += f' ± {show_number(cell.deviation, form)}' if len(cell.values) > 1 else ''
        if cell.interval is not None:
            text += f' [{", ".join(show_number(end, form) for end in cell.interval)}]'
        remark = f' ({spell_count(cell)})'
    elif cell.error is not None:
        remark = f' (s.e. {show_number(cell.error, form)})'
    return text.replace('-', '−'), remark + (' †' if cell.mixed else '')


def find_best(cells: list[Cell], better: str, form: Format) -> list[bool]:
    """Which cells are set in bold: those whose printed number is the best, unless all comparable cells print the same."""
    rounded = [round(cell.center * form.scale, form.digits) if cell.comparable else math.nan for cell in cells]
    known = {value for value in rounded if not math.isnan(value)}
    if not better or len(known) < 2:
        return [False] * len(cells)
    top = max(known) if better == 'max' else min(known)
    return [value == top for value in rounded]
