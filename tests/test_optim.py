"""Optimizers against references and by hand; schedules computed by hand."""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.errors import UserError
from research.models import paths
from research.optim import OPTIMIZERS, Optimizer, averaged, build, multipliers, schedule, unused, validate

# Two stacked groups of one kernel, and of what is neither decayed nor trust-scaled; then a kernel that stands alone.
SHAPES = {
    'encoder': {
        'attention': {'query': {'kernel': (2, 4, 3), 'bias': (2, 3)}, 'norm': {'scale': (2, 4), 'bias': (2, 4)}},
        'word': (7, 4),
    },
    'label': {'output': {'kernel': (4, 3), 'bias': (3,)}},
}


def draw(seed: int, scale: float = 1.0) -> Any:
    generator = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: jnp.asarray(scale * generator.normal(size=shape), jnp.float32),
        SHAPES,
        is_leaf=lambda x: isinstance(x, tuple),
    )


def walk(x: Optimizer, steps: int, gradient: Any, params: Any, state: Any = None, first: int = 0) -> tuple[Any, Any]:
    """`steps` updates at the rate x.lr, of gradients that `gradient(params, step)` gives."""
    rule = build(x)
    state = rule.init(params) if state is None else state
    for step in range(first, first + steps):
        direction, state = rule.update(gradient(params, step), state, params, step=jnp.asarray(step))
        params = jax.tree.map(lambda p, d: p - x.lr * d, params, direction)
    return params, state


def random_gradients(params: Any, step: int) -> Any:
    return draw(100 + step, 0.3)


def assert_close(one: Any, two: Any, rtol: float, atol: float = 0.0) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), one, two)


@pytest.mark.parametrize('name', OPTIMIZERS)
def test_an_optimizer_descends_a_quadratic(name: str) -> None:
    target = draw(1)
    x = Optimizer(name=name, lr={'lamb': 0.02, 'muon': 0.2}.get(name, 0.05), weight_decay=0.0, clip=0.0)

    def distance(params: Any) -> float:
        return sum(float(jnp.square(p - t).sum()) for p, t in zip(jax.tree.leaves(params), jax.tree.leaves(target), strict=True))

    start = draw(0)
    rule = build(x)

    @jax.jit
    def step(params: Any, state: Any, number: jax.Array) -> tuple[Any, Any]:
        direction, state = rule.update(jax.tree.map(jnp.subtract, params, target), state, params, step=number)
        return jax.tree.map(lambda p, d: p - x.lr * d, params, direction), state

    params, state = start, rule.init(start)
    for number in range(200):
        params, state = step(params, state, jnp.asarray(number))
    assert distance(params) < 0.01 * distance(start)


@pytest.mark.parametrize('name', OPTIMIZERS)
def test_an_optimizer_resumes_exactly(name: str) -> None:
    x = Optimizer(name=name, lr=0.1)
    whole, _ = walk(x, 4, random_gradients, draw(0))
    half, state = walk(x, 2, random_gradients, draw(0))
    resumed, _ = walk(x, 2, random_gradients, half, state, first=2)
    jax.tree.map(np.testing.assert_array_equal, whole, resumed)


def kernels_only(mask: Any = None) -> Any:
    return jax.tree_util.tree_map_with_path(lambda path, _: paths.is_weight(paths.join(path)), draw(0))


def test_adamw_is_optaxs() -> None:
    x = Optimizer(lr=0.1, clip=0.0)
    reference = optax.adamw(0.1, 0.9, 0.999, eps=1e-6, weight_decay=0.01, mask=kernels_only())
    params, state = draw(0), reference.init(draw(0))
    for step in range(4):
        updates, state = reference.update(random_gradients(None, step), state, params)
        params = optax.apply_updates(params, updates)
    assert_close(walk(x, 4, random_gradients, draw(0))[0], params, rtol=1e-5, atol=1e-6)


