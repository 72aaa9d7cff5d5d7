"""The encoder against references; padding and other packed sequences change nothing."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.models.architecture import ACTIVATIONS, Architecture
from research.models.attention import attend, initialise_attention
from research.models.encoder import Encoder, Outputs, make_sinusoids
from research.models.heads import Model, initialise
from research.models.heads import encode as model_encode
from research.models.layers import activate, draw_kernel, layer_norm
from research.models.noise import make_noise


@pytest.fixture(scope='module')
def inputs(make_batch: Callable) -> tuple[jax.Array, ...]:
    batch = make_batch(rows=4)
    return tuple(jnp.asarray(batch[name]) for name in ('ids', 'types', 'mask'))


@pytest.fixture(scope='module')
def params(small: Architecture) -> Any:
    return fresh(small)


def fresh(a: Architecture) -> Any:
    return initialise(Model(a), jax.random.key(0))['encoder']


def encode(a: Architecture, params: Any, inputs: tuple[jax.Array, ...], *want: str) -> Outputs:
    compiled = jax.jit(lambda params, inputs: Encoder(a).apply({'params': params}, *inputs, frozenset(want)))
    return cast(Outputs, compiled(params, inputs))


def test_layer_norm_agrees_with_flax() -> None:
    x = 3 + 2 * jax.random.normal(jax.random.key(0), (2, 5, 8))
    weights = {'scale': jnp.linspace(0.5, 2, 8), 'bias': jnp.linspace(-1, 1, 8)}
    reference = cast(jax.Array, nn.LayerNorm(epsilon=1e-3).apply({'params': weights}, x))
    np.testing.assert_allclose(layer_norm(weights, x, 1e-3), reference, atol=1e-5)


def test_layer_norm_computes_in_float32_and_returns_the_dtype_of_its_input() -> None:
    x = (300 + jax.random.normal(jax.random.key(0), (4, 64))).astype(jnp.bfloat16)
    weights = {'scale': jnp.ones(64), 'bias': jnp.zeros(64)}
    y = layer_norm(weights, x, 1e-12)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), layer_norm(weights, x.astype(jnp.float32), 1e-12), atol=0.02)


def test_attention_agrees_with_jax(small: Architecture, inputs: tuple[jax.Array, ...]) -> None:
    weights = jax.tree.map(lambda w: w[0], initialise_attention(jax.random.key(0), small, 1))
    weights = {**weights, 'value': {**weights['value'], 'bias': jnp.linspace(-1, 1, 16).reshape(2, 8)}}
    x = jax.random.normal(jax.random.key(1), (4, 16, 16))
    mask = (inputs[2] > 0)[:, None, None, :]
    query, key, value = (
        jnp.einsum('btd,dnk->btnk', x, weights[name]['kernel']) + weights[name]['bias'][None, None]
        for name in ('query', 'key', 'value')
    )
    context = jax.nn.dot_product_attention(query, key, value, mask=mask)
    y = jnp.einsum('btnk,nkd->btd', context, weights['output']['kernel']) + weights['output']['bias'][None, None]
    expected = cast(jax.Array, nn.LayerNorm(epsilon=small.epsilon).apply({'params': weights['norm']}, x + y))
    found, probabilities, relations = attend(weights, x, mask, small, None)
    assert probabilities is not None
    np.testing.assert_allclose(found, expected, atol=2e-5)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
    assert (np.where(mask, 0, probabilities) == 0).all()
    for each, one in zip(relations, (query, key, value), strict=True):
        np.testing.assert_allclose(each, one.swapaxes(1, 2), atol=1e-6)


@pytest.mark.parametrize('kind', ACTIVATIONS)
def test_activations_are_their_formulas(kind: str) -> None:
    x = np.linspace(-3, 3, 25)
    formula = {
        'gelu': lambda v: v * (1 + math.erf(v / math.sqrt(2))) / 2,
        'gelu_tanh': lambda v: v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) / 2,
        'relu': lambda v: max(v, 0.0),
    }[kind]
    np.testing.assert_allclose(activate(jnp.asarray(x, jnp.float32), kind), [formula(v) for v in x], atol=1e-6)


def test_the_two_gelus_differ() -> None:
    x = jnp.linspace(-3, 3, 25)
    assert 1e-4 < np.abs(activate(x, 'gelu') - activate(x, 'gelu_tanh')).max() < 1e-3


def test_sinusoids_follow_vaswani() -> None:
    table = np.asarray(make_sinusoids(7, 6))
    for position in range(7):
        for i in range(3):
            angle = position / 10000 ** (2 * i / 6)
            assert table[position, 2 * i] == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[position, 2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-6)


def test_initial_weights_are_a_truncated_normal(small: Architecture) -> None:
    drawn = np.asarray(draw_kernel(jax.random.key(0), small, (300, 400)))  # more than one piece of 2^16
    assert np.abs(drawn).max() <= 2 * small.deviation
    assert drawn.std() == pytest.approx(0.8796 * small.deviation, rel=0.01)
    assert abs(drawn.mean()) < 0.003 * small.deviation * 3
    assert len(np.unique(drawn)) > 0.9 * drawn.size


def test_sinusoidal_positions_have_no_parameters_but_an_effect(small: Architecture, inputs: tuple[jax.Array, ...]) -> None:
    a = dataclasses.replace(small, position_kind='sinusoidal')
    params = fresh(a)
    assert 'position' not in params
    learned = {**params, 'position': make_sinusoids(a.positions, a.embedding)}
    np.testing.assert_allclose(encode(a, params, inputs).hidden, encode(small, learned, inputs).hidden, atol=1e-6)


def test_without_token_types_there_is_no_table_and_types_change_nothing(
    small: Architecture, params: Any, inputs: tuple[jax.Array, ...]
) -> None:
    ids, types, mask = inputs
    a = dataclasses.replace(small, types=0)
    typeless = {name: value for name, value in params.items() if name != 'type'}
    assert 'type' not in fresh(a)
    np.testing.assert_array_equal(encode(a, typeless, inputs).hidden, encode(a, typeless, (ids, 1 - types, mask)).hidden)
    assert np.abs(encode(small, params, inputs).hidden - encode(small, params, (ids, 1 - types, mask)).hidden).max() > 0.1


def test_the_content_of_padding_does_not_change_attended_positions(
    small: Architecture, params: Any, inputs: tuple[jax.Array, ...]
) -> None:
    ids, types, mask = inputs
    assert mask.min() == 0
    noise = jax.random.randint(jax.random.key(3), ids.shape, 0, 64)
    other = jnp.where(mask > 0, ids, noise), jnp.where(mask > 0, types, 1 - types), mask
    one, two = encode(small, params, inputs, 'layers'), encode(small, params, other, 'layers')
    assert one.layers is not None and two.layers is not None
    attended = mask[None, :, :, None] > 0
    np.testing.assert_array_equal(np.where(attended, one.layers, 0), np.where(attended, two.layers, 0))
    assert one.pooled is not None and two.pooled is not None
    np.testing.assert_array_equal(one.pooled, two.pooled)
    assert np.abs(one.hidden - two.hidden).max() > 0.1


def test_a_longer_padding_changes_nothing(small: Architecture, params: Any, inputs: tuple[jax.Array, ...]) -> None:
    short = tuple(x[:, :8] * (x[:, :8] * 0 + 1) for x in inputs)
    padded = tuple(jnp.pad(x, ((0, 0), (0, 8))) for x in short)
    np.testing.assert_allclose(
        encode(small, params, padded).hidden[:, :8] * short[2][:, :, None],
        encode(small, params, short).hidden * short[2][:, :, None],
        atol=1e-5,
    )


def test_outputs_hold_layers_and_attention_only_on_request(small: Architecture, params: Any, inputs: tuple[jax.Array, ...]) -> None:
    plain = encode(small, params, inputs)
    assert plain.layers is None and plain.attention is None and plain.pooled is not None and plain.pooled.shape == (4, 16)
    full = encode(small, params, inputs, 'layers', 'attention')
    assert full.layers is not None and full.attention is not None
    assert full.layers.shape == (3, 4, 16, 16) and full.attention.shape == (2, 4, 2, 16, 16)
    np.testing.assert_allclose(full.layers[-1], plain.hidden, atol=1e-6)
    embedded = cast(jax.Array, Encoder(small).apply({'params': params}, inputs[0], inputs[1], None, method='embed'))
    np.testing.assert_allclose(full.layers[0], embedded, atol=1e-6)


def test_the_pooler_reads_the_first_position(small: Architecture, params: Any, inputs: tuple[jax.Array, ...]) -> None:
    outputs = encode(small, params, inputs)
    expected = np.tanh(np.asarray(outputs.hidden)[:, 0] @ np.asarray(params['pooler']['kernel']) + params['pooler']['bias'][None])
    assert outputs.pooled is not None
    np.testing.assert_allclose(outputs.pooled, expected, atol=1e-5)
    bare = {name: value for name, value in params.items() if name != 'pooler'}
    assert encode(dataclasses.replace(small, pooler=False), bare, inputs).pooled is None


def test_factorised_embeddings_are_projected(small: Architecture, inputs: tuple[jax.Array, ...]) -> None:
    a = dataclasses.replace(small, embedding=8)
    params = fresh(a)
    assert params['word'].shape == (64, 8) and params['projection']['kernel'].shape == (8, 16)
    assert encode(a, params, inputs).hidden.shape == (4, 16, 16)


def test_bfloat16_is_close_and_keeps_float32_where_it_matters(
    small: Architecture, params: Any, inputs: tuple[jax.Array, ...]
) -> None:
    half = encode(dataclasses.replace(small, dtype='bfloat16'), params, inputs, 'attention')
    full = encode(small, params, inputs, 'attention')
    assert half.hidden.dtype == jnp.bfloat16 and half.attention is not None and half.attention.dtype == jnp.float32
    difference = np.abs(half.hidden.astype(jnp.float32) - full.hidden)
    assert 0 < difference.mean() < 0.02


def test_every_place_of_dropout_draws_its_own_mask(small: Architecture, params: Any, inputs: tuple[jax.Array, ...]) -> None:
    """The same key gives the same outputs, another key others, and each rate alone has an effect."""

    def run(key: int, **rates: float) -> np.ndarray:
        model = Model(dataclasses.replace(small, **rates))
        named: dict[str, jax.Array] = dict(zip(('ids', 'types', 'mask'), inputs, strict=True))
        compiled = jax.jit(lambda params, noise: model_encode(model, params, named, noise).hidden)
        return np.asarray(compiled({'encoder': params}, make_noise(jax.random.key(key), jnp.arange(len(inputs[0])))))

    quiet = run(0)
    np.testing.assert_allclose(quiet, encode(small, params, inputs).hidden, atol=1e-5)
    for rates in ({'dropout': 0.3}, {'attention_dropout': 0.3}):
        np.testing.assert_array_equal(run(0, **rates), run(0, **rates))
        assert np.abs(run(0, **rates) - quiet).mean() > 0.01
        assert np.abs(run(0, **rates) - run(1, **rates)).mean() > 0.01


def test_packed_sequences_are_encoded_as_if_each_were_alone(small: Architecture) -> None:
    model = Model(small)
    params = initialise(model, jax.random.key(0))
    ids = np.random.default_rng(0).integers(5, 64, (1, 12)).astype(np.int32)
    segments = np.array([[1] * 7 + [2] * 4 + [0]], np.int32)
    positions = np.array([[*range(7), *range(4), 0]], np.int32)
    batch = {'ids': ids, 'types': np.zeros_like(ids), 'mask': (segments > 0).astype(np.int32)}
    packed = model_encode(model, params, batch | {'segments': segments, 'positions': positions}).hidden[0]
    for begin, end in ((0, 7), (7, 11)):
        alone = model_encode(model, params, {name: array[:, begin:end] for name, array in batch.items()}).hidden[0]
        np.testing.assert_allclose(packed[begin:end], alone, atol=2e-6)
    blind = model_encode(model, params, batch).hidden[0]
    assert np.abs(blind[7:11] - packed[7:11]).max() > 1e-2


def test_a_causal_row_looks_back_only_and_other_rows_do_not_change(
    small: Architecture, params: Any, inputs: tuple[jax.Array, ...]
) -> None:
    ids, types, mask = inputs
    mask, causal = jnp.ones_like(mask), jnp.array([1, 0, 1, 0])
    later = ids.at[:, 5:].set((ids[:, 5:] + 1) % small.vocabulary)
    found = jax.jit(
        lambda ids, causal: cast(Outputs, Encoder(small).apply({'params': params}, ids, types, mask, causal=causal)).hidden
    )
    one, two, plain = (found(*each) for each in ((ids, causal), (later, causal), (ids, None)))
    np.testing.assert_array_equal(one[causal == 1, :5], two[causal == 1, :5])
    assert np.abs(one[:, 5:] - two[:, 5:]).max() > 0.01 and np.abs(one[causal == 0, :5] - two[causal == 0, :5]).max() > 1e-3
    np.testing.assert_allclose(one[causal == 0], plain[causal == 0], atol=1e-6)
    assert np.abs(one[causal == 1, 0] - plain[causal == 1, 0]).max() > 1e-3
