"""Broken steps, end to end: skipped, gone back past, refused; and the same bits where the run was killed in between."""

import dataclasses
import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from research import train
from research.checkpoint import Checkpoints, read_params
from research.checkpoint_files import list_steps
from research.data import feed
from research.data.feed import Feed
from research.errors import Interrupted, UserError
from research.experiment import Experiment
from research.runs import folder as run_folder
from research.runs import run as runs
from research.runs.replaying import replay
from tests.faults.forks import TIMED

Tiny = Callable[..., Experiment]
Start = Callable[..., dict[str, Any]]


class Killed(BaseException):
    """Ends a run between two steps, as a kill does."""


class Poisoned:
    """The batches of a feed, some of which make the loss NaN, or huge.

    The run is killed where it asks for the batch of step `dies`, and gets SIGTERM where it asks for that of step `stops`.
    """

    def __init__(self, train: Any, nan: set[int], huge: set[int], dies: int, stops: int) -> None:
        self._train, self._nan, self._huge, self._dies, self._stops = train, nan, huge, dies, stops

    def __getitem__(self, step: int) -> Any:
        if step + 1 == self._stops:
            os.kill(os.getpid(), signal.SIGTERM)
        if step + 1 == self._dies:
            raise Killed
        batch = dict(self._train[step])
        weights = batch['masked_weights'].astype(np.float32)
        if step + 1 in self._nan:
            weights = weights * np.float32('nan')
        if step + 1 in self._huge:  # weights are divided out again, so other pieces than the right ones must be asked for
            batch['masked_labels'] = np.full_like(batch['masked_labels'], 7)
        return {**batch, 'masked_weights': weights}


@pytest.fixture(scope='module')
def start_in(tiny: Tiny) -> Callable[..., dict[str, Any]]:
    """start_in(workdir, nan, huge, dies, stops, changes) -> the result of a run of 24 steps, some broken, a checkpoint every 4."""
    first, load = jax.devices()[:1], runs.load_data

    def start(workdir: Path, nan: Any = (), huge: Any = (), dies: int = 0, stops: int = 0, changes: Any = None) -> dict[str, Any]:
        def poisoned(*given: Any) -> Feed:
            feed = load(*given)
            return dataclasses.replace(feed, train=Poisoned(feed.train, set(nan), set(huge), dies, stops))

        x = tiny('bert', {'run.steps': 24, 'run.checkpoint_every': 4, 'run.log_every': 3, 'optimizer.lr': 1e-3, **(changes or {})})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runs, 'load_data', poisoned)
            patch.setattr(jax, 'devices', lambda: first)
            return runs.run(x, workdir)

    return start


@pytest.fixture
def start(start_in: Callable[..., dict[str, Any]], tmp_path: Path, one_device: None) -> Start:
    """start(name, …) -> the result of start_in, in a folder of this test's."""
    return lambda name, **given: start_in(tmp_path / name, **given)


BAD = {3, 11, 12, 13, 14, 22}


