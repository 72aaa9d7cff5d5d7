"""Heads: their inputs, and the shapes of their logits."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.models.architecture import Architecture
from research.models.heads import HEADS, Model, encode, find_log_shares, initialise, score
from research.models.noise import make_noise

ALL = (('mlm', 64), ('pair', 2), ('label', 3), ('span', 2), ('choice', 1))


@pytest.fixture(scope='module')
def batch(make_batch: Callable) -> dict[str, np.ndarray]:
    return make_batch(rows=4)


@pytest.fixture(scope='module')
def model(small: Architecture) -> Model:
    return Model(small, ALL)


@pytest.fixture(scope='module')
def params(model: Model) -> Any:
    return initialise(model, jax.random.key(0))


def logits(model: Model, params: Any, batch: Any, head: str, positions: Any = None, noise: Any = None) -> jax.Array:
    return score(model, params, head, encode(model, params, batch), positions, noise)


def test_every_head_has_a_case() -> None:
    assert [name for name, _ in ALL] == list(HEADS)


@pytest.mark.parametrize(
    ('head', 'shape'), [('mlm', (4, 16, 64)), ('pair', (4, 2)), ('label', (4, 3)), ('span', (4, 16, 2)), ('choice', (4, 1))]
)
def test_logits_have_their_shape_in_float32(model: Model, params: Any, batch: Any, head: str, shape: tuple[int, ...]) -> None:
    for dtype in ('float32', 'bfloat16'):
        network = Model(dataclasses.replace(model.architecture, dtype=dtype), ALL)
        found = jax.eval_shape(lambda network=network: logits(network, params, batch, head))
        assert (found.shape, found.dtype) == (shape, jnp.float32)


def test_vocabulary_logits_are_computed_at_the_requested_positions(model: Model, params: Any, batch: Any) -> None:
    everywhere = logits(model, params, batch, 'mlm')
    there = logits(model, params, batch, 'mlm', batch['masked_positions'])
    expected = np.take_along_axis(np.asarray(everywhere), batch['masked_positions'][:, :, None], axis=1)
    np.testing.assert_allclose(there, expected, atol=1e-5)


def test_vocabulary_logits_use_the_word_embeddings(model: Model, params: Any, batch: Any) -> None:
    """The embedding of a piece that is not in the ids changes only its own logits."""
    assert not (batch['ids'] == 3).any()
    moved = jax.tree.map(lambda x: x, params)
    moved['encoder']['word'] = moved['encoder']['word'].at[3, 0].add(1.0)
    change = np.asarray(logits(model, moved, batch, 'mlm') - logits(model, params, batch, 'mlm'))
    assert np.abs(change[..., 3]).max() > 0.1
    assert np.abs(np.delete(change, 3, axis=-1)).max() < 1e-5
    assert 'output' in params['mlm'] and set(params['mlm']['output']) == {'bias'}


def test_a_label_head_without_a_pooler_has_that_of_distilbert(small: Architecture, batch: Any) -> None:
    model = Model(dataclasses.replace(small, pooler=False), (('label', 3),))
    params = initialise(model, jax.random.key(0))
    hidden = encode(model, params, batch).hidden[:, 0]
    dense, output = params['label']['dense'], params['label']['output']
    expected = np.maximum(hidden @ dense['kernel'] + dense['bias'][None], 0) @ output['kernel'] + output['bias'][None]
    np.testing.assert_allclose(logits(model, params, batch, 'label'), expected, atol=1e-4)


def test_the_label_head_has_dropout_on_its_input(small: Architecture, batch: Any) -> None:
    model = Model(dataclasses.replace(small, head_dropout=0.5), (('label', 3),))
    params = initialise(model, jax.random.key(0))
    quiet = logits(model, params, batch, 'label')
    noise = make_noise(jax.random.key(1), jnp.arange(len(batch['ids'])))
    assert np.abs(quiet - logits(model, params, batch, 'label', noise=noise)).max() > 0.01


def test_initial_parameters_depend_on_the_key_alone(model: Model, params: Any) -> None:
    again, other = initialise(model, jax.random.key(0)), initialise(model, jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, params, again)
    assert np.abs(params['encoder']['word'] - other['encoder']['word']).max() > 0.1


def test_no_two_initial_kernels_are_equal(params: Any) -> None:
    firsts = [
        float(leaf.ravel()[0])
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if float(jnp.abs(leaf).max()) not in (0, 1)
    ]
    assert len(firsts) > 12 and len(set(firsts)) == len(firsts)


def test_the_log_shares_of_counts_are_add_one_and_normalised() -> None:
    counts, special = np.array([9, 3, 0, 7]), np.array([True, False, False, False])
    found = np.exp(find_log_shares(counts, special, classes=6))
    np.testing.assert_allclose(found, np.array([1, 4, 1, 8, 1, 1]) / 16, rtol=1e-6)  # special, and without a piece: as the rarest
