"""The executor of this machine: each run a process of its own, as many at once as there are devices."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple

from research.study.execution.attempt import HELD
from research.study.execution.monitor import Monitor
from research.study.execution.settings import How
from research.study.execution.slots import Slot, slots
from research.study.graph import needs
from research.study.ledger import RunState, record_failure, run_state, states
from research.study.study import Study

ROOT = Path(__file__).parents[3]
# What a run's process is started by, before the study's folder and the run's name.
COMMAND = (sys.executable, '-m', 'research.study', 'run')
TICK = 0.3  # seconds between two looks at the processes


class Child(NamedTuple):
    """A run under way: its process and what copies its output, the part of the machine that it has, its failures before."""

    process: subprocess.Popen[bytes]
    output: threading.Thread
    slot: Slot
    attempts: int


def execute(study: Study, folder: Path, names: list[str], how: How) -> None:
    """Runs `names`, each after what it starts from, and returns when none of them can go on.

    A run that another launcher works on is waited for. A crash is tried again `how.retries` times; a mistake in a definition, which
    would be made again, is not. A run ends with its launcher.
    """
    free = slots(how.jobs)
    stand = states(study, folder)
    monitor = Monitor(study, folder, stand)
    limits = {name: state.attempts + how.retries for name, state in stand.items()}
    children: dict[str, Child] = {}
    tried: set[str] = set()
    try:
        while True:
            for name in [name for name, child in children.items() if child.process.poll() is not None]:
                child = children.pop(name)
                end(child)
                free.insert(0, child.slot)
                account_for(folder / name, child)
            stand = states(study, folder)
            monitor.update(stand)
            for name in names:
                if free and name not in children and may_start(study, stand, name, limits[name], name in tried):
                    monitor.starts(name, stand[name])
                    children[name] = begin(folder, name, free.pop(0), monitor.say_output, stand[name].attempts)
                    tried.add(name)
            elsewhere = [name for name in names if stand[name].state == 'running' and name not in children]
            if not children and not elsewhere:
                return
            time.sleep(TICK)
    finally:
        for child in children.values():
            child.process.kill()
        for child in children.values():
            end(child)
        monitor.close()


def may_start(study: Study, stand: dict[str, RunState], name: str, limit: int, tried: bool) -> bool:
    """Whether a run is to be started now: all that it starts from is done, and it was not tried in vain too often."""
    state = stand[name]
    if any(stand[needed].state != 'done' for needed in needs(study.runs[name])):
        return False
    if state.state == 'failed':
        return not tried or (state.again and state.attempts <= limit)
    return state.state in ('waiting', 'interrupted')


def begin(folder: Path, name: str, slot: Slot, say: Callable[[str], None], attempts: int) -> Child:
    """Starts the process of a run; what it prints goes to `.output/NAME.txt` and, line by line, to `say`."""
    cores = ','.join(map(str, slot.cores))
    command = [*COMMAND, str(folder), name, f'--cores={cores}', '--tied']
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get('PYTHONPATH', ''))))
    settings = {**os.environ, 'PYTHONPATH': path, **slot.settings}
    if 'JAX_COMPILATION_CACHE_DIR' not in settings:
        # With any limit jax locks the folder: no run reads what another has half written.
        settings |= {
            'JAX_COMPILATION_CACHE_DIR': str(folder.absolute() / '.compiled'),
            'JAX_COMPILATION_CACHE_MAX_SIZE': str(2**34),
        }
    process = subprocess.Popen(
        command,
        env=settings,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # an interruption of the launcher is the launcher's to pass on
    )
    output = folder / '.output' / f'{name}.txt'
    output.parent.mkdir(exist_ok=True)
    assert process.stdout is not None
    copier = threading.Thread(target=_copy, args=(process.stdout, output, say), daemon=True)
    copier.start()
    return Child(process, copier, slot, attempts)


def end(child: Child) -> None:
    """Waits for a process that ends and for the last of its output."""
    child.process.wait()
    child.output.join()
    assert child.process.stdin is not None
    child.process.stdin.close()


def _copy(lines: IO[bytes], output: Path, say: Callable[[str], None]) -> None:
    with lines, output.open('a', encoding='utf-8') as file:
        for line in lines:
            text = line.decode(errors='replace')
            file.write(text)
            file.flush()
            say(text.rstrip('\n'))


def account_for(workdir: Path, child: Child) -> None:
    """Writes down why a run ended that could not do so itself: a signal, or an exit from below Python."""
    state = run_state(workdir)
    status = child.process.returncode
    if state.state in ('done', 'running') or state.attempts > child.attempts or status in (0, HELD):
        return
    ended = f'killed by {signal.Signals(-status).name}' if status < 0 else f'ended with status {status}'
    out_of_memory = ' (the system does that when memory runs out)' if status == -signal.SIGKILL else ''
    record_failure(workdir, f'{ended}{out_of_memory}; its output: {workdir.parent / ".output" / workdir.name}.txt')