def test_lamb_on_blocks_that_stand_alone_is_optaxs() -> None:
    """A stack of groups is taken apart for the reference: the trust ratio of a block is as if it stood alone."""

    def apart(tree: Any) -> dict[str, Any]:
        leaves = {}
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            name = paths.join(path)
            if not paths.is_weight(name):
                continue
            for group in (None,) if paths.stack_of(name) is None else range(2):
                leaves[f'{name}/{group}'] = leaf if group is None else leaf[group]
        return leaves

    x = Optimizer(name='lamb', lr=0.1, clip=0.0)
    reference = optax.lamb(0.1, 0.9, 0.999, eps=1e-6, weight_decay=0.01)
    params: Any = apart(draw(0))
    state = reference.init(params)
    for step in range(4):
        updates, state = reference.update(apart(random_gradients(None, step)), state, params)
        params = optax.apply_updates(params, updates)
    assert len(params) == 4
    assert_close(apart(walk(x, 4, random_gradients, draw(0))[0]), params, rtol=1e-4, atol=1e-6)


def test_a_trust_ratio_of_zero_weights_is_one() -> None:
    zeros = jax.tree.map(jnp.zeros_like, draw(0))
    plain, trusted = (walk(Optimizer(name=name, lr=0.1, clip=0.0), 1, random_gradients, zeros)[0] for name in ('adamw', 'lamb'))
    assert_close(plain, trusted, rtol=1e-6)


def test_decay_and_trust_skip_biases_and_layer_norm() -> None:
    names = {
        name: (paths.is_weight(name), paths.stack_of(name) is not None)
        for name in (paths.join(path) for path, _ in jax.tree_util.tree_leaves_with_path(draw(0)))
    }
    assert names == {
        'encoder/attention/query/kernel': (True, True),
        'encoder/attention/query/bias': (False, True),
        'encoder/attention/norm/scale': (False, True),
        'encoder/attention/norm/bias': (False, True),
        'encoder/word': (True, False),
        'label/output/kernel': (True, False),
        'label/output/bias': (False, False),
    }
    still = walk(Optimizer(name='sgd', lr=1.0, weight_decay=0.25), 1, lambda p, s: jax.tree.map(jnp.zeros_like, p), draw(0))[0]
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.tree.map(lambda a, b: a / b, still, draw(0))):
        np.testing.assert_allclose(leaf, 0.75 if paths.is_weight(paths.join(path)) else 1.0, rtol=1e-6)
    plain, trusted = (walk(Optimizer(name=name, lr=0.1, clip=0.0), 1, random_gradients, draw(0))[0] for name in ('adamw', 'lamb'))
    for (path, one), two in zip(jax.tree_util.tree_leaves_with_path(plain), jax.tree.leaves(trusted), strict=True):
        assert (np.abs(one - two).max() > 1e-3) == paths.is_weight(paths.join(path))


@pytest.mark.parametrize('corrected', [True, False])
def test_adams_direction_is_its_formula(corrected: bool) -> None:
    x = Optimizer(lr=0.1, beta1=0.8, beta2=0.95, epsilon=1e-3, weight_decay=0.02, bias_correction=corrected, clip=0.0)
    first = second = 0.0
    param = np.asarray(draw(0)['encoder']['word'], np.float64)
    for step in range(3):
        g = np.asarray(random_gradients(None, step)['encoder']['word'], np.float64)
        first, second = 0.8 * first + 0.2 * g, 0.95 * second + 0.05 * g**2
        a, b = (1 - 0.8 ** (step + 1), 1 - 0.95 ** (step + 1)) if corrected else (1, 1)
        param = param - 0.1 * ((first / a) / (np.sqrt(second / b) + 1e-3) + 0.02 * param)
    np.testing.assert_allclose(walk(x, 3, random_gradients, draw(0))[0]['encoder']['word'], param, rtol=1e-4, atol=1e-5)


def test_the_gradient_is_clipped_by_its_global_norm() -> None:
    gradient = random_gradients(None, 0)
    norm = float(optax.tree.norm(gradient))
    x = Optimizer(name='sgd', lr=1.0, weight_decay=0.0, clip=norm / 4)
    moved = jax.tree.map(jnp.subtract, draw(0), walk(x, 1, lambda p, s: gradient, draw(0))[0])
    assert float(optax.tree.norm(moved)) == pytest.approx(norm / 4, rel=1e-4)
    free = walk(dataclasses.replace(x, clip=0.0), 1, lambda p, s: gradient, draw(0))[0]
    assert float(optax.tree.norm(jax.tree.map(jnp.subtract, draw(0), free))) == pytest.approx(norm, rel=1e-4)


