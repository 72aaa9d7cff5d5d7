"""Plans: the placement of batches and states, and refused batches. tests/test_laws.py tests that all rows compute one update."""

import os
import re
import subprocess
import sys
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import parallel
from research.errors import UserError


@pytest.mark.parametrize('name', parallel.PARALLEL)
def test_a_plan_divides_batches_and_puts_scalars_on_all_devices(name: str) -> None:
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
        ('jit', 12, 1, 'run.batch=12 is not a multiple of 8 device(s) × run.accumulate=1; give --config.run.batch=8 or 16'),
        ('pmap', 40, 4, 'run.batch=40 is not a multiple of 8 device(s) × run.accumulate=4; give --config.run.batch=32 or 64'),
        ('jit', 3, 2, 'give --config.run.batch=16'),
        ('jitt', 8, 1, "no run.parallel named 'jitt'; did you mean 'jit'? (there are: jit, pmap, fsdp)"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(name: str, batch: int, accumulate: int, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        parallel.make_plan(name, batch, accumulate)


def test_a_process_has_the_rows_of_its_devices_wherever_the_mesh_puts_them() -> None:
    held = {'a': slice(2, 3), 'b': slice(0, 1)}  # places of two of four devices
    divided: Any = types.SimpleNamespace(
        mesh=types.SimpleNamespace(shape={'data': 4}),
        addressable_devices_indices_map=lambda shape: {device: (place,) for device, place in held.items()},
    )
    assert parallel.list_parts(divided).tolist() == [0, 2]
    assert parallel.list_rows(divided, 8).tolist() == [0, 1, 4, 5]
    assert parallel.make_plan('jit', 16, 1).rows(16).tolist() == list(range(16))


@pytest.mark.parametrize(
    ('name', 'batch', 'model_devices', 'message'),
    [
        ('jit', 8, 3, 'run.model_devices=3 does not divide the 8 device(s): give --config.run.model_devices=1 or 2 or 4 or 8'),
        ('fsdp', 8, 16, 'run.model_devices=16 does not divide the 8 device(s): give --config.run.model_devices=1 or 2 or 4 or 8'),
        ('fsdp', 6, 2, 'run.batch=6 is not a multiple of 4 groups of run.model_devices=2 × run.accumulate=1; give'),
        ('fsdp', 6, 2, 'give --config.run.batch=4 or 8'),
    ],
)
def test_a_mesh_that_the_devices_do_not_fill_is_refused(name: str, batch: int, model_devices: int, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        parallel.make_plan(name, batch, 1, model_devices)


@pytest.mark.parametrize(
    ('platform', 'capability', 'found'),
    [('gpu', '9.0', 'cuda'), ('gpu', '7.5', 'gpu'), ('gpu', 'gfx90a', 'gpu'), ('tpu', None, 'tpu'), ('cpu', None, 'cpu')],
)
def test_a_platform_is_named(monkeypatch: pytest.MonkeyPatch, platform: str, capability: str | None, found: str) -> None:
    device = types.SimpleNamespace(platform=platform, compute_capability=capability)
    monkeypatch.setattr(jax, 'devices', lambda: [device])
    assert parallel.find_platform() == found


def test_devices_are_described() -> None:
    assert parallel.describe_devices() == {'platform': 'cpu', 'kind': 'cpu', 'count': 8, 'processes': 1}
    assert parallel.read_peak_memory() is None


# ---- The same bits in every process ---------------------------------------------------------------------------------------------


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, 'devices', lambda: [types.SimpleNamespace(platform='gpu')])


def test_flags_are_added_before_jax_starts_and_not_after(monkeypatch: pytest.MonkeyPatch) -> None:
    jax.devices()
    assert parallel.is_started() and jax.device_count() == 8
    before = '--xla_gpu_autotune_level=0 --xla_dump_to=a --xla_gpu_autotune_level=4'
    monkeypatch.setenv('XLA_FLAGS', before)
    parallel.request_determinism()
    assert os.environ['XLA_FLAGS'] == before
    monkeypatch.setattr(parallel, 'is_started', lambda: False)
    for _ in range(2):
        parallel.request_determinism()
        assert os.environ['XLA_FLAGS'] == ' '.join(['--xla_dump_to=a', *parallel.DETERMINISTIC])
    monkeypatch.delenv('XLA_FLAGS')
    parallel.request_determinism()
    assert os.environ['XLA_FLAGS'] == ' '.join(parallel.DETERMINISTIC)
    monkeypatch.setenv('XLA_FLAGS', 'flags.txt')
    parallel.request_determinism()
    assert os.environ['XLA_FLAGS'] == 'flags.txt'


def test_xla_knows_the_flags_and_jax_has_not_started_before() -> None:
    code = 'from research import parallel; print(parallel.is_started()); parallel.request_determinism(); import jax; jax.devices()'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert done.stdout == 'False\n' and done.returncode == 0, done.stderr


def test_what_determinism_costs_is_said(on_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('XLA_FLAGS', ' '.join(parallel.DETERMINISTIC))
    said = parallel.describe_determinism()
    assert all(flag in said for flag in parallel.DETERMINISTIC) and 'The price is slower steps' in said
    for given in ('', f'{" ".join(parallel.DETERMINISTIC)} --xla_gpu_autotune_level=4'):
        monkeypatch.setenv('XLA_FLAGS', given)
        with pytest.raises(UserError, match='jax has opened the GPU in this process already'):
            parallel.describe_determinism()


def test_on_a_cpu_determinism_is_free() -> None:
    assert parallel.describe_determinism().startswith('run.deterministic changes and costs nothing on CPU')


def test_a_way_that_works_in_one_process_only_refuses_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, 'process_count', lambda: 2)
    monkeypatch.setitem(parallel.PARALLEL, 'alone', parallel.Way(parallel.pmap))
    with pytest.raises(UserError, match="run.parallel='alone' works in one process only, but this run has 2; give 'jit'"):
        parallel.make_plan('alone', 16, 1)
    with pytest.raises(UserError, match='run.model_devices=2 works in one process only; give --config.run.model_devices=1'):
        parallel.make_plan('jit', 16, 1, 2)
