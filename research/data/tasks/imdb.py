"""IMDb reviews (Maas et al. 2011): is a review positive?"""

from collections.abc import Iterator
from pathlib import Path

from research.data import json_lines, text_files
from research.data.settings import Data
from research.data.tasks import files, prepared
from research.data.tasks.example import Example, Printed, Task, carve
from research.errors import UserError

LABELS = ('negative', 'positive')
FOLDERS = {'neg': 'negative', 'pos': 'positive'}
SPLITS = ('train', 'test')


def splits(data: Data, cache: str) -> dict[str, list[Example]]:
    """The official splits, with a share of train as dev, since there is no official one."""
    del cache
    found = from_folder(Path(data.folder).expanduser()) if data.folder else from_tfds()
    return {**carve(found['train'], data, 'dev'), 'test': found['test']}


def from_folder(folder: Path) -> dict[str, list[Example]]:
    """The official folders SPLIT/pos and SPLIT/neg of .txt files, or SPLIT.jsonl (plain or compressed).

    Raises UserError if a split is missing or a label is unknown.
    """
    folder = folder / 'aclImdb' if (folder / 'aclImdb').is_dir() else folder
    found = {split: list(read(folder, split)) for split in SPLITS}
    for split, members in found.items():
        if not members:
            raise UserError(f"the {split} split of imdb is missing: '{folder}' has no {split}/pos/*.txt and no {split}.jsonl")
    return found


def read(folder: Path, split: str) -> Iterator[Example]:
    """The reviews of one split. Raises UserError if only one label has a folder."""
    there = [name for name in FOLDERS if (folder / split / name).is_dir()]
    if len(there) == 1:
        raise UserError(f"'{folder / split}' has only {there[0]}: {', '.join(set(FOLDERS) - set(there))} is missing")
    for name, label in FOLDERS.items():
        for path in sorted((folder / split / name).glob('*.txt')):
            review = ' '.join(line for _, line in text_files.lines(path))
            yield Example(files.text({'text': review}, 'text', f"'{path}'"), '', label, f"'{path}'", f'{split}/{name}/{path.stem}')
    for path in files.find_one(folder, f'{split}.jsonl'):
        for number, record in json_lines.records(path):
            where = f"'{path}' line {number}"
            text = files.text(record, 'text', where)
            spelled = {0: LABELS[0], 1: LABELS[1], **{name: name for name in LABELS}, **FOLDERS}
            if 'label' not in record or not isinstance(record['label'], str | int) or record['label'] not in spelled:
                given = repr(record['label']) if 'label' in record else 'none'
                raise UserError(f'{where}: unknown label {given} (there are: 0, 1, {", ".join(LABELS)})')
            yield Example(text, '', spelled[record['label']], where, files.identifier(record, where) if 'id' in record else '')


def from_tfds() -> dict[str, list[Example]]:
    """The splits that TFDS has under imdb_reviews."""
    return {
        split: [
            Example(
                prepared.string(record['text']), '', LABELS[int(record['label'])], f'TFDS imdb_reviews {split} example {number}'
            )
            for number, record in enumerate(prepared.records('imdb_reviews', split))
        ]
        for split in SPLITS
    }


IMDB = Task(
    'label',
    labels=lambda data: LABELS,
    splits=splits,
    reported='test',
    printed=(Printed('IMDb', what='accuracy on the test split'),),
    sizes={'test': 25_000},
)
