"""Places of LayerNorm and rotary positions: the encoder in plain numpy, and what each kind promises."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import parallel, train
from research.models import paths
from research.models.architecture import NORMS, REMATS, Architecture
from research.models.encoder import make_sinusoids
from research.models.heads import Model, encode, initialise
from research.models.noise import make_noise
from research.models.rotary import make_rotation, rotate
from research.models.sharing import SHARING, layout
from research.objectives.losses import Losses
from research.optim import Optimizer

WANT = frozenset(('layers', 'attention', 'relations'))
KINDS = [('post', 'rotary'), ('pre', 'learned'), ('pre', 'rotary'), ('deepnorm', 'learned'), ('deepnorm', 'sinusoidal')]


def fresh(a: Architecture, seed: int = 0) -> Any:
    """Parameters of which none, LayerNorm's included, is what would make it do nothing."""
    params = initialise(Model(a), jax.random.key(seed))
    draw = np.random.default_rng(seed)
    return jax.tree.map(lambda w: w + 0.1 * draw.normal(size=w.shape).astype(np.float32), params)


@pytest.fixture(scope='module')
def batch(make_batch: Callable) -> dict[str, Any]:
    return {name: make_batch(rows=3)[name] for name in ('ids', 'types', 'mask')}


# ---- The same encoder in plain numpy, float64, position by position where it matters ---------------------------------------------


def normalise(weights: Any, x: np.ndarray, epsilon: float) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon) * weights['scale'] + weights['bias']


def turn(x: np.ndarray) -> np.ndarray:
    """Su et al. 2021, equation 34, with a matrix for each position: [B, N, T, K]."""
    size, found = x.shape[-1], np.empty_like(x)
    for position in range(x.shape[2]):
        matrix = np.zeros((size, size))
        for i in range(size // 2):
            angle = position * 10000.0 ** (-2 * i / size)
            matrix[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        found[:, :, position] = x[:, :, position] @ matrix.T
    return found


def forward(a: Architecture, params: Any, batch: dict[str, Any]) -> dict[str, Any]:
    """The hidden states of all layers, the probabilities and the relations of attention."""
    p: Any = jax.tree.map(lambda w: np.asarray(w, np.float64), params['encoder'])
    x = p['word'][batch['ids']] + p['type'][batch['types']]
    if a.position_kind != 'rotary':
        table = p['position'] if a.position_kind == 'learned' else np.asarray(make_sinusoids(a.positions, a.embedding), np.float64)
        x = x + table[: x.shape[1]]
    x = x if a.norm == 'pre' else normalise(p['norm'], x, a.epsilon)
    states, attention, relations = [x], [], []
    alpha = (2 * a.layers) ** 0.25 if a.norm == 'deepnorm' else 1

    def attend(w: Any, x: np.ndarray) -> np.ndarray:
        query, key, value = (
            np.einsum('btd,dnk->bntk', x, w[name]['kernel']) + w[name]['bias'][:, None] for name in ('query', 'key', 'value')
        )
        if a.position_kind == 'rotary':
            query, key = turn(query), turn(key)
        scores = np.einsum('bntk,bnsk->bnts', query, key) / math.sqrt(query.shape[-1])
        raised = np.exp(np.where(batch['mask'][:, None, None, :] > 0, scores, -np.inf) - scores.max(-1, keepdims=True))
        probabilities = raised / raised.sum(-1, keepdims=True)
        attention.append(probabilities)
        relations.append((query, key, value))
        return np.einsum('bnts,bnsk,nkd->btd', probabilities, value, w['output']['kernel']) + w['output']['bias']

    def feed(w: Any, x: np.ndarray) -> np.ndarray:
        y = x @ w['inner']['kernel'] + w['inner']['bias']
        y = y * (1 + np.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3))) / 2
        return y @ w['output']['kernel'] + w['output']['bias']

    for pair in layout(a):
        for block, name, group in ((attend, 'attention', pair[0]), (feed, 'feed_forward', pair[1])):
            w = jax.tree.map(lambda stack, group=group: stack[group], p[name])
            if a.norm == 'pre':
                x = x + block(w, normalise(w['norm'], x, a.epsilon))
            else:
                x = normalise(w['norm'], alpha * x + block(w, x), a.epsilon)
        states.append(x)
    if a.norm == 'pre':
        states[-1] = normalise(p['final_norm'], x, a.epsilon)
    return {'layers': states, 'attention': attention, 'relations': [list(each) for each in zip(*relations, strict=True)]}


