"""Answer spans from what a head computes for one window of a context. READINGS has a row for each head that answers."""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Answer(NamedTuple):
    """A span of the context: context[start:end]."""

    start: int
    end: int
    logit: float  # the sum of the logits, or of the log-probabilities, of its first and its last piece
    probability: float  # among all spans of its window, 'no answer' included


class Place(Protocol):
    """Where the context lies in one window."""

    @property
    def first(self) -> int:
        """The position of its first piece."""
        ...

    @property
    def offsets(self) -> Sequence[tuple[int, int]]:
        """The (start, end) of each of its pieces in the text, in characters."""
        ...

    @property
    def starts(self) -> NDArray[np.bool_]:
        """Whether an answer may start at each of its pieces: see `windows.find_most_context`."""
        ...


def find_answers(logits: NDArray[np.float32], place: Place, longest: int, best: int) -> list[Answer]:
    """The `best` spans of at most `longest` pieces in one window, the most probable first.

    logits: [T, 2], of the first and the last piece. A span starts where the window has the most context of all (Devlin's code).
    """
    first, offsets = place.first, place.offsets
    if not offsets:
        return []
    part = slice(first, first + len(offsets))
    # The probabilities are over the pieces of the context and [CLS], which means 'no answer'.
    starts, ends = (np.concatenate([logits[:1, i], logits[part, i]]).astype(np.float64) for i in (0, 1))
    normal = sum(float(np.logaddexp.reduce(each)) for each in (starts, ends))
    length = np.arange(len(offsets))[None, :] - np.arange(len(offsets))[:, None]
    allowed = (length >= 0) & (length < longest) & np.asarray(place.starts)[:, None]
    sums = np.where(allowed, starts[1:, None] + ends[None, 1:], -np.inf)
    flat = sums.ravel()
    top = np.argpartition(-flat, best)[:best] if best < len(flat) else np.arange(len(flat))
    found = []
    for at in sorted(top.tolist(), key=lambda at: (-flat[at], at)):
        if np.isfinite(flat[at]):
            i, j = divmod(at, len(offsets))
            found.append(Answer(offsets[i][0], offsets[j][1], float(flat[at]), float(np.exp(flat[at] - normal))))
    return found


def score_no_answer(logits: NDArray[np.float32], best: float) -> float:
    """By how much 'no answer' leads in one window: the logits of [CLS] as the first and the last piece (Devlin et al. 2019, §4.3).

    best: the logit of the best span of all windows.
    """
    return float(np.float64(logits[0, 0]) + np.float64(logits[0, 1])) - best


def find_tried(beam: NDArray[np.float32], place: Place, longest: int, best: int) -> list[Answer]:
    """As `find_answers`, of the spans that a head tried whose end depends on the start (google-research/albert, squad_utils.py).

    beam: as `heads.AnswerHead` returns it. The logit of a span is the log of its probability.
    """
    found: dict[tuple[int, int], Answer] = {}
    for start, end, one, other in beam[1:].astype(np.float64).tolist():
        i, j = int(start) - place.first, int(end) - place.first
        if 0 <= i <= j < len(place.offsets) and j - i < longest and place.starts[i]:
            found.setdefault((i, j), Answer(place.offsets[i][0], place.offsets[j][1], one + other, float(np.exp(one + other))))
    return sorted(found.values(), key=lambda each: -each.logit)[:best]


def read_class(beam: NDArray[np.float32], best: float) -> float:
    """The logit of the class 'no answer' in one window; the best span's logit plays no part."""
    del best
    return float(beam[0, 0])


class Reading(NamedTuple):
    """How the result of a head for one window is read."""

    find: Callable[[NDArray[np.float32], Place, int, int], list[Answer]]
    lead: Callable[[NDArray[np.float32], float], float]  # (of a window, the best span's logit) -> by how much 'no answer' leads


READINGS = {'span': Reading(find_answers, score_no_answer), 'answer': Reading(find_tried, read_class)}


def choose_reading(heads: Collection[str]) -> str:
    """The row of READINGS by which a model with these heads answers questions; the first if it has none of them."""
    return next((name for name in READINGS if name in heads), 'span')


def rank_answers(windows: Iterable[list[Answer]], best: int) -> list[Answer]:
    """The `best` different answers of several windows, the highest logit first."""
    kept: dict[tuple[int, int], Answer] = {}
    for answer in sorted((each for window in windows for each in window), key=lambda each: -each.logit):
        kept.setdefault((answer.start, answer.end), answer)
    return list(kept.values())[:best]
