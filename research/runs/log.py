"""The log of a run: lines in log.txt and on the terminal, numbers in metrics.jsonl and TensorBoard."""

import json
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import rich.console
import rich.progress
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2
from tensorboardX.summary import scalar

from research.escape import clean
from research.files import name_file, open_append, write_whole
from research.records import read_lines
from research.runs.folder import is_step

PROTO: Any = event_pb2  # made at run time, so that its messages have no types
FLUSH = 1.0  # seconds between two waits for the disk


class Log:
    """The log of one run. On a terminal the progress is one live line; elsewhere it is plain lines."""

    def __init__(self, folder: Path, steps: int, first: int, began: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._text = open_append(folder / 'log.txt')
        self._metrics = open_append(folder / 'metrics.jsonl')
        self._events = Events(folder / 'tensorboard', first)
        # In a notebook, too, what is printed goes to stdout, where `api` can silence it.
        self._console = rich.console.Console(highlight=False, soft_wrap=True, force_jupyter=False)
        self._live = rich.progress.Progress(
            rich.progress.TextColumn('{task.description}', markup=False),
            rich.progress.BarColumn(bar_width=20),
            rich.progress.TextColumn('{task.fields[state]}', markup=False),
            rich.progress.TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._name = clean(folder.resolve().name)  # '.' has none
        self._task = self._live.add_task(self._name, total=steps, completed=first, state='')
        self._steps, self._first, self._began = steps, first, began
        self._paced: tuple[float, int] | None = None  # when the first step's progress was shown: that step is mostly compilation
        if self._console.is_terminal:
            self._live.start()

    def wall(self) -> float:
        """The seconds since the run began, without the time between its sessions."""
        return time.monotonic() - self._began

    def line(self, text: str) -> None:
        """Writes one line; what it quotes from files cannot break it or move the cursor."""
        text = clean(text)
        append(self._text, text)
        self._console.print(f'{self._name}: {text}', markup=False)

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Records the numbers of one step under their names."""
        append(self._metrics, json.dumps({'step': step, 'wall': round(self.wall(), 3), **values}))
        self._events.add(step, values)

    def progress(self, step: int, losses: Mapping[str, float], speed: float | None) -> None:
        """Shows how far the run is: losses by name, tokens per second if known, time left if known."""
        now = time.monotonic()
        self._paced = self._paced or (now, step)
        begin, paced = self._paced
        left = (now - begin) / (step - paced) * (self._steps - step) if step > paced else None
        shown = ' '.join(f'{name} {value:.4f}' for name, value in losses.items())
        shown += '' if speed is None else f' · {speed:,.0f} tokens/s'
        shown = clean(shown)
        text = f'step {step}/{self._steps} {shown}'
        text += '' if left is None else f' · {int(left // 60)}:{int(left % 60):02d} left'
        append(self._text, text)
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


class Events:
    """The numbers of a run for TensorBoard, written at once: tensorboardX's own writer would wait for ever for a full disk."""

    def __init__(self, folder: Path, first: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._writer = EventsWriter(str(folder / 'events'), f'.{secrets.token_hex(4)}')
        self._flushed = time.monotonic()
        start = PROTO.SessionLog(status=PROTO.SessionLog.START)  # TensorBoard drops what it has from this step on
        self._writer.write_event(PROTO.Event(wall_time=time.time(), step=first + 1, session_log=start))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the numbers of one step."""
        try:
            for name, value in values.items():
                self._writer.write_event(PROTO.Event(wall_time=time.time(), step=step, summary=scalar(name, value)))
            if time.monotonic() - self._flushed > FLUSH:
                self._writer.flush()
                self._flushed = time.monotonic()
        except OSError as error:
            raise name_file(error, self._folder) from None

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()


def append(file: IO[str], text: str) -> None:
    """Writes a line at the end of a file that `open_append` has opened. Raises OSError, with the file's name, if it cannot."""
    rest = (text + '\n').encode()
    try:
        while rest:
            rest = rest[os.write(file.fileno(), rest) :]
    except OSError as error:
        raise name_file(error, Path(file.name)) from None


def rewind(folder: Path, step: int) -> None:
    """Drops the lines of metrics.jsonl after `step`, which a continued run writes again, and a line that a kill cut short."""
    path = folder / 'metrics.jsonl'
    if path.exists():
        lines = (line for line in read_lines(path) if 'step' in line and is_step(line['step']) and line['step'] <= step)
        write_whole(path, ''.join(json.dumps(line) + '\n' for line in lines).encode())
