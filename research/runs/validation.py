"""What is refused before a run begins: folders in use, starts and teachers that do not fit."""

from pathlib import Path

from research import wire
from research.checkpoint import validate_path
from research.data import feed as feeds
from research.data import tasks, tokenizers
from research.errors import UserError
from research.experiment import Experiment, student_heads
from research.models import paths
from research.models.architecture import Architecture
from research.models.sharing import layout
from research.objectives import losses
from research.objectives import validation as losses_validation
from research.runs import definition
from research.surgery import Donor, Transfer


def validate_folder(x: Experiment, workdir: Path) -> None:
    """Raises UserError if `workdir` holds something else or another experiment, or cannot hold a run; names the differing keys."""
    validate_path(workdir)
    if not (workdir / 'experiment.json').exists():
        if workdir.exists() and (
            not workdir.is_dir() or any(path.name != 'failure.json' and path.suffix != '.part' for path in workdir.iterdir())
        ):
            raise UserError(f'{workdir} is in use, but is no run folder: it has no experiment.json; give another --workdir')
        return
    changed = wire.differences(definition.read_definition(workdir, hint='; give another --workdir'), x)
    if changed:
        raise UserError(
            f'{workdir} holds another experiment; it differs in {"; ".join(changed)}. Give another --workdir, or remove the folder'
        )


def validate_sources(x: Experiment, feed: feeds.Feed, start: Donor | None, teacher: Donor | None) -> list[str]:
    """Lines to log about a start and a teacher. Raises UserError for one that does not fit the run."""
    _validate_vocabulary(x, feed, start, teacher)
    remarks: list[str] = []
    if start is not None and x.data.task and not all(paths.select(x.surgery.drop, 'label/output/kernel', layout(x.model))):
        if 'label' in start.faults and 'label' in losses.heads(x.losses):
            raise UserError(
                f'the label head of {start.label} cannot be read: {start.faults["label"]}; '
                'begin a new head with --config.surgery.drop=label'
            )
        remarks.append(_validate_labels(x, start, 'begin a new head with --config.surgery.drop=label'))
    if teacher is not None:
        for name, heads in losses.read_teacher(x.losses).items():
            remarks += [_validate_head(x, teacher, name, head) for head in heads]
    return [line for line in dict.fromkeys(remarks) if line]


def validate_teacher(x: Experiment, teacher: Architecture) -> None:
    """Raises UserError for a teacher that cannot teach this student or read these sequences. Needs no data."""
    losses_validation.validate_teacher(x.losses, x.model, teacher)
    if teacher.positions < x.data.length:
        raise UserError(f'data.length={x.data.length}, but the teacher has {teacher.positions} positions')


def _validate_vocabulary(x: Experiment, feed: feeds.Feed, start: Donor | None, teacher: Donor | None) -> None:
    mine = feed.pieces.fingerprint
    dropped = all(paths.select(x.surgery.drop, 'encoder/word', layout(x.model)))
    for key, donor in (('start', start), ('teacher', teacher)):
        if donor is None or donor.tokenizer is None or (key == 'start' and dropped):
            continue
        if tokenizers.vocabulary_of(tokenizers.load_tokenizer(donor.tokenizer)).fingerprint != mine:
            raise UserError(
                f"{key}='{donor.label}' has another vocabulary than this run's tokenizer; give --config.data.tokenizer={key}"
            )


def _validate_head(x: Experiment, teacher: Donor, loss: str, head: str) -> str:
    """A line to log, or ''. Raises UserError unless the teacher has the head that a loss reads, with the student's classes."""
    ours, theirs = dict(student_heads(x, teacher.architecture)), dict(teacher.heads)
    if head in teacher.faults:
        raise UserError(f"loss '{loss}' reads the {head} head of the teacher {teacher.label}: {teacher.faults[head]}")
    if head not in theirs:
        raise UserError(f"loss '{loss}' reads the {head} head, but the teacher {teacher.label} has no {head} head")
    if head in ours and theirs[head] != ours[head]:
        raise UserError(
            f"loss '{loss}' compares the {head} logits ({ours[head]} classes), but the teacher {teacher.label} has "
            f'{theirs[head]} classes in its {head} head'
        )
    return _validate_labels(x, teacher, f'give --config.losses.{loss}.weight=0') if head == 'label' else ''


def _validate_labels(x: Experiment, donor: Donor, otherwise: str) -> str:
    """A line to log if the labels of a start or a teacher are only numbered; '' otherwise.

    Raises UserError if its label head has other labels than the task, or the same in another order. The name of a score carries no
    meaning. otherwise: another way to mend it.
    """
    heads = dict(donor.heads)
    if 'label' not in losses.heads(x.losses) or 'label' not in heads:
        return ''
    theirs, mine = donor.labels, tasks.classes(x.data)
    if heads['label'] == len(mine) == 1:
        return ''
    if all(name == f'LABEL_{i}' for i, name in enumerate(theirs)):
        if x.data.labels:
            return ''
        order = ', '.join(mine)
        return (
            f'the labels of {donor.label} have no names: they are read in the order {order}. If its authors used another (those of '
            'MNLI differ between Google and Hugging Face), give it by --config.data.labels'
        )
    spelled = {name.lower(): name for name in mine}
    known = [name.lower() for name in theirs]
    if known == list(spelled):
        return ''
    both = f"the label head of {donor.label} has {', '.join(theirs)}, but the task '{x.data.task}' has {', '.join(mine)}"
    if sorted(known) == sorted(spelled):
        raise UserError(f'{both}: give --config.data.labels={",".join(spelled[name] for name in known)}')
    raise UserError(f'{both}: give a run of this task, or {otherwise}')


def validate_transfer(x: Experiment, transfer: Transfer) -> None:
    """Raises UserError for weights that are random and should not be: a task's encoder, and all that is only evaluated."""
    order = layout(x.model)
    encoder = [
        path for path in transfer.random if path.startswith('encoder/') and not all(paths.select(x.surgery.drop, path, order))
    ]
    if encoder and x.data.task:
        raise UserError(
            f'start: the encoder would be random in {", ".join(encoder[:4])}{" …" if len(encoder) > 4 else ""}, which it lacks; '
            f'give --config.surgery.inherit=true, or accept it with --config.surgery.drop={",".join(encoder[:4])}'
        )
    random = [*transfer.random, *(f'layer_{layer}' for layer in transfer.random_layers)]
    if not x.run.steps and random:
        raise UserError(
            f'run.steps=0, but the start lacks {", ".join(random)}: train it on what these are for, and start from that run'
        )
