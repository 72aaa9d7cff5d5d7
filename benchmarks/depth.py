"""The costs of depth and sharing: time to compile, time of a step against a hand-written loop, memory, and shapes of logits.

    python benchmarks/depth.py            (--small takes a few seconds)

Needs only jax, flax, optax and numpy, so it runs on a bare accelerator machine. Ratios are between medians of one run.
"""

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.extend.core import jaxprs_in_params

from research import costs, optim, train
from research.models.architecture import REMATS, Architecture
from research.models.attention import attend
from research.models.encoder import Outputs, feed_forward
from research.models.heads import Model, initialise, score
from research.objectives.losses import Losses, Match, Soft
from research.optim import Optimizer

SMALL = '--small' in sys.argv
SHAPE = Architecture(
    vocabulary=4096,
    width=64 if SMALL else 256,
    heads=4,
    inner=256 if SMALL else 1024,
    embedding=64 if SMALL else 256,
    positions=128,
    dropout=0.0,
    attention_dropout=0.0,
    pooler=False,
)
ROWS, LENGTH, MASKED, REPEATS = (2, 32, 5, 3) if SMALL else (8, 128, 20, 9)
OPTIMIZER = Optimizer(lr=1e-4)


def make_batch() -> dict[str, np.ndarray]:
    """A random pretraining batch."""
    draw = np.random.default_rng(0)
    ids = draw.integers(0, SHAPE.vocabulary, (ROWS, LENGTH), dtype=np.int32)
    positions = np.sort(draw.integers(0, LENGTH, (ROWS, MASKED), dtype=np.int32))
    return {
        'ids': ids,
        'types': np.zeros_like(ids),
        'mask': np.ones_like(ids),
        'masked_positions': positions,
        'masked_labels': draw.integers(0, SHAPE.vocabulary, (ROWS, MASKED), dtype=np.int32),
        'masked_weights': np.ones((ROWS, MASKED), np.float32),
        'weight': np.ones(ROWS, np.float32),
    }


def make_model(layers: int, **changes: Any) -> Model:
    """The model of this benchmark with `layers` layers."""
    a = dataclasses.replace(SHAPE, layers=layers, **changes)
    return Model(a, (('mlm', a.vocabulary),))


def make_step(model: Model) -> Callable:
    """The training step of a model, as `parallel.jit` compiles it."""
    step = train.make_step(model, None, Losses(), OPTIMIZER, 1000)
    return jax.jit(lambda state, data: step(state, {}, data, None), donate_argnums=0)


def measure_compilation(model: Model) -> float:
    """Seconds to trace and compile the step: the median of three."""
    state = train.initial_state(model, OPTIMIZER, 0)
    times = []
    for _ in range(3):
        jax.clear_caches()
        begin = time.perf_counter()
        make_step(model).lower(state, make_batch()).compile()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def write_by_hand(model: Model) -> tuple[Any, Callable]:
    """(state, step) of the same training with a Python loop over the layers, each with its own parameters, instead of a scan."""
    a = model.architecture
    params = initialise(model, jax.random.key(0))
    encoder = params['encoder']
    blocks = [
        jax.tree.map(lambda w, i=i: w[i], {'attention': encoder['attention'], 'feed_forward': encoder['feed_forward']})
        for i in range(a.layers)
    ]
    rest = {**params, 'encoder': {k: v for k, v in encoder.items() if k not in ('attention', 'feed_forward')}}
    top = make_model(1)
    one = initialise(top, jax.random.key(0))['encoder']
    placeholders = {name: one[name] for name in ('attention', 'feed_forward')}
    rule, rate = optim.build(OPTIMIZER), optim.schedule(OPTIMIZER, 1000)

    def loss(tree: Any, data: Any) -> jax.Array:
        params = {**tree['rest'], 'encoder': {**tree['rest']['encoder'], **placeholders}}
        x: Any = top.apply({'params': params}, data['ids'], data['types'], method=lambda m, *args: m.encoder.embed(*args, None))
        mask = (data['mask'] > 0)[:, None, None, :]
        for block in tree['blocks']:
            x = attend(block['attention'], x, mask, a, None).output
            x = feed_forward(block['feed_forward'], x, a, None)
        logits = score(top, params, 'mlm', Outputs(hidden=x, first=x[:, 0]), data['masked_positions'])
        values = optax.softmax_cross_entropy_with_integer_labels(logits, data['masked_labels'])
        return (values * data['masked_weights']).sum() / data['masked_weights'].sum()

    tree = {'rest': rest, 'blocks': blocks}

    def step(state: Any, data: Any) -> tuple[Any, jax.Array]:
        tree, moments, count = state
        value, gradients = jax.value_and_grad(loss)(tree, data)
        direction, moments = rule.update(gradients, moments, tree, step=count)
        tree = jax.tree.map(lambda p, d: p - rate(count) * d, tree, direction)
        return (tree, moments, count + 1), value

    return (tree, rule.init(tree), jnp.zeros((), jnp.int32)), jax.jit(step, donate_argnums=0)


