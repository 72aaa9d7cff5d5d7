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


@dataclass(frozen=True)
class Masking:
    """How much is hidden, and how (Devlin et al. 2019, §3.1)."""

    policy: str = 'token'  # row of MASKING
    rate: float = 0.15  # share of the pieces of a sequence that are predicted, special pieces aside
    mask: float = 0.8  # share of the predicted pieces that become [MASK]
    random: float = 0.1  # share that become a random piece; the rest stay as they are
    predictions: int = 0  # P, room for the predictions of a sequence; 0 is what the rate can ask for, and less is refused
    ngram: int = 3  # policy ngram: the most words of a run (Lan et al. 2020, §4.1)
    smoothing: float = 0.7  # policy frequency: a piece's weight is its count in the corpus to the power of minus this


@dataclass(frozen=True, eq=False)
class Text:
    """What a policy sees of B sequences."""

    word_starts: Flags  # [B, T]: the piece begins a word
    candidates: Flags  # [B, T]: the piece may be predicted
    count: NDArray[np.int64]  # [B] predictions wanted
    weights: NDArray[np.float64]  # [B, T], or [1, 1] where all pieces weigh the same


Policy = Callable[[Masking, Text, np.random.Generator], Flags]


def tokens(masking: Masking, text: Text, generator: np.random.Generator) -> Flags:
    """Single pieces, each as likely as any other (Devlin et al. 2019, §3.1)."""
    del masking
    return smallest(np.where(text.candidates, generator.random(text.candidates.shape), np.inf), text)


def frequencies(masking: Masking, text: Text, generator: np.random.Generator) -> Flags:
    """Single pieces drawn one after the other, each as likely as its weight: rare pieces are seen more (Sanh et al. 2019, §3).

    The least of exponential times with the weights as their rates are such a draw (Efraimidis and Spirakis 2006).
    """
    del masking
    times = generator.standard_exponential(text.candidates.shape) / text.weights
    return smallest(np.where(text.candidates, times, np.inf), text)


def smallest(keys: NDArray[np.float64], text: Text) -> Flags:
    """The `count` smallest keys of each row; where keys tie at the last place, those that come first."""
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
    # What follows the first word that does not fit: only rows that have room left, one word of each at a time.
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
    """Runs of n whole words, n up to `ngram` and drawn with a probability in proportion to 1/n (Lan et al. 2020, §4.1).

    Each run begins at a word drawn from those where it fits: into what is left of `count`, over no word that is taken
    and no special piece. Where it fits nowhere, it is a word shorter. A row where no word fits is cut as by `whole_words`.
    """
    word, size = words(text)
    width = size.shape[1]
    keys = generator.random(size.shape)
    sizes = np.arange(1, masking.ngram + 1)
    share = np.cumsum(1 / sizes) / (1 / sizes).sum()
    # A column for each run there can be: one piece at least is taken by each.
    drawn = 1 + np.searchsorted(share, generator.random((len(size), int(text.count.max(initial=1)) or 1)), side='right')
    drawn = np.minimum(drawn, masking.ngram)
    chosen = np.zeros(size.shape, bool)
    until = np.concatenate([np.zeros((len(size), 1), np.int64), np.cumsum(size, axis=1)], axis=1)
    left = text.count.copy()
    rows = np.flatnonzero(left > 0)
    turn = 0
    while len(rows):
        n = drawn[rows, np.minimum(turn, drawn.shape[1] - 1)]
        open_ = ((size[rows] > 0) & ~chosen[rows]).astype(np.int64)
        free = np.concatenate([np.zeros((len(rows), 1), np.int64), np.cumsum(open_, axis=1)], axis=1)
        start, settled = np.zeros(len(rows), np.int64), np.zeros(len(rows), bool)
        for length in sizes[::-1]:
            mine = np.flatnonzero((n == length) & ~settled)
            if not len(mine):
                continue
            if length > width:
                n[mine] -= 1
                continue
            which = rows[mine]
            run = free[mine, length:] - free[mine, :-length] == length
            run &= until[which, length:] - until[which, :-length] <= left[which, None]
            pick = np.where(run, keys[which, : width - length + 1], np.inf).argmin(axis=1)
            start[mine] = pick
            settled[mine] = run[np.arange(len(mine)), pick]
            n[mine] -= ~settled[mine]
        rows, start, n = rows[settled], start[settled], n[settled]
        for step in range(masking.ngram):
            some = n > step
            chosen[rows[some], start[some] + step] = True
        left[rows] -= until[rows, start + n] - until[rows, start]
        rows = rows[left[rows] > 0]
        turn += 1
    return pieces_of(chosen, word, np.where(size > 0, keys, np.inf).argmin(axis=1), text)


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


# A policy: (masking, text, generator) -> chosen [B, T], a pure function that chooses at most count[b] positions of row b,
# all of them candidates, and one at least where count[b] > 0.
MASKING: dict[str, Policy] = {'token': tokens, 'whole_word': whole_words, 'ngram': ngrams, 'frequency': frequencies}


