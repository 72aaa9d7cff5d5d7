"""Training steps on 1, 2, 4 and 8 simulated devices: the same result, the bytes that each device holds, and what it sends.

    python benchmarks/devices.py [--small] [--json=FILE]

Needs jax, flax, optax and numpy only; the devices are simulated on the CPU, so it measures no time. Bytes sent are counted from the
collectives of the compiled program, each as a ring sends it, and stand beside the cost model: jit and pmap add up the gradients,
2 · 4 P bytes; fsdp gathers the parameters for the forward pass and for the backward pass, and scatters the gradients, 3 · 4 P; all
times (n − 1) / n. On a mesh each layer also adds up activations. XLA for CPU makes no reduce-scatter: it adds gradients up on all
devices and drops the rest, 2 · 4 P; and without remat it keeps what the forward pass has gathered. Layers are unrolled, so that
every collective is in the program once for each time that it runs.
"""

import dataclasses
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import jax
import numpy as np

from research import parallel, train
from research.models import paths
from research.models.architecture import Architecture
from research.models.heads import Model
from research.objectives.losses import Losses
from research.optim import Optimizer
from research.sharding import count_bytes

SMALL = '--small' in sys.argv
SHAPE = Architecture(
    vocabulary=1024 if SMALL else 4096,
    layers=2 if SMALL else 6,
    width=64 if SMALL else 256,
    heads=8,
    inner=256 if SMALL else 1024,
    embedding=64 if SMALL else 256,
    positions=64,
    dropout=0.0,
    attention_dropout=0.0,
    pooler=False,
)
ROWS, LENGTH, MASKED, STEPS = 16, 32, 4, 2
PLAIN = Optimizer(name='sgd', lr=0.1, warmup=0.0, power=0.0, weight_decay=0.0, clip=0.0)
# (row of PARALLEL, devices, how many of them share a row's matrices, remat)
CASES = [
    *((kind, devices, 1, 'none') for kind in ('jit', 'pmap', 'fsdp') for devices in (1, 2, 4, 8)),
    ('fsdp', 8, 1, 'block'),
    ('jit', 8, 2, 'none'),
    ('fsdp', 8, 2, 'none'),
]
SIZES = {'f32': 4, 's32': 4, 'u32': 4, 'bf16': 2, 'f16': 2, 'pred': 1, 's8': 1, 'u8': 1, 'f64': 8, 's64': 8, 'u64': 8}
COLLECTIVE = re.compile(r'= (\(.*?\)|\S+) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(-start)?\((.*)')


def make_batch(seed: int) -> dict[str, np.ndarray]:
    """A random pretraining batch."""
    draw = np.random.default_rng(seed)
    ids = draw.integers(0, SHAPE.vocabulary, (ROWS, LENGTH), dtype=np.int32)
    return {
        'ids': ids,
        'types': np.zeros_like(ids),
        'mask': np.ones_like(ids),
        'masked_positions': np.sort(draw.integers(0, LENGTH, (ROWS, MASKED), dtype=np.int32)),
        'masked_labels': draw.integers(0, SHAPE.vocabulary, (ROWS, MASKED), dtype=np.int32),
        'masked_weights': (draw.random((ROWS, MASKED)) < 0.8).astype(np.float32),
        'weight': np.ones(ROWS, np.float32),
    }


def count_group(rest: str, devices: int) -> int:
    """The number of devices that take part in a collective together, from its replica groups."""
    if found := re.search(r'replica_groups=mesh\[(.*?)\] \{(.*?)\}', rest):
        axes = dict(re.findall(r"'(\w+)'=(\d+)", found[1]))
        return math.prod(int(axes[name]) for name in re.findall(r"'(\w+)'", found[2]))
    if found := re.search(r'replica_groups=\[\d+,(\d+)\]<=', rest):
        return int(found[1])
    if found := re.search(r'replica_groups=\{\{([\d,]+)\}', rest):
        return len(found[1].split(','))
    return devices