def kernels(seed: int, groups: int) -> Any:
    """The kernels of an encoder of width 16 with four heads of 4 and 48 inner units, and the table of pieces."""
    shapes = {
        'attention': {'query': {'kernel': (groups, 16, 4, 4)}, 'output': {'kernel': (groups, 4, 4, 16)}},
        'feed_forward': {'inner': {'kernel': (groups, 16, 48)}, 'output': {'kernel': (groups, 48, 16)}},
        'word': (30, 16),
    }
    generator = np.random.default_rng(seed)
    return {
        'encoder': jax.tree.map(
            lambda shape: jnp.asarray(generator.normal(size=shape), jnp.float32), shapes, is_leaf=lambda x: isinstance(x, tuple)
        )
    }


@pytest.mark.parametrize('groups', [1, 3])  # shared by all layers, and a matrix a layer
def test_muons_update_is_orthogonal_in_each_group(groups: int) -> None:
    """Against numpy: the singular vectors stay, each singular value goes five times through Jordan's polynomial."""
    x = Optimizer(name='muon', weight_decay=0.0, clip=0.0)
    rule, first, second = build(x), kernels(1, groups), kernels(2, groups)
    _, state = rule.update(first, rule.init(first), first, step=jnp.asarray(0))
    found: Any = rule.update(second, state, first, step=jnp.asarray(1))[0]
    for stack, name, (rows, columns) in (
        ('attention', 'query', (16, 16)),
        ('attention', 'output', (16, 16)),
        ('feed_forward', 'inner', (16, 48)),
        ('feed_forward', 'output', (48, 16)),
    ):
        one, two, update = (
            np.asarray(tree['encoder'][stack][name]['kernel'], np.float64).reshape(groups, rows, columns)
            for tree in (first, second, found)
        )
        average = 0.95 * 0.05 * one + 0.05 * two
        left, values, right = np.linalg.svd(0.95 * average + 0.05 * two, full_matrices=False)
        values = values / np.linalg.norm(values, axis=-1, keepdims=True)
        for _ in range(5):
            values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
        scale = 0.2 * max(rows, columns) ** 0.5
        np.testing.assert_allclose(update / scale, (left * values[:, None, :]) @ right, atol=1e-3)
        np.testing.assert_allclose(np.sort(np.linalg.svd(update / scale, compute_uv=False)), np.sort(values), atol=1e-2)
        assert np.quantile(values, 0.1) > 0.65 and values.max() < 1.25


def test_muon_moves_all_but_hidden_matrices_as_adamw() -> None:
    adam, muon = (walk(Optimizer(name=name, lr=0.1), 3, random_gradients, draw(0))[0] for name in ('adamw', 'muon'))
    for (keys, one), two in zip(jax.tree_util.tree_leaves_with_path(adam), jax.tree.leaves(muon), strict=True):
        hidden = paths.join(keys) == 'encoder/attention/query/kernel'
        assert bool((np.asarray(one) == np.asarray(two)).all()) != hidden


# ---- Schedules ------------------------------------------------------------------------------------------------------------------


def rates(steps: int, at: tuple[int, ...], **changes: Any) -> list[float]:
    rate = schedule(Optimizer(lr=1.0, **changes), steps)
    return [float(rate(jnp.asarray(step))) for step in at]