def measure_steps(contenders: dict[str, tuple[Any, Callable]]) -> dict[str, float]:
    """The median seconds of a step of each contender; they take turns, so that noise affects all alike."""
    data = jax.device_put(make_batch())
    states = {}
    for name, (state, step) in contenders.items():
        states[name], _ = step(state, data)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(REPEATS):
        for name, (_, step) in contenders.items():
            begin = time.perf_counter()
            states[name], _ = step(states[name], data)
            jax.block_until_ready(states[name])
            times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in times.items()}


def compare_remat(layers: int) -> list[tuple[str, str, str]]:
    """Rows of a table: the time and the temporary memory of a rolled step by `model.remat`, relative to 'none'."""
    models = {remat: make_model(layers, unroll=1, remat=remat) for remat in REMATS}
    seconds = measure_steps(
        {remat: (train.initial_state(model, OPTIMIZER, 0), make_step(model)) for remat, model in models.items()}
    )
    found = []
    for remat, model in models.items():
        compiled = make_step(model).lower(train.initial_state(model, OPTIMIZER, 0), make_batch()).compile()
        flops = costs.count_step_flops(model.architecture, None, Losses(), ROWS, LENGTH, MASKED)
        found.append((remat, seconds[remat], compiled.memory_analysis().temp_size_in_bytes, flops))
    _, *plain = found[0]
    return [
        (f'remat {remat}, {layers} layers rolled ÷ none: step', f'{time / plain[0]:.2f}', f'by FLOPs {flops / plain[2]:.2f}')
        for remat, time, _, flops in found
    ] + [(f'remat {remat}, {layers} layers rolled: temporary memory', f'{held / 1e6:.1f} MB', '') for remat, _, held, _ in found]


def measure_state(model: Model) -> list[int]:
    """The bytes of the arrays of parameters, gradients and optimizer state."""
    state = train.initial_state(model, OPTIMIZER, 0)
    gradients = jax.eval_shape(lambda p: jax.tree.map(jnp.zeros_like, p), state.params)
    trees = (state.params, gradients, state.moments)
    return [sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)) for tree in trees]


def find_largest_logits(losses: Losses) -> tuple[int, ...]:
    """The shape of the largest array [·, ·, V] in the program of a step."""
    model = make_model(2)
    teacher = make_model(2)
    state = train.initial_state(model, OPTIMIZER, 0)
    step = train.make_step(model, teacher, losses, OPTIMIZER, 1000)
    frozen = {'teacher': state.params}
    found: list[tuple[int, ...]] = []

    def walk(jaxpr: Any) -> None:
        for equation in jaxpr.eqns:
            for variable in equation.outvars:
                shape = getattr(variable.aval, 'shape', ())
                if len(shape) == 3 and shape[-1] == SHAPE.vocabulary:
                    found.append(shape)
            for inner in jaxprs_in_params(equation.params):
                walk(inner)

    walk(jax.make_jaxpr(lambda s, f, b: step(s, f, b, None))(state, frozen, make_batch()).jaxpr)
    return max(found, key=np.prod)


def main() -> None:
    """Measures everything and prints a table."""
    rows = []
    six, deep = (measure_compilation(make_model(layers, unroll=1)) for layers in (6, 24))
    rows.append(('trace + compile, rolled, 24 layers ÷ 6 layers', f'{deep / six:.2f}', 'at most 1.5'))
    flat = measure_compilation(make_model(24))
    rows.append(('trace + compile, 24 layers, unrolled ÷ rolled', f'{flat / deep:.2f}', ''))
    layers = 12
    contenders: dict[str, tuple[Any, Callable]] = {'by hand': write_by_hand(make_model(layers))}
    for name, unroll in (('unrolled', 0), ('rolled', 1)):
        model = make_model(layers, unroll=unroll)
        contenders[name] = train.initial_state(model, OPTIMIZER, 0), make_step(model)
    seconds = measure_steps(contenders)
    for name in ('unrolled', 'rolled'):
        limit = 'about 1 or less' if name == 'unrolled' else ''
        rows.append((f'step, {layers} layers, {name} ÷ hand-written loop', f'{seconds[name] / seconds["by hand"]:.2f}', limit))
    rows += compare_remat(layers)
    one, many = (measure_state(make_model(layers, sharing='all')) for layers in (1, 24))
    for name, a, b in zip(('parameters', 'gradients', 'optimizer state'), one, many, strict=True):
        rows.append((f'{name}, all shared, 24 layers ÷ 1 layer, bytes', f'{b / a:.2f}', 'exactly 1'))
    expected = str((ROWS, MASKED, SHAPE.vocabulary))
    rows.append(('largest logits, MLM', str(find_largest_logits(Losses())), expected))
    masked = Losses(soft=Soft(1.0, at='masked'), cosine=Match(1.0))
    rows.append(('largest logits, MLM + soft targets at masked', str(find_largest_logits(masked)), expected))
    rows.append(('largest logits, soft targets at attended', str(find_largest_logits(Losses(soft=Soft(1.0)))), ''))
    predicted = costs.summarize_parameters(make_model(24, sharing='all').architecture)['encoder']
    rows.append(('encoder parameters, all shared, 24 layers', f'{predicted:,}', ''))
    print(f'\n{jax.devices()[0].device_kind}, jax {jax.__version__}, B={ROWS} T={LENGTH} D={SHAPE.width}')
    for what, value, wanted in rows:
        print(f'{what:52} {value:>16}   {wanted}')


if __name__ == '__main__':
    main()
