"""Which pieces of a sequence are hidden from the model, and what is put in their place."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from research.data.tokenizers import Vocabulary
from research.errors import UserError, choose

Ids = NDArray[np.int32]
Flags = NDArray[np.bool_]
Policy = Callable[[Ids, Flags, Flags, NDArray[np.int64], np.random.Generator], Flags]


@dataclass(frozen=True)
class Masking:
    """How much is hidden, and how (Devlin et al. 2019, §3.1)."""

    policy: str = 'token'  # row of MASKING
    rate: float = 0.15  # share of the pieces of a sequence that are predicted, special pieces aside
    mask: float = 0.8  # share of the predicted pieces that become [MASK]
    random: float = 0.1  # share that become a random piece; the rest stay as they are


def tokens(ids: Ids, word_starts: Flags, candidates: Flags, count: NDArray[np.int64], generator: np.random.Generator) -> Flags:
    """Single pieces, each as likely as any other (Devlin et al. 2019, §3.1)."""
    del ids, word_starts
    keys = np.where(candidates, generator.random(candidates.shape), np.inf)
    return ranks(keys) < count[:, None]


def whole_words(ids: Ids, word_starts: Flags, candidates: Flags, count: NDArray[np.int64], generator: np.random.Generator) -> Flags:
    """Whole words in random order, each taken where it still fits into `count` (BERT's whole-word release of May 2019).

    A row where no word fits takes the first `count` pieces of one word, so that every row has something to predict.
    """
    del ids
    rows = np.arange(len(candidates))
    word = np.cumsum(word_starts, axis=1) - word_starts[:, :1]
    size = np.zeros(candidates.shape, np.int64)
    np.add.at(size, (rows[:, None], word), candidates)
    order = np.argsort(np.where(size > 0, generator.random(size.shape), np.inf), axis=1)
    taken = np.zeros_like(candidates)
    used = np.zeros(len(candidates), np.int64)
    for rank in range(int((size > 0).sum(axis=1).max(initial=0))):
        this = size[rows, order[:, rank]]
        fits = (this > 0) & (used + this <= count)
        taken[rows, order[:, rank]] = fits
        used += this * fits
    chosen = taken[rows[:, None], word] & candidates
    cut = (word == order[:, :1]) & candidates
    return chosen | (cut & (np.cumsum(cut, axis=1) <= count[:, None]) & (used == 0)[:, None])


# A policy: (ids [B, T], word_starts [B, T], candidates [B, T], count [B], generator) -> chosen [B, T], a pure
# function that chooses at most count[b] positions of row b, all of them candidates, and one at least where count[b] >
# 0.
MASKING: dict[str, Policy] = {'token': tokens, 'whole_word': whole_words}


def ranks(keys: NDArray[np.float64]) -> NDArray[np.int64]:
    """The rank of each key within its row, 0 for the smallest; keys [B, T] -> ranks [B, T]."""
    order = np.argsort(keys, axis=1)
    result = np.empty_like(order)
    np.put_along_axis(result, order, np.broadcast_to(np.arange(keys.shape[1]), keys.shape), axis=1)
    return result


def check(masking: Masking) -> None:
    """Raise a UserError unless the policy exists and the shares are shares."""
    choose('masking policy', masking.policy, MASKING)
    if not 0 < masking.rate < 1:
        raise UserError(f'data.masking.rate={masking.rate} must lie between 0 and 1 (Devlin et al. 2019: 0.15)')
    if masking.mask < 0 or masking.random < 0 or masking.mask + masking.random > 1:
        raise UserError(
            f'data.masking.mask={masking.mask} and data.masking.random={masking.random} must be shares, their sum 1 at most'
        )


def predictions(masking: Masking, length: int) -> int:
    """P, the most predictions that a sequence of `length` pieces can hold."""
    return math.ceil(masking.rate * length)


def corrupt(
    masking: Masking, vocabulary: Vocabulary, ids: Ids, generator: np.random.Generator
) -> tuple[Ids, Ids, Ids, NDArray[np.float32]]:
    """The sequences with some pieces hidden, and what was there.

    ids [B, T] -> corrupted ids [B, T], positions [B, P], labels [B, P], weights [B, P]. Special pieces, padding and
    unknown pieces are neither predicted nor drawn as replacements. A sequence has max(1, round(rate * candidates))
    predictions, in rising order of position; the rest of the P axis has position 0, the padding piece as its label,
    and weight 0.
    """
    candidates = ~vocabulary.special[ids]
    available = candidates.sum(axis=1)
    count = np.where(available > 0, np.maximum(1, np.round(masking.rate * available)), 0).astype(np.int64)
    chosen = MASKING[masking.policy](ids, vocabulary.word_start[ids], candidates, count, generator)

    rows, columns = np.nonzero(chosen)
    slot = (np.cumsum(chosen, axis=1) - 1)[rows, columns]
    shape = (len(ids), predictions(masking, ids.shape[1]))
    positions = np.zeros(shape, np.int32)
    labels = np.full(shape, vocabulary.pad, np.int32)
    weights = np.zeros(shape, np.float32)
    positions[rows, slot], labels[rows, slot], weights[rows, slot] = columns, ids[rows, columns], 1

    ordinary = np.flatnonzero(~vocabulary.special).astype(np.int32)
    draw = generator.random(len(rows))
    substitute = ordinary[generator.integers(len(ordinary), size=len(rows))]
    corrupted = ids.copy()
    corrupted[rows, columns] = np.where(
        draw < masking.mask,
        np.int32(vocabulary.mask),
        np.where(draw < masking.mask + masking.random, substitute, ids[rows, columns]),
    )
    return corrupted, positions, labels, weights
