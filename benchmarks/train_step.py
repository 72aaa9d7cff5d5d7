"""Training steps: tokens per second, share of the machine's product ceiling, memory, compilation; against PyTorch in the same run.

    .venv-parity/bin/python benchmarks/train_step.py                                   (all cases but length 512, float32, a CPU)
    .venv-parity/bin/python benchmarks/train_step.py --cases='bert-base-*,label-32' --peers=eager --threads=1
    python benchmarks/train_step.py --peers=none --small                               (no PyTorch needed; seconds)

Ours are the rows of PARALLEL named by --ways, the peers transformers' classes, eager and by torch.compile: same shapes, dtype,
dropout, optimizer and masks. Each contender has a process of its own with the same processors; they take turns. A turn is as many
steps as take --seconds, on batches that differ, and waits only after its last step. A ratio is the median over rounds of
theirs ÷ ours, with the smallest and the largest. A token is a position, padding included. The ceiling is the fastest product of
two large matrices in jax or PyTorch, before and after. FLOPs are those of the products that a step needs: 2 a multiply-add, three
times the forward pass; PyTorch's classes compute logits at all positions, and those count. Memory is what a process uses beyond
its libraries after the first step (CPU: its largest resident size; GPU: the allocator's peak). Compilation is the first step less
a later one. The predicted time is that of `launch.py --dry --chip`: by a GPU's data sheet, or by this ceiling and the measured
bandwidth of a CPU.
"""

import argparse
import dataclasses
import fnmatch
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.harness import ours, peers, report
from benchmarks.harness.cases import CASES, OPTIMIZER, Case, shrink
from benchmarks.harness.ours import GPU
from benchmarks.harness.turns import Entry, Turns, describe_turns, take_turns
from research import chips, costs
from research.chips import Chip
from research.errors import UserError, choose
from research.parallel import PARALLEL
from research.predictions import predict_step

PEERS = {'eager': False, 'compile': True}  # name -> whether it is compiled
COLUMNS = ('case, B × T', 'contender', 'ms a step (predicted)', 'tokens/s', 'ours ÷ it', 'of ceiling', 'memory', 'compile')


def choose_cases(patterns: str, small: bool, batch: int, dtype: str, on_gpu: bool) -> dict[str, Case]:
    """The cases whose names fit one of the comma-separated patterns. Raises UserError for a pattern without a case."""
    found: dict[str, Case] = {}
    for pattern in patterns.split(','):
        names = fnmatch.filter(CASES, pattern)
        if not names:
            choose('case', pattern, CASES)
        found |= {name: CASES[name] for name in names}
    made = {}
    for name, case in found.items():
        case = shrink(case) if small else case
        size = batch or (case.large if on_gpu else case.batch)
        made[name] = ours.with_dtype(dataclasses.replace(case, batch=size), dtype)
    return made


def measure_ceiling(size: int, dtype: str, given: argparse.Namespace, settings: Mapping[str, str]) -> dict[str, float]:
    """FLOP/s of the fastest round of products of two [size, size] matrices, in jax and in torch."""
    contenders: dict[str, Entry] = {'jax': (ours.product, (size, dtype), GPU)}
    if not peers.find_missing() and given.peers:
        contenders['torch'] = peers.product, (size, dtype), settings
    found, _ = take_turns(contenders, 3, 0.3, given.threads, at_once=given.at_once)
    return {name: 2 * size**3 / min(turns.seconds) for name, turns in found.items()}


def count_flops(case: Case, contender: str) -> int:
    """FLOPs of the products of one step of a contender."""
    if contender not in PEERS:
        return costs.count_step_flops(case.model, case.teacher, case.losses, case.batch, case.length, case.room)
    logits, of_teacher = peers.count_logits(case)
    cost = 3 * costs.count_forward_flops(case.model, case.length, logits)
    if case.teacher:
        cost += costs.count_forward_flops(dataclasses.replace(case.teacher, pooler=False), case.length, of_teacher)
    return case.batch * cost


def choose_chip(gpu: str, ceiling: float) -> Chip | None:
    """The Chip that steps are predicted for: a GPU's by its data sheet, None for one that has no row; a CPU's as measured."""
    if gpu:
        return next((chip for name, chip in chips.CHIPS.items() if name in gpu.lower()), None)
    bandwidth = chips.measure_bandwidth()
    return Chip(ceiling, ceiling, chips.read_memory(), bandwidth, bandwidth, 1, bandwidth, chips.REACH_HERE, is_cpu=True)


def forecast(case: Case, contender: str, chip: Chip | None) -> dict[str, Any]:
    """The predicted time and memory of one of our steps on one device; {} for a peer's, and without a chip."""
    if chip is None or contender in PEERS:
        return {}
    asked = case.model, case.teacher, case.losses, case.batch, case.length, case.room
    found = predict_step(*asked, OPTIMIZER, case.model.dtype, chip, 1)
    return {'predicted_milliseconds': 1000 * found.seconds, 'predicted_bytes': found.bytes, 'bound': found.bound}


def measure(
    case: Case, given: argparse.Namespace, settings: Mapping[str, str], limit: float
) -> tuple[dict[str, Turns], dict[str, str]]:
    """The Turns of our ways and of the peers on one case, and the errors of those that failed, also to end in `limit` seconds."""
    contenders: dict[str, Entry] = {}
    for way in given.ways:
        contenders[way] = ours.step, (case, way), GPU
    for name in given.peers:
        contenders[name] = peers.step, (case, PEERS[name]), settings
    return take_turns(contenders, given.rounds, given.seconds, given.threads, limit, given.at_once)


