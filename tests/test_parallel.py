"""Plans: the placement of batches and states, and refused batches. tests/test_laws.py tests that all rows compute one update."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import parallel
from research.errors import UserError


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


@pytest.mark.parametrize('first', [True, False])
def test_processes_that_wait_for_the_first_go_on_if_it_raises(monkeypatch: pytest.MonkeyPatch, first: bool) -> None:
    reached = []
    monkeypatch.setattr(jax, 'process_count', lambda: 2)
    monkeypatch.setattr(parallel, 'is_chief', lambda: first)
    monkeypatch.setattr(parallel.multihost_utils, 'sync_global_devices', reached.append)
    with pytest.raises(ValueError), parallel.chief_first():
        raise ValueError
    assert len(reached) == 1
