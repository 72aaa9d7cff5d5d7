"""The executor of this machine: each run is a process of its own, as many at once as there are devices."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple

from research.files import make_folder, open_append
from research.study.execution.attempt import GRACE, HELD
from research.study.execution.monitor import Monitor
from research.study.execution.settings import Execution
from research.study.execution.slots import Slot, make_slots
from research.study.execution.starting import may_start, refuse_gone
from research.study.states import record_failure, run_state, run_states
from research.study.study import Study
from research.version import ROOT

# The command of a run's process, to which the study's folder and the run's name are added.
COMMAND = (sys.executable, '-m', 'research.study', 'run')
TICK = 0.3  # seconds between two looks at the processes


class Child(NamedTuple):
    """A run under way: its process, the thread that copies its output, its slot, and its failed attempts before."""

    process: subprocess.Popen[bytes]
    output: threading.Thread
    slot: Slot
    attempts: int


def execute(study: Study, folder: Path, names: list[str], execution: Execution) -> None:
    """Runs `names`, each after the runs that it starts from, and returns when none of them can go on.

    It waits for a run that another launcher works on. After a crash a run is tried again, `execution.retries` times; after a
    mistake in its definition it is not, for it would fail again. A run ends with its launcher.
    """
    free = make_slots(execution.jobs)
    states = run_states(study.needs, folder)
    monitor = Monitor(study.name, folder, states)
    limits = {name: state.attempts + execution.retries for name, state in states.items()}
    children: dict[str, Child] = {}
    tried: set[str] = set()
    try:
        while True:
            for name in [name for name, child in children.items() if child.process.poll() is not None]:
                refuse_gone(folder)
                child = children.pop(name)
                wait_for_end(child)
                free.insert(0, child.slot)
                record_exit(folder / name, child)
            refuse_gone(folder)
            states = run_states(study.needs, folder)
            monitor.update(states)
            for name in names:
                if free and name not in children and may_start(study.needs, states, name, limits[name], name in tried):
                    monitor.say_start(name, states[name])
                    children[name] = begin(folder, name, free.pop(0), monitor.say_output, states[name].attempts)
                    tried.add(name)
            elsewhere = [name for name in names if states[name].state == 'running' and name not in children]
            if not children and not elsewhere:
                return
            time.sleep(TICK)
    finally:
        end_all(list(children.values()))
        monitor.close()


def begin(folder: Path, name: str, slot: Slot, say: Callable[[str], None], attempts: int) -> Child:
    """Starts the process of a run. Its output goes to `.output/NAME.txt` and, line by line, to `say`."""
    cores = ','.join(map(str, slot.cores))
    command = [*COMMAND, str(folder), name, f'--cores={cores}', '--tied']
    output = folder / '.output' / f'{name}.txt'
    make_folder(output.parent)
    file = open_append(output)
    process = subprocess.Popen(
        command,
        env={**os.environ, **make_path(), **slot.settings},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C reaches the launcher alone, which ends its runs
    )
    assert process.stdout is not None
    copier = threading.Thread(target=_copy, args=(process.stdout, file, say), daemon=True)
    copier.start()
    return Child(process, copier, slot, attempts)


def make_path() -> dict[str, str]:
    """The environment variable by which a process of another folder finds this code."""
    return {'PYTHONPATH': os.pathsep.join(filter(None, (str(ROOT), os.environ.get('PYTHONPATH', ''))))}


def end_all(children: list[Child]) -> None:
    """Ends runs by SIGTERM, after which they save their states; a second Ctrl-C, or GRACE seconds, end them at once."""
    for child in children:
        child.process.terminate()
    deadline = time.monotonic() + GRACE
    try:
        for child in children:
            child.process.wait(max(deadline - time.monotonic(), 0.0))
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        pass  # the steps since their last checkpoints are lost
    for child in children:
        child.process.kill()
        wait_for_end(child)


def wait_for_end(child: Child) -> None:
    """Waits until a process has ended and all of its output is copied."""
    child.process.wait()
    child.output.join()
    assert child.process.stdin is not None
    child.process.stdin.close()


def _copy(lines: IO[bytes], file: IO[str], say: Callable[[str], None]) -> None:
    with lines, file:
        for line in lines:
            text = line.decode(errors='replace')
            file.write(text)
            file.flush()
            say(text.rstrip('\n'))


def record_exit(workdir: Path, child: Child) -> None:
    """Writes failure.json for a run whose process could not: ended by a signal, or by an exit below Python."""
    state = run_state(workdir)
    status = child.process.returncode
    if state.state in ('done', 'running') or state.attempts > child.attempts or status in (0, HELD):
        return
    number = -status if status < 0 else status - 128 if status in (128 + signal.SIGTERM, 128 + signal.SIGINT) else 0
    ended = f'{"killed" if status < 0 else "stopped"} by {signal.Signals(number).name}' if number else f'ended with status {status}'
    out_of_memory = ' (the system does that when memory runs out)' if status == -signal.SIGKILL else ''
    record_failure(workdir, f'{ended}{out_of_memory}; its output: {workdir.parent / ".output" / workdir.name}.txt')
