"""The task `custom`: files of one's own, with labels or with scores."""

import math
from collections import Counter
from pathlib import Path

from research.data.settings import Data
from research.data.tasks import files
from research.data.tasks.example import Example, carve
from research.errors import UserError


def splits(data: Data) -> dict[str, list[Example]]:
    """The examples in data.train, data.dev and data.test; without a dev file, a share of the train texts by their hash."""
    train = read(train_file(data), data)
    found = {'train': train, 'dev': read(Path(data.dev), data)} if data.dev else carve(train, data, 'dev')
    return found | ({'test': read(Path(data.test), data, known=False)} if data.test else {})


def labels(data: Data) -> tuple[str, ...]:
    """data.labels, or else the labels that the train file has, sorted; one, the name of its column, for scores."""
    if data.score:
        return (data.score,)
    if data.labels:
        twice = [label for label, count in Counter(data.labels).items() if count > 1]
        if twice:
            raise UserError(f"data.labels names '{twice[0]}' twice")
        return data.labels
    return tuple(sorted({example.label for example in read(train_file(data), data)}))


def train_file(data: Data) -> Path:
    """The train file, which the task `custom` cannot do without."""
    if not data.train:
        raise UserError('the task custom needs data.train, the path of a .tsv, .csv or .jsonl file (plain, .gz or .xz)')
    return Path(data.train)


def read(path: Path, data: Data, known: bool = True) -> list[Example]:
    """The examples in a file of files.READERS.

    A label may be a text, a whole number or a truth value. Labels are unknown where `known` is false and no row has
    their column. Raises UserError if the file is missing, empty, of another kind, ragged, or lacks a text or a label.
    """
    path = path.expanduser()
    result = []
    told = None
    column, setting = (data.score, 'data.score') if data.score else (data.label, 'data.label')
    for number, record in files.rows(path):
        where = f"'{path}' line {number}"
        text = files.text(record, data.text, where, 'data.text')
        pair = files.text(record, data.pair, where, 'data.pair') if data.pair else ''
        told = known or column in record if told is None else told
        label, score = '', None
        if not told and column in record:
            raise UserError(f"{where} has '{column}', and the rows before it have none: give it to all of them, or to none")
        if told:
            if column not in record:
                files.text(record, column, where, setting)
            if data.score:
                score = files.number(record[column], column, where, -math.inf, math.inf)
            else:
                label = record[column]
                if not isinstance(label, str | int) or not str(label).strip():
                    raise UserError(f"{where}: column '{column}' holds no label but {label!r}")
        result.append(Example(text, pair, str(label).strip(), where, score=score))
    if not result:
        raise UserError(f"'{path}' has no examples")
    return result
