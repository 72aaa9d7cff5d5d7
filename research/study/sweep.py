"""A sweep: an experiment times its axes becomes a study."""

import dataclasses
import itertools
import re
import types
from collections.abc import Iterable, Mapping
from typing import Any

from research.errors import UserError, choose
from research.escape import clean
from research.experiment import Experiment
from research.files import LONGEST, fingerprint
from research.machine import Machine
from research.study.columns import COLUMNS, Column
from research.study.seeds import refuse_unpaired
from research.study.study import Row, Study, Table
from research.validation import refuse_unused
from research.wire import override

Point = dict[str, Any]  # dotted name -> value: one point of an axis


def list_axes(module: types.ModuleType) -> list[str]:
    """The names of the axes that a config file defines: its functions called sweep_NAME."""
    return [name.removeprefix('sweep_') for name in vars(module) if name.startswith('sweep_')]


def read_axis(text: str, module: types.ModuleType) -> list[list[Point]]:
    """The axes that one --sweep names: 'layers,sharing' by their names, or 'model.layers=3,6,12' by values."""
    key, equals, values = text.partition('=')
    if equals:
        points = [{key: value} for value in split_values(values)]
        if not points:
            raise UserError(f"--sweep='{text}' has no values: give such as --sweep='{key}=1,2,3'")
        return [points]
    return [list(getattr(module, 'sweep_' + choose('sweep axis', name, list_axes(module)))()) for name in text.split(',')]


def split_values(text: str) -> list[str]:
    """The values between commas; one that begins with a quote or a bracket reaches to its partner: "text:a,b.txt",(0,2),().

    Quotes are dropped; brackets, of a value that is a tuple, are not.
    """
    found = []
    while text:
        quoted = re.match(r'\s*(?:"([^"]*)"|\'([^\']*)\')\s*(?:,|$)', text)
        bracketed = _reach(text)
        if quoted:
            found.append(quoted[1] if quoted[1] is not None else quoted[2])
            text = text[quoted.end() :]
        elif bracketed:
            found.append(text[:bracketed].strip())
            text = text[bracketed + 1 :]
        else:
            value, _, text = text.partition(',')
            found += [value] if value else []
    return found


def _reach(text: str) -> int:
    """Where a value in brackets ends, with which `text` begins; 0 if it does not."""
    depth = 0
    if not text.startswith(('(', '[')):
        return 0
    for place, letter in enumerate(text):
        depth += (letter in '([') - (letter in ')]')
        if not depth:
            rest = text[place + 1 :]
            return place + 1 if not rest or rest.startswith(',') else 0
    return 0


def name_point(point: Point) -> str:
    """The name of a run: the keys that it changes, without their sections, and their values. A long one is cut in its middle."""
    name = ','.join(f'{key.partition(".")[2] or key}={value}' for key, value in point.items()) or 'unchanged'
    name = re.sub(r'[/\\]', '_', clean(name, LONGEST * 4)).strip()  # it is the name of a folder
    if len(name.encode()) <= LONGEST:
        return name
    half = LONGEST // 2 - 10
    start, end = name.encode()[:half].decode(errors='ignore'), name.encode()[-half:].decode(errors='ignore')
    return f'{start}…{end}~{fingerprint({key: str(value) for key, value in point.items()})[:8]}'


def sweep(x: Experiment, texts: Iterable[str], module: types.ModuleType) -> Study:
    """The study of every combination of the axes that `texts` name. Raises UserError for axes that set the same keys."""
    found = [axis for text in texts for axis in read_axis(text, module)]
    changed = dict.fromkeys(key for axis in found for point in axis for key in point)
    runs: dict[str, Experiment] = {}
    for combination in itertools.product(*found):
        point = {key: value for part in combination for key, value in part.items()}
        name, run = name_point(point), override(x, point)
        if name in runs and run in runs.values():
            raise UserError(f"the sweep has two runs '{name}': its axes set the same keys, or one value is given twice")
        if name in runs:  # paths that differ in what no name of a folder can hold
            name = f'{name}~{fingerprint({key: str(value) for key, value in point.items()})[:8]}'
        runs[name] = run
    refuse_unused(runs.values(), changed)
    if x.data.task:
        score = Column('Score of the task (%)', 'run', 'score', 'percent', 'max', 'on the reported split')
    else:
        score = dataclasses.replace(COLUMNS['mlm'], role='run')
    columns = (
        Column('Parameters (M)', 'run', 'parameters:total', 'millions', 'min'),
        dataclasses.replace(COLUMNS['flops'], role='run'),
        score,
        *(dataclasses.replace(COLUMNS[key], role='run') for key in ('time', 'memory', 'speed', 'latency')),
    )
    rows = tuple(Row(title, {'run': names}) for title, names in group_seeds(runs).items())
    study = Study(f'{x.name}-sweep', runs, Table(f'{x.name}: {" × ".join(texts)}', rows, columns, score=score.title))
    refuse_unpaired(study)
    return study


def group_seeds(runs: Mapping[str, Experiment]) -> dict[str, tuple[str, ...]]:
    """Row title -> the runs that differ in their seed alone."""
    found: dict[tuple[Experiment, Machine], list[str]] = {}
    for name, x in runs.items():
        found.setdefault((dataclasses.replace(x, seed=0), x.machine), []).append(name)
    titles = {}
    for names in found.values():
        parts = [part for part in names[0].split(',') if len(names) == 1 or not part.startswith('seed=')]
        titles[','.join(parts) or 'all seeds'] = tuple(names)
    return titles
