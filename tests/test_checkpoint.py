"""Checkpoints: exact, few, and readable without the state of the optimizer."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import parallel, train
from research.checkpoint import Checkpoints, read_leaves, read_params
from research.errors import UserError
from research.models.architecture import Architecture
from research.models.heads import Model
from research.optim import Optimizer
from research.train import State


@pytest.fixture(scope='module')
def state() -> Callable[[int], State]:
    """state(step) -> a small State whose values depend on its step."""

    def state(step: int) -> State:
        params = {'a': {'kernel': jnp.full((2, 3), step / 7)}, 'b': jnp.arange(3.0) * step}
        moments = ({'first': jax.tree.map(jnp.square, params)}, ())
        return State(jnp.asarray(step, jnp.int32), jax.random.key(5), params, moments)

    return state


def assert_same(one: Any, two: Any) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(two)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)


def steps(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def test_a_state_and_its_parameters_are_restored_exactly(state: Callable[[int], State], tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.latest() is None and checkpoints.best() is None
    for step in (3, 6, 9):
        checkpoints.save(state(step))
    checkpoints.wait()
    assert checkpoints.latest() == 9 and checkpoints.best() is None and steps(tmp_path) == [6, 9]
    assert_same(checkpoints.restore(9, state(0)), state(9))
    params = checkpoints.params(6)
    assert_same(params, state(6).params)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(params))
    checkpoints.close()
    step, params = read_params(tmp_path, 'run')
    assert step == 9
    assert_same(params, state(9).params)


def test_the_best_is_kept_beside_the_newest(state: Callable[[int], State], tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    for step, score in ((1, 0.2), (2, 0.9), (3, None), (4, 0.5), (5, 0.4)):
        checkpoints.save(state(step), score)
    checkpoints.wait()
    assert checkpoints.best() == 2 and checkpoints.latest() == 5 and steps(tmp_path) == [2, 5]
    checkpoints.close()
    step, params = read_params(tmp_path, 'run')
    assert step == 2
    assert_same(params, state(2).params)


def test_of_equal_scores_the_earliest_stays(state: Callable[[int], State], tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    for step in (1, 2, 3, 4):
        checkpoints.save(state(step), 0.5 if step < 4 else 0.25)
    checkpoints.wait()
    assert checkpoints.best() == 1 and steps(tmp_path) == [1, 4]
    checkpoints.close()


def test_a_checkpoint_that_a_signal_asked_for_pushes_no_other_out(state: Callable[[int], State], tmp_path: Path) -> None:
    for step, planned, left in ((4, True, [4]), (5, False, [4, 5]), (6, False, [4, 6]), (8, True, [8])):
        checkpoints = Checkpoints(tmp_path, keep=1)
        assert checkpoints.unplanned == ({step - 1} if step == 6 else {6} if step == 8 else set())
        checkpoints.save(state(step), planned=planned)
        checkpoints.close()
        assert steps(tmp_path) == left


def test_a_continued_run_remembers_its_best(state: Callable[[int], State], tmp_path: Path) -> None:
    first = Checkpoints(tmp_path, keep=1)
    first.save(state(1), 0.9)
    first.close()
    second = Checkpoints(tmp_path, keep=1)
    second.save(state(2), 0.1)
    second.wait()
    assert second.best() == 1 and second.latest() == 2
    second.close()


def test_a_reader_removes_nothing_that_a_run_is_writing(state: Callable[[int], State], tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(state(1))
    checkpoints.close()
    unfinished = tmp_path / '2.orbax-checkpoint-tmp'
    unfinished.mkdir()
    (unfinished / 'part').write_text('being written')
    assert read_params(tmp_path, 'run')[0] == 1
    assert (unfinished / 'part').exists()
    writer = Checkpoints(tmp_path, keep=1)
    writer.save(state(3))
    writer.close()
    assert not unfinished.exists()


def test_a_folder_without_checkpoints_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / 'none'):
        with pytest.raises(UserError, match=re.escape("start='x' holds no checkpoints: train it first, or name another run")):
            read_params(folder, "start='x'")


def test_a_sharded_state_is_written_and_read_in_shards(small: Architecture, tmp_path: Path) -> None:
    """By the devices of `like`: eight, then a mesh of four by two, then one; no array is ever whole on one of several."""
    first = train.initial_state(Model(small, (('mlm', 64),)), Optimizer(), 0)
    plans = [parallel.fsdp(jax.devices()), parallel.fsdp(jax.devices(), 2), parallel.fsdp(jax.devices()[:1])]
    checkpoints = Checkpoints(tmp_path / 'checkpoints')
    checkpoints.save(dataclasses.replace(plans[0].put_state(first), step=jnp.asarray(3, jnp.int32)))
    checkpoints.wait()
    for plan in plans:
        like = plan.put_state(first)
        restored = checkpoints.restore(3, like)
        assert jax.tree.map(lambda x: x.sharding, restored) == jax.tree.map(lambda x: x.sharding, like)
        assert_same(restored.params, first.params)
    kernel = checkpoints.restore(3, plans[0].put_state(first)).moments[1][0]['first']['encoder']['pooler']['kernel']
    assert {shard.data.shape for shard in kernel.addressable_shards} == {(2, 16)}
    stored = {each.name: each for each in read_leaves(tmp_path / 'checkpoints' / '3' / 'params')}
    word = next(each for name, each in stored.items() if 'word' in name)
    assert tuple(word.storage.write_shape) == (8, 16)  # 64 pieces, by eight devices
    checkpoints.close()
