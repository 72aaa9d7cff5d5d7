"""SIGTERM and SIGINT: the state is saved within a step, the status is the signal's own, and the run goes on bit for bit."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

from research.checkpoint_files import list_steps
from research.experiment import Experiment
from research.runs import signals
from tests.faults.forks import Forker, begin, describe_run, logged


@pytest.fixture(scope='module')
def forker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forker]:
    """A process of forks for the tests of this file."""
    forker = Forker(tmp_path_factory.mktemp('forks'))
    yield forker
    forker.close()


@pytest.fixture
def x(tiny: Callable[..., Experiment]) -> Experiment:
    """A run that evaluates and saves at steps 20 and 40: causal for 12 steps, by Muon, its masks and its length change."""
    asked: dict[str, Any] = {'run.steps': 40, 'run.evaluate_every': 20, 'run.evaluate_batches': 0, 'run.batch': 8, 'run.spike': 9.0}
    asked |= {'data.pairs': 'none', 'losses.nsp.weight': 0.0, 'data.causal.share': 1.0, 'data.causal.until': 0.3}
    asked |= {'data.first_length': 16, 'data.first_share': 0.6, 'optimizer.name': 'muon'}
    asked |= {'data.masking.rate': 0.3, 'data.masking.rate_end': 0.15, 'data.masking.mask_end': 0.6}
    return tiny('bert', asked)


def test_a_signal_costs_no_step_and_no_bit(forker: Forker, x: Experiment, tmp_path: Path) -> None:
    whole, stopped = tmp_path / 'whole', tmp_path / 'stopped'
    assert forker.run(begin(whole, x)) == 0, forker.said()
    argument = begin(stopped, x)
    moments: list[tuple[int, int, Callable[[], Any]]] = [
        (signal.SIGTERM, 143, lambda: logged(stopped) >= 3),
        (signal.SIGINT, 130, lambda: logged(stopped) >= 12),
        (signal.SIGTERM, 143, lambda: logged(stopped) >= 19),  # about the evaluation of step 20
    ]
    last = 0
    for number, status, ready in moments:
        before = forker.said()
        assert forker.kill_when(ready, number, argument) == status, forker.said()
        newest = list_steps(stopped / 'checkpoints')[-1]
        assert newest > last and newest - logged(stopped) in (0, 1)
        last = newest
        said = forker.said()[len(before) :]
        assert f'stopped by {signal.Signals(number).name}: the state of step {last} is saved' in said
        assert said.splitlines()[-1] == f'stopped: the same command continues from step {last}' and 'Traceback' not in said
    assert forker.run(argument) == 0, forker.said()
    one, two = describe_run(whole), describe_run(stopped)
    assert {part for part in one if one[part] != two[part]} == set()


def test_of_several_processes_none_stops_at_a_step_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with signals.postponed():
        assert signal.getsignal(signal.SIGTERM) != before
    monkeypatch.setattr(jax, 'process_count', lambda: 2)
    with signals.postponed():
        assert signal.getsignal(signal.SIGTERM) == before


def test_a_signal_before_the_first_step_ends_the_command(forker: Forker, tiny: Callable[..., Experiment], tmp_path: Path) -> None:
    workdir = tmp_path / 'early'
    argument = begin(workdir, tiny('bert', {'run.steps': 10**6, 'run.batch': 8, 'run.log_every': 1}))
    before = len(forker.said())
    assert forker.kill_when(lambda: (workdir / 'environment.json').exists(), signal.SIGTERM, argument) == 143
    assert 'Traceback' not in forker.said()[before:]
    assert forker.kill_when(lambda: logged(workdir) >= 3, signal.SIGTERM, argument) == 143


@pytest.mark.slow
def test_a_signal_to_one_of_two_processes_stops_both_after_the_same_step(
    root: Path, tiny: Callable[..., Experiment], tmp_path: Path
) -> None:
    workdir = tmp_path / 'run'
    argument = begin(workdir, tiny('bert', {'run.steps': 5000, 'run.checkpoint_every': 0, 'run.batch': 8, 'run.log_every': 1}))
    with socket.socket() as free:
        free.bind(('localhost', 0))
        port = str(free.getsockname()[1])
    peers = f'--coordinator=localhost:{port}', '--processes=2'
    outputs = [(tmp_path / f'{number}.txt').open('w+') for number in range(2)]
    processes = [
        subprocess.Popen(
            [sys.executable, '-W', 'ignore', 'launch.py', argument, *peers, f'--process={number}'],
            cwd=root,
            env={**os.environ, 'JAX_NUM_CPU_DEVICES': '1'},
            stdout=output,
            stderr=output,
        )
        for number, output in enumerate(outputs)
    ]
    try:
        while logged(workdir) < 5:
            assert all(process.poll() is None for process in processes), [output.name for output in outputs]
            time.sleep(0.05)
        processes[1].terminate()
        assert [process.wait(60) for process in processes] == [143, 143]
    finally:
        for process, output in zip(processes, outputs, strict=True):
            process.kill()
            output.close()
    (step,) = [path.name for path in (workdir / 'checkpoints').iterdir()]
    for output in outputs:
        assert f'stopped by SIGTERM: the state of step {step} is saved' in Path(output.name).read_text()
