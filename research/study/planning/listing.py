"""--list: the runs of a study with their overrides, parameters, steps, FLOPs and estimated times, before anything starts."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import rich.box
import rich.table

from research import costs, predictions, wire
from research.chips import Chip, find_chips, measure_speed
from research.data import steps, tasks
from research.data.settings import Data
from research.errors import UserError
from research.experiment import Experiment, Run
from research.predictions import Prediction
from research.runs.folder import read_result
from research.study.planning.forecast import forecast
from research.study.planning.resolving import Resolved, resolve, validate_runs
from research.study.states import run_states
from research.study.study import Study
from research.study.terminal import format_duration, make_console, to_text

# The share of a matrix product's speed that training is assumed to reach before a run of the study has shown it.
UTILISATION = 0.4
UNNAMED = ('name', 'start', 'teacher')  # keys that other columns show


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """One run before it starts; None is not known yet."""

    name: str
    state: str
    overrides: str
    parameters: int | None
    step_flops: float | None
    steps: int | None
    seconds: float | None
    forecasts: Mapping[str, Prediction | None] = dataclasses.field(default_factory=dict)  # chip -> that of a mean step


def find_overrides(study: Study) -> dict[str, str]:
    """Run -> the keys in which the runs of its kind differ, with its values. The kinds are pretraining and tasks."""
    found = dict.fromkeys(study.runs, '')
    for kind in {bool(x.data.task) for x in study.runs.values()}:
        members = {name: x for name, x in study.runs.items() if bool(x.data.task) == kind}
        for key in wire.keys(Experiment):
            values = {name: wire.value(x, key) for name, x in members.items()}
            if key in UNNAMED or len(set(values.values())) == 1:
                continue
            for name, value in values.items():
                shown = ','.join(map(str, value)) if isinstance(value, tuple) else value
                found[name] += f' {key.removeprefix("model.")}={shown}'
    return {name: text.strip() for name, text in found.items()}


def count_step_flops(run: Resolved) -> float | None:
    """The FLOPs of a training step, its teacher's forward pass included; None if that is not known yet."""
    x = run.experiment
    if not run.known or (run.reads_teacher and run.teacher is None):
        return None
    return costs.count_flops(x.model, run.teacher, x.losses, x.data, x.run.batch)['per_step']


def count_steps(x: Experiment) -> int | None:
    """The steps of a run; None if they follow from epochs over data that are not counted here.

    Not counted are text that is still to be cut into sequences and questions that are still to be cut into windows.
    """
    if not x.run.steps or not x.run.epochs:
        return x.run.steps
    if not x.data.task or tasks.task(x.data).kind == 'span':
        return None
    try:
        splits, *_ = tasks.selection(x.data, tasks.examples(x.data, x.machine.cache))
    except (UserError, OSError):
        return None
    return steps.number_of_steps(x.run.steps, x.run.epochs, len(splits['train']), x.run.batch) if 'train' in splits else None


def read_speed(study: Study, folder: Path) -> float | None:
    """FLOP/s of the finished runs of the study, all their time counted; None if none of them took a step."""
    results = [result for name in study.runs if (result := read_result(folder / name)) is not None]
    work = sum(result.flops_per_step * result.steps for result in results)
    seconds = sum(result.wall_seconds for result in results)
    return work / seconds if work and seconds else None


def plan_runs(
    study: Study, folder: Path, names: list[str], chips: Mapping[str, Chip] | None = None, devices: int = 1
) -> tuple[list[PlannedRun], str]:
    """(the PlannedRuns of `names`, what their times are estimated from). Raises UserError for an impossible run.

    chips: those that the runs are forecast for, `devices` of each, instead of this machine, which then is not measured.
    """
    runs = validate_runs(study, folder)
    speed, basis = (0.0, f'the peaks of {devices} chip(s)') if chips else find_speed(study, folder)
    if any(study.runs[name].data.task and study.runs[name].data.buckets for name in names):
        basis += '; tasks are counted at full length, which batches of short texts do not have'
    states, overrides = run_states(study.needs, folder), find_overrides(study)
    counted: dict[tuple[Data, Run], int | None] = {}
    found = []
    for name in names:
        x, state = study.runs[name], states[name].state
        if (x.data, x.run) not in counted:  # a task's files are read for it
            counted[x.data, x.run] = count_steps(x)
        number = counted[x.data, x.run]
        run = resolve(runs[name], folder / name, runs)
        parameters = costs.summarize_parameters(run.experiment.model, run.heads)['encoder'] if run.known else None
        flops = count_step_flops(run)
        seconds = 0.0 if state == 'done' else None if number is None or flops is None or chips else number * flops / speed
        forecasts = {chip: forecast(run, row, devices) for chip, row in (chips or {}).items()}
        found.append(PlannedRun(name, state, overrides[name], parameters, flops, number, seconds, forecasts))
    return found, basis


