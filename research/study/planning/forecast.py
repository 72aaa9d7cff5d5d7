"""The predicted time and memory of a run on chips that are named: what --chip adds to --dry and --list."""

from collections.abc import Mapping
from typing import Any

from research import predictions
from research.chips import Chip
from research.data.settings import shapes
from research.predictions import Prediction
from research.study.planning.resolving import Resolved


def forecast(run: Resolved, chip: Chip, devices: int) -> Prediction | None:
    """The Prediction of a mean step; None while the model or its teacher is not known."""
    if not run.known or (run.reads_teacher and run.teacher is None):
        return None
    planned = predictions.plan_work(run.experiment, run.heads, run.teacher)
    return predictions.predict_run(planned, chip, devices)


def describe(run: Resolved, chips: Mapping[str, Chip], devices: int) -> dict[str, Any]:
    """The JSON-able forecast of a run on each of `chips`; {} while the model or its teacher is not known."""
    x = run.experiment
    tokens = x.run.batch * sum(shape.share * shape.length for shape in shapes(x.data))
    found = {}
    for name, chip in chips.items():
        step = forecast(run, chip, devices)
        if step is None:
            return {}
        found[name] = {
            'devices': devices,
            'seconds_per_step': _round(step.seconds),
            'tokens_per_second': _round(tokens / step.seconds),
            'hours': None if x.run.epochs else _round(x.run.steps * step.seconds / 3600),  # epochs: the data are not opened
            'bound': step.bound,
            'seconds_of': {part: _round(seconds) for part, seconds in step.parts.items()},
            'memory_bytes': {**step.memory, 'total': step.bytes, 'of': round(chip.memory)},
            'fits': step.bytes <= predictions.ROOM * chip.memory,
            'sent_bytes': step.sent,
        }
    return found


def _round(value: float) -> float:
    """Three digits: a prediction is not surer than that."""
    return float(f'{value:.3g}')
