"""Experiments before they run: the architecture, the teacher and the heads of each, as far as they are known by then."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from research.data.masking import describe_cap
from research.errors import UserError
from research.experiment import Experiment, student_heads
from research.interchange import reading
from research.models.architecture import Architecture
from research.models.heads import Heads, Sizes
from research.objectives import losses
from research.runs import sources
from research.runs.validation import validate_teacher
from research.study.graph import order
from research.study.study import Study
from research.surgery import inherit
from research.validation import validate, validate_without_start


@dataclasses.dataclass(frozen=True)
class Complete:
    """An experiment with its start's architecture filled in; `known` is False if that start is not there yet."""

    experiment: Experiment
    known: bool


@dataclasses.dataclass(frozen=True)
class Resolved:
    """The model, the teacher and the heads of an experiment."""

    experiment: Experiment
    known: bool  # whether its architecture is known
    heads: Heads
    reads_teacher: bool
    teacher: Architecture | None  # None without a teacher that a loss reads, and while it is not there yet
    teacher_heads: Heads
    notes: tuple[str, ...]  # what is not known, and what is assumed instead


def complete(x: Experiment, workdir: Path, siblings: Mapping[str, Complete]) -> Complete:
    """`x` with its start's architecture, if it inherits one. `siblings`: those of its study that are complete, by name.

    Raises UserError if it inherits from nothing, or in an impossible way.
    """
    if not x.surgery.inherit:
        return Complete(x, True)
    source = sources.source_of_start(x)
    if source.startswith('@') and source[1:] in siblings:
        start = siblings[source[1:]]
        return Complete(dataclasses.replace(x, model=inherit(x.surgery, x.model, start.experiment.model)), start.known)
    if not source or sources.find_there(source, workdir, 'start') is None:
        return Complete(x, False)
    return Complete(sources.resolve(x, workdir), True)


def validate_run(run: Complete, workdir: Path, siblings: Mapping[str, Complete]) -> None:
    """Raises UserError for an experiment that is impossible, whatever a start or a teacher will be that is not there yet."""
    x = run.experiment
    (validate if run.known else validate_without_start)(x)
    teacher = find_teacher(x.teacher, workdir, siblings) if run.known and losses.needs_teacher(x.losses) else None
    if teacher is not None:
        validate_teacher(x, teacher[0])


def validate_runs(study: Study, folder: Path) -> dict[str, Complete]:
    """Every run of the study, complete, in running order. Raises UserError, with the run's name, for one that is impossible."""
    found: dict[str, Complete] = {}
    for name in order(study.needs):
        try:
            run = found[name] = complete(study.runs[name], folder / name, found)
            validate_run(run, folder / name, found)
        except UserError as error:
            raise UserError(f"run '{name}': {error}") from None
    return found


def resolve(run: Complete, workdir: Path, siblings: Mapping[str, Complete]) -> Resolved:
    """The Resolved of a run. `siblings` are the runs of its study, by name."""
    x = run.experiment
    cap = '' if x.data.task else describe_cap(x.data.masking, x.data.length)
    notes = [cap] if cap else []
    if not run.known:
        source = sources.source_of_start(x)
        notes.append(f"start='{source}' is not there yet: the model shown is the config's own, not the start's")
    teacher, teacher_heads = None, ()
    reads_teacher = losses.needs_teacher(x.losses)
    if reads_teacher:
        found = find_teacher(x.teacher, workdir, siblings)
        if found is None:
            notes.append(f"teacher='{x.teacher}' is not there yet: FLOPs per step and memory leave it out")
        else:
            teacher, teacher_heads = found
    heads, note = count_heads(x, teacher)
    notes += [note] if note else []
    return Resolved(x, run.known, heads, reads_teacher, teacher, teacher_heads, tuple(notes))


def find_teacher(source: str, workdir: Path, siblings: Mapping[str, Complete]) -> tuple[Architecture, Heads] | None:
    """The architecture and the heads of the model that `source` names; None if it is not there yet."""
    if source.startswith('@') and source[1:] in siblings:
        run = siblings[source[1:]]
        return (run.experiment.model, count_heads(run.experiment)[0]) if run.known else None
    folder = sources.find_there(source, workdir, 'teacher')
    if folder is None:
        return None
    if not sources.is_run(folder):
        contents = reading.inspect(folder)
        return contents.architecture, contents.heads
    x = sources.read_experiment(source, workdir, 'teacher')
    return x.model, count_heads(x)[0]


def count_heads(x: Experiment, teacher: Architecture | None = None) -> tuple[Heads, str]:
    """(the heads of the model with their numbers of classes, a note if these are assumed: two labels before the data are there)."""
    try:
        return student_heads(x, teacher), ''
    except (UserError, OSError) as error:
        heads = losses.size_heads(x.losses, Sizes(x.model, lambda: 2, teacher))
        return heads, f'the labels are not known yet ({error}): two are counted'
