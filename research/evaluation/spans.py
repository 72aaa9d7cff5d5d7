"""Answer spans from the logits of their first and last pieces."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Answer(NamedTuple):
    """A span of the context: context[start:end]."""

    start: int
    end: int
    logit: float  # the sum of the logits of its first and its last piece
    probability: float  # among all spans of its window, 'no answer' included


def find_answers(
    logits: NDArray[np.float32], first: int, offsets: Sequence[tuple[int, int]], longest: int, best: int
) -> list[Answer]:
    """The `best` spans of at most `longest` pieces in one window, the most probable first.

    logits: [T, 2], of the first and the last piece. The context starts at position `first`; `offsets` are the (start, end) of its
    pieces in the text.
    """
    if not offsets:
        return []
    part = slice(first, first + len(offsets))
    # The probabilities are over the pieces of the context and [CLS], which means 'no answer'.
    starts, ends = (np.concatenate([logits[:1, i], logits[part, i]]).astype(np.float64) for i in (0, 1))
    normal = sum(float(np.logaddexp.reduce(each)) for each in (starts, ends))
    length = np.arange(len(offsets))[None, :] - np.arange(len(offsets))[:, None]
    sums = np.where((length >= 0) & (length < longest), starts[1:, None] + ends[None, 1:], -np.inf)
    flat = sums.ravel()
    top = np.argpartition(-flat, best)[:best] if best < len(flat) else np.arange(len(flat))
    found = []
    for at in sorted(top.tolist(), key=lambda at: (-flat[at], at)):
        if np.isfinite(flat[at]):
            i, j = divmod(at, len(offsets))
            found.append(Answer(offsets[i][0], offsets[j][1], float(flat[at]), float(np.exp(flat[at] - normal))))
    return found


def score_no_answer(logits: NDArray[np.float32]) -> float:
    """The logit of 'no answer' in one window: [CLS] as the first and the last piece (Devlin et al. 2019, §4.3)."""
    return float(np.float64(logits[0, 0]) + np.float64(logits[0, 1]))


def rank_answers(windows: Iterable[list[Answer]], best: int) -> list[Answer]:
    """The `best` different answers of several windows, the highest logit first."""
    kept: dict[tuple[int, int], Answer] = {}
    for answer in sorted((each for window in windows for each in window), key=lambda each: -each.logit):
        kept.setdefault((answer.start, answer.end), answer)
    return list(kept.values())[:best]
