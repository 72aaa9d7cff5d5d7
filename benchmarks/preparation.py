"""The speed of preparing a corpus, against `encode_batch` of the `tokenizers` library alone, and its memory for a gigabyte of text.

    python benchmarks/preparation.py [--source jsonl:books.jsonl.xz] [--tokenizer vocab.txt]
    python benchmarks/preparation.py --gigabyte --source 'jsonl:books.jsonl.xz + text:wiki.txt'

The first command tokenizes the same text in both ways, in turns, on the cores that the process may use (`taskset -c 0` gives one).
`encode_batch` (or `encode_batch_fast`, which finds no offsets) gets texts in memory; preparation also reads, cleans, splits into
sentences, hashes, and writes shards and the index. The second command writes a gigabyte of repeated and changed text, runs the
command that prepares it, with tokenizer and statistics, and measures the memory of all its processes.
"""

import argparse
import contextlib
import io
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from rich.console import Console
from rich.table import Table

from research.data import mixture, preparation, sources, tokenizer_training
from research.data.settings import Data
from research.machine import Machine, cores

ROUNDS = 3


def read_texts(source: str) -> Iterator[str]:
    """The documents of a mixture, one source after another."""
    for _, each in mixture.mixture(source):
        yield from ('\n'.join(paragraphs) for _, paragraphs in sources.read(each, Data(source=source), Machine.cache))


def write_lines(path: Path, documents: Iterator[str], limit: float) -> int:
    """Writes documents as JSON lines until they have `limit` bytes of text. Returns the bytes of text."""
    size = 0
    with open(path, 'w', encoding='utf-8') as file:
        for document in documents:
            file.write(json.dumps({'text': document}, ensure_ascii=False) + '\n')
            size += len(document.encode())
            if size >= limit:
                break
    return size


def measure_speed(given: argparse.Namespace, folder: Path) -> Table:
    """The table of speeds."""
    path = folder / 'text.jsonl'
    size = write_lines(path, read_texts(given.source), given.megabytes * 1e6)
    data = Data(source=f'jsonl:{path}', tokenizer=given.tokenizer)
    tokenizer = tokenizer_training.tokenizer_of(data, str(folder / 'cache'), given.vocabulary)
    documents = [json.loads(line)['text'] for line in path.read_text('utf-8').splitlines()]
    seconds: dict[str, list[float]] = {'encode_batch': [], 'encode_batch_fast': [], 'preparation': []}
    for round in range(ROUNDS):
        for name, times in seconds.items():
            begin = time.perf_counter()
            if name == 'preparation':
                with contextlib.redirect_stderr(io.StringIO()):
                    preparation.prepare(data, str(folder / str(round)), tokenizer)
            else:
                encode = getattr(tokenizer, name)
                for batch in split(documents, 100):
                    encode(batch, add_special_tokens=False)
            times.append(time.perf_counter() - begin)
            print(f'round {round + 1}: {name} {times[-1]:.2f} s', file=sys.stderr, flush=True)
    middle = {name: statistics.median(times) for name, times in seconds.items()}
    table = Table(
        '', 'MB/s', 'preparation ÷ this', title=f'{size / 1e6:.1f} MB of {given.source}, {cores()} cores, medians of {ROUNDS}'
    )
    for name, value in middle.items():
        ratios = [other / own for own, other in zip(seconds['preparation'], seconds[name], strict=True)]
        table.add_row(name, f'{size / 1e6 / value:.2f}', f'{statistics.median(ratios):.2f}')
    return table


def split(items: list[str], size: int) -> Iterator[list[str]]:
    """The items in lists of `size`."""
    return (items[begin : begin + size] for begin in range(0, len(items), size))


def perturb(documents: list[str]) -> Iterator[str]:
    """Endless changed copies of the documents: shuffled paragraphs, each without one of its words."""
    draw = random.Random(0)
    while True:
        for document in documents:
            paragraphs = document.split('\n')
            draw.shuffle(paragraphs)
            for number, paragraph in enumerate(paragraphs):
                space = paragraph.find(' ', draw.randrange(len(paragraph) + 1))
                end = paragraph.find(' ', space + 1)
                if 0 <= space < end:
                    paragraphs[number] = paragraph[:space] + paragraph[end:]
            yield '\n'.join(paragraphs)


def read_memory(process: int) -> int:
    """The bytes in the memory of a process and its descendants; shared pages count once."""
    total = 0
    pending = [process]
    while pending:
        place = Path(f'/proc/{pending.pop()}')
        with contextlib.suppress(OSError):  # the process has ended
            rollup = (place / 'smaps_rollup').read_text()
            total += sum(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith('Pss:'))
            for task in (place / 'task').iterdir():
                pending += [int(child) for child in (task / 'children').read_text().split()]
    return total


def measure_memory(given: argparse.Namespace, folder: Path) -> Table:
    """The table of the time and the memory of preparing a gigabyte."""
    documents = list(read_texts(given.source))
    size = write_lines(folder / 'text.jsonl', perturb(documents), 1e9)
    del documents
    print(f'{size / 1e9:.2f} GB written', file=sys.stderr, flush=True)
    command = [sys.executable, '-m', 'research.data', 'prepare', '--config=configs/bert.py:tiny', '--stats']
    changes = {'data.source': f'jsonl:{folder}/text.jsonl', 'data.tokenizer': given.tokenizer, 'machine.cache': f'{folder}/cache'}
    command += [f'--config.{key}={value}' for key, value in changes.items()]
    begin = time.perf_counter()
    with subprocess.Popen([*command, f'--config.model.vocabulary={given.vocabulary}'], cwd=Path(__file__).parent.parent) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, read_memory(process.pid))
            time.sleep(0.25)
    seconds = time.perf_counter() - begin
    if process.returncode:
        sys.exit(process.returncode)
    table = Table('text (GB)', 'seconds', 'MB/s', 'cores', 'peak memory of all processes (GB)')
    table.add_row(f'{size / 1e9:.2f}', f'{seconds:.0f}', f'{size / 1e6 / seconds:.2f}', str(cores()), f'{peak / 1e9:.2f}')
    return table


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument('--source', default='docstrings', help='as data.source')
    parser.add_argument('--tokenizer', default='wordpiece', help='as data.tokenizer')
    parser.add_argument('--vocabulary', type=int, default=8192, help='pieces of a tokenizer that is trained')
    parser.add_argument('--megabytes', type=float, default=24.0, help='the maximal amount of text to tokenize')
    parser.add_argument('--gigabyte', action='store_true', help='measure the memory of a gigabyte instead')
    parser.add_argument('--folder', help='for the temporary files; by default the system decides')
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as temporary:
        table = (measure_memory if given.gigabyte else measure_speed)(given, Path(temporary))
        Console(highlight=False, width=None if sys.stdout.isatty() else 120).print(table)


if __name__ == '__main__':
    main()