@pytest.mark.parametrize(
    ('changes', 'at', 'expected'),
    [
        # Warm-up over 4 steps, then a line to 0 at step 20.
        ({'warmup': 4.0}, (0, 1, 3, 4, 8, 12, 19, 20, 25), (0, 0.25, 0.75, 1, 0.75, 0.5, 1 / 16, 0, 0)),
        ({'warmup': 0.2}, (0, 2, 4, 12), (0, 0.5, 1, 0.5)),
        ({'warmup': 0.0}, (0, 5, 10), (1, 0.75, 0.5)),
        ({'warmup': 0.0, 'power': 0.0}, (0, 10, 19, 20), (1, 1, 1, 1)),
        ({'warmup': 4.0, 'power': 2.0}, (4, 12), (1, 0.25)),
        # Google's: after the warm-up the rate is where a decay from step 0 on would be.
        ({'warmup': 4.0, 'decay_from_start': True}, (0, 2, 3, 4, 10, 20), (0, 0.5, 0.75, 0.8, 0.5, 0)),
        ({'warmup': 20.0}, (0, 10, 19, 20), (0, 0.5, 0.95, 0)),
        ({'warmup': 4.0, 'schedule': 'constant'}, (0, 2, 4, 19, 20), (0, 0.5, 1, 1, 1)),
        ({'warmup': 4.0, 'schedule': 'cosine'}, (2, 4, 8, 12, 20), (0.5, 1, (1 + 0.5**0.5) / 2, 0.5, 0)),
        ({'warmup': 20.0, 'schedule': 'cosine'}, (0, 10, 19), (0, 0.5, 0.95)),
        # 1 − √ over the last 8 steps; a number of steps is the same as their fraction; without decay it is constant.
        ({'warmup': 0.2, 'schedule': 'wsd', 'decay': 0.4}, (0, 2, 4, 12, 14, 20), (0, 0.5, 1, 1, 0.5, 0)),
        ({'warmup': 12.0, 'schedule': 'wsd', 'decay': 8.0}, (6, 12, 13, 20), (0.5, 1, 1 - 0.125**0.5, 0)),
        ({'warmup': 0.0, 'schedule': 'wsd', 'decay': 0.0}, (0, 19), (1, 1)),
    ],
)
def test_a_schedule_is_as_computed_by_hand(changes: dict[str, Any], at: tuple[int, ...], expected: tuple[float, ...]) -> None:
    np.testing.assert_allclose(rates(20, at, **changes), expected, atol=1e-6)


def test_a_warmup_longer_than_the_run_is_refused() -> None:
    with pytest.raises(UserError, match=re.escape('optimizer.warmup=30.0 is longer than the 20 steps of the run')):
        schedule(Optimizer(warmup=30.0), 20)


@pytest.mark.parametrize(
    ('warmup', 'decay', 'message'),
    [
        (0.0, 30.0, 'optimizer.decay=30.0 is longer than the 20 steps of the run'),
        (0.7, 0.4, 'optimizer.warmup=0.7 and optimizer.decay=0.4 are 22 steps: the run has 20'),
    ],
)
def test_a_decay_that_the_run_has_no_room_for_is_refused(warmup: float, decay: float, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        schedule(Optimizer(schedule='wsd', warmup=warmup, decay=decay), 20)


def test_options_of_other_rows_change_nothing() -> None:
    assert {'optimizer.power', 'optimizer.decay_from_start', 'optimizer.momentum'} == set(unused(Optimizer(schedule='wsd')))
    assert unused(Optimizer(name='muon'))['optimizer.decay'] == "optimizer.schedule='polynomial' does not read it"
    assert not {'optimizer.beta1', 'optimizer.epsilon', 'optimizer.momentum'} & set(unused(Optimizer(name='muon')))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'name': 'adam'}, "no optimizer (optimizer.name) named 'adam'; did you mean 'adamw'? (there are: adamw, muon, lamb, sgd)"),
        ({'lr': -1.0}, 'optimizer.lr=-1.0 must not be negative'),
        ({'warmup': -1.0}, 'optimizer.warmup=-1.0 must not be negative'),
        ({'schedule': 'cosin'}, "no schedule (optimizer.schedule) named 'cosin'; did you mean 'cosine'?"),
        ({'power': -1.0}, 'optimizer.power=-1.0 must not be negative'),
        ({'decay': -1.0}, 'optimizer.decay=-1.0 must not be negative'),
        ({'momentum': 1.0}, 'optimizer.momentum=1.0 must be at least 0 and below 1'),
        ({'weight_decay': -1.0}, 'optimizer.weight_decay=-1.0 must not be negative'),
        ({'clip': -1.0}, 'optimizer.clip=-1.0 must not be negative'),
        ({'epsilon': 0.0}, 'optimizer.epsilon=0.0 must be above 0'),
        ({'beta1': 1.0}, 'optimizer.beta1=1.0 must be at least 0 and below 1'),
        ({'beta2': -0.1}, 'optimizer.beta2=-0.1 must be at least 0 and below 1'),
        ({'frozen': ('layer 0',)}, "optimizer.frozen names 'layer 0', which cannot be a part of a model"),
    ],
)
def test_an_impossible_optimizer_is_refused(changes: dict[str, Any], message: str) -> None:
    validate(Optimizer())
    with pytest.raises(UserError, match=re.escape(message)):
        validate(Optimizer(**changes))


