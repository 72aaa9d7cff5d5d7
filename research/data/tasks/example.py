"""What a supervised task is made of."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from research.data.settings import Data


@dataclass(frozen=True)
class Example:
    """A text, perhaps a second one or some to choose from, and what is to be told of them."""

    text: str
    pair: str = ''  # '' when the task is about single texts; a question's context
    label: str = ''  # '' when it is not known
    where: str = ''  # 'file' line number, for messages
    id: str = ''  # what the data call it; '' is its number in the split
    score: float | None = None  # kind 'score': None when it is not known
    options: tuple[str, ...] = ()  # kind 'choice': the candidates
    answers: tuple[tuple[int, str], ...] = ()  # kind 'span': (first character in the context, text); () has no answer
    part: str = ''  # of a split that papers also report by parts
    group: str = ''  # what a part carved from train must not tear apart; '' is the example itself


def share(example: Example) -> float:
    """A number in [0, 1) that the texts of an example, or its group, alone decide, evenly spread."""
    text = example.group or f'{example.text}\t{example.pair}'
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], 'big') / 2**48


@dataclass(frozen=True)
class Task:
    """A supervised task: a row of TASKS."""

    kind: str  # what is told of an example, and so which head fits: label, score (one number), choice, span
    labels: Callable[[Data], tuple[str, ...]]  # the classes in the order of their numbers
    splits: Callable[[Data], dict[str, list[Example]]]  # by name: train, dev, test …
    metrics: tuple[str, ...] = ('accuracy',)  # rows of metrics.METRICS; a span's are exact and f1
    selects: str = 'accuracy'  # the metric that selects; 'score' is the mean of all
    reported: str = 'dev'  # the split that papers report
    sizes: Mapping[str, int] = field(default_factory=dict)  # of the official splits
