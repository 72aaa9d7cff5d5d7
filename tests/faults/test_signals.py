"""SIGTERM and SIGINT: the state is saved within a step, the status is the signal's own, and the run goes on bit for bit."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from research.experiment import Experiment
from research.records import read_lines
from research.wire import to_wire
from tests.faults.forks import Forker, describe_run


@pytest.fixture(scope='module')
def forker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forker]:
    """A process of forks for the tests of this file."""
    forker = Forker(tmp_path_factory.mktemp('forks'))
    yield forker
    forker.close()


@pytest.fixture
def begin(tiny: Callable[..., Experiment], tmp_path: Path) -> Callable[[str], Path]:
    """begin(name) -> a run folder that holds nothing but an experiment, saved at its end alone."""

    def begin(name: str) -> Path:
        x = tiny('bert', {'run.steps': 40, 'run.evaluate_every': 20, 'run.evaluate_batches': 0, 'run.batch': 8})
        (tmp_path / name).mkdir()
        (tmp_path / name / 'experiment.json').write_text(json.dumps(to_wire(x).to_dict()))
        return tmp_path / name

    return begin


def newest(workdir: Path) -> int:
    """The step of the newest checkpoint; 0 if there is none."""
    return max((int(path.name) for path in workdir.glob('checkpoints/*') if path.name.isdecimal()), default=0)


def logged(workdir: Path) -> int:
    """The last step in metrics.jsonl; 0 if there is none."""
    return max((int(line['step']) for line in read_lines(workdir / 'metrics.jsonl')), default=0)


def test_a_signal_costs_no_step_and_no_bit(forker: Forker, begin: Callable[[str], Path]) -> None:
    whole, stopped = begin('whole'), begin('stopped')
    assert forker.run(f'--workdir={whole}') == 0, forker.said()
    moments: list[tuple[int, int, Callable[[], Any]]] = [
        (signal.SIGTERM, 143, lambda: logged(stopped) >= 3),
        (signal.SIGINT, 130, lambda: logged(stopped) >= 12),
        (signal.SIGTERM, 143, lambda: logged(stopped) >= 19),  # about the evaluation of step 20
    ]
    last = 0
    for number, status, ready in moments:
        before = forker.said()
        assert forker.kill_when(ready, number, f'--workdir={stopped}') == status, forker.said()
        assert newest(stopped) > last and newest(stopped) - logged(stopped) in (0, 1)
        last = newest(stopped)
        said = forker.said()[len(before) :]
        assert f'stopped by {signal.Signals(number).name}: the state of step {last} is saved' in said
        assert said.splitlines()[-1] == f'stopped: the same command continues from step {last}' and 'Traceback' not in said
    assert forker.run(f'--workdir={stopped}') == 0, forker.said()
    one, two = describe_run(whole), describe_run(stopped)
    assert {part for part in one if one[part] != two[part]} == set()


def test_a_signal_before_the_first_step_ends_the_command(forker: Forker, begin: Callable[[str], Path]) -> None:
    workdir = begin('early')
    before = len(forker.said())
    assert forker.kill_when(lambda: (workdir / 'environment.json').exists(), signal.SIGTERM, f'--workdir={workdir}') == 143
    assert 'Traceback' not in forker.said()[before:]
    assert forker.run(f'--workdir={workdir}') == 0