def count_sent(program: str, devices: int) -> dict[str, float]:
    """Bytes that each device sends in a compiled program, by collective."""
    found: dict[str, float] = {}
    for line in program.splitlines():
        if match := COLLECTIVE.search(line):
            size = 0
            for kind, shape in re.findall(r'(\w+)\[([\d,]*)\]', match[1]):
                size += SIZES[kind] * math.prod(int(side) for side in shape.split(',') if side)
            n = count_group(match[4], devices)
            share = {'all-reduce': 2 * (n - 1) / n, 'reduce-scatter': n - 1, 'collective-permute': 1}
            found[match[2]] = found.setdefault(match[2], 0.0) + size * (share[match[2]] if match[2] in share else (n - 1) / n)
    return found


def predict_sent(params: Any, grid: parallel.Grid) -> float:
    """Bytes that each device sends, by the cost model."""
    here = grid._replace(states=False)
    held = sum(count_bytes(paths.join(keys), leaf.shape, here) for keys, leaf in jax.tree_util.tree_leaves_with_path(params))
    sent = (3 if grid.states else 2) * held * (grid.data - 1) / grid.data
    # Attention and feed-forward each add up [B, T, D] in the forward pass and in the backward pass; so does the embedding once.
    rows = ROWS / grid.data * LENGTH * SHAPE.width * 4
    return sent + (4 * SHAPE.layers + 1) * 2 * rows * (grid.model - 1) / grid.model


def walk(kind: str, devices: int, model: int, remat: str) -> tuple[Any, dict[str, Any]]:
    """(the parameters after STEPS steps, the numbers of a case)."""
    student = Model(dataclasses.replace(SHAPE, remat=remat), (('mlm', SHAPE.vocabulary),))
    plan = parallel.PARALLEL[kind].plan(jax.devices()[:devices], model)
    state = plan.put_state(train.initial_state(student, PLAIN, 0))
    step: Any = plan.compile(train.make_step(student, None, Losses(), PLAIN, STEPS))
    grid = parallel.make_grid(kind, devices, model)
    sent = count_sent(step.lower(state, {}, plan.put_batch(make_batch(0))).compile().as_text(), devices)
    predicted = predict_sent(state.params, grid)
    for number in range(STEPS):
        state, _ = step(state, {}, plan.put_batch(make_batch(number)))
    held = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state.params))
    numbers = {'parallel': kind, 'devices': devices, 'model_devices': model, 'remat': remat, 'parameter_bytes': held}
    return jax.device_get(state.params), {**numbers, 'sent': sent, 'sent_bytes': sum(sent.values()), 'predicted_bytes': predicted}


def main() -> None:
    """Runs every case and prints a table."""
    parallel.simulate_devices(8)
    alone, rows = None, []
    for case in CASES:
        params, numbers = walk(*case)
        alone = params if alone is None else alone
        apart = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), alone, params)
        rows.append({**numbers, 'largest_difference': max(jax.tree.leaves(apart))})
    for option in sys.argv[1:]:
        if option.startswith('--json='):
            shape = {'rows': ROWS, 'length': LENGTH, 'steps': STEPS, 'model': dataclasses.asdict(SHAPE)}
            content = {'jax': jax.__version__, **shape, 'cases': rows}
            Path(option.partition('=')[2]).write_text(json.dumps(content, indent=1) + '\n')
    print(f'\n{jax.devices()[0].device_kind}, jax {jax.__version__}, B={ROWS} T={LENGTH} D={SHAPE.width} L={SHAPE.layers}, SGD')
    print(f'{"":28} {"difference":>11} {"held a device":>14} {"sent a step":>12} {"predicted":>12}  collectives')
    for row in rows:
        name = f'{row["parallel"]}, {row["devices"] // row["model_devices"]} × {row["model_devices"]}, remat {row["remat"]}'
        parts = ', '.join(f'{kind} {size / 1e6:.2f}' for kind, size in row['sent'].items())
        print(
            f'{name:28} {row["largest_difference"]:11.1e} {row["parameter_bytes"] / 1e6:11.2f} MB '
            f'{row["sent_bytes"] / 1e6:9.2f} MB {row["predicted_bytes"] / 1e6:9.2f} MB  {parts}'
        )


if __name__ == '__main__':
    main()
