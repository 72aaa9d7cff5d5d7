"""Settings of the data that are impossible, whatever the text, and settings that change nothing."""

import math
import unicodedata
from collections import Counter
from dataclasses import fields
from typing import Any

from research.data import cleaners, masking, tasks
from research.data.masking import MASKING, Masking
from research.data.mixture import mixture
from research.data.pretraining import PAIRS
from research.data.sequences import FILLS
from research.data.settings import Answers, Causal, Data
from research.data.sources import SOURCES, parse
from research.data.tasks.custom import UNLABELLED
from research.data.tokenizers import KINDS
from research.errors import UserError, choose
from research.files import refuse_address
from research.machine import Machine

CHANGED = ('prepare', 'refuse')  # what is done when files changed since they were prepared
DOCUMENTS = ('blank_lines', 'files')  # what separates the documents of a text file: blank lines, or nothing
PACKED = ('label', 'score', 'span')  # kinds of tasks whose examples can share a row; a choice is among several sequences
# Kind of a task -> the fields of Answers that it reads.
READ_ANSWERS = {'label': (), 'score': (), 'choice': ('question',), 'span': ('stride', 'question', 'longest', 'best')}


def validate(data: Data) -> None:
    """Raises UserError for a setting that is impossible, whatever the text."""
    validate_texts('data', data)
    validate_places(data)
    validate_corpus(data)
    masking.validate(data.masking)
    validate_causal(data)
    validate_sequences(data)
    validate_task(data)
    validate_answers(data.answers)


def validate_machine(machine: Machine) -> None:
    """Raises UserError for a machine that is impossible."""
    validate_texts('machine', machine)
    refuse_address('machine.cache', machine.cache)
    if not machine.cache:
        raise UserError("machine.cache='': give the folder of prepared data, such as runs/cache")
    for name in ('prefetch', 'workers'):
        if getattr(machine, name) < 0:
            raise UserError(f'machine.{name}={getattr(machine, name)} must not be negative')


def validate_texts(path: str, record: Any) -> None:
    """Raises UserError if a field of a record holds a control character, or should be true or false and is not."""
    for field in fields(record):
        value = getattr(record, field.name)
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and any(unicodedata.category(each) in ('Cc', 'Cs') for each in text):
                raise UserError(f'{path}.{field.name}={value!r} holds a control character, or half of a surrogate pair')
        if isinstance(field.default, bool) and not isinstance(value, bool):
            raise UserError(f'{path}.{field.name}={value!r} must be true or false')


def validate_places(data: Data) -> None:
    """Raises UserError for a file or folder in a bucket; tfds alone can read there."""
    for name in ('tokenizer', 'train', 'dev', 'test'):
        refuse_address(f'data.{name}', getattr(data, name))
    if data.task:
        refuse_address('data.folder', data.folder)
    for source in [source for _, source in mixture(data.source) if not source.startswith('tfds:')]:
        refuse_address('data.source', source)


def validate_corpus(data: Data) -> None:
    """Raises UserError for settings that no corpus and no tokenizer can have."""
    choose('data.changed', data.changed, CHANGED)
    choose('data.documents', data.documents, DOCUMENTS)
    if not 0 <= data.held_out < 1:
        raise UserError(f'data.held_out={data.held_out} must be a share: 0 (no evaluation) or more, below 1')
    for name in data.cleaners:
        choose('data.cleaners', name, cleaners.CLEANERS)
    rows = [parse(source)[0] for _, source in mixture(data.source)]
    if not data.field and any(row.reads_field for row in rows):
        names = ', '.join(name for name, row in SOURCES.items() if row.reads_field)
        raise UserError(f"data.field='': give the name of the field that holds the text, which {names} have")
    if not data.tokenizer:
        raise UserError(f"data.tokenizer='': give {', '.join(KINDS)} to train one, or the path of one")


def validate_causal(data: Data) -> None:
    """Raises UserError for causal batches that are impossible."""
    for name in ('share', 'until'):
        if not 0 <= getattr(data.causal, name) <= 1:
            raise UserError(f'data.causal.{name}={getattr(data.causal, name)} must be a share, between 0 and 1')
    if not data.causal.share or data.task:
        return
    if data.causal.share == data.causal.until == 1:
        raise UserError('data.causal.share=1 and data.causal.until=1 leave no masked batch: lower one of them')
    if data.pairs != 'none':
        raise UserError(
            f'data.causal.share={data.causal.share} is for single segments, but data.pairs={data.pairs}: [CLS] would '
            f'see neither; give --config.data.pairs=none or --config.data.causal.share=0'
        )


