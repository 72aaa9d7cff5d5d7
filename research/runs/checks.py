"""What is refused before a run begins: folders in use, starts and teachers that do not fit."""

from pathlib import Path

from research import wire
from research.data import feed as feeds
from research.data import tasks, tokenizers
from research.errors import UserError
from research.experiment import Experiment, student_heads
from research.objectives import losses
from research.runs import definition
from research.surgery import Account, Donor, under


def claim(x: Experiment, workdir: Path) -> None:
    """Raises UserError where `workdir` belongs to something else, naming the keys that differ."""
    if not (workdir / 'experiment.json').exists():
        if workdir.exists() and (
            not workdir.is_dir() or any(path.name != 'failure.json' and path.suffix != '.part' for path in workdir.iterdir())
        ):
            raise UserError(f'{workdir} is in use, but is no run folder: it has no experiment.json; give another --workdir')
        return
    changed = wire.differences(definition.read(workdir, mend='; give another --workdir'), x)
    if changed:
        raise UserError(
            f'{workdir} holds another experiment; it differs in {"; ".join(changed)}. Give another --workdir, or remove the folder'
        )


def check_donors(x: Experiment, feed: feeds.Feed, start: Donor | None, teacher: Donor | None) -> None:
    """Raises UserError for a start or a teacher that does not fit the run."""
    mine = feed.vocabulary.fingerprint
    for key, donor in (('start', start), ('teacher', teacher)):
        if donor is None or donor.tokenizer is None or (key == 'start' and {'word', 'encoder/word'} & set(x.surgery.drop)):
            continue
        if tokenizers.vocabulary_of(tokenizers.load_tokenizer(donor.tokenizer)).fingerprint != mine:
            raise UserError(
                f"{key}='{donor.label}' has another vocabulary than this run's tokenizer; give --config.data.tokenizer={key}"
            )
    if start is not None and x.data.task and 'label' not in x.surgery.drop:
        check_labels(x, start, 'begin a new head with --config.surgery.drop=label')
    if teacher is None:
        return
    if x.losses.cosine.weight and teacher.architecture.width != x.model.width:
        raise UserError(
            f"loss 'cosine' compares hidden states, but the teacher's are {teacher.architecture.width} wide, not {x.model.width}; "
            'give --config.losses.cosine.weight=0'
        )
    if teacher.architecture.positions < x.data.length:
        raise UserError(f'data.length={x.data.length}, but the teacher has {teacher.architecture.positions} positions')
    for name, options in losses.active(x.losses).items():
        for head in losses.LOSSES[name].heads(options) if losses.LOSSES[name].teacher else ():
            ours, theirs = dict(student_heads(x)), dict(teacher.heads)
            if theirs.get(head) != ours[head]:
                has = f'{theirs[head]} classes in its {head} head' if head in theirs else f'no {head} head'
                raise UserError(
                    f"loss '{name}' compares the {head} logits ({ours[head]} classes), but the teacher {teacher.label} has {has}"
                )
            if head == 'label':
                check_labels(x, teacher, f'give --config.losses.{name}.weight=0')


def check_labels(x: Experiment, donor: Donor, otherwise: str) -> None:
    """Raises UserError where the label head of a donor tells other labels than the task has, or the same in another order.

    Labels that a Hugging Face model only numbers say nothing, nor does what a score is called. otherwise: what else would mend it.
    """
    heads = dict(donor.heads)
    if 'label' not in dict(student_heads(x)) or 'label' not in heads:
        return
    theirs, mine = donor.labels, tasks.classes(x.data)
    if not theirs or all(name == f'LABEL_{i}' for i, name in enumerate(theirs)) or heads['label'] == len(mine) == 1:
        return
    spelled = {name.lower(): name for name in mine}
    known = [name.lower() for name in theirs]
    if known == list(spelled):
        return
    told = f"the label head of {donor.label} tells {', '.join(theirs)}, but the task '{x.data.task}' has {', '.join(mine)}"
    if sorted(known) == sorted(spelled):
        raise UserError(f'{told}: give --config.data.labels={",".join(spelled[name] for name in known)}')
    raise UserError(f'{told}: give a run of this task, or {otherwise}')


def check_account(x: Experiment, account: Account) -> None:
    """Raises UserError where a task would be learnt or judged with weights that are random and should not be."""
    encoder = [
        path for path in account.random if path.startswith('encoder/') and not any(under(path, name) for name in x.surgery.drop)
    ]
    if encoder:
        raise UserError(
            f'start: the encoder would be random in {", ".join(encoder[:4])}{" …" if len(encoder) > 4 else ""}, which it lacks; '
            f'give --config.surgery.inherit=True, or accept it with --config.surgery.drop={",".join(encoder[:4])}'
        )
    if not x.run.steps and account.random:
        raise UserError(
            f'run.steps=0, but the start lacks {", ".join(account.random)}: train it on what these are for, and start from that run'
        )
