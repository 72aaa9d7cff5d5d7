"""Runs that are killed again and again leave what undisturbed ones do, bit for bit: a table of cases.

A way to train that is new joins by a line of CASES.
"""

import dataclasses
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from research.checkpoint import UNFINISHED
from research.experiment import Experiment
from research.parallel import PARALLEL
from tests.faults.forks import Forker, begin, describe_run, logged


@dataclasses.dataclass(frozen=True)
class Case:
    """How a run that is killed trains: a recipe of configs/, changes of its keys, and the number of devices.

    kills: one case has many. The others have some at each kind of moment: what is theirs is what a checkpoint holds.
    """

    recipe: str
    changes: dict[str, Any]
    devices: int = 1
    kills: int = 9
    fixtures: tuple[str, ...] = ()  # of these fixtures the changes are added, too
    prepares: bool = True  # whether its data are prepared in the cache; those of a small task are encoded anew each time

    @property
    def steps(self) -> int:
        """So many that some are left for the last kills."""
        return 10 + 2 * self.kills


CASES = {
    'pretraining': Case('bert', {}, kills=25),
    **{f'{name}-4': Case('albert', {'run.parallel': name, 'run.accumulate': 2}, devices=4) for name in PARALLEL},
    'distillation': Case('distilbert', {'data.first_length': 16, 'data.first_share': 0.5}, fixtures=('teacher',)),
    'task': Case(
        'finetune',
        {'run.evaluate_batches': 0, 'data.select': 'dev', 'optimizer.ema': 0.9},
        fixtures=('examples',),
        prepares=False,
    ),
}


@pytest.fixture
def define(tiny: Callable[..., Experiment], request: pytest.FixtureRequest) -> Callable[..., Experiment]:
    """define(case, changes) -> the experiment of a case, whose every step is logged and every second one saved."""

    def define(case: Case, **changes: Any) -> Experiment:
        asked: dict[str, Any] = {
            'run.batch': 8 * case.devices,
            'run.steps': case.steps,
            'run.checkpoint_every': 2,
            'run.evaluate_every': 5,
        }
        if 'examples' in case.fixtures:
            asked |= request.getfixturevalue('examples') | {'start': str(request.getfixturevalue('teacher'))}
        if 'teacher' in case.fixtures:
            asked['teacher'] = str(request.getfixturevalue('teacher'))
        return tiny(case.recipe, {**asked, **case.changes, **{name.replace('__', '.'): each for name, each in changes.items()}})

    return define


@dataclasses.dataclass
class Victim:
    """A run that is to be killed, and where it and its data lie."""

    workdir: Path
    cache: Path
    steps: int
    draw: random.Random
    start_up: float = 1.0  # seconds that the last session took up to its first step

    def moment(self, kind: str) -> Callable[[], bool]:
        """Asked again and again from the start of a session on: whether the moment for a kill of this kind has come."""
        if kind == 'starting':  # imports aside: loading, compiling, restoring
            end = time.monotonic() + self.draw.uniform(0, self.start_up)
            return lambda: time.monotonic() >= end
        if kind == 'preparing':
            shutil.rmtree(self.cache, ignore_errors=True)  # the data are prepared anew, to the same bits
            return lambda: any(self.cache.rglob('*'))
        if kind == 'saving':
            return lambda: any(path.name.endswith(UNFINISHED) for path in self.workdir.glob('checkpoints/*'))
        if kind == 'ending':  # the evaluation after the last step
            return lambda: (self.workdir / 'checkpoints' / str(self.steps)).exists() and self.draw.random() < 0.02
        begun, more = time.monotonic(), logged(self.workdir) + self.draw.randint(1, 3)

        def stepping() -> bool:  # an evaluation is among the steps
            if logged(self.workdir) < more:
                return False
            self.start_up = time.monotonic() - begun
            return True

        return stepping


KINDS = ('stepping', 'saving', 'starting', 'stepping', 'preparing', 'stepping')


@pytest.mark.slow
@pytest.mark.parametrize('name', CASES)
def test_kills_change_no_bit(name: str, define: Callable[..., Experiment], tmp_path: Path) -> None:
    case = CASES[name]
    forker = Forker(tmp_path / 'forks', case.devices)
    whole, killed = tmp_path / 'whole', Victim(tmp_path / 'killed', tmp_path / 'cache', case.steps, random.Random(name))
    try:
        assert forker.run(begin(whole, define(case, machine__cache=str(tmp_path / 'cache-of-whole')))) == 0, forker.said()
        argument = begin(killed.workdir, define(case, machine__cache=str(killed.cache)))
        deaths, kinds = list[str](), [kind for kind in KINDS if case.prepares or kind != 'preparing']
        for number in range(100):
            kind = 'ending' if len(deaths) >= case.kills - 2 else kinds[number % len(kinds)]
            if forker.kill_when(killed.moment(kind), signal.SIGKILL, argument) == -signal.SIGKILL:
                deaths.append(kind)
            elif (killed.workdir / 'result.json').exists():  # it was quicker than the kill
                os.remove(killed.workdir / 'result.json')
            if len(deaths) == case.kills:
                break
        assert len(deaths) == case.kills and set(deaths) == {*kinds, 'ending'}, (deaths, forker.said())
        assert forker.run(argument) == 0, forker.said()
    finally:
        forker.close()
    one, two = describe_run(whole), describe_run(killed.workdir)
    assert [line['step'] for line in two['metrics'] if 'train/loss' in line] == list(range(1, case.steps + 1))
    assert {part for part in one if one[part] != two[part]} == set()