@pytest.mark.parametrize(('norm', 'positions'), KINDS)
def test_the_encoder_is_that_of_the_papers(small: Architecture, batch: dict[str, Any], norm: str, positions: str) -> None:
    a = dataclasses.replace(small, norm=norm, position_kind=positions, sharing='cycle', groups=2, layers=3)
    params = fresh(a)
    found = jax.jit(lambda params: encode(Model(a), params, batch, want=WANT))(params)
    wanted = forward(a, params, batch)
    assert found.layers is not None and found.attention is not None and found.relations is not None
    np.testing.assert_allclose(found.layers, np.stack(wanted['layers']), atol=2e-5)
    np.testing.assert_array_equal(found.layers[-1], found.hidden)
    np.testing.assert_allclose(found.attention, np.stack(wanted['attention']), atol=1e-5)
    for mine, theirs in zip(found.relations, wanted['relations'], strict=True):  # after the rotation
        np.testing.assert_allclose(mine, np.stack(theirs), atol=2e-5)


# ---- What a kind of LayerNorm promises -------------------------------------------------------------------------------------------


@pytest.mark.parametrize('norm', NORMS)
def test_every_kind_has_the_parameters_that_it_reads(small: Architecture, norm: str) -> None:
    params = initialise(Model(dataclasses.replace(small, norm=norm)), jax.random.key(0))['encoder']
    assert ('norm' in params, 'final_norm' in params) == ((False, True) if NORMS[norm].before else (True, False))


def test_deepnorm_scales_the_residual_and_the_initial_weights(small: Architecture) -> None:
    """Wang et al. 2022, Figure 2: of an encoder of N layers α = (2N)^¼ and β = (8N)^-¼."""
    assert NORMS['deepnorm'].alpha(8) == 2 and NORMS['deepnorm'].beta(2) == 0.5
    assert {row.alpha(12) * row.beta(12) for name, row in NORMS.items() if name != 'deepnorm'} == {1.0}
    plain, deep = (
        initialise(Model(dataclasses.replace(small, norm=norm)), jax.random.key(0))['encoder'] for norm in ('post', 'deepnorm')
    )
    for block, names in (('attention', ('value', 'output')), ('feed_forward', ('inner', 'output'))):
        for name in names:
            np.testing.assert_allclose(deep[block][name]['kernel'], 0.5 * plain[block][name]['kernel'], rtol=1e-6)
    for name in ('query', 'key'):
        np.testing.assert_array_equal(deep['attention'][name]['kernel'], plain['attention'][name]['kernel'])
    np.testing.assert_array_equal(deep['word'], plain['word'])


@pytest.mark.parametrize('norm', [name for name in NORMS if name != 'post'])
def test_sixty_four_layers_are_finite_and_each_has_a_gradient(small: Architecture, batch: dict[str, Any], norm: str) -> None:
    a = dataclasses.replace(small, norm=norm, layers=64, deviation=0.02, dropout=0.1, remat='products')
    noise = make_noise(jax.random.key(1), jnp.arange(3))

    def objective(params: Any) -> jax.Array:
        return jnp.sin(encode(Model(a), params, batch, noise).hidden).mean()

    value, gradient = jax.jit(jax.value_and_grad(objective))(initialise(Model(a), jax.random.key(0)))
    assert np.isfinite(value)
    gradient['encoder'].pop('pooler')
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.isfinite(leaf).all(), path
        if "'key'" not in str(path) or "'bias'" not in str(path):  # softmax does not see a bias of the keys
            layers = leaf[None] if paths.stack_of(paths.join(path)) is None else leaf
            assert (np.abs(layers).reshape(len(layers), -1).max(1) > 0).all(), path


# ---- What rotary positions promise -----------------------------------------------------------------------------------------------


def test_a_rotation_keeps_lengths_and_makes_products_depend_on_the_distance() -> None:
    query, key = jax.random.normal(jax.random.key(0), (2, 1, 1, 1, 8))
    turned = [rotate(jnp.tile(x, (1, 512, 1, 1)), make_rotation(512, 8)) for x in (query, key)]
    np.testing.assert_allclose(jnp.linalg.norm(turned[0], axis=-1), jnp.linalg.norm(query) * jnp.ones((1, 512, 1)), rtol=1e-5)
    products = np.einsum('btnk,bsnk->ts', *turned)
    for distance in (-300, -1, 0, 7, 500):
        diagonal = np.diagonal(products, distance)
        np.testing.assert_allclose(diagonal, diagonal[0], atol=2e-5)
    assert np.abs(products[0, :8] - products[0, 0]).max() > 0.1


