"""What a supervised task is made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from research.data.cutting import share
from research.data.settings import Data
from research.errors import UserError

# Kind of a task -> the row of LOSSES that it is learnt by.
LOSSES = {'label': 'label', 'score': 'regression', 'choice': 'choice', 'span': 'span'}


@dataclass(frozen=True)
class Example:
    """One input of a task, with its gold label, score or answers where they are known."""

    text: str
    pair: str = ''  # '' when the task is about single texts; a question's context
    label: str = ''  # '' when it is unknown
    where: str = ''  # 'file' line number, for messages
    id: str = ''  # as in the files; '' is its number in the split
    score: float | None = None  # kind 'score': None when it is unknown
    options: tuple[str, ...] = ()  # kind 'choice': the candidates
    answers: tuple[tuple[int, str], ...] = ()  # kind 'span': (first character in the context, text); () has no answer
    part: str = ''  # of a split that papers also report by parts
    group: str = ''  # examples of one group stay together when a part is carved from train; '' is the example itself


@dataclass(frozen=True)
class Printed:
    """A number that papers print for a task."""

    title: str  # of its column
    key: str = 'score'  # of the number in result.json, as columns spell it
    what: str = 'accuracy'


def nothing(data: Data) -> list[str]:
    """No line, for the tasks whose files can be read in one way only."""
    del data
    return []


def unchanged(row: 'Task', data: Data) -> 'Task':
    """The row itself, for the tasks that no setting changes."""
    del data
    return row


@dataclass(frozen=True)
class Task:
    """A supervised task: a row of TASKS."""

    kind: str  # what is predicted, and so which head fits: label, score (one number), choice, span
    labels: Callable[[Data], tuple[str, ...]]  # the classes in the order of their numbers
    splits: Callable[[Data, str], dict[str, list[Example]]]  # (data, cache) -> by name: train, dev, test …
    metrics: tuple[str, ...] = ('accuracy',)  # rows of metrics.METRICS; a span's are exact and f1
    selects: str = 'accuracy'  # the metric that selects; 'score' is the mean of all
    reported: str = 'dev'  # the split that papers report
    sizes: Mapping[str, int] = field(default_factory=dict)  # of the official splits
    trains: bool = True  # whether there is a train split
    no_answer: bool = False  # kind 'span': whether a question may have no answer
    printed: tuple[Printed, ...] = ()
    reads: tuple[str, ...] = ()  # the fields of Data that this task reads and others do not
    adapt: Callable[['Task', Data], 'Task'] = unchanged  # the row under these settings
    notices: Callable[[Data], list[str]] = nothing  # lines for the log about how the files were read, and what was left out

    @property
    def loss(self) -> str:
        """The row of LOSSES that the task is learnt by."""
        return LOSSES[self.kind]


def carve(train: list[Example], data: Data, name: str) -> dict[str, list[Example]]:
    """'train' without a share data.dev_share of its texts, or groups, by their hash, which are the split `name`.

    Dev and another split are carved from opposite ends of the hashes, so that one can be carved after the other.
    Raises UserError if either is empty.
    """
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
