"""How far the runs of a study are: a table of all of them."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import rich.box
import rich.console
import rich.live
import rich.table
import rich.text

from research.files import read_record
from research.study.curves import last_lines
from research.study.ledger import RunState
from research.study.study import Study
from research.study.terminal import duration

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
