"""What a GPU must hold beside its speed: no wait for inputs, no transfer in the loop, fused attention as plain; prices of settings.

    python benchmarks/gpu_checks.py            (--small on a CPU, to try it; needs jax, flax, optax and numpy)

`benchmarks/gpu.sh` runs this beside the benchmarks. Each line has a value and what it must be. The price of a setting is its step's
time ÷ that of the default, the median over rounds in turns, in processes of their own.
"""

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

from benchmarks.harness import ours, report
from benchmarks.harness.cases import CASES, OPTIMIZER, STEPS, Case, make_batch, shrink
from benchmarks.harness.turns import Entry, compare, take_turns
from research.errors import UserError
from research.parallel import DETERMINISTIC

COLUMNS = ('check', 'value', 'wanted', '')
Row = dict[str, Any]


def with_attention(case: Case, kind: str) -> Case:
    """The case with a row of ATTENTION."""
    return dataclasses.replace(case, model=dataclasses.replace(case.model, attention=kind))


def make_row(check: str, value: str, wanted: str, holds: bool | None) -> Row:
    """A line of the table; holds: None if there is nothing to hold."""
    return {'check': check, 'value': value, 'wanted': wanted, 'holds': holds}


def measure_prices(case: Case, given: argparse.Namespace) -> list[Row]:
    """What settings cost: kernels with the same bits, each attention."""
    flags = ' '.join(DETERMINISTIC) if report.is_on_gpu(report.describe()) else ''
    before = os.environ['XLA_FLAGS'] if 'XLA_FLAGS' in os.environ else ''
    contenders: dict[str, Entry] = {'default': (ours.step, (case, 'jit'), ours.GPU)}
    contenders['run.deterministic'] = ours.step, (case, 'jit'), {**ours.GPU, 'XLA_FLAGS': f'{before} {flags}'.strip()}
    contenders['run.parallel=pmap'] = ours.step, (case, 'pmap'), ours.GPU
    for kind in ('plain', 'fused'):
        contenders[f'model.attention={kind}'] = ours.step, (with_attention(case, kind), 'jit'), ours.GPU
    found, failed = take_turns(contenders, given.rounds, given.seconds, None, 0.7 * given.budget, at_once=True)
    rows = [make_row(f'price of {name}', f'failed: {why}', '', None) for name, why in failed.items()]
    for name, turns in found.items():
        if name != 'default' and 'default' in found:
            rows.append(make_row(f'price of {name}', report.format_ratio(compare(found['default'], turns)), '', None))
    return rows


def check_loop(case: Case, steps: int) -> list[Row]:
    """Whether the loop of steps waits for anything but its last step, and whether new batches cost time."""
    import jax

    from research import parallel, train
    from research.models.heads import Model

    plan = parallel.make_plan('jit', case.batch, 1)
    model = Model(case.model, case.heads)
    compiled = plan.compile(train.make_step(model, None, case.losses, OPTIMIZER, STEPS), donate=True)
    state = plan.put_state(train.initial_state(model, OPTIMIZER, 0))
    batches = [make_batch(case, seed) for seed in range(ours.BATCHES)]
    held = plan.put_batch(batches[0])
    state, metrics = compiled(state, {}, held)
    jax.block_until_ready((state, metrics))

    def run(is_new: bool) -> tuple[float, float]:
        nonlocal state, metrics
        begin = time.perf_counter()
        for number in range(steps):
            state, metrics = compiled(state, {}, plan.put_batch(batches[number % len(batches)]) if is_new else held)
        sent = time.perf_counter()
        jax.block_until_ready((state, metrics))
        return (sent - begin) / steps, (time.perf_counter() - begin) / steps

    error = ''
    try:
        for batch in batches:
            with jax.transfer_guard_device_to_host('disallow'):
                placed = plan.put_batch(batch)  # the one transfer of a step: to the device
            with jax.transfer_guard('disallow'):
                state, metrics = compiled(state, {}, placed)
    except Exception as found:
        error = f'{type(found).__name__}: {found}'.splitlines()[0][:100]
    pairs = [(run(True), run(False)) for _ in range(3)]
    host, fresh, still = (float(np.median(x)) for x in zip(*((a[0], a[1], b[1]) for a, b in pairs), strict=True))
    return [
        make_row("steps under jax.transfer_guard('disallow')", error or 'no implicit transfer', 'none', not error),
        make_row('host busy sending steps ÷ their time', f'{host / fresh:.2f}', '< 1: no sync', host / fresh < 0.95),
        make_row('step with new batches ÷ with one held', f'{fresh / still:.3f}', '≤ 1.02: not awaited', fresh / still <= 1.02),
    ]


