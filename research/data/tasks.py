"""Supervised tasks: where the examples come from, which labels there are, and how examples are split."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from research.data import docstrings, sources
from research.data.settings import Data
from research.errors import UserError, choose, nearest


@dataclass(frozen=True)
class Example:
    """A text, perhaps a second one, and their label."""

    text: str
    pair: str  # '' when the task is about single texts
    label: str
    where: str = ''  # 'file' line number, for messages


@dataclass(frozen=True)
class Task:
    """A supervised task: a row of TASKS."""

    kind: str  # what a batch holds beside its texts, and so which head fits; 'label': one of the classes
    labels: Callable[[Data], tuple[str, ...]]  # the classes in the order of their numbers
    splits: Callable[[Data], dict[str, list[Example]]]  # train, dev, and test where there is one


def task(data: Data) -> Task:
    """The row of TASKS that `data.task` names."""
    choose('data.task', data.task, TASKS)
    return TASKS[data.task]


def classes(data: Data) -> tuple[str, ...]:
    """The names of the task's labels, in the order of their numbers."""
    return task(data).labels(data)


def examples(data: Data) -> dict[str, list[Example]]:
    """The examples of each split of the task. Raises UserError if a split is empty or an example has a label of no class."""
    splits = task(data).splits(data)
    labels = classes(data)
    if len(labels) < 2:
        raise UserError(f"the task '{data.task}' needs two labels at least; it has {', '.join(labels) or 'none'}")
    for split, members in splits.items():
        if not members:
            raise UserError(f"the task '{data.task}' has no {split} examples")
        for example in members:
            if example.label not in labels:
                raise UserError(f"{example.where}: unknown label '{example.label}' (there are: {', '.join(labels)})")
    return splits


def majority(members: list[Example]) -> float:
    """The accuracy of always answering the commonest label."""
    return Counter(example.label for example in members).most_common(1)[0][1] / len(members)


# ---- The embedded task --------------------------------------------------------------------------------------------------------


def packages(data: Data) -> dict[str, list[Example]]:
    """Which package does this docstring come from?"""
    splits = docstrings.examples(data.cache)
    return {split: [Example(text, '', label) for text, label in members] for split, members in splits.items()}


# ---- Files of one's own -------------------------------------------------------------------------------------------------------


def custom(data: Data) -> dict[str, list[Example]]:
    """The examples in data.train, data.dev and data.test; without a dev file, a share of the train texts by their hash."""
    train = read_examples(custom_train(data), data)
    if data.dev:
        splits = {'train': train, 'dev': read_examples(Path(data.dev), data)}
    else:
        if not 0 < data.dev_share < 1:
            raise UserError(f'data.dev_share={data.dev_share} must lie between 0 and 1 when there is no data.dev file')
        splits = {
            'train': [example for example in train if share(example) >= data.dev_share],
            'dev': [example for example in train if share(example) < data.dev_share],
        }
        empty = [split for split, members in splits.items() if not members]
        if empty:
            raise UserError(
                f'data.dev_share={data.dev_share} of {len(train)} examples leaves none for {empty[0]}; change it or give data.dev'
            )
    return splits | ({'test': read_examples(Path(data.test), data)} if data.test else {})


def custom_labels(data: Data) -> tuple[str, ...]:
    """data.labels, or else the labels that the train file has, sorted."""
    if data.labels:
        twice = [label for label, count in Counter(data.labels).items() if count > 1]
        if twice:
            raise UserError(f"data.labels names '{twice[0]}' twice")
        return data.labels
    return tuple(sorted({example.label for example in read_examples(custom_train(data), data)}))


def custom_train(data: Data) -> Path:
    """The train file, which the task `custom` cannot do without."""
    if not data.train:
        raise UserError('the task custom needs data.train, the path of a .tsv or .jsonl file (plain, .gz or .xz)')
    return Path(data.train)


def share(example: Example) -> float:
    """A number in [0, 1) that the texts of an example alone decide, evenly spread."""
    return int.from_bytes(hashlib.sha256(f'{example.text}\t{example.pair}'.encode()).digest()[:6], 'big') / 2**48


def read_examples(path: Path, data: Data) -> list[Example]:
    """The examples in a .tsv file with a header, or in JSON lines, plain, .gz or .xz.

    A line of a .tsv file is split at its tabs; quotes are letters. A label may be a text, a whole number or a truth
    value. Raises UserError if the file is missing, empty, of another kind, ragged, or lacks a column or a label.
    """
    path = path.expanduser()
    suffixes = [suffix for suffix in path.suffixes if suffix not in ('.gz', '.xz')]
    kind = suffixes[-1] if suffixes else ''
    if kind not in READERS:
        raise UserError(
            f"'{path}' is not a task file: its name must end in {' or '.join(READERS)}, perhaps with .gz or .xz after it"
        )
    columns = [(setting, getattr(data, setting)) for setting in ('text', 'pair', 'label')]
    result = []
    for number, record in READERS[kind](path):
        for setting, column in columns:
            if (column or setting != 'pair') and column not in record:
                raise UserError(
                    f"'{path}' has no column '{column}' in line {number} (data.{setting}){nearest(column, record)}; "
                    f'it has {", ".join(record)}'
                )
        texts = [
            sources.string(record, column, path, number, f'data.{setting}') if column else '' for setting, column in columns[:2]
        ]
        label = record[data.label]
        if not isinstance(label, str | int) or not str(label).strip():
            raise UserError(f"'{path}' line {number}: column '{data.label}' holds no label but {label!r}")
        result.append(Example(texts[0], texts[1], str(label).strip(), f"'{path}' line {number}"))
    if not result:
        raise UserError(f"'{path}' has no examples")
    return result


def tab_separated(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """(line number, column -> text) of each line of a .tsv file with a header."""
    header: list[str] = []
    rows = []
    for number, line in sources.lines(path):
        cells = line.split('\t')
        if not header:
            header = [cell.strip() for cell in cells]
        elif len(cells) != len(header) and line:
            raise UserError(f"'{path}' line {number} has {len(cells)} columns, its header has {len(header)}: {', '.join(header)}")
        elif line:
            rows.append((number, dict(zip(header, cells, strict=True))))
    return rows


READERS: dict[str, Callable[[Path], Any]] = {'.tsv': tab_separated, '.jsonl': lambda path: list(sources.records(path))}


TASKS: dict[str, Task] = {
    'packages': Task('label', labels=lambda data: docstrings.LABELS, splits=packages),
    'custom': Task('label', labels=custom_labels, splits=custom),
}
