"""SIGTERM and SIGINT: the state is saved within a step, the status is the signal's own, and the run goes on bit for bit."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

from research.checksums import list_steps
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
    """A run that evaluates and saves at steps 20 and 40."""
    return tiny('bert', {'run.steps': 40, 'run.evaluate_every': 20, 'run.evaluate_batches': 0, 'run.batch': 8})


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


def test_a_signal_before_the_first_step_ends_the_command(forker: Forker, x: Experiment, tmp_path: Path) -> None:
    workdir = tmp_path / 'early'
    argument = begin(workdir, x)
    before = len(forker.said())
    assert forker.kill_when(lambda: (workdir / 'environment.json').exists(), signal.SIGTERM, argument) == 143
    assert 'Traceback' not in forker.said()[before:]
    assert forker.run(argument) == 0