def smoothed(counts: NDArray[np.int64] | NDArray[np.float64], smoothing: float) -> NDArray[np.float64]:
    """The weight of each piece [V], count^-smoothing, a piece that never occurs as one that occurs once."""
    return np.maximum(counts, 1.0) ** -smoothing


def contextless(masking: Masking, entropy: float) -> float:
    """The MLM loss of a model that knows how frequent pieces are (their `entropy`, nats) and copies what is not masked.

    A piece that it sees at a predicted position is the right one or a random one, as their shares have it.
    """
    seen = 1 - masking.mask
    kept, random = (1 - masking.mask - masking.random), masking.random
    guess = sum(-share * math.log(share / seen) for share in (kept, random) if share > 1e-9)
    return (masking.mask + random) * entropy + guess


def validate(masking: Masking) -> None:
    """Raise a UserError unless the policy exists and the shares are shares."""
    choose('masking policy', masking.policy, MASKING)
    if not 0 < masking.rate < 1:
        raise UserError(f'data.masking.rate={masking.rate} must lie between 0 and 1 (Devlin et al. 2019: 0.15)')
    if masking.mask < 0 or masking.random < 0 or masking.mask + masking.random > 1:
        raise UserError(
            f'data.masking.mask={masking.mask} and data.masking.random={masking.random} must be shares, their sum 1 at most'
        )
    if masking.ngram < 1:
        raise UserError(f'data.masking.ngram={masking.ngram} must be a number of words, 1 at least (Lan et al. 2020: 3)')
    if masking.smoothing < 0:
        raise UserError(f'data.masking.smoothing={masking.smoothing} must not be negative (Sanh et al. 2019: 0.7)')
    if masking.predictions < 0:
        raise UserError(f'data.masking.predictions={masking.predictions} must not be negative; 0 is what the rate asks for')


def wanted(masking: Masking, available: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of so many candidates are predicted: the rate's share, one at least; none of none."""
    return np.where(available > 0, np.maximum(1, np.round(masking.rate * available)), 0).astype(np.int64)


def predictions(masking: Masking, length: int) -> int:
    """P, the room for predictions in a sequence of `length` pieces.

    Raises UserError if `masking.predictions` is less than the rate asks for in a full sequence.
    """
    if not masking.predictions:
        return math.ceil(masking.rate * length)
    least = int(wanted(masking, np.array(length - 2)))
    if masking.predictions < least:
        raise UserError(
            f'data.masking.predictions={masking.predictions} has no room for data.masking.rate={masking.rate} of {length} pieces; '
            f'give {least} or more, or 0, or a rate of {masking.predictions / (length - 2):.3f}'
        )
    return masking.predictions


def corrupt(
    masking: Masking,
    vocabulary: Vocabulary,
    ids: Ids,
    generator: np.random.Generator,
    weights: NDArray[np.float64] | None = None,
) -> tuple[Ids, Ids, Ids, NDArray[np.float32]]:
    """The sequences with some pieces hidden, and what was there.

    weights: of each piece [V], for the policy `frequency`; None weighs all the same.
    ids [B, T] -> corrupted ids [B, T], positions [B, P], labels [B, P], weights [B, P]. Special pieces, padding and
    unknown pieces are neither predicted nor drawn as replacements. A sequence has max(1, round(rate * candidates))
    predictions, in rising order of position; the rest of the P axis has position 0, the padding piece as its label,
    and weight 0.
    """
    candidates = ~vocabulary.special[ids]
    each = np.ones((1, 1)) if weights is None else weights[ids]
    text = Text(vocabulary.word_start[ids], candidates, wanted(masking, candidates.sum(axis=1)), each)
    chosen = MASKING[masking.policy](masking, text, generator)

    flat = np.flatnonzero(chosen)
    rows, columns = np.divmod(flat, ids.shape[1])
    sizes = np.bincount(rows, minlength=len(ids))
    slot = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    shape = (len(ids), predictions(masking, ids.shape[1]))
    positions = np.zeros(shape, np.int32)
    labels = np.full(shape, vocabulary.pad, np.int32)
    presence = np.zeros(shape, np.float32)
    hidden = ids[rows, columns]
    positions[rows, slot], labels[rows, slot], presence[rows, slot] = columns, hidden, 1

    ordinary = np.flatnonzero(~vocabulary.special).astype(np.int32)
    draw = generator.random(len(rows))
    substitute = ordinary[generator.integers(len(ordinary), size=len(rows))]
    corrupted = ids.copy()
    corrupted[rows, columns] = np.where(
        draw < masking.mask,
        np.int32(vocabulary.mask),
        np.where(draw < masking.mask + masking.random, substitute, hidden),
    )
    return corrupted, positions, labels, presence
