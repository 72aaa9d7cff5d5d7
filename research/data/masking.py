"""Which pieces of a sequence are predicted: the policies."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from research.errors import UserError, choose

Ids = NDArray[np.int32]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Masking:
    """How many pieces are predicted, and what replaces them (Devlin et al. 2019, §3.1)."""

    policy: str = 'token'  # row of MASKING
    rate: float = 0.15  # share of the pieces of a sequence that are predicted, special pieces aside
    mask: float = 0.8  # share of the predicted pieces that become [MASK]
    random: float = 0.1  # share that become a random piece; the rest stay as they are
    # The same at the end of the run, which they approach linearly from step to step; -1 = as at its beginning
    rate_end: float = -1.0
    mask_end: float = -1.0
    random_end: float = -1.0
    predictions: int = 0  # of a sequence, at most: Google's max_predictions_per_seq; 0 = as many as the rate gives
    ngram: int = 3  # policy `ngram`: words of a run, at most (Lan et al. 2020, §4.1)
    smoothing: float = 0.7  # policy `frequency`: a piece's weight is its count in the corpus to the power of minus this


@dataclass(frozen=True, eq=False)
class Text:
    """B sequences, as a policy sees them."""

    word_starts: Flags  # [B, T]: the piece begins a word
    candidates: Flags  # [B, T]: the piece may be predicted
    count: NDArray[np.int64]  # [B] predictions wanted
    weights: NDArray[np.float64]  # [B, T], or [1, 1] where all pieces weigh the same


@dataclass(frozen=True)
class Policy:
    """How the pieces to predict are chosen: a row of MASKING.

    choose: (masking, text, generator) -> chosen [B, T], a pure function that chooses at most count[b] positions of row b,
    all of them candidates, and one at least where count[b] > 0.
    """

    choose: Callable[[Masking, Text, np.random.Generator], Flags]
    weighs_pieces: bool = False  # whether rare pieces are chosen more often, by their weights
    options: tuple[str, ...] = ()  # the fields of Masking that only this policy reads


def tokens(masking: Masking, text: Text, generator: np.random.Generator) -> Flags:
    """Single pieces, each as likely as any other (Devlin et al. 2019, §3.1)."""
    del masking
    return smallest(np.where(text.candidates, generator.random(text.candidates.shape), np.inf), text)


def frequencies(masking: Masking, text: Text, generator: np.random.Generator) -> Flags:
    """Single pieces drawn one after the other, in proportion to their weights: rare pieces more often (Sanh et al. 2019, §3).

    The smallest of exponential times whose rates are the weights are such a draw (Efraimidis and Spirakis 2006).
    """
    del masking
    times = generator.standard_exponential(text.candidates.shape) / text.weights
    return smallest(np.where(text.candidates, times, np.inf), text)


def smallest(keys: NDArray[np.float64], text: Text) -> Flags:
    """The `count` smallest keys of each row; of equal keys, those that come first."""
    most = int(text.count.max(initial=0))
    if not most:
        return np.zeros_like(text.candidates)
    last = np.partition(keys, np.unique(text.count[text.count > 0]) - 1, axis=1)
    bound = last[np.arange(len(keys)), np.maximum(text.count, 1) - 1]
    chosen = (keys <= bound[:, None]) & text.candidates & (text.count > 0)[:, None]
    return chosen & (np.cumsum(chosen, axis=1) <= text.count[:, None])


def whole_words(masking: Masking, text: Text, generator: np.random.Generator) -> Flags:
    """Whole words in random order, each taken where it still fits into `count` (BERT's whole-word release of May 2019).

    A row where no word fits takes the first `count` pieces of one word, so that every row has something to predict.
    """
    del masking
    word, size = words(text)
    order = np.argsort(np.where(size > 0, generator.random(size.shape), np.inf), axis=1)
    ordered = np.take_along_axis(size, order, axis=1)
    taken = (np.cumsum(ordered, axis=1) <= text.count[:, None]) & (ordered > 0)
    left = text.count - np.where(taken, ordered, 0).sum(axis=1)
    beyond = taken.sum(axis=1)
    # After the first word that does not fit: only rows that have room left, one word of each at a time.
    rows = np.flatnonzero(left > 0)
    while len(rows):
        fits = (ordered[rows] > 0) & (ordered[rows] <= left[rows, None]) & (np.arange(size.shape[1]) >= beyond[rows, None])
        next = fits.argmax(axis=1)
        found = fits[np.arange(len(rows)), next]
        rows, next = rows[found], next[found]
        taken[rows, next] = True
        left[rows] -= ordered[rows, next]
        beyond[rows] = next + 1
        rows = rows[left[rows] > 0]
    chosen = np.zeros_like(taken)
    np.put_along_axis(chosen, order, taken, axis=1)
    return pieces_of(chosen, word, order[:, 0], text)


def ngrams(masking: Masking, text: Text, generator: np.random.Generator) -> Flags:
    """Runs of n whole words, n up to `ngram` and drawn in proportion to 1/n (Lan et al. 2020, §4.1).

    Each run begins at a random word among those where it fits: within what is left of `count`, over no word chosen before
    and no special piece. If it fits nowhere, it gets a word shorter. A row where no word fits is treated as in `whole_words`.
    """
    word, size = words(text)
    keys = generator.random(size.shape)
    # A column for each possible run: each run has at least one piece.
    drawn = draw_lengths(masking.ngram, (len(size), int(text.count.max(initial=1)) or 1), generator)
    chosen = np.zeros(size.shape, bool)
    until = sums_before(size)
    left = text.count.copy()
    rows = np.flatnonzero(left > 0)
    turn = 0
    while len(rows):
        n = drawn[rows, np.minimum(turn, drawn.shape[1] - 1)]
        start, n = place_runs(rows, n, sums_before((size[rows] > 0) & ~chosen[rows]), until, left, keys)
        rows, start, n = rows[n > 0], start[n > 0], n[n > 0]
        for step in range(masking.ngram):
            some = n > step
            chosen[rows[some], start[some] + step] = True
        left[rows] -= until[rows, start + n] - until[rows, start]
        rows = rows[left[rows] > 0]
        turn += 1
    return pieces_of(chosen, word, np.where(size > 0, keys, np.inf).argmin(axis=1), text)


def draw_lengths(most: int, shape: tuple[int, int], generator: np.random.Generator) -> NDArray[np.int64]:
    """Lengths of runs [shape] from 1 to `most`, each drawn in proportion to its inverse."""
    weights = 1 / np.arange(1, most + 1)
    lengths = 1 + np.searchsorted(np.cumsum(weights) / weights.sum(), generator.random(shape), side='right')
    return np.minimum(lengths, most)


def sums_before(values: NDArray[Any]) -> NDArray[np.int64]:
    """[B, W + 1] the sums of the values [B, W] before each column, and of all."""
    return np.concatenate([np.zeros((len(values), 1), np.int64), np.cumsum(values, axis=1, dtype=np.int64)], axis=1)


def place_runs(
    rows: NDArray[np.int64],
    n: NDArray[np.int64],
    free: NDArray[np.int64],
    until: NDArray[np.int64],
    left: NDArray[np.int64],
    keys: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(first word, number of words) of a run of at most n [R] words in each of `rows` [R]; 0 words if none fits.

    free [R, W + 1] counts the words before each that may be chosen, until [B, W + 1] their pieces; left [B] is the room of
    each row in pieces. The smallest of keys [B, W] decides between places.
    """
    width = keys.shape[1]
    start = np.zeros(len(rows), np.int64)
    for length in range(int(n.max()), 0, -1):
        mine = np.flatnonzero(n == length)  # drawn so, or shortened to it
        if not len(mine):
            continue
        if length > width:
            n[mine] -= 1
            continue
        which = rows[mine]
        fits = free[mine, length:] - free[mine, :-length] == length
        fits &= until[which, length:] - until[which, :-length] <= left[which, None]
        start[mine] = np.where(fits, keys[which, : width - length + 1], np.inf).argmin(axis=1)
        n[mine] -= ~fits[np.arange(len(mine)), start[mine]]
    return start, n


def words(text: Text) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The number of each piece's word within its row, and how many candidates each word has; both [B, T]."""
    word = np.cumsum(text.word_starts, axis=1, dtype=np.int64) - text.word_starts[:, :1].astype(np.int64)
    rows, width = word.shape
    flat = (word + width * np.arange(rows)[:, None])[text.candidates]
    return word, np.bincount(flat, minlength=rows * width).reshape(rows, width)


def pieces_of(chosen: Flags, word: NDArray[np.int64], spare: NDArray[np.int64], text: Text) -> Flags:
    """The candidates of the chosen words [B, W]; in a row without any, the first `count` of the word `spare` [B]."""
    found = np.take_along_axis(chosen, word, axis=1) & text.candidates
    empty = np.flatnonzero(~chosen.any(axis=1))
    if len(empty):
        cut = (word[empty] == spare[empty, None]) & text.candidates[empty]
        found[empty] = cut & (np.cumsum(cut, axis=1) <= text.count[empty, None])
    return found


MASKING = {
    'token': Policy(tokens),
    'whole_word': Policy(whole_words),
    'ngram': Policy(ngrams, options=('ngram',)),
    'frequency': Policy(frequencies, weighs_pieces=True, options=('smoothing',)),
}


def smooth(counts: NDArray[np.int64] | NDArray[np.float64], smoothing: float) -> NDArray[np.float64]:
    """The weight of each piece [V]: count^-smoothing, where a piece that never occurs counts as one that occurs once."""
    return np.maximum(counts, 1.0) ** -smoothing


def validate(masking: Masking) -> None:
    """Raises UserError for a setting out of range."""
    choose('data.masking.policy', masking.policy, MASKING)
    for name in ('rate_end', 'mask_end', 'random_end'):
        if getattr(masking, name) != -1 and not 0 <= getattr(masking, name) <= 1:
            raise UserError(f'data.masking.{name}={getattr(masking, name)} must be a share, or -1 to stay as at the beginning')
    for end, each in (('', masking), ('_end', resolve_schedule(masking, 1.0))):
        if not 0 < each.rate < 1:
            raise UserError(f'data.masking.rate{end}={each.rate} must lie between 0 and 1 (Devlin et al. 2019: 0.15)')
        if not (each.mask >= 0 and each.random >= 0 and each.mask + each.random <= 1):
            raise UserError(
                f'data.masking.mask{end}={each.mask} and data.masking.random{end}={each.random} must be shares, their sum 1 at most'
            )
    if masking.ngram < 1:
        raise UserError(f'data.masking.ngram={masking.ngram} must be a number of words, 1 at least (Lan et al. 2020: 3)')
    if not 0 <= masking.smoothing < math.inf:
        raise UserError(f'data.masking.smoothing={masking.smoothing} must be 0 or more, and finite (Sanh et al. 2019: 0.7)')
    if masking.predictions < 0:
        raise UserError(f'data.masking.predictions={masking.predictions} must not be negative; 0 is as many as the rate gives')


def resolve_schedule(masking: Masking, progress: float) -> Masking:
    """The masking of a step, without a schedule: `progress` is 0 at the first step of the run and 1 at its last."""

    def follow(first: float, last: float) -> float:
        return first if last < 0 else (1 - progress) * first + progress * last  # exactly `last` at the end

    return replace(
        masking,
        rate=follow(masking.rate, masking.rate_end),
        mask=follow(masking.mask, masking.mask_end),
        random=follow(masking.random, masking.random_end),
        rate_end=-1.0,
        mask_end=-1.0,
        random_end=-1.0,
    )


def count_predictions(masking: Masking, available: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of the available candidates are predicted: the rate's share, at least one and at most the cap; none of none."""
    wanted = np.maximum(1, np.round(masking.rate * available))
    capped = np.minimum(wanted, masking.predictions) if masking.predictions else wanted
    return np.where(available > 0, capped, 0).astype(np.int64)


def predictions(masking: Masking, length: int) -> int:
    """P, the room for predictions in a sequence of `length` pieces: what the rate gives, or the cap if that is less."""
    room = math.ceil(max(masking.rate, masking.rate_end) * length)
    return min(room, masking.predictions) if masking.predictions else room


def describe_cap(masking: Masking, length: int) -> str:
    """A line that says what the cap does to the rate in a full sequence of `length` pieces; '' if it does nothing."""
    pieces = np.array(length - 2)
    wanted, found = (int(count_predictions(each, pieces)) for each in (replace(masking, predictions=0), masking))
    if found == wanted:
        return ''
    return (
        f'data.masking.predictions={found} caps data.masking.rate={masking.rate}: of a full sequence of {length} pieces '
        f'{found} are predicted ({found / length:.1%}), not {wanted}'
    )
