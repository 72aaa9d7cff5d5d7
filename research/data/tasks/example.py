"""What a supervised task is made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from research.data.cutting import share
from research.data.settings import Data
from research.errors import UserError


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


def carve(train: list[Example], data: Data, name: str) -> dict[str, list[Example]]:
    """'train' without a share data.dev_share of its texts, or groups, by their hash, which are the split `name`.

    Dev and another split are carved from opposite ends of the hashes, so that one can be after the other.
    Raises UserError where either is empty.
    """
    if not 0 < data.dev_share < 1:
        raise UserError(f'data.dev_share={data.dev_share} must lie between 0 and 1, for {name} is carved from train')
    shares = [share([example.group or f'{example.text}\t{example.pair}']) for example in train]
    taken = [each >= 1 - data.dev_share if name == 'dev' else each < data.dev_share for each in shares]
    found = {
        'train': [example for example, gone in zip(train, taken, strict=True) if not gone],
        name: [example for example, gone in zip(train, taken, strict=True) if gone],
    }
    for split, members in found.items():
        if not members:
            raise UserError(f'data.dev_share={data.dev_share} of {len(train)} training examples leaves none for {split}; change it')
    return found


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
