"""Plans: what they put where, and batches that do not fit. That all rows compute one update is a law: tests/test_laws.py."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import parallel
from research.errors import UserError
from research.study.execution import slots


@pytest.mark.parametrize('name', parallel.PARALLEL)
def test_a_plan_divides_batches_and_keeps_states_whole(name: str) -> None:
    plan = parallel.make_plan(name, 16, 1)
    assert plan.devices == jax.device_count() == 8

    def function(first: jax.Array, frozen: jax.Array, batch: jax.Array, axis: str | None) -> jax.Array:
        total = batch.sum()
        return first + frozen * (total if axis is None else jax.lax.psum(total, axis))

    batch = plan.put_batch(np.arange(16.0, dtype=np.float32))
    assert name == 'pmap' or len({shard.device for shard in batch.addressable_shards}) == 8
    state = plan.put_state(jnp.asarray(1.0))
    for donate in (False, True):
        found = plan.compile(function, donate=donate)(state, jnp.asarray(2.0), batch)
        assert float(found) == 1 + 2 * 120
    assert state.is_deleted() or name == 'pmap'


@pytest.mark.parametrize(
    ('name', 'batch', 'accumulate', 'message'),
    [
        ('jit', 12, 1, 'run.batch=12 is not a multiple of 8 device(s) × run.accumulate=1; give --config.run.batch=8'),
        ('pmap', 40, 4, 'run.batch=40 is not a multiple of 8 device(s) × run.accumulate=4; give --config.run.batch=32'),
        ('jit', 3, 2, 'give --config.run.batch=16'),
        ('jitt', 8, 1, "no run.parallel named 'jitt'; did you mean 'jit'? (there are: jit, pmap)"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(name: str, batch: int, accumulate: int, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        parallel.make_plan(name, batch, accumulate)


def test_devices_are_described() -> None:
    assert parallel.describe_devices() == {'platform': 'cpu', 'kind': 'cpu', 'count': 8, 'processes': 1}
    assert parallel.read_peak_memory() is None


def test_a_run_over_several_processes_needs_jit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, 'process_count', lambda: 2)
    with pytest.raises(UserError, match="run.parallel='pmap' works in one process only, but this run has 2; give 'jit'"):
        parallel.make_plan('pmap', 16, 1)


def test_the_machine_is_divided_among_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: {0, 1, 2, 3, 4})
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    assert slots.make_slots(0) == [slots.Slot({}, (0, 1, 2, 3, 4))]
    assert [slot.cores for slot in slots.make_slots(2)] == [(0, 1), (2, 3, 4)]
    assert [slot.cores for slot in slots.make_slots(7)][:3] == [(0,), (0,), (1,)]
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '2,5')
    assert [slot.settings for slot in slots.make_slots(0)] == [{'CUDA_VISIBLE_DEVICES': '2'}, {'CUDA_VISIBLE_DEVICES': '5'}]
    fractions = [slot.settings.get('XLA_PYTHON_CLIENT_MEM_FRACTION') for slot in slots.make_slots(3)]
    assert fractions == ['0.450', None, '0.450']


def test_a_machine_that_does_not_tell_its_cores_is_divided_by_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, 'sched_getaffinity')
    monkeypatch.setattr(os, 'cpu_count', lambda: 2)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    assert slots.make_slots(1) == [slots.Slot({}, (0, 1))]


def test_gpus_are_counted_by_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    monkeypatch.setenv('PATH', str(tmp_path))
    assert slots.find_gpus() == []
    (tmp_path / 'nvidia-smi').write_text('#!/bin/sh\necho "GPU 0: H200 (UUID: x)"\necho "GPU 1: H200 (UUID: y)"\n')
    (tmp_path / 'nvidia-smi').chmod(0o755)
    assert slots.find_gpus() == ['0', '1']


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='the memory of glibc')
def test_memory_is_kept_between_steps() -> None:
    """In a process of its own: what is freed and asked for again is not faulted in again."""
    program = (
        'import resource, numpy as np\n'
        'from research.runs import memory\n'
        'memory.keep_memory()\n'
        'np.ones(2**26, np.uint8)\n'
        'before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n'
        'for _ in range(20): np.ones(2**26, np.uint8)\n'
        'print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n'
    )
    told = subprocess.run(
        [sys.executable, '-c', program], capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent
    )
    assert int(told.stdout) < 1000  # 16,384 pages each time without
