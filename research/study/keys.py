"""The keys of a Result: paths to its numbers, such as 'metrics:dev/mlm'."""

import collections.abc
import dataclasses
import typing
from typing import Any

from research.data import tasks
from research.data.held_out import KINDS
from research.data.tasks.race import PARTS
from research.errors import UserError, choose
from research.evaluation.floors import FLOORS, PREFIX
from research.evaluation.measures import ACCURACIES
from research.evaluation.metrics import METRICS
from research.evaluation.scoring import PERCENT
from research.objectives.losses import LOSSES
from research.runs.folder import Result

# The splits and the metrics that a Result can have, of any data.
OFFICIAL = [split for row in tasks.TASKS.values() for split in row.sizes if split != 'train']
SPLITS = tuple(dict.fromkeys(['dev', 'test', 'selection', *OFFICIAL]))
# Of held-out documents alone, and of tasks alone.
HELD_OUT = (*(f'mlm_{kind}' for kind in KINDS), 'frequencies', 'gain', 'gain_error')
NAMES = (
    *HELD_OUT,
    *(name for name, row in LOSSES.items() if not row.teacher),
    *(f'{name}_accuracy' for name in ACCURACIES),
    *METRICS,
    *(f'accuracy_{part}' for part in PARTS),
    'score',
    *PERCENT,
    'total',
    'HasAns_total',
    'NoAns_total',
    'best_exact_thresh',
    'best_f1_thresh',
    *(f'{PREFIX}{name}' for name in FLOORS),
)
# A mapping of Result -> names that its keys may be besides 'split/metric'. A mapping that is not here may have any key.
METRIC_KEYS = {'metrics': (), 'majority': ('score',), 'random': ('score',)}


def validate_key(key: str, holder: str) -> None:
    """Raises UserError if `key`, a path such as 'metrics:dev/mlm', leads to no number of a Result. `holder` begins the message."""
    kind: Any = Result
    before = ''
    for level in key.split(':'):
        if dataclasses.is_dataclass(kind):
            hints = typing.get_type_hints(kind)
            choose(f"level of key '{key}' ({holder})", level, hints)
            kind = hints[level]
        elif typing.get_origin(kind) is collections.abc.Mapping:
            kind = typing.get_args(kind)[1]
            if before in METRIC_KEYS and level not in METRIC_KEYS[before]:
                split, _, name = level.partition('/')
                choose(f"split of key '{key}' ({holder})", split, SPLITS)
                choose(f"metric of key '{key}' ({holder})", name, NAMES)
            elif before == 'collapsed':
                choose(f"split of key '{key}' ({holder})", level, [*SPLITS, 'reported'])
        else:
            raise UserError(f"{holder}: key '{key}' goes on after '{before}', which has no levels")
        if type(None) in typing.get_args(kind):  # may be None
            kind = typing.get_args(kind)[0]
        before = level
    if kind not in (int, float):
        raise UserError(f"{holder}: key '{key}' must lead to a number of result.json, but '{before}' is not a number")


def refuse_missing(key: str, holder: str, name: str, task: str) -> None:
    """Raises UserError if a run can have no number at `key`: a floor of no task, or a gain on no text. `task`: the run's."""
    metric = key.rpartition('/')[2]
    if metric in {f'{PREFIX}{name}' for name in FLOORS} and not task:
        raise UserError(f"{holder}: run '{name}' has no task, so that no floor can be computed for '{key}'")
    if metric in HELD_OUT and task:
        raise UserError(f"{holder}: run '{name}' is a run of the task {task}, which has no held-out text for '{key}'")