def validate_sequences(data: Data) -> None:
    """Raises UserError for sequences that are impossible."""
    choose('data.pairs', data.pairs, PAIRS)
    choose('data.fill', data.fill, FILLS)
    if not 8 <= data.length <= 65_536:
        raise UserError(f'data.length={data.length} must lie between 8 and 65536 pieces')
    if not 0 <= data.short <= 1:
        raise UserError(f'data.short={data.short} must be a share, between 0 and 1')
    if data.pairs != 'none' and (data.pack or data.fill != 'pieces'):
        given = 'data.pack' if data.pack else f'data.fill={data.fill}'
        raise UserError(
            f'{given} is for single segments, but data.pairs={data.pairs} has two of whole sentences; give data.pairs=none'
        )
    if data.pack and data.fill == 'documents':
        raise UserError('data.pack=true keeps documents apart: it is for data.fill=pieces or sentences; give data.pack=false')
    if data.first_length and not 8 <= data.first_length < data.length:
        raise UserError(f'data.first_length={data.first_length} must be 8 or more and below data.length={data.length}, or 0')
    if not 0 < data.first_share < 1:
        raise UserError(f'data.first_share={data.first_share} must be a share of the steps, between 0 and 1')


def validate_task(data: Data) -> None:
    """Raises UserError for examples that are impossible."""
    choose('data.select', data.select, tasks.SELECT)
    choose('data.unlabelled', data.unlabelled, UNLABELLED)
    if not 0 < data.dev_share < 1:
        raise UserError(f'data.dev_share={data.dev_share} must be above 0 and below 1')
    if list(data.buckets) != sorted(set(data.buckets)) or any(size < 8 for size in data.buckets):
        raise UserError(f'data.buckets={data.buckets} must be increasing lengths, the first at least 8')
    twice = [label for label, count in Counter(data.labels).items() if count > 1]
    if twice:
        raise UserError(f"data.labels={', '.join(data.labels)} names '{twice[0]}' twice")
    if data.task:
        row = tasks.task(data)
        if data.pack and row.kind not in PACKED:
            raise UserError(
                f"data.pack=true is for tasks of the kinds {', '.join(PACKED)}, but '{data.task}' is a {row.kind} among several "
                'sequences; give data.pack=false'
            )
        reads = row.reads
        for name in ('text', 'label'):
            if name in reads and not getattr(data, name):
                raise UserError(f"data.{name}='': give the name of the column")
        if data.labels and 'train' not in reads:  # a task of fixed labels needs no file to know them
            tasks.classes(data)


def validate_answers(answers: Answers) -> None:
    """Raises UserError for windows and answers that are impossible."""
    for name in ('stride', 'question', 'longest', 'best'):
        if getattr(answers, name) < 1:
            raise UserError(f'data.answers.{name}={getattr(answers, name)} must be at least 1')
    if not math.isfinite(answers.threshold):
        raise UserError(f'data.answers.threshold={answers.threshold} must be finite')


def unused(data: Data) -> dict[str, str]:
    """The keys whose change would change nothing under these settings, each with the reason."""
    if data.task and data.task not in tasks.TASKS:  # which is refused by its name
        return {}
    return unused_with_task(data) if data.task else unused_without_task(data)


def unused_with_task(data: Data) -> dict[str, str]:
    """The unused keys of fine-tuning: those of pretraining, and those of other tasks."""
    row = tasks.task(data)
    keys = ['pairs', 'fill', 'short', 'first_length', 'first_share', *(f'masking.{each.name}' for each in fields(Masking))]
    keys += [f'causal.{each.name}' for each in fields(Causal)]
    found = {f'data.{key}': f"it is for pretraining, but data.task='{data.task}'" for key in keys}
    own = {name for each in tasks.TASKS.values() for name in each.reads}
    found |= {f'data.{name}': f"data.task='{data.task}' does not read it" for name in sorted(own - set(row.reads))}
    read = (*READ_ANSWERS[row.kind], *(('threshold',) if row.no_answer else ()))
    others = [each.name for each in fields(Answers) if each.name not in read]
    return found | {f'data.answers.{name}': f"data.task='{data.task}' does not read it" for name in others}


def unused_without_task(data: Data) -> dict[str, str]:
    """The unused keys of pretraining: those of tasks, of other masking policies, and of what is turned off."""
    keys = ['select', 'dev_share', 'buckets', 'labels', *(f'answers.{each.name}' for each in fields(Answers))]
    keys += sorted({name for row in tasks.TASKS.values() for name in row.reads})
    found = {f'data.{key}': "it is for a task, but data.task=''" for key in keys}
    if not data.causal.share:
        found['data.causal.until'] = 'data.causal.share=0 makes no batch causal'
    policy = data.masking.policy
    for name, row in MASKING.items() if policy in MASKING else ():
        reason = f"only data.masking.policy='{name}' reads it, but it is '{policy}'"
        found |= {f'data.masking.{option}': reason for option in row.options if option not in MASKING[policy].options}
    if data.pairs == 'none':
        found['data.short'] = "it is for pairs, but data.pairs='none'"
    if not data.first_length:
        found['data.first_share'] = 'it is for two stages, but data.first_length=0'
    return found
