"""Printing: a console, and durations in words."""

import math
import sys

import rich.box
import rich.console
import rich.table
import rich.text

from research.escape import clean


def format_duration(seconds: float) -> str:
    """'12 days', '2 h 05 min', '3 min 20 s' or '12 s'; 'unknown' if it is not finite, as a file may hold."""
    if not math.isfinite(seconds):
        return 'unknown'
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    if hours >= 100:
        return f'{round(hours / 24):,} days'
    if hours:
        return f'{hours} h {left:02d} min'
    return f'{minutes} min {rest:02d} s' if minutes else f'{rest} s'


def to_text(text: str, style: str = '') -> rich.text.Text:
    """What came from a file, for a cell or a title: clean, and without markup."""
    return rich.text.Text(clean(text), style)


def make_console() -> rich.console.Console:
    """A console; if the output is no terminal, without colours and as wide as a table needs."""
    terminal = sys.stdout.isatty()
    width = None if terminal else 200
    return rich.console.Console(file=sys.stdout, force_terminal=terminal, force_jupyter=False, width=width, highlight=False)
