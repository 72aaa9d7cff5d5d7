"""Runs that are killed 25 times leave what undisturbed ones do, bit for bit: a table of cases.

A way to train that is new joins by a line of CASES.
"""

import dataclasses
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from research.checkpoint import UNFINISHED
from research.experiment import Experiment
from research.parallel import PARALLEL
from research.wire import to_wire
from tests.faults.forks import Forker, describe_run

KILLS = 25
STEPS = 60


@dataclasses.dataclass(frozen=True)
class Case:
    """How a run that is killed trains: a recipe of configs/, changes of its keys, and the number of devices."""

    recipe: str
    changes: dict[str, Any]
    devices: int = 1
    fixtures: tuple[str, ...] = ()  # of these fixtures the changes are added, too


CASES = {
    'pretraining': Case('bert', {}),
    **{f'{name}-4': Case('albert', {'run.parallel': name, 'run.accumulate': 2}, devices=4) for name in PARALLEL},
    'distillation': Case('distilbert', {'data.first_length': 16, 'data.first_share': 0.5}, fixtures=('teacher',)),
    'task': Case('finetune', {'run.evaluate_batches': 0, 'data.select': 'dev', 'optimizer.ema': 0.9}, fixtures=('examples',)),
}


@pytest.fixture
def define(tiny: Callable[..., Experiment], request: pytest.FixtureRequest) -> Callable[..., Experiment]:
    """define(case, changes) -> the experiment of a case, whose every step is logged and every second one saved."""

    def define(case: Case, **changes: Any) -> Experiment:
        asked: dict[str, Any] = {
            'run.batch': 8 * case.devices,
            'run.steps': STEPS,
            'run.checkpoint_every': 2,
            'run.evaluate_every': 5,
        }
        if 'examples' in case.fixtures:
            asked |= request.getfixturevalue('examples') | {'start': str(request.getfixturevalue('teacher'))}
        if 'teacher' in case.fixtures:
            asked['teacher'] = str(request.getfixturevalue('teacher'))
        return tiny(case.recipe, {**asked, **case.changes, **{name.replace('__', '.'): each for name, each in changes.items()}})

    return define


def begin(folder: Path, x: Experiment) -> str:
    """Begins a run folder that holds nothing but its experiment, and returns the argument that runs it."""
    folder.mkdir()
    (folder / 'experiment.json').write_text(json.dumps(to_wire(x).to_dict()))
    return f'--workdir={folder}'


def moments(
    workdir: Path, cache: Path, duration: float, draw: random.Random
) -> Iterator[tuple[str, Callable[[], Callable[[], bool]]]]:
    """For each kill the kind of its moment, and what makes, when the process starts, the question whether the moment has come."""

    def after(seconds: float) -> Callable[[], Callable[[], bool]]:
        def made() -> Callable[[], bool]:
            end = time.monotonic() + seconds
            return lambda: time.monotonic() >= end

        return made

    def while_saving() -> Callable[[], bool]:
        return lambda: any(path.name.endswith(UNFINISHED) for path in workdir.glob('checkpoints/*'))

    def while_preparing() -> Callable[[], bool]:
        shutil.rmtree(cache, ignore_errors=True)  # the data are prepared anew, to the same bits
        return lambda: any(cache.rglob('*'))

    for kill in range(KILLS):
        kind = ('random', 'saving', 'random', 'preparing', 'random')[kill % 5]
        made = {'random': after(draw.uniform(0, duration)), 'saving': while_saving, 'preparing': while_preparing}[kind]
        yield kind, made


@pytest.mark.slow
@pytest.mark.parametrize('name', CASES)
def test_25_kills_change_no_bit(name: str, define: Callable[..., Experiment], tmp_path: Path) -> None:
    case, draw = CASES[name], random.Random(name)
    forker = Forker(tmp_path / 'forks', case.devices)
    whole, killed, cache = tmp_path / 'whole', tmp_path / 'killed', tmp_path / 'cache'
    try:
        assert forker.run(begin(whole, define(case, machine__cache=str(tmp_path / 'cache-of-whole')))) == 0, forker.said()
        first = json.loads((whole / 'metrics.jsonl').read_text().splitlines()[0])['wall']
        argument, found = begin(killed, define(case, machine__cache=str(cache))), []
        for kind, made in moments(killed, cache, 1.5 * first, draw):
            status = forker.kill_when(made(), signal.SIGKILL, argument)
            assert status in (0, -signal.SIGKILL), forker.said()
            found.append((kind, status))
            if status == 0:  # it is done: the end is killed, too
                os.remove(killed / 'result.json')
        assert forker.run(argument) == 0, forker.said()
    finally:
        forker.close()
    deaths = [kind for kind, status in found if status]
    assert len(deaths) >= 20 and set(deaths) >= {'random', 'saving'}, found
    one, two = describe_run(whole), describe_run(killed)
    assert one['step'] and [line['step'] for line in two['metrics'] if 'train/loss' in line] == list(range(1, STEPS + 1))
    assert {part for part in one if one[part] != two[part]} == set()
