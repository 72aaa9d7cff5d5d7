"""What every benchmark prints: the machine, versions and the command first, a table last, and JSON beside it."""

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from research.machine import read_processor

ROOT = Path(__file__).parents[2]
PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'torch', 'transformers', 'onnxruntime', 'triton')


def read_gpu() -> str:
    """The names of the GPUs and the driver's version; '' without NVIDIA's driver."""
    query = ['nvidia-smi', '--query-gpu=name,driver_version', '--format=csv,noheader']
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ''
    return ' + '.join(done.stdout.strip().splitlines()) if done.returncode == 0 else ''


def is_on_gpu(found: dict[str, Any]) -> bool:
    """Whether jax computes on a GPU, by what `describe` found."""
    return bool(found['gpu']) and os.environ.get('JAX_PLATFORMS') != 'cpu'


def read_commit() -> str:
    """The commit of the code, with a + if files differ from it; '' outside git."""
    try:
        done = subprocess.run(['git', 'describe', '--always', '--dirty=+'], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ''
    return done.stdout.strip()


def find_version(name: str) -> str:
    """The installed version of a package; '' if there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ''


def describe() -> dict[str, Any]:
    """The machine, the versions, the command."""
    return {
        'command': ' '.join(['python', *(shlex.quote(x) for x in sys.argv)]),
        'commit': read_commit(),
        'processor': read_processor()[0],
        'cores': len(os.sched_getaffinity(0)),
        'gpu': read_gpu(),
        'load': round(os.getloadavg()[0], 2),
        'python': platform.python_version(),
        'versions': {name: version for name in PACKAGES if (version := find_version(name))},
    }


def write_header(found: dict[str, Any]) -> None:
    """Prints what `describe` found."""
    versions = ', '.join(f'{name} {version}' for name, version in found['versions'].items())
    print(f'{found["command"]}    (commit {found["commit"] or "unknown"})')
    machine = f'{found["gpu"]}; ' if found['gpu'] else ''
    print(f'{machine}{found["processor"]}, {found["cores"]} cores; Python {found["python"]}, {versions}')
    if found['load'] > 0.5 * found['cores']:
        print(f'other programs are running (load {found["load"]}): take no time from this run for a result')
    sys.stdout.flush()


def format_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown, aligned: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return '| ' + ' | '.join(cells) + ' |'

    rule = '|:' + '-' * (widths[0] + 1) + '|' + '|'.join('-' * (width + 1) + ':' for width in widths[1:]) + '|'
    return '\n'.join([line(columns), rule, *map(line, rows)])


def write_json(path: str, found: dict[str, Any]) -> None:
    """Writes a benchmark's JSON: `path`, and its folder if there is none."""
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(found, indent=2) + '\n')
    print(f'JSON: {path}')


def default_json(name: str) -> str:
    """Where a benchmark's JSON goes unless it is told: in runs/, which git ignores."""
    return str(ROOT / 'runs' / 'benchmarks' / f'{name}.json')


def format_ratio(ratio: tuple[float, float, float]) -> str:
    """'1.12 (1.08–1.15)': a median, the smallest and the largest."""
    return '{:.2f} ({:.2f}–{:.2f})'.format(*ratio)


def format_bytes(count: int | None) -> str:
    """Gigabytes; '' if unknown."""
    return '' if count is None else f'{count / 1e9:.2f} GB'
