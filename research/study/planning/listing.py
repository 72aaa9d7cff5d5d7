"""What a study would run: each run's overrides, predicted parameters, FLOPs and time, before anything starts."""

import dataclasses
import math
import time
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import rich.box
import rich.table
import rich.text

from research import costs, validation, wire
from research.data import tasks
from research.errors import UserError
from research.experiment import Experiment, student_heads
from research.files import read_record
from research.objectives import losses
from research.runs import sources
from research.study.graph import needs, order
from research.study.ledger import states
from research.study.study import Study
from research.study.terminal import console, duration
from research.surgery import inherit

# The share of a plain matrix product's speed that training reaches, where no run of the study has shown it yet.
UTILISATION = 0.4
UNNAMED = ('name', 'start', 'teacher')  # of an experiment: which run it is, and its place in the graph, are told elsewhere


@dataclasses.dataclass(frozen=True)
class Line:
    """One run: what is said of it before it starts; what is not known is None."""

    name: str
    state: str
    overrides: str
    parameters: int | None
    step_flops: float | None
    steps: int | None
    seconds: float | None


def overrides(study: Study) -> dict[str, str]:
    """What each run sets otherwise than others of its kind: pretraining runs are compared with one another, and tasks too."""
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


def resolved(study: Study, folder: Path) -> dict[str, Experiment | None]:
    """The runs with the architecture of their starts filled in, whether these have begun or not; None where one is unknown."""
    found: dict[str, Experiment | None] = {}
    for name in order(study):
        x = study.runs[name]
        source = sources.source_of_start(x)
        if x.surgery.inherit and source[:1] == '@':
            donor = found[source[1:]]
            x = None if donor is None else dataclasses.replace(x, model=inherit(x.surgery, x.model, donor.model))
        elif x.surgery.inherit:
            try:
                x = sources.resolve(x, folder / name)
            except UserError:
                x = None
        found[name] = x
    return found


def step_flops(x: Experiment, workdir: Path, siblings: Mapping[str, Experiment | None]) -> float | None:
    """The FLOPs of a step, its teacher's included; None where that is not there yet."""
    teacher = None
    if losses.needs_teacher(x.losses):
        try:
            sibling = x.teacher.startswith('@')
            teacher = siblings[x.teacher[1:]] if sibling else sources.read_experiment(x.teacher, workdir, 'teacher')
        except UserError:
            pass
        if teacher is None:
            return None
    return costs.costs(x.model, None if teacher is None else teacher.model, x.losses, x.data, x.run.batch)['per_step']


def number_of_steps(x: Experiment) -> int | None:
    """The steps of a run; None where they follow from epochs over text that is not counted yet."""
    if not x.run.epochs:
        return x.run.steps
    try:
        return (
            math.ceil(x.run.epochs * len(tasks.examples(x.data, x.machine.cache)['train']) / x.run.batch) if x.data.task else None
        )
    except (UserError, OSError):
        return None


def measured_speed() -> float:
    """FLOP/s of a large float32 matrix product on this machine's devices."""
    side = 2048
    one = jnp.ones((side, side))
    product = jax.jit(jnp.matmul)
    product(one, one).block_until_ready()
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        product(one, one).block_until_ready()
        times.append(time.perf_counter() - begin)
    return 2 * side**3 / min(times)


def seen_speed(study: Study, folder: Path) -> float | None:
    """FLOP/s at which the finished runs of the study trained; None where none of them took a step."""
    results = [record for name in study.runs if (record := read_record(folder / name / 'result.json')) is not None]
    work = sum(record['flops_per_step'] * record['steps'] for record in results)
    seconds = sum(record['wall_seconds'] for record in results)
    return work / seconds if work and seconds else None


def lines(study: Study, folder: Path, names: list[str]) -> tuple[list[Line], str]:
    """The Lines of `names`, and what their times are estimated from. UserError for a run that is impossible."""
    seen = seen_speed(study, folder)
    speed = seen if seen is not None else UTILISATION * measured_speed()
    basis = (
        f'the {speed / 1e9:,.1f} GFLOP/s that finished runs of this study reached'
        if seen is not None
        else f'{speed / 1e9:,.1f} GFLOP/s, {UTILISATION:.0%} of a matrix product on this machine'
    )
    if any(study.runs[name].data.task and study.runs[name].data.buckets for name in names):
        basis += '; the batches of tasks counted at full length, which those of short texts do not have'
    stand, said, complete = states(study, folder), overrides(study), resolved(study, folder)
    found = []
    for name in names:
        x = complete[name]
        steps = number_of_steps(study.runs[name])
        if x is None:
            found.append(Line(name, stand[name].state, said[name], None, None, steps, None))
            continue
        validation.validate(x)
        parameters = costs.summary(x.model, heads(x))['encoder']
        flops = step_flops(x, folder / name, complete)
        seconds = None if steps is None or flops is None else 0.0 if stand[name].state == 'done' else steps * flops / speed
        found.append(Line(name, stand[name].state, said[name], parameters, flops, steps, seconds))
    return found, basis


def heads(x: Experiment) -> tuple[tuple[str, int], ...]:
    """The heads of the model; two labels where the data do not tell yet how many there are."""
    try:
        return student_heads(x)
    except (UserError, OSError):
        return tuple((name, 2) for name in losses.heads(x.losses))


def show(study: Study, folder: Path, names: list[str]) -> None:
    """Prints the list."""
    found, basis = lines(study, folder, names)
    shown = rich.table.Table(title=rich.text.Text(f'{study.name}: {len(found)} runs in {folder}'), box=rich.box.SIMPLE_HEAD)
    shown.add_column('Run', no_wrap=True)
    shown.add_column('State', no_wrap=True)
    shown.add_column('From', overflow='fold')
    for title in ('Parameters', 'Steps', 'TFLOPs', 'Time'):
        shown.add_column(title, justify='right', no_wrap=True)
    shown.add_column('Overrides', overflow='fold')
    for line in found:
        work = '?' if line.step_flops is None or line.steps is None else f'{line.step_flops * line.steps / 1e12:,.2f}'
        shown.add_row(
            rich.text.Text(line.name),
            line.state,
            ', '.join(needs(study.runs[line.name])),
            '?' if line.parameters is None else f'{line.parameters:,}',
            '?' if line.steps is None else f'{line.steps:,}',
            work,
            '?' if line.seconds is None else duration(line.seconds),
            rich.text.Text(line.overrides),
        )
    out = console()
    out.print(shown)
    out.print(total(found, basis), soft_wrap=True, markup=False)


def total(found: list[Line], basis: str) -> str:
    """The last line of the list: all of it together."""
    known = [line.seconds for line in found if line.seconds is not None]
    unknown = len(found) - len(known)
    rest = f', and {unknown} that are not known before their data, start or teacher are there' if unknown else ''
    return f'about {duration(sum(known))} for all of them one after the other{rest}; at {basis}'
