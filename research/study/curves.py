"""metrics.jsonl, read while its run writes it or after a kill has cut it short. Nothing here loads jax."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from research.records import LINE, parse_lines
from research.runs.folder import is_step

TAIL = 16_384  # bytes: some dozens of lines
LARGEST = 1e100  # a number of a curve or a table, above which sums and squares overflow


def read_ends(path: Path, key: str) -> list[dict[str, float]]:
    """The first and the last of the lines with `key` near the end of a metrics.jsonl, however long it is; [] if it has none."""
    needle = json.dumps(key).encode()
    if not path.is_file():
        return []
    with path.open('rb') as file:
        file.seek(max(0, file.seek(0, 2) - TAIL))
        lines = [line for line in file.read(TAIL).splitlines(keepends=True) if needle in line]
    ends = [next((found for found in _parse(order) if {key, 'step'} <= found.keys()), None) for order in (lines, lines[::-1])]
    return [end for end in ends if end is not None]


Curve = tuple[list[int], list[float]]  # steps, values


def read_curve(path: Path, key: str) -> Curve:
    """(steps, values) of `key` in a metrics.jsonl: the last finite value of each step, half-written lines left out."""
    lines = _read_numbers(path, json.dumps(key).encode())
    values = {int(line['step']): float(line[key]) for line in lines if 'step' in line and key in line}
    steps = sorted(values)
    return steps, [values[step] for step in steps]


def _read_numbers(path: Path, needle: bytes) -> Iterator[dict[str, float]]:
    """The numbers of each line that holds `needle`."""
    if path.is_file():  # a pipe would wait for a writer
        with path.open('rb') as file:
            yield from _parse(line for line in iter(lambda: file.readline(LINE), b'') if needle in line)


def _parse(lines: Iterable[bytes]) -> Iterator[dict[str, float]]:
    """The numbers of each line that is a JSON object; what is no number, or no step, is left out."""
    for record in parse_lines(lines):
        numbers = {key: value for key, value in record.items() if is_number(value)}
        yield {key: value for key, value in numbers.items() if key != 'step' or is_step(value)}


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number that tables and figures can hold."""
    return type(value) in (int, float) and abs(value) <= LARGEST
