"""Runs that are killed on eight devices and go on on fewer: the same batches bit for bit, the same parameters to rounding."""

import hashlib
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from research import parallel
from research.checkpoint import read_params
from research.experiment import Experiment
from research.runs import run as runs
from research.runs.folder import read_metrics
from tests.faults.forks import Forker, begin

STEPS, KILLED = 8, 5
# Without dropout, so that roundings stay small; with weights that move far, so that a lost step shows.
ELASTIC = {
    'model.dropout': 0.0,
    'model.attention_dropout': 0.0,
    'optimizer.name': 'sgd',
    'optimizer.lr': 0.5,
    'optimizer.warmup': 0.0,
    'optimizer.weight_decay': 0.0,
    'run.batch': 16,
    'run.accumulate': 2,
    'run.steps': STEPS,
    'run.log_every': 1,
    'run.checkpoint_every': 2,
    'data.first_length': 16,
    'data.first_share': 0.5,
}


class Killed(BaseException):
    """What ends a run in the middle of a step, as a kill does."""


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[int, str]]:
    """session(x, workdir, devices, ends) -> the hash of each batch; the process `ends` before a step's batch is placed."""
    everything = jax.devices()

    def session(x: Experiment, workdir: Path, devices: int, first: int = 0, ends: int = 0) -> dict[int, str]:
        seen: dict[int, str] = {}
        whole = parallel.make_plan

        def make_plan(*arguments: Any) -> parallel.Plan:
            plan = whole(*arguments)

            def put_batch(batch: Any) -> Any:
                if 'masked_labels' in batch and first + len(seen) < STEPS:  # no batch of an evaluation
                    content = [(name, str(each.dtype), each.shape, each.tobytes()) for name, each in sorted(batch.items())]
                    if first + len(seen) + 1 == ends:
                        raise Killed
                    seen[first + len(seen) + 1] = hashlib.sha256(repr(content).encode()).hexdigest()
                return plan.put_batch(batch)

            return plan._replace(put_batch=put_batch)

        with monkeypatch.context() as changed:
            changed.setattr(parallel, 'make_plan', make_plan)
            changed.setattr(jax, 'devices', lambda: everything[:devices])
            if ends:
                with pytest.raises(Killed):
                    runs.run(x, workdir)
            else:
                runs.run(x, workdir)
        return seen

    return session


@pytest.fixture
def elastic(tiny: Callable[..., Experiment], text: dict[str, Any], teacher: Path) -> Callable[..., Experiment]:
    """elastic(changes) -> a distillation on a mixture of two sources, packed, with two lengths."""

    def elastic(**changes: Any) -> Experiment:
        source = text['data.source']
        mixed = {'data.source': f'2 {source} + 1 {source}', 'data.pack': True, 'teacher': str(teacher)}
        return tiny('distilbert', {**ELASTIC, **mixed, **{name.replace('__', '.'): value for name, value in changes.items()}})

    return elastic


def furthest(one: Any, two: Any) -> float:
    return max(jax.tree.leaves(jax.tree.map(lambda x, y: float(np.abs(x - y).max()), one, two)))


@pytest.mark.slow
@pytest.mark.parametrize('kind', parallel.PARALLEL)
def test_a_run_continues_on_fewer_devices(elastic: Callable, session: Callable, tmp_path: Path, kind: str) -> None:
    x = elastic(run__parallel=kind)
    batches = session(x, tmp_path / 'whole', 8)
    assert len(set(batches.values())) == STEPS
    _, whole = read_params(tmp_path / 'whole' / 'checkpoints', 'whole')
    assert session(x, tmp_path / 'killed', 8, ends=KILLED) == {step: batches[step] for step in range(1, KILLED)}
    saved = KILLED - 1
    for devices in (4, 2, 1):
        workdir = tmp_path / str(devices)
        shutil.copytree(tmp_path / 'killed', workdir)
        resumed = session(x, workdir, devices, first=saved)
        assert resumed == {step: batches[step] for step in range(saved + 1, STEPS + 1)}
        step, found = read_params(workdir / 'checkpoints', 'found')
        assert step == STEPS and furthest(whole, found) < 1e-6
        assert f'continues from the checkpoint of step {saved}' in (workdir / 'log.txt').read_text()
        sessions = json.loads((workdir / 'environment.json').read_text())['sessions']
        assert sessions[-1]['devices']['count'] == devices


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['jit', 'fsdp'])
def test_processes_that_are_killed_continue_on_other_devices(elastic: Callable, tmp_path: Path, kind: str) -> None:
    """Real kills, first of eight devices, then of two; the run ends on four."""
    x = elastic(run__parallel=kind, run__steps=40)
    forkers = {devices: Forker(tmp_path / f'forks-{devices}', devices) for devices in (8, 2, 4)}
    workdir = tmp_path / 'killed'
    try:
        assert forkers[8].run(begin(tmp_path / 'whole', x)) == 0, forkers[8].said()
        argument = begin(workdir, x)
        for devices, saved in ((8, 4), (2, 12)):

            def ready(saved: int = saved) -> bool:
                return any(path.name.isdigit() and int(path.name) >= saved for path in workdir.glob('checkpoints/*'))

            assert forkers[devices].kill_when(ready, signal.SIGKILL, argument) == -signal.SIGKILL, forkers[devices].said()
        assert forkers[4].run(argument) == 0, forkers[4].said()
    finally:
        for forker in forkers.values():
            forker.close()
    one, two = (read_params(tmp_path / name / 'checkpoints', name) for name in ('whole', 'killed'))
    assert one[0] == two[0] == 40 and furthest(one[1], two[1]) < 1e-5  # 40 steps of rounding, not 8
    steps = [[line['step'] for line in read_metrics(tmp_path / name) if 'train/loss' in line] for name in ('whole', 'killed')]
    assert steps[0] == steps[1] == list(range(1, 41))
