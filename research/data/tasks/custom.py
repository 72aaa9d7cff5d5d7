"""The task `custom`: the user's own files, with labels or with scores."""

import dataclasses
import math
import re
import unicodedata
from pathlib import Path
from typing import Any

from research.data.cutting import UNSEEN
from research.data.settings import Data
from research.data.tasks import files
from research.data.tasks.example import Example, Task, carve
from research.errors import UserError

READS = ('train', 'dev', 'test', 'text', 'pair', 'score', 'unlabelled')
UNLABELLED = ('refuse', 'skip')  # what is done with a row that has no label
# How files write a missing label; 'none' and 'NA' are labels of some tasks.
MISSING = ('', '-', 'nan', '<na>', 'n/a', '#n/a', 'null')
WHOLE = re.compile(r'([+-]?\d+)\.0+')  # a whole number as pandas writes it in a column with a missing value
FRACTION = re.compile(r'[+-]?\d*\.\d+(?:[eE][+-]?\d+)?')


@dataclasses.dataclass(frozen=True)
class Reading:
    """The examples of a file, and what was done to its rows."""

    examples: list[Example]
    skipped: int  # rows without a label
    numbers: int  # labels such as 1.0, which are read as 1


def splits(data: Data, cache: str) -> dict[str, list[Example]]:
    """The examples in data.train, data.dev and data.test; without a dev file, a share of the train texts by their hash."""
    del cache
    found = {split: read(path, data, split).examples for split, path in paths(data).items()}
    if data.dev:
        return found
    return carve(found['train'], data, 'dev') | {split: members for split, members in found.items() if split == 'test'}


def paths(data: Data) -> dict[str, Path]:
    """The file of each split that has one. Raises UserError if there is none for train."""
    if not data.train:
        raise UserError('the task custom needs data.train, the path of a .tsv, .csv or .jsonl file (plain, .gz, .xz or .zst)')
    given = {'train': data.train, 'dev': data.dev, 'test': data.test}
    return {split: Path(path).expanduser() for split, path in given.items() if path}


def labels(data: Data) -> tuple[str, ...]:
    """data.labels, or else the labels in the train file, sorted; for scores one, the name of their column.

    Raises UserError for two labels that look the same.
    """
    if data.score:
        return (data.score,)
    if data.labels:
        return data.labels
    found = sorted({example.label for example in read(paths(data)['train'], data, 'train').examples})
    looks: dict[str, str] = {}
    for label in found:
        look = ' '.join(UNSEEN.sub('', unicodedata.normalize('NFC', label)).split())
        if look in looks:
            raise UserError(
                f"'{data.train}' has two labels that look the same, {ascii(looks[look])} and {ascii(label)}: write them alike, "
                'or name both in data.labels'
            )
        looks[look] = label
    return tuple(found)


def adapt(row: Task, data: Data) -> Task:
    """The row under these settings: scores where data.score names their column; test is reported where there is one."""
    row = dataclasses.replace(row, reported='test' if data.test else 'dev')
    if data.score:
        return dataclasses.replace(row, kind='score', metrics=('pearson', 'spearman'), selects='score', reads=READS)
    return row


def notices(data: Data) -> list[str]:
    """Lines about quotes, skipped rows and labels that are numbers, in each file; and about labels that differ in case only."""
    found = []
    for split, path in paths(data).items():
        if files.kind_of(path) == '.tsv' and files.is_quoted(path):
            found.append(f"{split}: '{path}' quotes its cells, as pandas and spreadsheets do; they are read without these quotes")
        reading = read(path, data, split)
        if reading.skipped:
            found.append(f'{split}: {reading.skipped:,} rows without a label are skipped (data.unlabelled=skip)')
        if reading.numbers:
            found.append(f"{split}: {reading.numbers:,} labels are written as '1.0' and read as '1'")
    cases: dict[str, list[str]] = {}
    for label in labels(data):
        cases.setdefault(label.casefold(), []).append(label)
    return found + [f'labels that differ in case only: {", ".join(each)}' for each in cases.values() if len(each) > 1]


def read(path: Path, data: Data, split: str) -> Reading:
    """The examples in a file of files.READERS.

    A label may be a text, a whole number or a truth value. Those of test are unknown if no row has their column.
    Raises UserError if the file is missing, empty, of another kind, ragged, or lacks a text or a label.
    """
    column = data.score or data.label
    result = []
    labelled, skipped, numbers = split != 'test', 0, 0
    for number, record in files.rows(path):
        where = f"'{path}' line {number}"
        if not result and not skipped:
            labelled = labelled or column in record
        if not labelled and column in record:
            raise UserError(f"{where} has '{column}', and the rows before it have none: give it to all of them, or to none")
        if labelled and data.unlabelled == 'skip' and column in record and is_missing(record[column], data):
            skipped += 1
            continue
        result.append(example(record, data, where, labelled))
        numbers += labelled and not data.score and result[-1].label != str(record[column]).strip()
    if not result:
        raise UserError(f"'{path}' has no {'labelled ' if skipped else ''}examples")
    return Reading(result, skipped, numbers)


def example(record: files.Record, data: Data, where: str, labelled: bool) -> Example:
    """The Example of one row."""
    text = files.text(record, data.text, where, 'data.text')
    pair = files.text(record, data.pair, where, 'data.pair') if data.pair else ''
    if not labelled:
        return Example(text, pair, where=where)
    column, setting = (data.score, 'data.score') if data.score else (data.label, 'data.label')
    if column not in record:
        files.text(record, column, where, setting)  # raises the error for a missing column
    if data.score:
        return Example(text, pair, where=where, score=files.number(record[column], column, where, -math.inf, math.inf))
    return Example(text, pair, read_label(record[column], data, f"{where}: column '{column}'"), where)


def is_missing(value: Any, data: Data) -> bool:
    """Whether a cell has no label: it is null, blank, or one of MISSING that data.labels does not name."""
    spelled = str(value).strip()
    return value is None or (spelled.casefold() in MISSING and (not spelled or spelled not in data.labels))


def read_label(value: Any, data: Data, where: str) -> str:
    """The label in a cell: a text, a truth value or a number. 1.0 is 1; other fractions are scores, unless data.labels names them.

    Raises UserError for a cell without a label, and for a fraction.
    """
    spelled = str(value).strip()
    if is_missing(value, data):
        named = '' if not spelled or value is None else f', or data.labels, with {spelled!r} among them, if that is a label'
        raise UserError(f'{where} holds no label but {value!r}: give --config.data.unlabelled=skip to leave such rows out{named}')
    if not isinstance(value, str | int | float):
        raise UserError(f'{where} holds no label but {value!r:.40}')
    if spelled in data.labels:
        return spelled
    whole = WHOLE.fullmatch(spelled)
    if isinstance(value, float) and not whole or FRACTION.fullmatch(spelled) and not whole:
        raise UserError(
            f'{where} holds no label but {value!r:.40}, a number: to predict numbers, name the column in data.score; '
            'to tell classes apart by it, name all of them in data.labels'
        )
    return whole[1] if whole else spelled


CUSTOM = Task('label', labels=labels, splits=splits, reads=(*READS, 'label'), adapt=adapt, notices=notices)
