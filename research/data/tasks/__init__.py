"""Supervised tasks: where the examples come from, which labels there are, and how examples are split. A row of TASKS each."""

from research.data.json_lines import SURROGATE
from research.data.settings import Data
from research.data.tasks import custom, glue, imdb, packages, race, squad
from research.data.tasks.example import Example, Task, carve
from research.data.text_files import RECORD
from research.errors import UserError, choose

SELECT = ('train', 'dev', 'last')


def task(data: Data) -> Task:
    """The row of TASKS that `data.task` names, adapted to the other settings. Raises UserError for an unknown name."""
    row = TASKS[choose('data.task', data.task, TASKS)]
    return row.adapt(row, data)


def classes(data: Data) -> tuple[str, ...]:
    """The names of the task's labels, in the order of their numbers.

    data.labels may change the order. Raises UserError where the task has no labels, or others.
    """
    row = task(data)
    if data.labels and row.kind != 'label':
        raise UserError(f"data.labels={', '.join(data.labels)}: '{data.task}' has a {row.kind}, no labels to order; give none")
    own = row.labels(data)
    if data.labels and sorted(data.labels) != sorted(own):
        raise UserError(f"data.labels={', '.join(data.labels)}: the labels of '{data.task}' are {', '.join(own)}")
    return data.labels or own


def examples(data: Data, cache: str) -> dict[str, list[Example]]:
    """The examples of each split of the task.

    Raises UserError if a split is empty, or an example has an unknown label, or texts that are too long or cannot be written.
    """
    row = task(data)
    splits = row.splits(data, cache)
    labels = classes(data)
    if row.kind == 'label' and len(labels) < 2:
        raise UserError(f"the task '{data.task}' needs two labels at least; it has {', '.join(labels) or 'none'}")
    for split, members in splits.items():
        if not members:
            raise UserError(f"the task '{data.task}' has no {split} examples")
        labelled = any(is_labelled(row.kind, example) for example in members)
        if split == 'train' and row.kind == 'label' and len({example.label for example in members}) == 1:
            raise UserError(f"the train split of '{data.task}' has one label only, '{members[0].label}'")
        for example in members:
            refuse_unusable(example)
            if row.kind in ('label', 'choice') and labelled and example.label not in labels:
                raise UserError(f"{example.where}: unknown label '{example.label}' (there are: {', '.join(labels)})")
    return splits


def refuse_unusable(example: Example) -> None:
    """Raises UserError for a text of more than RECORD characters, and for half of a surrogate pair, which no file can hold."""
    texts = (example.text, example.pair, *example.options)
    if sum(map(len, texts)) > RECORD:
        raise UserError(f'{example.where}: an example has more than {RECORD:,} characters: cut its texts')
    for text in (*texts, example.label, example.id, *(text for _, text in example.answers)):
        if not text.isascii() and SURROGATE.search(text):
            raise UserError(f'{example.where} holds half of a surrogate pair, which is not a character')


def is_labelled(kind: str, example: Example) -> bool:
    """Whether the example is labelled."""
    return kind == 'span' or (example.score is not None if kind == 'score' else bool(example.label))


def reported(data: Data, splits: dict[str, list[Example]]) -> str:
    """The split whose score is reported: the papers' choice if labelled, else dev, else test; '' if neither is."""
    row = task(data)
    for name in (row.reported, 'dev', 'test'):
        if name in splits and is_labelled(row.kind, splits[name][0]):
            return name
    return ''


def selection(data: Data, splits: dict[str, list[Example]]) -> tuple[dict[str, list[Example]], str, str]:
    """(splits, the name of the one that selects checkpoints, '' for none, and the same in words).

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
    'custom': custom.CUSTOM,
    **{name: glue.task(name) for name in glue.GLUE},
    **{name: squad.task(name) for name in squad.VERSIONS},
    'race': race.RACE,
    'imdb': imdb.IMDB,
}
