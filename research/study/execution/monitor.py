"""Shows the states of a study's runs while it runs."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path

import rich.live

from research.escape import clean
from research.study.execution.progress import make_table
from research.study.states import RunState
from research.study.terminal import format_duration, make_console


class Monitor:
    """Shows how a study goes: on a terminal one live table, elsewhere a line whenever the state of a run changes."""

    def __init__(self, study: str, folder: Path, states: Mapping[str, RunState]) -> None:
        self._study, self._folder, self._before = study, folder, dict(states)
        self._names = list(states)
        self._began: dict[str, float] = {}
        self._said: dict[str, str] = {}
        self._live: rich.live.Live | None = None
        self._drawn = 0.0
        if sys.stdout.isatty():
            self._live = rich.live.Live(make_table(study, folder, states), console=make_console(), refresh_per_second=2)
            self._live.start()
        for name, state in states.items():
            if state.state == 'done':
                self.say(name, 'done before, kept')

    def say(self, name: str, text: str) -> None:
        """Prints one line about a run, but not the same twice in a row. On a terminal the table shows it."""
        if self._live is None and self._said.setdefault(name, '') != text:
            print(clean(f'[{self._names.index(name) + 1}/{len(self._names)}] {name}: {text}'), flush=True)
        self._said[name] = text

    def say_output(self, line: str) -> None:
        """Prints a line of a run's output; on a terminal it goes to the run's file alone."""
        if self._live is None:
            print(clean(line), flush=True)

    def say_start(self, name: str, before: RunState) -> None:
        """Says that this launcher starts a run: anew, again, or from where it stopped."""
        again = {'interrupted': 'continues', 'failed': f'tries again after: {before.reason}'}
        self._began[name] = time.monotonic()
        self.say(name, again[before.state] if before.state in again else 'starts')

    def update(self, states: Mapping[str, RunState]) -> None:
        """Says which states have changed."""
        for name, state in states.items():
            if state.state == self._before[name].state and state.attempts == self._before[name].attempts:
                continue
            if state.state == 'done':
                took = f' in {format_duration(time.monotonic() - self._began[name])}' if name in self._began else ' elsewhere'
                self.say(name, f'done{took}')
            elif state.state == 'failed':
                self.say(name, f'failed: {state.reason}')
            elif state.state == 'blocked':
                self.say(name, f'blocked, because {state.reason}')
            elif state.state == 'running' and name not in self._began:
                self.say(name, f'running elsewhere: {state.reason}')
        self._before = dict(states)
        if self._live is not None and time.monotonic() - self._drawn > 1:
            self._live.update(make_table(self._study, self._folder, states))
            self._drawn = time.monotonic()

    def close(self) -> None:
        """Leaves the last table on the terminal."""
        if self._live is not None:
            self._live.update(make_table(self._study, self._folder, self._before))
            self._live.stop()
