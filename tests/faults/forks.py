"""Command lines in processes of their own that start in no time: forks of one process that has already imported what they need."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from research.experiment import Experiment
from research.records import read_object
from research.runs.folder import read_metrics
from research.wire import to_wire

ROOT = Path(__file__).parents[2]

# It reads commands, one JSON array a line, and answers with the process of each, and then its status. It never uses jax itself.
FORKER = """
import json, os, sys
import jax, grain, tensorboardX, orbax.checkpoint, tokenizers
from absl import logging
import launch
from research.runs import run
from research.study import config_files, request
from research.study.execution import execute
from research.study.planning import dry, listing
from research.study.reporting import report
for line in sys.stdin:
    output, arguments = json.loads(line)
    child = os.fork()
    if child == 0:
        null, file = os.open(os.devnull, os.O_RDONLY), os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for number, to in ((null, 0), (file, 1), (file, 2)):
            os.dup2(number, to)
        status = 1
        try:
            status = launch.main(['launch.py', *arguments])
        except BaseException:
            import traceback
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(status)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Forker:
    """Runs command lines of launch.py, one after the other, each in a fork of a process that is ready to go."""

    def __init__(self, folder: Path, devices: int = 1, settings: Mapping[str, str] | None = None, place: Path = ROOT) -> None:
        """settings: of the environment. place: the working directory, where launch.py lies."""
        folder.mkdir(parents=True, exist_ok=True)
        self._output = folder / 'output.txt'
        environment = {
            **os.environ,
            'JAX_NUM_CPU_DEVICES': str(devices),
            'JAX_COMPILATION_CACHE_DIR': str(folder / 'compiled'),
            'JAX_COMPILATION_CACHE_MAX_SIZE': str(2**30),  # with any limit jax locks the folder
            'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.1',
            **(settings or {}),
        }
        self._process = subprocess.Popen(
            [sys.executable, '-W', 'ignore', '-c', FORKER],
            cwd=place,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, *arguments: str) -> int:
        """Starts a command line and returns its process."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([str(self._output), arguments]) + '\n')
        self._process.stdin.flush()
        return int(self._read())

    def wait(self) -> int:
        """The exit status of the command line that was started last: negative after a signal that ended it."""
        return int(self._read())

    def run(self, *arguments: str) -> int:
        """Runs a command line and returns its exit status."""
        self.start(*arguments)
        return self.wait()

    def kill_when(self, ready: Callable[[], bool], number: int, *arguments: str) -> int:
        """Runs a command line, sends it signal `number` once `ready` holds, and returns its exit status."""
        process = self.start(*arguments)
        while not ready():
            if has_ended(process):
                return self.wait()
            time.sleep(0.001)
        os.kill(process, number)
        return self.wait()

    def said(self) -> str:
        """What all commands have printed so far."""
        return self._output.read_text(errors='replace') if self._output.exists() else ''

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f'the process of the forks has ended: {self.said()[-2000:]}'
        return line


def has_ended(process: int) -> bool:
    """Whether a process is gone, or dead and not yet waited for."""
    try:
        return Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()[0] == 'Z'
    except (FileNotFoundError, ProcessLookupError):
        return True


def begin(folder: Path, x: Experiment) -> str:
    """Begins a run folder that holds nothing but its experiment, and returns the argument that runs it."""
    folder.mkdir()
    (folder / 'experiment.json').write_text(json.dumps(to_wire(x).to_dict()))
    return f'--workdir={folder}'


def logged(workdir: Path) -> int:
    """The last step in metrics.jsonl; 0 if there is none."""
    return max((int(line['step']) for line in read_metrics(workdir)), default=0)


TIMED = ('seconds', 'wall', 'train/tokens_per_second')
MEASURED = ('train_seconds', 'wall_seconds', 'tokens_per_second', 'peak_memory_bytes', 'latency_seconds', 'pass_seconds')


def describe_run(workdir: Path) -> dict[str, Any]:
    """All that a finished run leaves and that must be the same whatever happened to it: bits, but no times."""
    from research.checkpoint import read_params

    step, params = read_params(workdir / 'checkpoints', workdir.name)
    result = json.loads((workdir / 'result.json').read_text())
    metrics = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    return {
        'step': step,
        'params': {'/'.join(path): leaf.tobytes() for path, leaf in flatten(params)},
        'metrics': [{name: value for name, value in line.items() if name not in TIMED} for line in metrics],
        'result': {name: value for name, value in result.items() if name not in MEASURED},
        'predictions': {path.name: path.read_bytes() for path in sorted(workdir.glob('*/predictions.jsonl'))},
        'experiment': {name: value for name, value in read_object(workdir / 'experiment.json').items() if name != 'machine'},
    }


def flatten(tree: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """The leaves of nested dicts with their paths."""
    if isinstance(tree, dict):
        return [each for name, value in sorted(tree.items()) for each in flatten(value, (*path, name))]
    return [(path, tree)]