@pytest.fixture(scope='module')
def whole(start_in: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose steps BAD are broken."""
    workdir = tmp_path_factory.mktemp('runs') / 'whole'
    start_in(workdir, nan=BAD)
    return workdir


def lines(folder: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl without what is measured by a clock."""
    return [{name: line[name] for name in line if name not in TIMED} for line in run_folder.read_metrics(folder)]


def params(folder: Path, step: int) -> Any:
    found = Checkpoints(folder / 'checkpoints', read_only=True)
    try:
        return found.params(step)
    finally:
        found.close()


def assert_same(one: Path, two: Path) -> None:
    """The same weights to the bit, the same numbers, each of them once."""
    (step, left), (other, right) = (read_params(folder / 'checkpoints', 'run') for folder in (one, two))
    assert step == other
    jax.tree.map(np.testing.assert_array_equal, left, right)
    assert lines(one) == lines(two)
    results = [json.loads((folder / 'result.json').read_text())['metrics'] for folder in (one, two)]
    assert results[0] == results[1]


def test_a_broken_step_is_skipped_and_named(start: Start, tmp_path: Path) -> None:
    start('run', nan={6, 7}, changes={'run.keep': 9, 'run.checkpoint_every': 1, 'run.steps': 8})
    log = (tmp_path / 'run' / 'log.txt').read_text()
    assert 'step 6: gradient_norm, loss, mlm is not finite; skipped, 1 in a row (run.max_skipped=3)' in log
    assert 'step 7: gradient_norm, loss, mlm is not finite; skipped, 2 in a row' in log and 'goes back' not in log
    skipped = [line for line in lines(tmp_path / 'run') if 'train/skipped' in line]
    assert [line['step'] for line in skipped] == [6, 7] and all(line['train/skipped'] == 1 for line in skipped)
    assert 'train/loss' not in skipped[0] and skipped[0]['train/learning_rate'] > 0
    found = [params(tmp_path / 'run', step) for step in (5, 7, 8)]
    jax.tree.map(np.testing.assert_array_equal, found[0], found[1])
    assert np.abs(found[2]['encoder']['word'] - found[1]['encoder']['word']).max() > 0


def test_too_many_in_a_row_go_back_to_the_last_good_checkpoint_and_past_them(start: Start, tmp_path: Path) -> None:
    start('run', nan={11, 12, 13, 14}, changes={'run.keep': 9, 'run.steps': 16})
    log = (tmp_path / 'run' / 'log.txt').read_text()
    assert 'goes back to the checkpoint of step 8, and on after step 14, without the batches between' in log
    found = [params(tmp_path / 'run', step) for step in (8, 12, 14, 16)]
    jax.tree.map(np.testing.assert_array_equal, found[0], found[2])
    assert np.abs(found[1]['encoder']['word'] - found[0]['encoder']['word']).max() > 0, 'steps 9 and 10 had moved the weights'
    assert np.abs(found[3]['encoder']['word'] - found[2]['encoder']['word']).max() > 0
    assert [line['step'] for line in lines(tmp_path / 'run') if line.get('guard/back_to') == 8] == [14]


@pytest.mark.parametrize('dies', [12, 14, 16, 17])
def test_a_run_that_goes_back_and_is_killed_on_the_way_ends_with_the_same_bits(
    start: Start, whole: Path, tmp_path: Path, dies: int
) -> None:
    with pytest.raises(Killed):
        start('killed', nan=BAD, dies=dies)
    start('killed', nan=BAD)
    assert_same(whole, tmp_path / 'killed')


def test_the_checkpoint_of_a_signal_is_none_to_go_back_to(start: Start, tmp_path: Path) -> None:
    changes = {'run.keep': 1, 'run.max_skipped': 0}
    start('whole', nan={11}, changes=changes)
    with pytest.raises(Interrupted):
        start('stopped', nan={11}, stops=10, changes=changes)
    start('stopped', nan={11}, changes=changes)
    assert 'stopped by SIGTERM: the state of step 10 is saved' in (tmp_path / 'stopped' / 'log.txt').read_text()
    assert 'goes back to the checkpoint of step 8' in (tmp_path / 'stopped' / 'log.txt').read_text()
    assert_same(tmp_path / 'whole', tmp_path / 'stopped')


def test_a_run_that_breaks_again_there_stops_with_one_line(start: Start, tmp_path: Path) -> None:
    bad = {*range(11, 25)}
    said = []
    for _ in range(2):  # the same command again says the same
        with pytest.raises(UserError) as refused:
            start('run', nan=bad)
        said.append(str(refused.value))
    assert said[0] == said[1]
    assert said[0].startswith(
        'step 18: gradient_norm, loss, mlm is not finite; again after the run went back, and on after step 14'
    )
    assert '(4 steps in a row were skipped, run.max_skipped=3). Try a lower --config' in said[0] and '\n' not in said[0]
    assert not (tmp_path / 'run' / 'result.json').exists()


def test_a_run_that_broke_again_later_goes_back_again(start: Start, tmp_path: Path) -> None:
    start('run', nan={6, 7, 8, 9, 18, 19, 20, 21})
    log = (tmp_path / 'run' / 'log.txt').read_text()
    assert 'goes back to the checkpoint of step 4, and on after step 9' in log
    assert 'goes back to the checkpoint of step 16, and on after step 21' in log


def test_the_last_steps_may_be_those_that_are_passed_over(start: Start, tmp_path: Path) -> None:
    result = start('run', nan={21, 22, 23, 24}, changes={'run.keep': 9})
    assert result['steps'] == 24 and np.isfinite(result['metrics']['dev/mlm'])
    jax.tree.map(np.testing.assert_array_equal, params(tmp_path / 'run', 20), params(tmp_path / 'run', 24))


def test_without_a_checkpoint_there_is_nowhere_to_go_back_to(start: Start) -> None:
    with pytest.raises(
        UserError,
        match=r'step 2: gradient_norm, loss, mlm is not finite; there is no checkpoint from before that .*run.max_skipped=0\)',
    ):
        start('run', nan={2}, changes={'run.max_skipped': 0})


def test_a_run_of_broken_weights_is_refused_at_its_evaluation(start: Start, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'step 2: dev/mlm, .*dev/nsp, .* is not finite: the weights are broken'):
        start('run', changes={'optimizer.lr': 1e38, 'optimizer.warmup': 0.0, 'run.steps': 2})


# ---- Spikes ---------------------------------------------------------------------------------------------------------------------


def test_a_loss_far_above_those_before_goes_back_too(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All pieces of some batches are replaced by one that is rare, so that their losses are finite, and high."""
    monkeypatch.setattr(train, 'WINDOW', 8)
    changes = {'run.spike': 6.0, 'run.max_skipped': 1, 'optimizer.lr': 1e-2, 'run.log_every': 1}
    start('whole', huge={14, 19, 20}, changes=changes)
    log = (tmp_path / 'whole' / 'log.txt').read_text()
    assert re.search(r'step 14: the loss is a spike \(\d+\.\d{4}\); skipped, 1 in a row \(run.max_skipped=1\)', log), log
    assert 'goes back to the checkpoint of step 16, and on after step 20, without the batches between' in log
    spikes = [line for line in lines(tmp_path / 'whole') if 'train/skipped' in line]
    assert [line['step'] for line in spikes] == [14, 19, 20] and all(line['train/loss'] > 0 for line in spikes)
    with pytest.raises(Killed):
        start('killed', huge={14, 19, 20}, dies=23, changes=changes)
    start('killed', huge={14, 19, 20}, changes=changes)
    assert_same(tmp_path / 'whole', tmp_path / 'killed')


def test_spikes_are_not_looked_for_unless_asked(start: Start, tmp_path: Path) -> None:
    start('run', huge={14, 19, 20}, changes={'optimizer.lr': 1e-2})
    assert not [line for line in lines(tmp_path / 'run') if 'train/skipped' in line]


def test_replay_goes_back_where_the_run_did(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, workdir, said = {11, 12, 13, 14}, tmp_path / 'run', list[str]()
    start('run', nan=bad, changes={'run.keep': 9, 'run.steps': 16, 'run.log_every': 1})
    load = feed.load

    def poisoned(*given: Any, **named: Any) -> Feed:
        found = load(*given, **named)
        return dataclasses.replace(found, train=Poisoned(found.train, bad, set(), 0, 0))

    monkeypatch.setattr(feed, 'load', poisoned)
    assert list_steps(workdir / 'checkpoints') == [4, 8, 12, 14, 16]
    for gone in (16, 14):
        shutil.rmtree(workdir / 'checkpoints' / str(gone))
    with pytest.raises(
        UserError, match='after step 14 the run went back to step 8, whose checkpoint is gone: give a --step up to 14'
    ):
        replay(workdir, 16, said.append)
    shutil.rmtree(workdir / 'checkpoints' / '12')
    assert replay(workdir, 16, said.append), said
    assert f'{workdir}: steps 9 to 16, from the checkpoint of step 8' in said
