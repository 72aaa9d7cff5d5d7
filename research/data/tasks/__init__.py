"""Supervised tasks: where the examples come from, which labels there are, and how examples are split. A row of TASKS each."""

import dataclasses

from research.data.settings import Data
from research.data.tasks import custom, glue, imdb, packages, race, squad
from research.data.tasks.example import Example, Task, carve
from research.errors import UserError, choose

SELECT = ('train', 'dev', 'last')


def task(data: Data) -> Task:
    """The row of TASKS that `data.task` names; `custom` tells scores where data.score names their column."""
    choose('data.task', data.task, TASKS)
    row = TASKS[data.task]
    if data.task != 'custom':
        return row
    row = dataclasses.replace(row, reported='test' if data.test else 'dev')
    scores = dataclasses.replace(row, kind='score', metrics=('pearson', 'spearman'), selects='score')
    return scores if data.score else row


def classes(data: Data) -> tuple[str, ...]:
    """The names of the task's labels, in the order of their numbers, which data.labels may change where a text has one of them."""
    row = task(data)
    if data.labels and row.kind != 'label':
        raise UserError(f"data.labels={', '.join(data.labels)}: '{data.task}' has a {row.kind}, no labels to order; give none")
    own = row.labels(data)
    if data.labels and sorted(data.labels) != sorted(own):
        raise UserError(f"data.labels={', '.join(data.labels)}: the labels of '{data.task}' are {', '.join(own)}")
    return data.labels or own


def examples(data: Data) -> dict[str, list[Example]]:
    """The examples of each split of the task. Raises UserError if a split is empty or an example has a label of no class."""
    row = task(data)
    splits = row.splits(data)
    labels = classes(data)
    if row.kind == 'label' and len(labels) < 2:
        raise UserError(f"the task '{data.task}' needs two labels at least; it has {', '.join(labels) or 'none'}")
    for split, members in splits.items():
        if not members:
            raise UserError(f"the task '{data.task}' has no {split} examples")
        known = sum(is_known(row.kind, example) for example in members)
        if split == 'train' and row.kind == 'label' and len({example.label for example in members}) == 1:
            raise UserError(f"the train split of '{data.task}' has one label only, '{members[0].label}'")
        for example in members:
            if row.kind in ('label', 'choice') and known and example.label not in labels:
                raise UserError(f"{example.where}: unknown label '{example.label}' (there are: {', '.join(labels)})")
    return splits


def is_known(kind: str, example: Example) -> bool:
    """Whether it is known what is to be told of an example."""
    return kind == 'span' or (example.score is not None if kind == 'score' else bool(example.label))


def reported(data: Data, splits: dict[str, list[Example]]) -> str:
    """The split that the task's number is read from: the one that papers report, where what is to be told of it is known."""
    row = task(data)
    for name in (row.reported, 'dev', 'test'):
        if name in splits and is_known(row.kind, splits[name][0]):
            return name
    return ''


def selection(data: Data, splits: dict[str, list[Example]]) -> tuple[dict[str, list[Example]], str, str]:
    """The splits with the part that selects checkpoints; its name ('' = nothing selects); and how to tell of it.

    Where test is reported, dev selects. Where dev is, a part of train does, named 'selection', unless data.select says otherwise.
    """
    choose('data.select', data.select, SELECT)
    if data.select == 'last' or 'train' not in splits or 'dev' not in splits:
        return splits, '', 'the last checkpoint: nothing selects'
    if reported(data, splits) == 'test':
        return splits, 'dev', 'selected on dev; test is reported'
    if data.select == 'dev':
        return splits, 'dev', 'selected on dev'
    rest = {name: members for name, members in splits.items() if name != 'train'}
    return carve(splits['train'], data, 'selection') | rest, 'selection', 'selected on a part of train'


TASKS: dict[str, Task] = {
    'packages': packages.PACKAGES,
    'custom': Task('label', labels=custom.labels, splits=custom.splits),
    **{name: glue.task(name) for name in glue.GLUE},
    **{name: squad.task(name) for name in squad.VERSIONS},
    'race': race.RACE,
    'imdb': imdb.IMDB,
}
