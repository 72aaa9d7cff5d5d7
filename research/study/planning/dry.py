"""--dry: an experiment, or every run of a study, as one JSON object: definition, deviations, parameters, FLOPs, memory, times."""

import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from research import costs, parallel, wire
from research.chips import Chip, find_chips
from research.experiment import Experiment
from research.models.sharing import layout
from research.sharding import Grid
from research.study.config_files import choose_deviations
from research.study.planning import forecast
from research.study.planning.resolving import Resolved, complete, resolve, validate_run, validate_runs
from research.study.study import Study


def preview(
    asked: Experiment | Study,
    workdir: Path,
    chips: str = '',
    devices: int = 1,
    deviations: Mapping[str, Iterable[str]] = types.MappingProxyType({}),
) -> dict[str, Any]:
    """One JSON-able object, without opening data or devices; starts and teachers are read only if they are there.

    chips: the names of those that `devices` each are predicted for, separated by commas ('here' alone opens devices). deviations:
    those of the config file (config_files.read_deviations), of which each run shows the ones that hold of it. Raises UserError for
    an experiment that is impossible whatever the data, and for an unknown chip.
    """
    named = find_chips(chips) if chips else {}

    def show(name: str, run: Resolved) -> dict[str, Any]:
        return describe(run, choose_deviations(deviations, name, run.experiment), named, devices)

    if isinstance(asked, Study):
        runs = validate_runs(asked, workdir)
        return {
            'study': asked.name,
            'runs': {name: show(name, resolve(run, workdir / name, runs)) for name, run in runs.items()},
        }
    run = complete(asked, workdir, {})
    validate_run(run, workdir, {})
    return show(asked.name, resolve(run, workdir, {}))


def describe(
    run: Resolved, deviations: Iterable[str] = (), chips: Mapping[str, Chip] | None = None, devices: int = 1
) -> dict[str, Any]:
    """The JSON-able object of one run, with its deviations from its paper, and with a forecast if there are `chips`."""
    x = run.experiment
    summary = costs.summarize_parameters(x.model, run.heads)
    count = x.run.model_devices if devices == 1 else devices
    grid = parallel.make_grid(x.run.parallel, count, x.run.model_devices)
    taught = None if run.teacher is None else (run.teacher, run.teacher_heads)
    return {
        'experiment': wire.to_wire(x).to_dict(),
        'deviations': list(deviations),
        'parameters': summary,
        'layers': [
            {'layer': layer, 'attention_group': attention, 'feed_forward_group': feed_forward}
            for layer, (attention, feed_forward) in enumerate(layout(x.model))
        ],
        'flops': costs.count_flops(x.model, run.teacher, x.losses, x.data, x.run.batch),
        'memory_bytes': costs.estimate_state(x.model, run.heads, x.optimizer, Grid(), taught),
        'memory_bytes_per_device': {
            'devices': count,
            **costs.estimate_state(x.model, run.heads, x.optimizer, grid, taught),
        },
        **({'predictions': forecast.describe(run, chips, devices)} if chips else {}),
        'notes': list(run.notes),
    }