def tabulate(
    name: str,
    case: Case,
    found: Mapping[str, Turns],
    failed: Mapping[str, str],
    ceiling: float,
    ways: Sequence[str],
    chip: Chip | None,
) -> list[dict[str, Any]]:
    """A row for each contender of a case; `ratio` is how many times as fast our first way is."""
    first = next((found[way] for way in ways if way in found), None)
    rows = []
    for contender, turns in found.items():
        rows.append(
            {
                'case': name,
                'batch': case.batch,
                'length': case.length,
                'contender': contender,
                **describe_turns(first, turns),
                'tokens_per_second': case.batch * case.length / turns.median,
                'flops': count_flops(case, contender),
                'share': count_flops(case, contender) / turns.median / ceiling,
                'compile_seconds': turns.compilation,
                **forecast(case, contender, chip),
            }
        )
    return rows + [{'case': name, 'contender': contender, 'failed': why} for contender, why in failed.items()]


def format_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The cells of a row of `tabulate`."""
    if 'failed' in row:
        return (row['case'], row['contender'], row['failed'], '', '', '', '', '')
    return (
        f'{row["case"]}, {row["batch"]} × {row["length"]}',
        row['contender'],
        f'{row["milliseconds"]:,.1f}' + (f' ({row["predicted_milliseconds"]:,.1f})' if 'predicted_milliseconds' in row else ''),
        f'{row["tokens_per_second"]:,.0f}',
        report.format_ratio(row['ratio']) if row['ratio'] else '',
        f'{row["share"]:.0%}',
        report.format_bytes(row['peak_bytes']),
        f'{row["compile_seconds"]:.1f} s',
    )


def read_arguments() -> argparse.Namespace:
    """The command line; `ways` and `peers` as tuples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--cases', default='*-128,*-64,*-32', help=f'patterns with commas: {", ".join(CASES)}')
    parser.add_argument('--batch', type=int, default=0, help='sequences; default: those of the case, more on a GPU')
    parser.add_argument('--dtype', default='float32', choices=('float32', 'bfloat16'))
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--seconds', type=float, default=3.0, help='of a turn, about; one step at least')
    parser.add_argument('--threads', type=int, default=None, help='processors of a contender; default: all of this process')
    parser.add_argument('--ways', default='jit', help=f'ours: {", ".join(PARALLEL)}; the first is compared')
    parser.add_argument('--peers', default='eager,compile', help='eager, compile or both; none')
    parser.add_argument('--ceiling', type=int, default=0, help='the size of the product; default: 2048, 8192 on a GPU')
    parser.add_argument('--budget', type=float, default=86_400.0, help='seconds in all; what is not done by then has failed')
    parser.add_argument('--at-once', action='store_true', help='contenders of a case compile at the same time: many processors')
    parser.add_argument('--small', action='store_true', help='tiny models and short turns, to try the benchmark')
    parser.add_argument('--json', default=report.default_json('train_step'))
    given = parser.parse_args()
    given.ways = tuple(choose('way', way, PARALLEL) for way in given.ways.split(','))
    given.peers = () if given.peers == 'none' else tuple(choose('peer', peer, PEERS) for peer in given.peers.split(','))
    if given.small:
        given.rounds, given.seconds = min(given.rounds, 2), min(given.seconds, 0.1)
    return given


def main() -> None:
    """Measures every case, prints a line for each contender as it is known, and a table last."""
    given = read_arguments()
    end = time.monotonic() + given.budget
    header = report.describe()
    on_gpu = report.is_on_gpu(header)
    cases = choose_cases(given.cases, given.small, given.batch, given.dtype, on_gpu)
    report.write_header(header)
    if given.peers and (missing := peers.find_missing()):
        print(f'no peers: {missing} is not installed here; `make bench` uses .venv-parity, which has them')
        given.peers = ()
    size = given.ceiling or (256 if given.small else 8192 if on_gpu else 2048)
    with tempfile.TemporaryDirectory(prefix='train_step') as folder:
        settings = peers.choose_settings(folder)
        before = measure_ceiling(size, given.dtype, given, settings)
        results = {}
        for left, (name, case) in zip(range(len(cases), 0, -1), cases.items(), strict=True):
            # A case may take twice its share of the time that is left.
            results[name] = measure(case, given, settings, (end - time.monotonic()) * min(2 / left, 1))
            for contender, turns in results[name][0].items():
                print(f'{name} {contender}: {1000 * turns.median:,.1f} ms a step', flush=True)
            for contender, why in results[name][1].items():
                print(f'{name} {contender}: failed: {why}', flush=True)
        after = measure_ceiling(size, given.dtype, given, settings) if time.monotonic() < end else before
    ceiling = max([*before.values(), *after.values()])
    chip, rows = choose_chip(header['gpu'] if on_gpu else '', ceiling), []
    for name, case in cases.items():
        turns, failed = results[name]
        rows += tabulate(name, case, turns, failed, ceiling, given.ways, chip)
    shown = ', '.join(f'{name} {max(before[name], after[name]) / 1e9:,.1f}' for name in before)
    print(f'\nproduct ceiling, {given.dtype}, {size} × {size}: {shown} GFLOP/s; load at the end {os.getloadavg()[0]:.2f}')
    print(report.format_table(COLUMNS, [format_row(row) for row in rows]))
    for peer in given.peers:
        known = [row['ratio'][0] for row in rows if row['contender'] == peer and row.get('ratio')]
        if len(known) > 1:
            print(f'ours ÷ {peer}, geometric mean of {len(known)} cases: {statistics.geometric_mean(known):.2f}')
    found = {'header': header, 'dtype': given.dtype, 'ceiling': {'size': size, 'before': before, 'after': after}, 'rows': rows}
    report.write_json(given.json, found)


if __name__ == '__main__':
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
