"""Answers from logits: the possible spans, their order, and the score of no answer."""

import itertools
from typing import NamedTuple

import numpy as np
import pytest

from research.evaluation.spans import READINGS, Answer, choose_reading, find_answers, find_tried, rank_answers, score_no_answer

OFFSETS = [(0, 3), (4, 7), (8, 11), (12, 15), (16, 19)]
FIRST = 4  # [CLS] two pieces [SEP], then the context


class Place(NamedTuple):
    """Where the context lies."""

    first: int
    offsets: list[tuple[int, int]]
    starts: np.ndarray


PLACE = Place(FIRST, OFFSETS, np.ones(5, bool))


@pytest.fixture
def logits() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 2, (12, 2)).astype(np.float32)


def test_candidates_are_the_best_spans_by_brute_force(logits: np.ndarray) -> None:
    found = find_answers(logits, PLACE, longest=3, best=7)
    spans = [(i, j) for i, j in itertools.product(range(5), range(5)) if 0 <= j - i < 3]
    worth = {(i, j): float(logits[FIRST + i, 0]) + float(logits[FIRST + j, 1]) for i, j in spans}
    best = sorted(spans, key=lambda span: -worth[span])[:7]
    assert [(x.start, x.end) for x in found] == [(OFFSETS[i][0], OFFSETS[j][1]) for i, j in best]
    assert [x.logit for x in found] == pytest.approx([worth[span] for span in best])
    within = [0, *range(FIRST, FIRST + 5)]
    total = np.exp(logits[within].astype(float)).sum(0).prod()
    assert [x.probability for x in found] == pytest.approx([np.exp(worth[span]) / total for span in best])


def test_no_context_has_no_answer(logits: np.ndarray) -> None:
    assert find_answers(logits, PLACE._replace(offsets=[], starts=np.ones(0, bool)), 30, 20) == []


def test_spans_have_a_maximal_length_and_few_are_all_kept(logits: np.ndarray) -> None:
    assert len(find_answers(logits, PLACE, longest=30, best=100)) == 15
    assert {x.end - x.start for x in find_answers(logits, PLACE, longest=1, best=100)} == {3}


def test_windows_are_ranked_together_and_an_answer_counts_once() -> None:
    a, b, c = Answer(0, 3, 5.0, 0.5), Answer(0, 3, 6.0, 0.2), Answer(4, 7, 5.5, 0.9)
    assert rank_answers([[a], [b, c]], 20) == [b, c]
    assert rank_answers([[a], [b, c]], 1) == [b]
    assert rank_answers([[], []], 3) == []


def test_the_score_of_no_answer_is_that_of_the_first_position(logits: np.ndarray) -> None:
    assert score_no_answer(logits, 2.0) == pytest.approx(float(logits[0, 0]) + float(logits[0, 1]) - 2)


def test_a_span_starts_only_where_its_window_has_the_most_context(logits: np.ndarray) -> None:
    """run_squad.py of google-research/bert: `if not feature.token_is_max_context.get(start_index, False): continue`."""
    everywhere = find_answers(logits, PLACE, longest=30, best=100)
    second = PLACE._replace(starts=np.arange(5) >= 2)
    kept = find_answers(logits, second, longest=30, best=100)
    assert kept == [each for each in everywhere if each.start >= OFFSETS[2][0]] and len(kept) == 6
    beam = np.array([[0.5, 0, 0, 0], [FIRST + 1, FIRST + 3, -0.1, -0.1], [FIRST + 2, FIRST + 3, -2, -1]], np.float32)
    assert [each.start for each in find_tried(beam, second, 30, 20)] == [OFFSETS[2][0]]


def test_spans_that_were_tried_are_ranked_by_their_probability_and_no_answer_is_a_class() -> None:
    beam = np.array(
        [
            [1.5, 0, 0, 0],  # the class
            [0, 0, -0.1, -0.1],  # [CLS]
            [FIRST, FIRST + 1, -1, -0.5],
            [FIRST + 3, FIRST + 2, -0.2, -0.1],  # it ends before it starts
            [FIRST, FIRST + 4, -1, -0.1],  # too long
            [FIRST + 2, FIRST + 3, -0.5, -0.2],
            [FIRST + 4, FIRST + 5, -0.2, -0.2],  # [SEP]
        ],
        np.float32,
    )
    found = find_tried(beam, PLACE, longest=3, best=20)
    assert [(each.start, each.end) for each in found] == [(8, 15), (0, 7)]
    assert [each.logit for each in found] == pytest.approx([-0.7, -1.5])
    assert found[0].probability == pytest.approx(np.exp(-0.7)) and find_tried(beam, PLACE, 3, best=1) == found[:1]
    assert READINGS['answer'].lead(beam, -0.7) == 1.5  # whatever the best span's logit
    assert (choose_reading(['mlm', 'answer']), choose_reading(['span', 'answer']), choose_reading([])) == ('answer', 'span', 'span')
