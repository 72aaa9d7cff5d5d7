"""Statistics against closed cases: planted effects, nulls, and tests computed by hand or by scipy."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from research.evaluation.statistics import (
    Runs,
    combine,
    compare_orders,
    holm,
    make_number_runs,
    mcnemar,
    multi_bootstrap,
)
from research.evaluation.statistics import (
    _draw_weights as draw_weights,
)


def make_runs(values):
    """Runs whose score is the mean of values [S, D], one run a seed."""
    values = np.asarray(values, float)
    return Runs(np.stack([values, np.ones_like(values)], -1), np.arange(len(values)))


def draw_nulls(number, seeds, documents, of_seeds, of_documents):
    """Differences [S, D] between rows that do not differ: some spread over seeds, some over documents."""
    draw = np.random.default_rng(3)
    for _ in range(number):
        seed, document = draw.normal(0, of_seeds, (seeds, 1)), draw.normal(0, of_documents, (1, documents))
        yield make_runs(seed + document)


def count_rejections(nulls, **options):
    found = [multi_bootstrap(each, resamples=400, generator=place, **options).p < 0.05 for place, each in enumerate(nulls)]
    return sum(found) / len(found)


def test_the_interval_over_documents_has_the_known_width():
    draw = np.random.default_rng(0)
    one = multi_bootstrap(make_runs(draw.normal(1, 2, (1, 2500))))
    assert (one.high - one.low) / 2 == pytest.approx(1.96 * 2 / 50, rel=0.06)
    assert one.low < 1 < one.high and one.seeds == 1 and one.documents == 2500


@pytest.mark.parametrize('seeds', [3, 5])
def test_the_interval_over_seeds_is_student_s(seeds):
    values = np.random.default_rng(1).normal(size=seeds)
    found = multi_bootstrap(make_number_runs(values.tolist(), range(seeds)), resamples=20_000)
    wanted = scipy.stats.t.ppf(0.975, seeds - 1) * values.std(ddof=1) / math.sqrt(seeds)
    assert found.difference == pytest.approx(values.mean())
    assert (found.high - found.low) / 2 == pytest.approx(wanted, rel=0.12)
    assert found.documents == 0
    published = multi_bootstrap(make_number_runs(values.tolist(), range(seeds)), resamples=20_000, student=False)
    assert published.high - published.low < 0.75 * (found.high - found.low)


def test_a_planted_effect_is_found_and_what_documents_share_cancels():
    draw = np.random.default_rng(2)
    hard = draw.normal(5, 2, 400)  # documents differ far more than rows
    left = make_runs(hard + draw.normal(0, 0.1, (3, 400)))
    right = make_runs(hard + 0.1 + draw.normal(0, 0.1, (3, 400)))
    found = multi_bootstrap(left, right)
    assert found.difference == pytest.approx(-0.1, abs=0.02)
    assert found.low < -0.1 < found.high < 0 and found.p < 0.01
    assert found == multi_bootstrap(left, right), 'it is deterministic'
    swapped = multi_bootstrap(right, left)
    assert (swapped.low, swapped.high, swapped.p) == pytest.approx((-found.high, -found.low, found.p))


@pytest.mark.parametrize(('of_seeds', 'of_documents'), [(1.0, 0.1), (0.05, 1.0)])
def test_a_true_null_is_rejected_no_more_often_than_said(of_seeds, of_documents):
    assert count_rejections(draw_nulls(300, 3, 30, of_seeds, of_documents)) <= 0.08


def test_the_published_method_rejects_nulls_of_three_seeds_too_often():
    assert count_rejections(draw_nulls(150, 3, 30, 1.0, 0.1), student=False) > 0.15


def test_runs_of_one_seed_are_averaged_first():
    values, seeds = [1.0, 3.0, 5.0, 5.0], [0, 0, 1, 1]
    found = multi_bootstrap(make_number_runs(values, seeds))
    assert found == multi_bootstrap(make_number_runs([2.0, 5.0], [0, 1]))
    assert found.seeds == 2
    assert multi_bootstrap(make_number_runs([1.0, 1.0, 1.0, 9.0], [0, 0, 0, 1])).difference == 5.0


def test_a_score_that_is_no_mean_is_computed_from_resampled_sums():
    def precision(sums):
        return sums[..., 0] / (sums[..., 0] + sums[..., 1])

    hits = np.random.default_rng(4).random((3, 200, 1)) < [0.6]
    runs = Runs(np.concatenate([hits, ~hits], -1).astype(float), np.arange(3), precision)
    found = multi_bootstrap(runs)
    assert found.difference == pytest.approx(hits.mean()) and found.low < 0.6 < found.high


def test_memory_is_bounded_whatever_the_documents(monkeypatch):
    runs = make_runs(np.random.default_rng(5).normal(size=(2, 70)))
    whole, sizes = multi_bootstrap(make_runs(runs.sums[:1, :, 0]), resamples=2000), []
    monkeypatch.setattr('research.evaluation.statistics.CHUNK', 7000)
    monkeypatch.setattr('research.evaluation.statistics._draw_weights', lambda *a: sizes.append(a[1]) or draw_weights(*a))
    parts = multi_bootstrap(make_runs(runs.sums[:1, :, 0]), resamples=2000)
    assert sizes == [100] * 20 and parts.low == pytest.approx(whole.low, abs=0.03)


# ---- Tests ----------------------------------------------------------------------------------------------------------------------


def test_mcnemar_counts_only_what_one_of_both_has_right():
    left = np.array([True] * 8 + [False] * 2 + [True] * 50)
    right = np.array([False] * 8 + [True] * 2 + [True] * 50)
    assert mcnemar(left, right) == (8, 2, pytest.approx(2 * sum(math.comb(10, k) for k in range(3)) / 2**10))
    assert mcnemar(left, left) == (0, 0, 1.0)


def test_holm_against_hand_values():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_tests_of_several_seeds_are_combined_by_twice_their_median():
    counts = [(9, 1), (12, 1), (5, 5)]
    ps = [scipy.stats.binomtest(first, first + second).pvalue for first, second in counts]
    assert combine(counts) == (pytest.approx(2 * ps[0]), True)
    assert combine([(1, 9), (1, 12), (5, 5)]) == (pytest.approx(2 * ps[0]), False)
    assert combine([(0, 0)])[0] == 1.0


def test_seeds_that_point_both_ways_are_no_evidence_of_either():
    assert combine([(30, 0), (0, 30)])[0] == 1.0
    p, first = combine([(30, 0), (0, 90), (30, 0)])
    assert p < 1e-6 and first, 'two of three, although the sum of the counts says the other'


# ---- Orders ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('measured', [(1, 2, 3, 4, 5), (2, 1, 3, 5, 4), (5, 4, 3, 2, 1), (1, 2, 3, 4, 6, 5, 7)])
def test_an_order_without_ties_agrees_with_scipy(measured):
    known = list(range(len(measured)))
    found = compare_orders(known, measured, np.zeros((len(known), len(known))))
    assert (found.tau, found.p) == pytest.approx(tuple(scipy.stats.kendalltau(known, measured, method='exact')))
    assert found.exact and found.pairs == math.comb(len(known), 2)


def test_the_exact_p_with_ties_is_that_of_all_orders():
    known, measured = (1.0, 1.0, 2.0, 3.0, 4.0), (1.0, 2.0, 2.0, 5.0, 3.0)
    found = compare_orders(known, measured, np.zeros((5, 5)))

    def tau(numbers):
        return tuple(scipy.stats.kendalltau(numbers, measured))[0]

    wanted = [abs(tau(order)) >= abs(tau(known)) - 1e-12 for order in itertools.permutations(known)]
    assert found.tau == pytest.approx(tau(known)) and found.p == pytest.approx(sum(wanted) / len(wanted))


def test_pairs_within_two_standard_errors_are_no_evidence():
    known, measured = (1, 2, 3, 4), (1.0, 1.1, 3.0, 5.0)
    found = compare_orders(known, measured, np.full((4, 4), 0.5))
    assert (found.pairs, found.agree) == (5, 5)
    assert found.tau == pytest.approx(5 / math.sqrt(6 * 5))
    assert compare_orders(known, measured, np.full((4, 4), 9.0)).pairs == 0


def test_more_rows_than_can_be_enumerated_are_shuffled():
    known = list(range(10))
    found = compare_orders(known, [float(each) for each in known], np.zeros((10, 10)))
    assert not found.exact and found.tau == 1.0 and 0 < found.p < 0.001