def check_attention(case: Case) -> list[Row]:
    """How far the hidden states and the gradients of fused attention are from plain's, in `case`'s dtype and without dropout.

    The measure is ‖fused − plain‖ ÷ ‖plain‖ where a piece is; the bound is twice what plain differs from plain in float32.
    """
    import jax
    import jax.numpy as jnp
    from jax.flatten_util import ravel_pytree

    from research.models.heads import Model, encode, initialise

    params = initialise(Model(case.model), jax.random.key(0))
    padded = make_batch(dataclasses.replace(case, shortest=0.3), 0)
    half = case.length // 2
    place = np.arange(case.length, dtype=np.int32)[None].repeat(case.batch, 0)
    packed = {**make_batch(case, 0), 'segments': (place >= half).astype(np.int32), 'positions': place % half}
    inputs = ('ids', 'types', 'mask', 'segments', 'positions')

    def compute(kind: str, dtype: str, batch: dict[str, np.ndarray]) -> Any:
        model = Model(dataclasses.replace(with_attention(case, kind).model, dropout=0.0, attention_dropout=0.0, dtype=dtype))
        chosen = {name: batch[name] for name in inputs if name in batch}

        def hidden(params: Any) -> tuple[jax.Array, jax.Array]:
            found = encode(model, params, chosen).hidden.astype(jnp.float32) * batch['mask'][:, :, None]
            return jnp.square(found).mean(), found

        (_, found), gradient = jax.jit(jax.value_and_grad(hidden, has_aux=True))(params)
        return found, ravel_pytree(gradient)[0]

    def apart(a: jax.Array, b: jax.Array) -> float:
        return float(jnp.linalg.norm((a - b).ravel()) / jnp.linalg.norm(b.ravel()))

    rows = []
    for name, batch in (('padded', padded), ('packed', packed)):
        plain, exact = compute('plain', case.model.dtype, batch), compute('plain', 'float32', batch)
        try:
            fused = compute('fused', case.model.dtype, batch)
        except (UserError, ValueError, RuntimeError, NotImplementedError) as error:
            rows.append(make_row(f'fused attention, {name}', f'failed: {str(error).splitlines()[0][:90]}', '', None))
            continue
        for part, a, b, c in zip(('hidden states', 'gradients'), fused, plain, exact, strict=True):
            far, bound = apart(a, b), max(2 * apart(b, c), 1e-5)
            rows.append(make_row(f'fused − plain, {name}, {part}', f'{far:.1e}', f'≤ {bound:.1e}', far <= bound))
    return rows


def main() -> None:
    """Runs every check and prints a table last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--case', default='bert-base-512', choices=CASES)
    parser.add_argument('--layers', type=int, default=6, help='of its model: fewer compile faster')
    parser.add_argument('--dtype', default='bfloat16', choices=('float32', 'bfloat16'))
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--seconds', type=float, default=1.0, help='of a turn, about')
    parser.add_argument('--budget', type=float, default=3600.0, help='seconds; seven tenths of them for the prices')
    parser.add_argument('--small', action='store_true', help='a tiny model, to try the checks')
    parser.add_argument('--json', default=report.default_json('gpu_checks'))
    given = parser.parse_args()
    header = report.describe()
    report.write_header(header)
    case = shrink(CASES[given.case]) if given.small else CASES[given.case]
    case = ours.with_dtype(dataclasses.replace(case, batch=case.large if report.is_on_gpu(header) else case.batch), given.dtype)
    if not given.small:
        case = dataclasses.replace(case, model=dataclasses.replace(case.model, layers=given.layers))
    rows: list[Row] = []
    less = dataclasses.replace(case, batch=max(case.batch // 4, 1))
    parts: tuple[Callable[[], list[Row]], ...] = (
        lambda: measure_prices(less, given),  # several processes are on the GPU at the same time
        lambda: check_loop(case, 4 if given.small else 20),
        lambda: check_attention(less),
    )
    for part in parts:
        try:
            rows += part()
        except Exception as error:  # the other checks go on
            rows.append(make_row('a check broke', f'{type(error).__name__}: {str(error).splitlines()[0][:90]}', '', False))
    print()
    print(report.format_table(COLUMNS, [format_row(row) for row in rows]))
    report.write_json(given.json, {'header': header, 'rows': rows})


def format_row(row: Row) -> tuple[str, ...]:
    """The cells of a check."""
    return row['check'], row['value'], row['wanted'], {True: 'holds', False: 'DOES NOT HOLD', None: ''}[row['holds']]


if __name__ == '__main__':
    main()
