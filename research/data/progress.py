"""How far a preparation is, on the standard error: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

EVERY = 10.0  # seconds between plain lines


@dataclass(frozen=True)
class Moment:
    """How far work is at a time."""

    seconds: float
    documents: int
    fraction: float  # of the source; 0 where that is unknown


def told(begin: Moment, now: Moment) -> str:
    """The words for how far work is, how fast, and how long it will take, from what was done since `begin`."""
    seconds = now.seconds - begin.seconds
    words = f'{now.documents:,} documents'
    if seconds <= 0:
        return words
    words += f', {(now.documents - begin.documents) / seconds:,.0f} documents/s'
    if now.fraction <= begin.fraction:
        return words
    left = round(seconds * (1 - now.fraction) / (now.fraction - begin.fraction))
    return f'{words}, {now.fraction:.0%}, {left // 3600}:{left // 60 % 60:02}:{left % 60:02} left'


@contextmanager
def progress(name: str) -> Iterator[Callable[[int, float], None]]:
    """A function to be told (documents so far, share of the source read) as work goes on; its first call says where work began."""
    begin = last = Moment(time.monotonic(), 0, 0.0)
    first = True
    if not sys.stderr.isatty():

        def write(documents: int, fraction: float) -> None:
            nonlocal begin, last, first
            now = Moment(time.monotonic(), documents, fraction)
            if first:
                begin, first = now, False
            if now.seconds - last.seconds >= EVERY:
                last = now
                print(f'{name}: {told(begin, now)}', file=sys.stderr, flush=True)

        yield write
        return

    columns = (TextColumn('{task.description}'), BarColumn(), TextColumn('{task.fields[words]}'))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=1.0, words='')

        def draw(documents: int, fraction: float) -> None:
            nonlocal begin, first
            now = Moment(time.monotonic(), documents, fraction)
            if first:
                begin, first = now, False
            bar.update(task, completed=fraction, words=told(begin, now))

        yield draw
