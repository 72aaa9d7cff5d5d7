"""Says how a study goes while it runs."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path

import rich.box
import rich.console
import rich.live
import rich.table
import rich.text

from research.study.execution.progress import table
from research.study.ledger import RunState
from research.study.study import Study
from research.study.terminal import console, duration


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
