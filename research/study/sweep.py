"""A sweep: an experiment times its axes becomes a study."""

import dataclasses
import itertools
import re
import types
from collections.abc import Iterable, Mapping
from typing import Any

from research.errors import UserError, choose
from research.experiment import Experiment
from research.machine import Machine
from research.study.columns import COLUMNS, Column
from research.study.study import Row, Study, Table
from research.validation import refuse_unused
from research.wire import override

Point = dict[str, Any]  # dotted name -> value: one point of an axis


def list_axes(module: types.ModuleType) -> list[str]:
    """The names of the axes that a config file defines: its functions called sweep_NAME."""
    return [name.removeprefix('sweep_') for name in vars(module) if name.startswith('sweep_')]


def read_axis(text: str, module: types.ModuleType) -> list[list[Point]]:
    """The axes that one --sweep names: 'layers,sharing' by their names, or 'model.layers=3,6,12' by their values."""
    key, equals, values = text.partition('=')
    if equals:
        points = [{key: value} for value in values.split(',') if value]
        if not points:
            raise UserError(f"--sweep='{text}' has no values: give such as --sweep='{key}=1,2,3'")
        return [points]
    return [list(getattr(module, 'sweep_' + choose('sweep axis', name, list_axes(module)))()) for name in text.split(',')]


def name_point(point: Point) -> str:
    """The name of a run: the keys that it changes, without their sections, and their values."""
    name = ','.join(f'{key.partition(".")[2] or key}={value}' for key, value in point.items()) or 'unchanged'
    return re.sub(r'[/\\]', '_', name)  # it is the name of a folder


def sweep(x: Experiment, texts: Iterable[str], module: types.ModuleType) -> Study:
    """The study of every combination of the axes that `texts` name. Raises UserError for axes that set the same keys."""
    found = [axis for text in texts for axis in read_axis(text, module)]
    changed = dict.fromkeys(key for axis in found for point in axis for key in point)
    runs = {}
    for combination in itertools.product(*found):
        point = {key: value for part in combination for key, value in part.items()}
        if name_point(point) in runs:
            raise UserError(f"the sweep has two runs '{name_point(point)}': its axes set the same keys")
        runs[name_point(point)] = override(x, point)
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
    return Study(f'{x.name}-sweep', runs, Table(f'{x.name}: {" × ".join(texts)}', rows, columns, score=score.title))


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
