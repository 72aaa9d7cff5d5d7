"""The speed-up by buckets: examples per second on a task with batches of similar length, against padding to the maximal length.

    python benchmarks/buckets.py --start=HF_FOLDER_OR_RUN --folder=…/glue [--task=sst2] [--steps=64] [--length=128]

Both ways train on the same examples with the same step; the time to compile is not counted. Prints the examples per second of both,
their ratio, and the share of positions that hold a piece.
"""

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import jax

from configs.finetune import bert
from research import parallel, train
from research.data import feed as feeds
from research.experiment import student_heads
from research.models.heads import Model
from research.runs import sources
from research.surgery import inherit, transplant


def measure(given: argparse.Namespace, buckets: tuple[int, ...]) -> dict[str, Any]:
    """The lengths of batches, examples per second and share of filled positions over the first `steps` batches.

    The time of a batch is that of its length: the fastest of three steps.
    """
    x = bert(given.task)
    start = sources.open_donor(given.start, Path('runs/none'), 'start')
    data = dataclasses.replace(
        x.data, folder=given.folder, tokenizer=str(start.tokenizer), length=given.length, buckets=buckets, select='last'
    )
    architecture = dataclasses.replace(inherit(x.surgery, x.model, start.architecture), unroll=1)
    feed = feeds.load(data, x.machine, batch=given.batch, seed=0, vocabulary=architecture.vocabulary)
    model = Model(architecture, student_heads(dataclasses.replace(x, data=data)))
    plan = parallel.make_plan('jit', given.batch, 1)
    state = train.initial_state(model, x.optimizer, 0)
    params, _ = transplant(model, state.params, start, x.surgery)
    state = plan.put_state(train.with_params(state, params, x.optimizer))
    step = plan.compile(train.make_step(model, None, x.losses, x.optimizer, 10_000), donate=True)
    batches = [feed.train[number] for number in range(given.steps)]
    shapes: dict[int, list[float]] = {}
    for length in sorted({batch['ids'].shape[1] for batch in batches}):
        batch = next(batch for batch in batches if batch['ids'].shape[1] == length)
        times = []
        for _ in range(4):
            begin = time.perf_counter()
            state, _ = step(state, {}, plan.put_batch(batch))
            jax.block_until_ready(state.params)
            times.append(time.perf_counter() - begin)
        shapes[length] = times[1:]
    seconds = sum(min(shapes[batch['ids'].shape[1]]) for batch in batches)
    full = sum(int(batch['mask'].sum()) for batch in batches) / sum(batch['mask'].size for batch in batches)
    return {
        'shapes': sorted(shapes),
        'examples_per_second': round(given.batch * given.steps / seconds, 1),
        'positions_that_hold_a_piece': round(full, 3),
    }


def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--start', required=True)
    parser.add_argument('--folder', required=True)
    parser.add_argument('--task', default='sst2')
    parser.add_argument('--steps', type=int, default=64)
    parser.add_argument('--batch', type=int, default=32)
    parser.add_argument('--length', type=int, default=128)
    given = parser.parse_args()
    found = {'buckets': measure(given, (16, 32, 64)), 'padded': measure(given, ())}
    ratio = found['buckets']['examples_per_second'] / found['padded']['examples_per_second']
    print(json.dumps({'task': given.task, **found, 'ratio': round(ratio, 2)}, indent=2))


if __name__ == '__main__':
    main()
