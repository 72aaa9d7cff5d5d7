"""Floors of a task: the scores of the commonest answer and of a bag of words, learnt from the same examples as the run.

A third floor, the same architecture from random weights, is a run of its own: `--config.start=''`. A score that is not above the
floors is no evidence that a model knows language.
"""

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from research.data import tasks
from research.data.encoding import fingerprint_examples
from research.data.settings import Data
from research.data.tasks.example import Example, Task
from research.evaluation import bag_of_words, metrics
from research.evaluation.bag_of_words import Predict
from research.files import fingerprint
from research.records import read_as, to_json, write_record

FORMAT = 1  # raise it when a floor is computed in another way: what the cache holds is then computed anew
PREFIX = 'floor_'  # of their metrics


@dataclasses.dataclass(frozen=True)
class Floors:
    """The floors of a task by 'split/floor_NAME', in the metric that selects checkpoints."""

    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    missing: Mapping[str, str] = dataclasses.field(default_factory=dict)  # why there is none


Measure = Callable[[Sequence[Example]], float]  # examples of a labelled split -> the metric that selects

NO_COMMONEST = (
    'no floor for spans of SQuAD 1.1, whose questions have no answer in common; compare with baseline:random, '
    'a window of one to five words'
)


def learn_commonest(row: Task, order: Sequence[str], train: Sequence[Example]) -> Measure | str:
    """Always the commonest label or place of the right candidate (the first of equally common ones), the mean score, no answer."""
    if row.kind == 'span':
        return partial(score_silence, row) if row.no_answer else NO_COMMONEST
    if row.kind == 'score':
        constant = float(np.array([example.score for example in train], float).mean())
    else:
        counts = Counter(order.index(example.label) for example in train)
        constant = max(sorted(counts), key=lambda number: counts[number])
    return partial(score, row, order, lambda members: np.full(len(members), constant))


def learn_words(row: Task, order: Sequence[str], train: Sequence[Example]) -> Measure | str:
    """What a bag of words predicts: see `bag_of_words.learn`."""
    predict = bag_of_words.learn(row.kind, order, train)
    return predict if isinstance(predict, str) else partial(score, row, order, predict)


# Name -> (task, labels by their numbers, training examples) -> what the floor scores, or why it cannot be computed.
FLOORS: dict[str, Callable[[Task, Sequence[str], Sequence[Example]], Measure | str]] = {
    'commonest': learn_commonest,
    'bag_of_words': learn_words,
}
TITLES = {'commonest': 'commonest answer', 'bag_of_words': 'bag of words'}


def is_floor(metric: str) -> bool:
    """Whether a metric, 'split/name', is a floor."""
    return metric.partition('/')[2].startswith(PREFIX)


def measure_floors(data: Data, cache: str) -> Floors:
    """The floors of every labelled split of a task, with the examples that a run with these settings trains on.

    Raises UserError for data that cannot be read.
    """
    splits = tasks.selection(data, tasks.examples(data, cache))[0]
    train = splits['train'] if 'train' in splits else []
    others = {name: members for name, members in splits.items() if name != 'train'}
    return find_floors(data, cache, fingerprint_examples(splits), tasks.classes(data), train, others)


def find_floors(
    data: Data,
    cache: str,
    content: str,
    names: Sequence[str],
    train: Sequence[Example],
    splits: Mapping[str, Sequence[Example]],
) -> Floors:
    """`measure_floors` of examples that are read already; computed once, and then read from the cache.

    content: the fingerprint of all examples. names: of the labels.
    """
    row = tasks.task(data)
    known = {name: members for name, members in splits.items() if members and tasks.is_labelled(row.kind, members[0])}
    order = tasks.TASKS[data.task].labels(data) if data.labels else tuple(names)
    learnt = [FORMAT, version('scikit-learn'), data.task, row.kind, row.metrics, row.selects, order, content, sorted(known)]
    path = Path(cache) / 'floors' / f'{fingerprint(learnt)}.json'
    found = read_as(Floors, path)
    if found is None:
        found = compute(row, order, train, known)
        with contextlib.suppress(OSError):  # a disk that is full, or read only, takes no floor from a run
            path.parent.mkdir(parents=True, exist_ok=True)
            write_record(path, to_json(found))
    return found


def compute(row: Task, order: Sequence[str], train: Sequence[Example], splits: Mapping[str, Sequence[Example]]) -> Floors:
    """The floors of labelled splits."""
    found: dict[str, float] = {}
    missing: dict[str, str] = {}
    for name, learn in FLOORS.items() if splits else ():
        measure = learn(row, order, train) if train else 'there are no training examples'
        for split, members in splits.items():
            key = f'{split}/{PREFIX}{name}'
            if isinstance(measure, str):
                missing[key] = measure
            else:
                found[key] = measure(members)
    return Floors(found, missing)


def score(row: Task, order: Sequence[str], predict: Predict, members: Sequence[Example]) -> float:
    """The metric that selects, of predictions for a labelled split."""
    if row.kind == 'score':
        gold = np.array([example.score for example in members], float)
    else:
        gold = np.array([order.index(example.label) for example in members])
    return metrics.measure(row.metrics, gold, predict(members))[row.selects]


def score_silence(row: Task, members: Sequence[Example]) -> float:
    """The metric that selects checkpoints, where every question is given no answer (SQuAD 2.0)."""
    golds = {example.id: tuple(text for _, text in example.answers) for example in members}
    return metrics.score_squad2(golds, dict.fromkeys(golds, ''), dict.fromkeys(golds, 0.0))[row.selects] / 100


def describe(found: Floors, key: str, value: float) -> str:
    """A line with a score and its floors; it names those that the score does not exceed. key: the score's metric, 'split/name'."""
    split, parts, beaten = key.partition('/')[0], [], []
    for name, title in TITLES.items():
        floor = f'{split}/{PREFIX}{name}'
        if floor in found.metrics:
            parts.append(f'{title} {found.metrics[floor]:.4f}')
            beaten += [title] if value <= found.metrics[floor] else []
        elif floor in found.missing:
            parts.append(f'{title}: none ({found.missing[floor]})')
    below = f'; NOT ABOVE {" and ".join(beaten)}' if beaten else ''
    return f'{key} {value:.4f}; floors: {", ".join(parts) or "none"}{below}'