def find_speed(study: Study, folder: Path) -> tuple[float, str]:
    """(the FLOP/s that training is assumed to reach, the source of that number in words)."""
    seen = read_speed(study, folder)
    if seen is not None:
        return seen, f'the {seen / 1e9:,.1f} GFLOP/s that finished runs of this study reached'
    speed = UTILISATION * measure_speed()
    return speed, f'{speed / 1e9:,.1f} GFLOP/s, {UTILISATION:.0%} of the speed of a matrix product on this machine'


def show(study: Study, folder: Path, names: list[str], chips: str = '', devices: int = 1) -> None:
    """Prints the list. chips: names, separated by commas, of those whose times and memory it shows in place of this machine's."""
    rows = find_chips(chips) if chips else {}
    found, basis = plan_runs(study, folder, names, rows, devices)
    shown = rich.table.Table(title=to_text(f'{study.name}: {len(found)} runs in {folder}'), box=rich.box.SIMPLE_HEAD)
    shown.add_column('Run', no_wrap=True)
    shown.add_column('State', no_wrap=True)
    shown.add_column('From', overflow='fold')
    for title in ('Parameters', 'Steps', 'TFLOPs', *(rows or ('Time',))):
        shown.add_column(title, justify='right', no_wrap=True)
    shown.add_column('Overrides', overflow='fold')
    for run in found:
        work = '?' if run.step_flops is None or run.steps is None else f'{run.step_flops * run.steps / 1e12:,.2f}'
        shown.add_row(
            to_text(run.name),
            run.state,
            to_text(', '.join(study.needs[run.name])),
            '?' if run.parameters is None else f'{run.parameters:,}',
            '?' if run.steps is None else f'{run.steps:,}',
            work,
            *([show_forecast(run, name, chip) for name, chip in rows.items()] if rows else [_duration(run.seconds)]),
            to_text(run.overrides),
        )
    out = make_console()
    out.print(shown)
    out.print(summarize_forecasts(found, rows, devices) if rows else summarize(found, basis), soft_wrap=True, markup=False)


def _duration(seconds: float | None) -> str:
    return '?' if seconds is None else format_duration(seconds)


def show_forecast(run: PlannedRun, name: str, chip: Chip) -> str:
    """The time of a run on a chip, and the gigabytes that a device needs, with '!' if it has fewer."""
    step = run.forecasts[name]
    if step is None:
        return '?'
    fits = '' if step.bytes <= predictions.ROOM * chip.memory else '!'
    return f'{_duration(_seconds(run, step))}, {step.bytes / 1e9:,.1f} GB{fits}'


def _seconds(run: PlannedRun, step: Prediction | None) -> float | None:
    if run.state == 'done':
        return 0.0
    return None if step is None or run.steps is None else run.steps * step.seconds


def summarize_forecasts(found: list[PlannedRun], rows: Mapping[str, Chip], devices: int) -> str:
    """The last line of the list with chips: the time of all runs on each, predicted."""
    times = {name: [_seconds(run, run.forecasts[name]) for run in found] for name in rows}
    unknown = sum(seconds is None for seconds in next(iter(times.values())))
    rest = f', without {unknown} whose time is not known before their data, start or teacher are there' if unknown else ''
    each = ', '.join(f'{_duration(sum(each or 0.0 for each in seconds))} on {devices} {name}' for name, seconds in times.items())
    return f'about {each} for all of them one after the other{rest}; predicted, not measured. GB are of a device; ! does not fit'


def summarize(found: list[PlannedRun], basis: str) -> str:
    """The last line of the list: the time of all runs."""
    known = [run.seconds for run in found if run.seconds is not None]
    unknown = len(found) - len(known)
    rest = f', and {unknown} whose time is not known before their data, start or teacher are there' if unknown else ''
    return f'about {format_duration(sum(known))} for all of them one after the other{rest}; at {basis}'
