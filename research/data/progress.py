"""The progress of a preparation on the standard error: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from research.escape import clean

EVERY = 10.0  # seconds between plain lines


@dataclass(frozen=True)
class Moment:
    """The progress at a time."""

    seconds: float
    documents: int
    fraction: float  # of the source; 0 if unknown


def describe(begin: Moment, now: Moment) -> str:
    """Documents so far, their speed since `begin`, the share of the source, and the time left."""
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
    """A function to call with (documents so far, share of the source read); speed is measured from its first call."""
    name, start = clean(name), time.monotonic()
    moments: list[Moment] = []  # of the first call and, elsewhere than on a terminal, of each line
    if not sys.stderr.isatty():

        def write(documents: int, fraction: float) -> None:
            now = Moment(time.monotonic(), documents, fraction)
            last = moments[-1].seconds if len(moments) > 1 else start
            if not moments:
                moments.append(now)
            if now.seconds - last >= EVERY:
                moments.append(now)
                print(f'{name}: {describe(moments[0], now)}', file=sys.stderr, flush=True)

        yield write
        return

    columns = (TextColumn('{task.description}', markup=False), BarColumn(), TextColumn('{task.fields[words]}'))
    with Progress(*columns, console=Console(stderr=True, force_jupyter=False), transient=True) as bar:
        task = bar.add_task(name, total=1.0, words='')

        def draw(documents: int, fraction: float) -> None:
            now = Moment(time.monotonic(), documents, fraction)
            if not moments:
                moments.append(now)
            bar.update(task, completed=fraction, words=describe(moments[0], now))

        yield draw
