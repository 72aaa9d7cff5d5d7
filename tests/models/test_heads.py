"""Heads: their inputs, and the shapes of their logits."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.data.frequencies import find_shares
from research.models.architecture import Architecture
from research.models.heads import HEADS, Model, encode, find_log_shares, initialise, score
from research.models.noise import make_noise
from research.runs.sources import find_heads

ALL = (('mlm', 64), ('pair', 2), ('label', 3), ('span', 2), ('answer', 1), ('choice', 1))


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
    asked = HEADS[head].reads(batch, None) if positions is None else positions
    return score(model, params, head, encode(model, params, batch), asked, noise)


def test_every_head_has_a_case() -> None:
    assert [name for name, _ in ALL] == list(HEADS)


def test_the_heads_of_a_checkpoint_are_known_by_their_parameters(params: Any) -> None:
    assert find_heads(params) == ALL


@pytest.mark.parametrize(
    ('head', 'shape'),
    [
        ('mlm', (4, 16, 64)),
        ('pair', (4, 2)),
        ('label', (4, 3)),
        ('span', (4, 16, 2)),
        ('answer', (4, 33)),
        ('choice', (4, 1)),
    ],
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


@pytest.fixture
def asked(batch: dict[str, Any]) -> dict[str, Any]:
    """The batch with a context in every row: all but the first two and the last of its pieces."""
    place, last = np.arange(16)[None], batch['mask'].sum(1, keepdims=True) - 1
    context = (place > 1) & (place <= last)
    start = np.where(last[:, 0] > 3, np.minimum(3, last[:, 0] - 1), 0).astype(np.int32)
    return {**batch, 'types': context.astype(np.int32), 'start': start}


def in_numpy(params: Any, hidden: np.ndarray, allowed: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, ...]:
    """(logits of starts [B, T], of ends given `start` [B] [B, T], of 'no answer' [B]) as google-research/albert computes them."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params['answer'])
    first = np.where(allowed, (hidden @ p['start']['kernel'])[..., 0] + p['start']['bias'], -1e9)
    at = hidden[np.arange(len(hidden)), start]
    both = np.concatenate([hidden, np.repeat(at[:, None], hidden.shape[1], 1)], -1)  # tf.concat([output, start_features])
    joined = np.tanh(both @ p['join']['kernel'] + p['join']['bias'])
    joined = (joined - joined.mean(-1, keepdims=True)) / np.sqrt(joined.var(-1, keepdims=True) + 1e-12)
    joined = joined * p['norm']['scale'] + p['norm']['bias']
    last = np.where(allowed, (joined @ p['end']['kernel'])[..., 0] + p['end']['bias'], -1e9)
    shares = np.exp(first - first.max(-1, keepdims=True))
    mean = np.einsum('bt,btd->bd', shares / shares.sum(-1, keepdims=True), hidden)
    feature = np.tanh(np.concatenate([mean, hidden[:, 0]], -1) @ p['summary']['kernel'] + p['summary']['bias'])
    return first, last, (feature @ p['output']['kernel'])[:, 0]


def test_the_answer_head_is_that_of_alberts_code(model: Model, params: Any, asked: dict[str, Any]) -> None:
    """squad_utils.py, `create_v2_model`: ends given the start, a class that reads no end, places in the context or at [CLS]."""
    params = jax.tree.map(lambda x: x, params)
    params['answer']['norm']['scale'] += 0.3
    hidden = np.asarray(encode(model, params, asked).hidden, np.float64)
    place = np.arange(16)[None]
    allowed = (place == 0) | ((asked['types'] > 0) & (place < asked['mask'].sum(1, keepdims=True) - 1))
    assert allowed.sum(1).min() > 1 and not allowed[:, 1].any()
    first, last, none = in_numpy(params, hidden, allowed, asked['start'])
    found = np.asarray(logits(model, params, asked, 'answer'))
    for one, two in zip((found[:, :16], found[:, 16:32], found[:, 32]), (first, last, none), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4)

    beam = np.asarray(score(model, params, 'answer', encode(model, params, asked), HEADS['answer'].reads(asked, (3, 2))))
    assert beam.shape == (4, 1 + 3 * 2, 4)
    np.testing.assert_allclose(beam[:, 0, 0], none, atol=1e-4)
    for row in range(4):
        likely = first[row] - np.log(np.exp(first[row]).sum())
        for number, start in enumerate(np.argsort(-first[row])[:3]):
            ends = in_numpy(params, hidden, allowed, np.full(4, start))[1][row]
            close = ends - np.log(np.exp(ends).sum())
            for other, end in enumerate(np.argsort(-ends)[:2]):
                expected = [start, end, likely[start], close[end]]
                np.testing.assert_allclose(beam[row, 1 + 2 * number + other], expected, atol=1e-3)


def test_the_answer_head_has_dropout_before_its_class_alone(small: Architecture, asked: dict[str, Any]) -> None:
    model = Model(dataclasses.replace(small, head_dropout=0.5), (('answer', 1),))
    params = initialise(model, jax.random.key(0))
    noise = make_noise(jax.random.key(1), jnp.arange(4))
    change = np.abs(logits(model, params, asked, 'answer') - logits(model, params, asked, 'answer', noise=noise))
    assert change[:, :32].max() == 0 and change[:, 32].min() > 1e-3


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


def test_the_log_shares_are_those_of_the_frequencies_and_normalised() -> None:
    shares = find_shares(np.array([9, 3, 0, 7]), np.array([True, False, False, False]))
    found = np.exp(find_log_shares(shares, classes=6))
    np.testing.assert_allclose(found, np.array([1, 3, 1, 7, 1, 1]) / 14, rtol=1e-6)  # special, and without a piece: as the rarest
