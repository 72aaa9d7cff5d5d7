"""How far the runs of a study are: a table of all of them, live on a terminal, and plain lines elsewhere."""

import dataclasses
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import rich.box
import rich.console
import rich.live
import rich.table
import rich.text

from research.records import read_record
from research.study.graph import Study
from research.study.ledger import RunState
from research.study.metrics import last_lines

COLOURS = {
    'done': 'green',
    'running': 'bold cyan',
    'failed': 'bold red',
    'blocked': 'red',
    'interrupted': 'yellow',
    'waiting': 'dim',
}


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a run is; what is not known is None."""

    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    speed: float | None = None  # tokens a second
    left: float | None = None  # seconds


def progress(workdir: Path) -> Progress:
    """How far a run says that it is, in its metrics.jsonl and environment.json."""
    environment = read_record(workdir / 'environment.json')
    steps = environment['steps'] if environment is not None and 'steps' in environment else None
    lines = [line for line in last_lines(workdir / 'metrics.jsonl') if 'train/loss' in line]
    if not lines:
        return Progress(steps=steps)
    first, last = lines[0], lines[-1]
    done, seconds = last['step'] - first['step'], last['wall'] - first['wall']
    left = None if steps is None or done <= 0 or seconds <= 0 else (steps - last['step']) * seconds / done
    speed = last['train/tokens_per_second'] if 'train/tokens_per_second' in last else None
    return Progress(int(last['step']), steps, last['train/loss'], speed, left)


def duration(seconds: float) -> str:
    """'12 days', '2 h 05 min', '3 min 20 s' or '12 s'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    if hours >= 100:
        return f'{round(hours / 24):,} days'
    if hours:
        return f'{hours} h {left:02d} min'
    return f'{minutes} min {rest:02d} s' if minutes else f'{rest} s'


def table(study: Study, folder: Path, stand: Mapping[str, RunState]) -> rich.table.Table:
    """All runs: state, attempt, step, loss, speed, time left, and why where there is a reason."""
    counts: dict[str, int] = {}
    for state in stand.values():
        counts[state.state] = counts.setdefault(state.state, 0) + 1
    title = f'{study.name}: ' + ', '.join(f'{number} {state}' for state, number in counts.items())
    shown = rich.table.Table(title=rich.text.Text(title), title_justify='left', box=rich.box.SIMPLE_HEAD)
    shown.add_column('Run', no_wrap=True)
    shown.add_column('State', no_wrap=True)
    for column in ('Attempt', 'Step', 'Loss', 'Tokens/s', 'Left'):
        shown.add_column(column, justify='right', no_wrap=True)
    shown.add_column('', overflow='fold')
    for name, state in stand.items():
        found = progress(folder / name)
        step = '' if found.step is None else f'{found.step:,}' + ('' if found.steps is None else f'/{found.steps:,}')
        under_way = state.state == 'running'
        tries = state.attempts + (1 if state.state in ('running', 'done') else 0)
        shown.add_row(
            rich.text.Text(name),
            rich.text.Text(state.state, COLOURS[state.state]),
            str(tries) if tries else '',
            step,
            '' if found.loss is None else f'{found.loss:.3f}',
            '' if found.speed is None else f'{found.speed:,.0f}',
            duration(found.left) if under_way and found.left is not None else '',
            rich.text.Text(state.reason if state.state != 'done' else ''),
        )
    return shown


def console() -> rich.console.Console:
    """The terminal; without colours and as wide as a table needs where the output is none."""
    terminal = sys.stdout.isatty()
    return rich.console.Console(file=sys.stdout, force_terminal=terminal, width=None if terminal else 200, highlight=False)


class Monitor:
    """Says how a study goes: on a terminal one live table, elsewhere a line whenever the state of a run changes."""

    def __init__(self, study: Study, folder: Path, stand: Mapping[str, RunState]) -> None:
        self._study, self._folder, self._before = study, folder, dict(stand)
        self._names = list(study.runs)
        self._began: dict[str, float] = {}
        self._told: dict[str, str] = {}
        self._live: rich.live.Live | None = None
        self._drawn = 0.0
        if sys.stdout.isatty():
            self._live = rich.live.Live(table(study, folder, stand), console=console(), refresh_per_second=2)
            self._live.start()
        for name, state in stand.items():
            if state.state == 'done':
                self.say(name, 'done before, kept')

    def say(self, name: str, what: str) -> None:
        """One plain line about a run; on a terminal the table says it. The same line twice is said once."""
        if self._live is None and self._told.setdefault(name, '') != what:
            print(f'[{self._names.index(name) + 1}/{len(self._names)}] {name}: {what}', flush=True)
        self._told[name] = what

    def say_output(self, line: str) -> None:
        """A line that a run printed; on a terminal it is only in the run's own output."""
        if self._live is None:
            print(line, flush=True)

    def starts(self, name: str, before: RunState) -> None:
        """Says that a run is being started by this launcher, and as what."""
        again = {'interrupted': 'continues', 'failed': f'tries again after: {before.reason}'}
        self._began[name] = time.monotonic()
        self.say(name, again[before.state] if before.state in again else 'starts')

    def update(self, stand: Mapping[str, RunState]) -> None:
        """Says what has changed."""
        for name, state in stand.items():
            if state.state == self._before[name].state and state.attempts == self._before[name].attempts:
                continue
            if state.state == 'done':
                took = f' in {duration(time.monotonic() - self._began[name])}' if name in self._began else ' elsewhere'
                self.say(name, f'done{took}')
            elif state.state == 'failed':
                self.say(name, f'failed: {state.reason}')
            elif state.state == 'blocked':
                self.say(name, f'blocked, because {state.reason}')
            elif state.state == 'running' and name not in self._began:
                self.say(name, f'running elsewhere: {state.reason}')
        self._before = dict(stand)
        if self._live is not None and time.monotonic() - self._drawn > 1:
            self._live.update(table(self._study, self._folder, stand))
            self._drawn = time.monotonic()

    def close(self) -> None:
        """Leaves the last table on the terminal."""
        if self._live is not None:
            self._live.update(table(self._study, self._folder, self._before))
            self._live.stop()
