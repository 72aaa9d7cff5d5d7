"""SQuAD 1.1 and 2.0 (Rajpurkar et al. 2016, 2018): questions whose answers are parts of a context."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from research.data import json_lines
from research.data.tasks import files, prepared
from research.data.tasks.example import Example, Printed, Task
from research.errors import UserError
from research.records import read_json

SIZE = 2**27  # bytes of a file at most: it is read at once


@dataclass(frozen=True)
class Version:
    """A version of SQuAD."""

    number: str
    no_answer: bool  # whether a question may have no answer
    sizes: Mapping[str, int]  # of the official splits


VERSIONS = {
    'squad': Version('1.1', False, {'train': 87_599, 'dev': 10_570}),
    'squad2': Version('2.0', True, {'train': 130_319, 'dev': 11_873}),
}


def task(name: str) -> Task:
    """The row of TASKS of a version of SQuAD."""
    row = VERSIONS[name]
    title = f'SQuAD{row.number}'
    return Task(
        'span',
        labels=lambda data: (),
        splits=lambda data, cache: from_folder(name, Path(data.folder).expanduser()) if data.folder else from_tfds(row),
        metrics=('exact', 'f1'),
        selects='f1',
        sizes=row.sizes,
        no_answer=row.no_answer,
        printed=(Printed(f'{title} F1', 'metrics:dev/f1', 'F1'), Printed(f'{title} EM', 'metrics:dev/exact', 'exact match')),
    )


def from_folder(name: str, folder: Path) -> dict[str, list[Example]]:
    """The examples of train*.json and dev*.json in `folder`, or in its folder named after the version.

    Raises UserError if one is missing, there are several, or a file is not SQuAD's.
    """
    version = f'v{VERSIONS[name].number}'
    places = [folder / version, folder] if (folder / version).is_dir() else [folder]
    found = {}
    for split in ('train', 'dev'):
        there = sorted(path for path in places[0].glob(f'{split}*.json') if path.is_file())
        exact = [path for path in there if path.name == f'{split}-{version}.json']
        there = exact or there
        if not there:
            raise UserError(f"the {split} split of {name} is missing: there is no '{places[0]}/{split}*.json'")
        if len(there) > 1:
            raise UserError(f"'{places[0]}' has several {split} files ({', '.join(path.name for path in there)}); leave one")
        found[split] = read(there[0], no_answer=VERSIONS[name].no_answer)
    return found


def read(path: Path, no_answer: bool) -> list[Example]:
    """The questions of one official JSON file; no_answer: whether some may have none."""
    content = read_json(path, f"'{path}'", SIZE)
    try:
        found = [
            question(asked, paragraph['context'], str(path), no_answer)
            for article in content['data']
            for paragraph in article['paragraphs']
            for asked in paragraph['qas']
        ]
    except KeyError as error:
        raise UserError(f"'{path}' is not in SQuAD's format: it lacks {error} (data, paragraphs, context, qas …)") from None
    except (TypeError, AttributeError):
        raise UserError(f"'{path}' is not in SQuAD's format: lists and objects are not where they must be") from None
    if not found:
        raise UserError(f"'{path}' has no questions")
    twice = [id for id, count in Counter(example.id for example in found).items() if count > 1]
    if twice:
        raise UserError(f"'{path}' has {len(twice)} ids of more than one question, '{twice[0]}' first; predictions go by id")
    return found


def question(asked: Mapping[str, Any], context: str, file: str, no_answer: bool) -> Example:
    """The Example of one question.

    Raises UserError for an empty text, an answer without a place, and a missing answer where there must be one.
    """
    id = files.identifier(asked, f"'{file}'")
    where = f"'{file}' question {id}"
    for name, record in (('question', asked), ('context', {'context': context})):
        files.text(record, name, where)
    flag = asked['is_impossible'] if 'is_impossible' in asked else False
    if not isinstance(flag, bool):
        raise UserError(f'{where}: is_impossible must be true or false, not {flag!r:.40}')
    impossible = no_answer and flag
    if 'answers' not in asked and not impossible:
        raise UserError(f"{where} has no 'answers': give a list of them{', or is_impossible=true' if no_answer else ''}")
    golds = read_answers(asked['answers'], where) if 'answers' in asked else ()
    if impossible and golds:
        raise UserError(f'{where} has is_impossible=true and an answer')
    if not golds and not no_answer:
        raise UserError(
            f'{where} has no answer, which SQuAD 1.1 does not allow: for SQuAD 2.0 give --config=configs/finetune.py:squad2'
        )
    return Example(asked['question'], context, where=where, id=id, answers=golds, group=context)


def read_answers(answers: Any, where: str) -> tuple[tuple[int, str], ...]:
    """(first character, text) of each answer; those with an empty text are left out, as some tools write 'no answer' so.

    Raises UserError for an answer that is not a text with a place.
    """
    if not isinstance(answers, list) or not all(isinstance(each, Mapping) for each in answers):
        raise UserError(f'{where}: its answers must be a list of objects with text and answer_start, not {answers!r:.60}')
    golds = []
    for each in answers:
        text = json_lines.string(each, 'text', f'{where}, answer')
        start = each['answer_start'] if 'answer_start' in each else None
        if text.strip() and type(start) is not int:
            raise UserError(f'{where}: answer_start must be a whole number, not {start!r:.40}')
        golds += [(start, text)] if text.strip() else []
    return tuple(golds)


def from_tfds(version: Version) -> dict[str, list[Example]]:
    """The splits that TFDS has under squad/VERSION."""
    found = {}
    source = f'squad/v{version.number}'
    for split, theirs in (('train', 'train'), ('dev', 'validation')):
        found[split] = [
            Example(
                prepared.string(record['question']),
                context := prepared.string(record['context']),
                where=f'TFDS {source} question {prepared.string(record["id"])}',
                id=prepared.string(record['id']),
                answers=tuple(
                    (int(start), prepared.string(text))
                    for start, text in zip(record['answers']['answer_start'], record['answers']['text'], strict=True)
                    if text
                ),
                group=context,
            )
            for record in prepared.records(source, theirs)
        ]
    return found
