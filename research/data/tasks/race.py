"""RACE (Lai et al. 2017): questions about a passage with four candidates each, from middle and high schools.

Dev is reported, as in Lan et al. 2020, Tables 2 to 8 and 11 to 13. Their Table 10 (middle and high apart, too), Devlin's models in
it and Lai et al. 2017 are of the test split: `metrics:test/accuracy`, `…_middle` and `…_high` stand beside those.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from research.data import json_lines
from research.data.tasks import files, prepared
from research.data.tasks.example import Example, Printed, Task
from research.errors import UserError
from research.records import read_json

LETTERS = ('A', 'B', 'C', 'D')
PARTS = ('middle', 'high')
SPLITS = {'train': 'train', 'dev': 'dev', 'test': 'test'}
RACE = Task(
    'choice',
    labels=lambda data: LETTERS,
    splits=lambda data, cache: from_folder(Path(data.folder).expanduser()) if data.folder else from_tfds(),
    printed=(Printed('RACE', what='accuracy on the dev split'),),
    sizes={'train': 87_866, 'dev': 4887, 'test': 4934},
)


def from_folder(folder: Path) -> dict[str, list[Example]]:
    """The official folders SPLIT/PART/*.txt, or files SPLIT_PART.jsonl (plain or compressed).

    Raises UserError if train or dev is missing.
    """
    folder = folder / 'RACE' if (folder / 'RACE').is_dir() else folder
    found = {}
    for split in SPLITS:
        members = [example for part in PARTS for example in read(folder, split, part)]
        if members:
            found[split] = members
        elif split != 'test':
            raise UserError(f"the {split} split of race is missing: '{folder}' has no {split}/*/*.txt and no {split}_*.jsonl")
    return found


def read(folder: Path, split: str, part: str) -> Iterator[Example]:
    """The questions of one school in one split."""
    for path in sorted((folder / split / part).glob('*.txt')):
        yield from questions(read_json(path, f"'{path}'"), f"'{path}'", part)
    for path in files.find_one(folder, f'{split}_{part}.jsonl'):
        for number, record in json_lines.records(path):
            yield from questions(record, f"'{path}' line {number}", part)


def questions(record: Mapping[str, Any], where: str, part: str) -> Iterator[Example]:
    """The Examples of one passage."""
    if not isinstance(record, Mapping):
        raise UserError(f'{where} is not a passage of RACE: it must be a JSON object')
    missing = [name for name in ('article', 'questions', 'options', 'answers', 'id') if name not in record]
    if missing:
        raise UserError(f"{where} has no '{missing[0]}'; it has {', '.join(record)}")
    passage, id = files.text(record, 'article', where), files.identifier(record, where)
    for name in ('questions', 'options', 'answers'):
        lists = record[name] if name == 'options' else [record[name]]
        if not isinstance(lists, list) or not all(isinstance(each, list) for each in lists):
            raise UserError(f"{where}: its '{name}' must be a list{' of lists' if name == 'options' else ''}")
        for each in (each for found in lists for each in found):
            json_lines.string({name: each}, name, where)
    many = {name: len(record[name]) for name in ('questions', 'options', 'answers')}
    if len(set(many.values())) > 1:
        raise UserError(f'{where}: there must be as many of each, not {", ".join(f"{size} {name}" for name, size in many.items())}')
    for number, (asked, options, answer) in enumerate(zip(record['questions'], record['options'], record['answers'], strict=True)):
        if answer not in LETTERS:
            raise UserError(f"{where}: unknown answer '{answer}' (there are: {', '.join(LETTERS)})")
        if len(options) != len(LETTERS):
            raise UserError(f'{where}: question {number} has {len(options)} options, not {len(LETTERS)}')
        yield Example(passage, asked, answer, where, f'{part}/{id}/{number}', options=tuple(options), part=part, group=passage)


def from_tfds() -> dict[str, list[Example]]:
    """The splits that TFDS has under race/PART."""
    found: dict[str, list[Example]] = {split: [] for split in SPLITS}
    for split in SPLITS:
        for part in PARTS:
            for record in prepared.records(f'race/{part}', split):
                plain = {
                    'article': prepared.string(record['article']),
                    'questions': [prepared.string(each) for each in record['questions']],
                    'options': [[prepared.string(option) for option in each] for each in record['options']],
                    'answers': [prepared.string(each) for each in record['answers']],
                    'id': prepared.string(record['example_id']),
                }
                found[split] += questions(plain, f'TFDS race/{part} {plain["id"]}', part)
    return found
