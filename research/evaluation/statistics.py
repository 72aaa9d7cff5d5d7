"""Statistics of comparisons between rows of a study: multi-bootstrap, McNemar's test, Holm's correction, Kendall's τ-b."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats
from numpy.typing import NDArray

RESAMPLES = 4000
CHUNK = 2**22  # drawn documents that are held at once
LEVEL = 0.95  # of intervals; tests reject below 1 - LEVEL
SIGNIFICANCE = 0.05
ENUMERATED = 8  # rows up to which all orders are tried
SHUFFLES = 20_000  # orders that are drawn of more rows

Score = Callable[[NDArray], NDArray]


def ratio(sums: NDArray) -> NDArray:
    """The first sum over the second, [..., 2] -> [...]: a mean per piece, or per example."""
    return sums[..., 0] / sums[..., 1]


class Runs(NamedTuple):
    """The runs of a row of a study, with what each scored on the same documents or examples."""

    sums: NDArray[np.float64]  # [R, D, K]: K sums of each of D documents
    seed: NDArray[np.int64]  # [R]: its pretraining seed, 0 … S - 1; several runs of one are averaged
    score: Score = ratio  # sums over documents, [..., K] -> the score [...]


class Comparison(NamedTuple):
    """By how much a score is above another, or above 0."""

    difference: float
    low: float  # of the 95 % interval
    high: float
    p: float  # two-sided, of a difference of 0
    seeds: int
    documents: int  # 0 if the scores of whole runs are all that is known


def make_number_runs(values: Sequence[float], seed: Sequence[int]) -> Runs:
    """Runs that are known by one number each: only their seeds can be resampled."""
    numbers = np.asarray(values, np.float64)
    return Runs(np.stack([numbers, np.ones_like(numbers)], -1)[:, None], np.asarray(seed, np.int64))


def multi_bootstrap(
    left: Runs, right: Runs | None = None, resamples: int = RESAMPLES, student: bool = True, generator: int = 0
) -> Comparison:
    """The Comparison of two rows whose seeds and documents are paired, or of one row with 0 (Sellam et al. 2022, §4).

    Seeds and documents are drawn with replacement, together and the same for both rows. Seeds are few: drawn alone they give an
    interval that is too narrow by √((n - 1) / n) and has a normal's tails. With `student` what a draw of seeds adds is multiplied
    by √(n / χ²(n - 1)), so that it is distributed as Student's t (without it, it is the published method, made for 25 seeds). One
    seed has no spread: then the interval is over documents alone.
    """
    rows = [left] if right is None else [left, right]
    draw = np.random.default_rng(generator)
    documents, seeds = left.sums.shape[1], int(left.seed.max()) + 1
    each = np.ones((1, documents))
    measured = _score_seeds(rows, each)[0]
    found = []
    for size in _split(resamples, max(1, CHUNK // documents)):
        weights = each if documents == 1 else _draw_weights(draw, size, documents)
        scores = np.broadcast_to(_score_seeds(rows, weights), (size, seeds))
        center = scores.mean(-1)
        moved = np.take_along_axis(scores, draw.integers(seeds, size=(size, seeds)), -1).mean(-1) - center
        if student and seeds > 1:
            moved = moved * np.sqrt(seeds / draw.chisquare(seeds - 1, size))
        found.append(center + moved)
    drawn = np.concatenate(found)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    beyond = min(np.count_nonzero(drawn <= 0), np.count_nonzero(drawn >= 0))
    p = min(1.0, 2 * (1 + int(beyond)) / (1 + resamples))
    return Comparison(float(measured.mean()), float(low), float(high), p, seeds, documents if documents > 1 else 0)


def _split(total: int, size: int) -> list[int]:
    """Parts of at most `size` that add up to `total`."""
    return [min(size, total - begin) for begin in range(0, total, size)]


def _draw_weights(draw: np.random.Generator, size: int, documents: int) -> NDArray:
    """How often each document is drawn in each of `size` resamples, [size, documents]."""
    drawn = draw.integers(documents, size=(size, documents), dtype=np.int64) + documents * np.arange(size)[:, None]
    return np.bincount(drawn.ravel(), minlength=size * documents).reshape(size, documents).astype(np.float64)


def _score_seeds(rows: Sequence[Runs], weights: NDArray) -> NDArray:
    """The score of the first row minus that of the second, for each seed: [B, D] weights -> [B, S]."""
    found = []
    for row in rows:
        runs, documents, kinds = row.sums.shape
        sums = weights @ row.sums.transpose(1, 0, 2).reshape(documents, runs * kinds)
        scores = row.score(sums.reshape(len(weights), runs, kinds))
        member = (row.seed[:, None] == np.arange(row.seed.max() + 1)).astype(np.float64)
        found.append(scores @ (member / member.sum(0)))
    return found[0] if len(found) == 1 else found[0] - found[1]


# ---- Tests ----------------------------------------------------------------------------------------------------------------------


def mcnemar(left: NDArray[np.bool_], right: NDArray[np.bool_]) -> tuple[int, int, float]:
    """(examples that only `left` has right, that only `right` has right, McNemar's exact two-sided p)."""
    only_left, only_right = int(np.count_nonzero(left & ~right)), int(np.count_nonzero(right & ~left))
    if not only_left + only_right:
        return 0, 0, 1.0
    return only_left, only_right, float(scipy.stats.binomtest(only_left, only_left + only_right).pvalue)


def combine(counts: Sequence[tuple[int, int]]) -> tuple[float, bool]:
    """(one two-sided p of McNemar's exact tests of several seeds on the same examples, whether the first side has more right).

    counts: `mcnemar`'s of each seed. In each direction it is twice the median of the one-sided p-values (Rüger 1978), so that seeds
    that point both ways are no evidence. It holds however the tests depend on each other, where counts of all seeds in one test
    would take an example for several.
    """
    first, second = (
        2 * float(np.median([scipy.stats.binom.sf(each[side] - 1, sum(each), 0.5) for each in counts])) for side in (0, 1)
    )
    return min(1.0, 2 * min(first, second)), first < second


def holm(ps: Sequence[float]) -> list[float]:
    """The p-values of a family of tests, adjusted so that one of them is below α by chance with a probability of α at most.

    Holm (1979): sorted, the k-th smallest of m is multiplied by m - k + 1, and none is below the one before it.
    """
    adjusted, before = [0.0] * len(ps), 0.0
    for place, index in enumerate(sorted(range(len(ps)), key=lambda index: ps[index])):
        before = max(before, min(1.0, (len(ps) - place) * ps[index]))
        adjusted[index] = before
    return adjusted


# ---- Orders ---------------------------------------------------------------------------------------------------------------------


class Agreement(NamedTuple):
    """How far two orders of rows agree."""

    tau: float  # Kendall's τ-b; nan if all rows tie in one of the orders
    p: float  # two-sided, under independent orders
    agree: int  # pairs of rows that have the same order in both
    pairs: int  # pairs of rows without a tie in either
    exact: bool  # whether all orders of the rows were tried


def compare_orders(published: Sequence[float], measured: Sequence[float], errors: NDArray) -> Agreement:
    """Kendall's τ-b of published and measured numbers; rows that are not two standard errors apart tie in the measured.

    errors: [R, R] standard errors of the measured differences. p: the share of all orders of the published numbers whose |τ-b| is
    as large; of more than ENUMERATED rows, of SHUFFLES drawn ones and the one at hand.
    """
    known, here = np.asarray(published, np.float64), np.asarray(measured, np.float64)
    order = np.sign(known[:, None] - known)
    apart = here[:, None] - here
    signs = np.sign(apart) * (np.abs(apart) > 2 * errors)
    both = np.triu(order * signs)
    total, pairs = int(both.sum()), int(np.abs(both).sum())
    ordered = np.abs(order).sum() / 2 * np.abs(signs).sum() / 2
    if not ordered:
        return Agreement(math.nan, 1.0, 0, 0, True)
    exact = len(known) <= ENUMERATED
    if exact:
        orders = np.array(list(itertools.permutations(range(len(known)))))
    else:
        orders = np.random.default_rng(0).permuted(np.tile(np.arange(len(known)), (SHUFFLES, 1)), axis=1)
    sums = (order[orders[:, :, None], orders[:, None, :]] * signs).sum((1, 2)) / 2
    reached = int(np.count_nonzero(np.abs(sums) >= abs(total)))
    p = reached / len(orders) if exact else (1 + reached) / (1 + len(orders))
    return Agreement(total / math.sqrt(ordered), p, (total + pairs) // 2, pairs, exact)
