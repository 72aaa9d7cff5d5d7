"""metrics.jsonl, read while its run writes it or after a kill has cut it short. Nothing here loads jax."""

import math
from pathlib import Path

from research.records import parse_lines, read_lines

TAIL = 16_384  # bytes: some dozens of lines


def read_last_lines(path: Path) -> list[dict[str, float]]:
    """The last lines of a metrics.jsonl, however long it is; [] if there is none."""
    try:
        with path.open('rb') as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL))
            return [line for line in parse_lines(file) if 'step' in line]
    except FileNotFoundError:
        return []


Curve = tuple[list[int], list[float]]  # steps, values


def read_curve(path: Path, key: str) -> Curve:
    """(steps, values) of `key` in a metrics.jsonl: the last finite value of each step, half-written lines left out."""
    values: dict[int, float] = {}
    for record in read_lines(path):
        if key in record and math.isfinite(record[key]):
            values[int(record['step'])] = float(record[key])
    steps = sorted(values)
    return steps, [values[step] for step in steps]
