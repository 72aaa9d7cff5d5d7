"""Answers from logits: the possible spans, their order, and the score of no answer."""

import itertools

import numpy as np
import pytest

from research.evaluation.spans import Answer, find_answers, rank_answers, score_no_answer

OFFSETS = [(0, 3), (4, 7), (8, 11), (12, 15), (16, 19)]
FIRST = 4  # [CLS] two pieces [SEP], then the context


@pytest.fixture
def logits() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 2, (12, 2)).astype(np.float32)


def test_candidates_are_the_best_spans_by_brute_force(logits: np.ndarray) -> None:
    found = find_answers(logits, FIRST, OFFSETS, longest=3, best=7)
    spans = [(i, j) for i, j in itertools.product(range(5), range(5)) if 0 <= j - i < 3]
    worth = {(i, j): float(logits[FIRST + i, 0]) + float(logits[FIRST + j, 1]) for i, j in spans}
    best = sorted(spans, key=lambda span: -worth[span])[:7]
    assert [(x.start, x.end) for x in found] == [(OFFSETS[i][0], OFFSETS[j][1]) for i, j in best]
    assert [x.logit for x in found] == pytest.approx([worth[span] for span in best])
    within = [0, *range(FIRST, FIRST + 5)]
    total = np.exp(logits[within].astype(float)).sum(0).prod()
    assert [x.probability for x in found] == pytest.approx([np.exp(worth[span]) / total for span in best])


def test_no_context_has_no_answer(logits: np.ndarray) -> None:
    assert find_answers(logits, FIRST, [], 30, 20) == []


def test_spans_have_a_maximal_length_and_few_are_all_kept(logits: np.ndarray) -> None:
    assert len(find_answers(logits, FIRST, OFFSETS, longest=30, best=100)) == 15
    assert {x.end - x.start for x in find_answers(logits, FIRST, OFFSETS, longest=1, best=100)} == {3}


def test_windows_are_ranked_together_and_an_answer_counts_once() -> None:
    a, b, c = Answer(0, 3, 5.0, 0.5), Answer(0, 3, 6.0, 0.2), Answer(4, 7, 5.5, 0.9)
    assert rank_answers([[a], [b, c]], 20) == [b, c]
    assert rank_answers([[a], [b, c]], 1) == [b]
    assert rank_answers([[], []], 3) == []


def test_the_score_of_no_answer_is_that_of_the_first_position(logits: np.ndarray) -> None:
    assert score_no_answer(logits) == pytest.approx(float(logits[0, 0]) + float(logits[0, 1]))