def test_the_angles_are_float32_whatever_the_dtype() -> None:
    cosine, sine = make_rotation(512, 64)
    assert cosine.dtype == sine.dtype == jnp.float32 and cosine.shape == (1, 512, 1, 32)
    np.testing.assert_allclose(sine[0, 511, 0], np.sin(511 * 10000.0 ** (-np.arange(32) / 32)), atol=1e-7)
    x = jnp.ones((1, 512, 1, 64), jnp.bfloat16)
    assert rotate(x, (cosine, sine)).dtype == jnp.bfloat16
    np.testing.assert_allclose(rotate(x, (cosine, sine))[0, 511, 0, 0], np.cos(511) - np.sin(511), atol=0.01)


def test_rotary_positions_have_no_parameters(small: Architecture) -> None:
    params = initialise(Model(dataclasses.replace(small, position_kind='rotary')), jax.random.key(0))['encoder']
    assert 'position' not in params and 'norm' in params


def test_packed_rotary_sequences_are_encoded_as_if_each_were_alone(small: Architecture) -> None:
    a = dataclasses.replace(small, position_kind='rotary', norm='pre')
    params = fresh(a)
    ids = np.random.default_rng(0).integers(5, 64, (1, 12)).astype(np.int32)
    segments = np.array([[1] * 7 + [2] * 4 + [0]], np.int32)
    positions = np.array([[*range(7), *range(4), 0]], np.int32)
    batch = {'ids': ids, 'types': np.zeros_like(ids), 'mask': (segments > 0).astype(np.int32)}
    placed = batch | {'segments': segments, 'positions': positions}
    packed = jax.jit(lambda params: encode(Model(a), params, placed).hidden)(params)[0]
    for begin, end in ((0, 7), (7, 11)):
        alone = forward(a, params, {name: array[:, begin:end] for name, array in batch.items()})['layers'][-1][0]
        np.testing.assert_allclose(packed[begin:end], alone, atol=2e-5)


# ---- With everything else that a model can have ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize('sharing', SHARING)
def test_layers_that_share_take_the_same_place_of_their_own(small: Architecture, batch: dict[str, Any], sharing: str) -> None:
    """Pre-LN with rotary positions under each way to share: as in plain numpy."""
    table = ((0, 0), (1, 0), (0, 1))
    a = dataclasses.replace(small, norm='pre', position_kind='rotary', sharing=sharing, groups=2, layers=3, table=table)
    params = fresh(a)
    found = jax.jit(lambda params: encode(Model(a), params, batch).hidden)(params)
    np.testing.assert_allclose(found, forward(a, params, batch)['layers'][-1], atol=2e-5)


@pytest.mark.slow
def test_what_is_recomputed_or_unrolled_has_the_same_gradient(small: Architecture, batch: dict[str, Any]) -> None:
    a = dataclasses.replace(small, norm='pre', position_kind='rotary', layers=4, dropout=0.1, attention_dropout=0.1)
    params, noise = fresh(a), make_noise(jax.random.key(1), jnp.arange(3))

    def differentiate(**changes: Any) -> Any:
        changed = Model(dataclasses.replace(a, **changes))
        return jax.jit(jax.grad(lambda params: jnp.sin(encode(changed, params, batch, noise).hidden).sum()))(params)

    wanted = differentiate()
    for changes in ({'unroll': 0}, *({'remat': remat} for remat in REMATS if remat != 'none')):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4), differentiate(**changes), wanted)


@pytest.mark.slow
def test_every_way_to_be_parallel_computes_one_update(small: Architecture, make_batch: Callable) -> None:
    """Pre-LN with rotary positions; the final LayerNorm is a parameter of its own."""
    pupil = Model(dataclasses.replace(small, norm='pre', position_kind='rotary', dropout=0.1), (('mlm', 64),))
    sgd = Optimizer(name='sgd', lr=1.0, warmup=0.0, power=0.0, weight_decay=0.0, clip=0.0)
    first = train.initial_state(pupil, sgd, 0)

    def walk(kind: str, devices: int, accumulate: int = 1, model: int = 1) -> Any:
        plan = parallel.PARALLEL[kind].plan(jax.devices()[:devices], model)
        step = plan.compile(train.make_step(pupil, None, Losses(), sgd, 3, accumulate))
        return jax.device_get(step(plan.put_state(first), plan.put_state({}), plan.put_batch(make_batch()))[0].params)

    alone = walk('jit', 1)
    assert np.abs(alone['encoder']['final_norm']['scale'] - 1).max() > 1e-4
    for found in (walk('pmap', 8), walk('fsdp', 8), walk('fsdp', 4, 2, 2)):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=4e-6), found, alone)
