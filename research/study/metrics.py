"""Reading metrics.jsonl while its run writes it, or after a kill has cut it short."""

import json
import math
from pathlib import Path

TAIL = 16_384  # bytes: some dozens of lines


def _parse(text: str) -> list[dict[str, float]]:
    found = []
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and 'step' in record:
            found.append(record)
    return found


def last_lines(path: Path) -> list[dict[str, float]]:
    """The last lines of a metrics.jsonl, however long it is; [] where there is none."""
    try:
        with path.open('rb') as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL))
            return _parse(file.read().decode(errors='replace'))
    except FileNotFoundError:
        return []


def read_curve(path: Path, key: str) -> tuple[list[int], list[float]]:
    """(steps, values) of `key` in a metrics.jsonl: the last value of a step counts, a half-written line does not."""
    values: dict[int, float] = {}
    for record in _parse(path.read_text(encoding='utf-8')) if path.exists() else ():
        if key in record and math.isfinite(record[key]):
            values[int(record['step'])] = float(record[key])
    steps = sorted(values)
    return steps, [values[step] for step in steps]