# ---- Layers that move less, or not at all ----------------------------------------------------------------------------------------

OWN = ((0, 0), (1, 1))  # two layers, each its own attention and feed-forward group
SHARED = ((0, 0), (0, 0))


def test_each_layer_moves_less_than_the_one_above() -> None:
    found = multipliers(Optimizer(layer_decay=0.5), draw(0), OWN)
    assert found['encoder']['word'].tolist() == [[0.125]]
    assert found['encoder']['attention']['query']['kernel'].ravel().tolist() == [0.25, 0.5]
    assert found['label']['output']['bias'].tolist() == [1.0]
    one = jax.tree.map(lambda x: x, draw(0))
    one['encoder']['attention'] = jax.tree.map(lambda x: x[:1], one['encoder']['attention'])
    shared = multipliers(Optimizer(layer_decay=0.5), one, SHARED)  # a block that layers share moves as the highest of them
    assert shared['encoder']['attention']['query']['kernel'].ravel()[0] == 0.5
    assert multipliers(Optimizer(), draw(0), OWN) is None


@pytest.mark.parametrize(
    ('frozen', 'still'),
    [
        (('embeddings',), {'word': [0], 'query': [1, 1], 'label': [1]}),
        (('layer_0',), {'word': [1], 'query': [0, 1], 'label': [1]}),
        (('encoder',), {'word': [0], 'query': [0, 0], 'label': [1]}),
        (('encoder/word', 'label'), {'word': [0], 'query': [1, 1], 'label': [0]}),
    ],
)
def test_what_is_frozen(frozen: tuple[str, ...], still: dict[str, list[float]]) -> None:
    found = multipliers(Optimizer(frozen=frozen), draw(0), OWN)
    assert found['encoder']['word'].ravel().tolist() == still['word']
    query = np.broadcast_to(found['encoder']['attention']['query']['kernel'], (2, 1, 1))
    assert query.ravel().tolist() == still['query']
    assert found['label']['output']['kernel'].ravel().tolist() == still['label']


@pytest.mark.parametrize(
    ('frozen', 'layers', 'message'),
    [
        (
            ('layer_2',),
            OWN,
            "optimizer.frozen names 'layer_2', which the model does not have.*there are: embeddings, layer_0 to layer_1",
        ),
        (('pooler',), OWN, "optimizer.frozen names 'pooler'"),
        (('layer_0',), SHARED, 'optimizer.frozen names layer_0, which shares a block with layer_1: name both'),
    ],
)
def test_what_cannot_be_frozen(frozen: tuple[str, ...], layers: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        multipliers(Optimizer(frozen=frozen), draw(0), layers)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'layer_decay': 0.0}, 'optimizer.layer_decay=0.0'),
        ({'layer_decay': 1.1}, r'optimizer.layer_decay=1.1 must be above 0 and at most 1 \(1 turns it off\)'),
        ({'ema': 1.0}, 'optimizer.ema=1.0'),
    ],
)
def test_rates_of_layers_and_averages_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        validate(Optimizer(**options))


def test_the_average_follows_and_forgets_its_beginning() -> None:
    x = Optimizer(ema=0.9)
    average = {'a': jnp.zeros(())}
    for step in range(300):
        average = averaged(x, average, {'a': jnp.ones(())}, jnp.asarray(step))
    assert float(average['a']) == pytest.approx(1.0, abs=1e-6)
    first = averaged(x, {'a': jnp.zeros(())}, {'a': jnp.ones(())}, jnp.asarray(0))
    assert float(first['a']) == pytest.approx(0.9)  # after one step over next to nothing: 1 / 10 of the beginning is left
    still = {'a': jnp.full((), 0.1, jnp.float32)}
    assert averaged(x, still, still, jnp.asarray(7))['a'] == still['a']  # what is frozen stays to the last bit
    late = averaged(x, {'a': jnp.zeros(())}, {'a': jnp.ones(())}, jnp.asarray(10_000))
    assert float(late['a']) == pytest.approx(0.1)
