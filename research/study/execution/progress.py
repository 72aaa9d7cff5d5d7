"""The progress of the runs of a study, as a table. Nothing here loads jax."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import rich.box
import rich.table
import rich.text

from research.runs.folder import read_environment
from research.study.curves import read_ends
from research.study.states import RunState
from research.study.terminal import format_duration, to_text

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
    """The progress of a run; None is unknown."""

    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    speed: float | None = None  # tokens a second
    left: float | None = None  # seconds


def read_progress(workdir: Path) -> Progress:
    """The progress of a run by its metrics.jsonl and environment.json."""
    environment = read_environment(workdir)
    steps = None if environment is None else environment.steps
    ends = read_ends(workdir / 'metrics.jsonl', 'train/loss')
    if not ends:
        return Progress(steps=steps)
    first, last = ends
    timed = 'wall' in first and 'wall' in last
    done, seconds = last['step'] - first['step'], last['wall'] - first['wall'] if timed else 0.0
    left = None if steps is None or done <= 0 or seconds <= 0 else (steps - last['step']) * seconds / done
    speed = last['train/tokens_per_second'] if 'train/tokens_per_second' in last else None
    return Progress(int(last['step']), steps, last['train/loss'], speed, left)


def make_table(study: str, folder: Path, states: Mapping[str, RunState]) -> rich.table.Table:
    """All runs of the study of this name: state, attempt, step, loss, speed, time left, and the reason of the state."""
    counts: dict[str, int] = {}
    for state in states.values():
        counts[state.state] = counts.setdefault(state.state, 0) + 1
    title = f'{study}: ' + ', '.join(f'{number} {state}' for state, number in counts.items())
    shown = rich.table.Table(title=to_text(title), title_justify='left', box=rich.box.SIMPLE_HEAD)
    shown.add_column('Run', no_wrap=True)
    shown.add_column('State', no_wrap=True)
    for column in ('Attempt', 'Step', 'Loss', 'Tokens/s', 'Left'):
        shown.add_column(column, justify='right', no_wrap=True)
    shown.add_column('', overflow='fold')
    for name, state in states.items():
        found = read_progress(folder / name)
        step = '' if found.step is None else f'{found.step:,}' + ('' if found.steps is None else f'/{found.steps:,}')
        under_way = state.state == 'running'
        tries = state.attempts + (1 if state.state in ('running', 'done') else 0)
        shown.add_row(
            to_text(name),
            rich.text.Text(state.state, COLOURS[state.state]),
            str(tries) if tries else '',
            step,
            '' if found.loss is None else f'{found.loss:.3f}',
            '' if found.speed is None else f'{found.speed:,.0f}',
            format_duration(found.left) if under_way and found.left is not None else '',
            to_text(state.reason if state.state != 'done' else ''),
        )
    return shown
