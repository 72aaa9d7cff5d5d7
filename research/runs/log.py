"""The log of a run: lines in log.txt and on the terminal, numbers in metrics.jsonl and TensorBoard."""

import json
import time
from collections.abc import Mapping
from pathlib import Path

import rich.console
import rich.progress
import tensorboardX

from research.files import write_whole
from research.records import read_lines


class Log:
    """The log of one run. On a terminal the progress is one live line; elsewhere it is plain lines."""

    def __init__(self, folder: Path, steps: int, first: int, began: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._text = (folder / 'log.txt').open('a')
        self._metrics = (folder / 'metrics.jsonl').open('a')
        self._events = tensorboardX.SummaryWriter(str(folder / 'tensorboard'), purge_step=first + 1)
        # In a notebook, too, what is printed goes to stdout, where `api` can silence it.
        self._console = rich.console.Console(highlight=False, soft_wrap=True, force_jupyter=False)
        self._live = rich.progress.Progress(
            rich.progress.TextColumn('{task.description}'),
            rich.progress.BarColumn(bar_width=20),
            rich.progress.TextColumn('{task.fields[state]}'),
            rich.progress.TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._name = folder.resolve().name  # '.' has none
        self._task = self._live.add_task(self._name, total=steps, completed=first, state='')
        self._steps, self._first, self._begin, self._began = steps, first, time.monotonic(), began
        if self._console.is_terminal:
            self._live.start()

    def wall(self) -> float:
        """The seconds since the run began, without the time between its sessions."""
        return time.monotonic() - self._began

    def line(self, text: str) -> None:
        """Writes one line."""
        self._text.write(text + '\n')
        self._text.flush()
        self._console.print(f'{self._name}: {text}', markup=False)

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Records the numbers of one step under their names."""
        self._metrics.write(json.dumps({'step': step, 'wall': round(self.wall(), 3), **values}) + '\n')
        self._metrics.flush()
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def progress(self, step: int, losses: Mapping[str, float], speed: float | None) -> None:
        """Shows how far the run is: losses by name, tokens per second if known, time left."""
        done = max(step - self._first, 1)
        left = (time.monotonic() - self._begin) / done * (self._steps - step)
        shown = ' '.join(f'{name} {value:.4f}' for name, value in losses.items())
        shown += '' if speed is None else f' · {speed:,.0f} tokens/s'
        text = f'step {step}/{self._steps} {shown} · {int(left // 60)}:{int(left % 60):02d} left'
        self._text.write(text + '\n')
        self._text.flush()
        if self._console.is_terminal:
            self._live.update(self._task, completed=step, state=f'{step}/{self._steps} {shown}')
        else:
            print(f'{self._name}: {text}', flush=True)

    def close(self) -> None:
        """Ends the live line and closes the files."""
        if self._console.is_terminal:
            self._live.stop()
        self._events.close()
        self._metrics.close()
        self._text.close()


def rewind(folder: Path, step: int) -> None:
    """Drops the lines of metrics.jsonl after `step`, which a continued run writes again, and a line that a kill cut short."""
    path = folder / 'metrics.jsonl'
    if path.exists():
        kept = [json.dumps(line) + '\n' for line in read_lines(path) if line['step'] <= step]
        write_whole(path, ''.join(kept).encode())
