"""The task `custom`: the user's own files, with labels or with scores."""

import dataclasses
import math
from pathlib import Path

from research.data.settings import Data
from research.data.tasks import files
from research.data.tasks.example import Example, Task, carve
from research.errors import UserError

READS = ('train', 'dev', 'test', 'text', 'pair', 'score')


def splits(data: Data, cache: str) -> dict[str, list[Example]]:
    """The examples in data.train, data.dev and data.test; without a dev file, a share of the train texts by their hash."""
    del cache
    train = read(train_file(data), data)
    found = {'train': train, 'dev': read(Path(data.dev), data)} if data.dev else carve(train, data, 'dev')
    return found | ({'test': read(Path(data.test), data, labelled=False)} if data.test else {})


def labels(data: Data) -> tuple[str, ...]:
    """data.labels, or else the labels in the train file, sorted; for scores one, the name of their column."""
    if data.score:
        return (data.score,)
    return data.labels or tuple(sorted({example.label for example in read(train_file(data), data)}))


def adapt(row: Task, data: Data) -> Task:
    """The row under these settings: scores where data.score names their column; test is reported where there is one."""
    row = dataclasses.replace(row, reported='test' if data.test else 'dev')
    if data.score:
        return dataclasses.replace(row, kind='score', metrics=('pearson', 'spearman'), selects='score', reads=READS)
    return row


def train_file(data: Data) -> Path:
    """The train file. Raises UserError if none is given."""
    if not data.train:
        raise UserError('the task custom needs data.train, the path of a .tsv, .csv or .jsonl file (plain, .gz, .xz or .zst)')
    return Path(data.train)


def read(path: Path, data: Data, labelled: bool = True) -> list[Example]:
    """The examples in a file of files.READERS.

    A label may be a text, a whole number or a truth value. Labels are unknown if `labelled` is False and no row has
    their column. Raises UserError if the file is missing, empty, of another kind, ragged, or lacks a text or a label.
    """
    path = path.expanduser()
    column = data.score or data.label
    result = []
    for number, record in files.rows(path):
        where = f"'{path}' line {number}"
        if not result:
            labelled = labelled or column in record
        if not labelled and column in record:
            raise UserError(f"{where} has '{column}', and the rows before it have none: give it to all of them, or to none")
        result.append(example(record, data, where, labelled))
    if not result:
        raise UserError(f"'{path}' has no examples")
    return result


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
    label = record[column]
    if not isinstance(label, str | int) or not str(label).strip():
        raise UserError(f"{where}: column '{column}' holds no label but {label!r}")
    return Example(text, pair, str(label).strip(), where)


CUSTOM = Task('label', labels=labels, splits=splits, reads=(*READS, 'label'), adapt=adapt)
