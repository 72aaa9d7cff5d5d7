"""The gain over frequencies: of planted models, its error against repeated draws, and its file."""

import dataclasses
import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.data.frequencies import find_nats, find_shares
from research.data.held_out import describe_rows
from research.errors import UserError
from research.evaluation.gains import FILE, HeldOut, add_up, read_held_out, write_held_out
from research.evaluation.measures import evaluate, make_measure
from research.models.architecture import Architecture
from research.models.heads import Model, initialise


def draw(documents: int, seed: int, gain: float = 0.5, apart: float = 0.4) -> HeldOut:
    """Documents of different sizes, whose gains differ by more than their pieces do."""
    generator = np.random.default_rng(seed)
    count = generator.integers(1, 60, documents)
    frequencies = np.array([generator.exponential(6, size).sum() for size in count])
    gains = count * (gain + apart * generator.standard_normal(documents))
    return HeldOut(np.arange(documents), count, frequencies - gains, frequencies)


def test_a_model_of_the_frequencies_alone_gains_nothing(small: Architecture, make_batch: Callable) -> None:
    counts = 1.0 + np.random.default_rng(0).integers(0, 1000, 64)
    special = np.arange(64) < 5
    shares = find_shares(counts, special)
    batches = [describe_rows(make_batch(seed=seed), 4, find_nats(shares), np.arange(16) + 16 * seed) for seed in range(3)]
    for batch in batches:  # all are shown as [MASK]
        batch['masked_kinds'] = np.zeros_like(batch['masked_kinds'])
    model = Model(small, (('mlm', 64),))
    params = jax.tree.map(jnp.zeros_like, initialise(model, jax.random.key(0)))
    params['mlm']['output']['bias'] = jnp.asarray(np.where(special, -1e9, np.log(np.maximum(shares, 1e-9))), jnp.float32)
    measure = jax.jit(lambda params, frozen, batch: make_measure(model, frozenset({'masked'}))(params, frozen, batch, None))
    found = evaluate(measure, lambda batch: batch, params, batches).held_out
    assert found is not None and found.describe()['frequencies'] > 3
    assert abs(found.describe()['gain']) < 1e-6 and found.describe()['gain_error'] < 1e-6


def test_the_error_is_the_spread_of_the_gain_over_draws_of_documents() -> None:
    found = [draw(80, seed).describe() for seed in range(400)]
    spread = np.std([each['gain'] for each in found])
    assert np.mean([each['gain_error'] for each in found]) == pytest.approx(spread, rel=0.1)
    assert 'gain_error' not in draw(1, 0).describe()


def test_rows_are_added_up_by_document_and_empty_ones_left_out() -> None:
    rows = [
        {'document': np.array([4, 2, 0]), 'count': np.array([2.0, 1, 0]), 'loss': np.array([3.0, 5, 0]), 'frequencies': np.ones(3)},
        {'document': np.array([4, 9]), 'count': np.array([1.0, 1]), 'loss': np.array([0.5, 7]), 'frequencies': np.ones(2)},
    ]
    found = add_up(rows)
    assert found is not None
    assert [each.tolist() for each in vars(found).values()] == [[2, 4, 9], [1, 3, 1], [5, 3.5, 7], [1, 2, 1]]
    assert add_up([]) is None and add_up([{**rows[0], 'count': np.zeros(3)}]) is None


def test_the_file_reads_back_and_numpy_reads_it(tmp_path: Path) -> None:
    written = draw(30, 1)
    write_held_out(tmp_path, written)
    content = (tmp_path / FILE).read_bytes()
    write_held_out(tmp_path, written)
    assert (tmp_path / FILE).read_bytes() == content
    found = read_held_out(tmp_path)
    with np.load(tmp_path / FILE) as arrays:
        for name, array in vars(written).items():
            np.testing.assert_array_equal(arrays[name], array)
            np.testing.assert_array_equal(getattr(found, name), array)


def test_another_file_is_none(tmp_path: Path) -> None:
    assert read_held_out(tmp_path) is None
    good = draw(30, 1)
    broken = {
        'not increasing': {'document': np.zeros(30, np.int64)},
        'negative': {'document': np.arange(30) - 1},
        'no piece': {'count': np.zeros(30, np.int64)},
        'not finite': {'loss': np.full(30, np.nan)},
        'of floats': {'count': np.ones(30)},
        'shorter': {'loss': np.ones(29)},
        'of objects': {'loss': np.ones((30, 1))},
    }
    for name, changes in broken.items():
        write_held_out(tmp_path, dataclasses.replace(good, **changes))
        assert read_held_out(tmp_path) is None, name
    write_held_out(tmp_path, HeldOut(*(np.zeros(0, kind) for kind in (np.int64, np.int64, np.float64, np.float64))))
    assert read_held_out(tmp_path) is None
    np.savez_compressed(tmp_path / FILE, **vars(good))
    assert read_held_out(tmp_path) is None
    huge = io.BytesIO()
    with zipfile.ZipFile(huge, 'w') as archive:
        for name in vars(good):
            header = b"{'descr': '<i8', 'fortran_order': False, 'shape': (999999999,), }\n"
            archive.writestr(f'{name}.npy', b'\x93NUMPY\x01\x00' + len(header).to_bytes(2, 'little') + header)
    for content in (b'', b'PK', huge.getvalue(), huge.getvalue()[:-40]):
        (tmp_path / FILE).write_bytes(content)
        assert read_held_out(tmp_path) is None
    (tmp_path / FILE).unlink()
    os.mkfifo(tmp_path / FILE)
    with pytest.raises(UserError, match='is a pipe or a device'):
        read_held_out(tmp_path)
