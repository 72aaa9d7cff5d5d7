"""Metrics against an independent version of their official definitions."""

import collections
import re
import string
from typing import Any

import numpy as np
import pytest

from research.errors import UserError
from research.evaluation import metrics
from research.glue import table

# ---- Answers: the definition of Rajpurkar et al., written independently -------------------------------------------------------


def official_words(text: str) -> list[str]:
    text = ''.join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r'\b(a|an|the)\b', ' ', text).split()


def official_f1(gold: str, predicted: str, version: int) -> float:
    a, b = official_words(gold), official_words(predicted)
    if version == 2 and (len(a) == 0 or len(b) == 0):
        return float(a == b)
    same = sum((collections.Counter(a) & collections.Counter(b)).values())
    return 0.0 if same == 0 else 2 * (same / len(b)) * (same / len(a)) / (same / len(b) + same / len(a))


GOLDS = {
    'same': ('Denver Broncos', 'The Denver Broncos'),
    'articles': ('the a an',),
    'punctuation': ('U.S.A.', '...'),
    'several': ('one two three', 'two three'),
    'unicode': ('Éire – “Poblacht”',),
    'spaces': ('a  b\tc',),
    'none': (),
    'also none': (),
    'not predicted': ('gold',),
}
PREDICTED = {
    'same': 'denver broncos!',
    'articles': '',
    'punctuation': 'usa',
    'several': 'two three four',
    'unicode': 'éire “poblacht”',
    'spaces': 'b c',
    'none': '',
    'also none': 'something',
}
SURE = {
    'same': 0.1,
    'articles': 0.9,
    'punctuation': 0.2,
    'several': 0.3,
    'unicode': 0.5,
    'spaces': 0.05,
    'none': 0.8,
    'also none': 0.4,
}


def test_squad_1_is_the_official_definition() -> None:
    golds = {id: each for id, each in GOLDS.items() if each}
    predicted = {id: each for id, each in PREDICTED.items() if id in golds}
    exact = sum(max(official_words(g) == official_words(predicted[id]) for g in golds[id]) for id in predicted)
    f1 = sum(max(official_f1(g, predicted[id], 1) for g in golds[id]) for id in predicted)
    found = metrics.score_squad(golds, predicted)
    assert found == {'exact': 100.0 * exact / 7, 'f1': 100.0 * f1 / 7, 'total': 7}
    # Both without a word: the same text, but no word in common.
    assert (metrics.exact_match('the', ''), metrics.word_f1('the', '', empty=False)) == (1.0, 0.0)


def test_squad_2_is_the_official_definition() -> None:
    found = metrics.score_squad2(GOLDS, PREDICTED, SURE)
    exact, f1 = {}, {}
    for id, predicted in PREDICTED.items():
        valid = [g for g in GOLDS[id] if official_words(g)] or ['']
        exact[id] = max(float(official_words(g) == official_words(predicted)) for g in valid)
        f1[id] = max(official_f1(g, predicted, 2) for g in valid)
    has = [id for id in PREDICTED if GOLDS[id]]
    assert found['exact'] == 100.0 * sum(exact.values()) / 8 and found['total'] == 8
    assert found['HasAns_f1'] == 100.0 * sum(f1[id] for id in has) / 6 and found['HasAns_total'] == 6
    assert found['NoAns_exact'] == 50.0 and found['NoAns_total'] == 2

    def at(scores: dict[str, float], threshold: float) -> float:
        kept = {id: scores[id] if SURE[id] <= threshold else float(not GOLDS[id]) for id in PREDICTED}
        return 100.0 * sum(kept.values()) / 8

    assert found['best_exact'] == max(at(exact, t) for t in [-1.0, *SURE.values()])
    assert found['best_f1'] == pytest.approx(max(at(f1, t) for t in [-1.0, *SURE.values()]))
    assert at(exact, found['best_exact_thresh']) == found['best_exact']


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('The Apple, an orange & a pear.', 'apple orange pear'),
        ('theatre another', 'theatre another'),
        ('!?...', ''),
        ("it's  U.K.", 'its uk'),
        ('a', ''),
        ('“The” – é', '“ ” – é'),
        ('A\nB\tthe C', 'b c'),
    ],
)
def test_normalisation(text: str, words: str) -> None:
    assert metrics.normalize(text) == words


# ---- Labels and scores ---------------------------------------------------------------------------------------------------------


def test_metrics_of_labels_by_hand() -> None:
    gold, predicted = np.array([1, 1, 1, 0, 0]), np.array([1, 1, 0, 1, 0])
    found = metrics.measure(('accuracy', 'f1', 'matthews'), gold, predicted)
    assert found['accuracy'] == 0.6
    assert found['f1'] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert found['matthews'] == pytest.approx((2 * 1 - 1 * 1) / (3 * 3 * 2 * 2) ** 0.5)
    assert found['score'] == pytest.approx((found['accuracy'] + found['f1'] + found['matthews']) / 3)


def test_metrics_of_scores_by_hand() -> None:
    gold, predicted = np.array([1.0, 2, 3, 4]), np.array([1.0, 4, 9, 16])
    found = metrics.measure(('pearson', 'spearman'), gold, predicted)
    assert found['spearman'] == pytest.approx(1.0) and 0.9 < found['pearson'] < 1
    assert found['pearson'] == pytest.approx(np.corrcoef(gold, predicted)[0, 1])


def test_constant_predictions_have_no_correlation() -> None:
    gold = np.array([0, 1, 1, 1])
    assert metrics.measure(('matthews', 'f1'), gold, np.zeros(4, int)) == {'matthews': 0.0, 'f1': 0.0, 'score': 0.0}
    assert metrics.measure(('pearson', 'spearman'), gold, np.full(4, 2.5))['score'] == 0.0


def test_baselines() -> None:
    gold = np.array([0] * 30 + [1] * 70)
    found = metrics.compute_baselines(('accuracy', 'f1', 'matthews'), gold, 2)
    assert found['majority']['accuracy'] == 0.7 and found['majority']['matthews'] == 0.0
    assert found['majority']['f1'] == pytest.approx(1.4 / 1.7)
    assert found['random']['accuracy'] == pytest.approx(0.5, abs=0.02)
    scores = metrics.compute_baselines(('pearson', 'spearman'), np.linspace(0, 5, 100), 1)
    assert scores['majority']['score'] == 0.0 and abs(scores['random']['pearson']) < 0.05


def test_a_collapse_is_detected() -> None:
    gold = np.array([0, 1] * 100)
    assert metrics.has_collapsed(gold, np.zeros(200, int), 2)
    assert metrics.has_collapsed(gold, np.array([1] + [0] * 199), 2)
    assert not metrics.has_collapsed(gold, np.array([1] * 5 + [0] * 195), 2)
    assert not metrics.has_collapsed(np.zeros(200, int), np.zeros(200, int), 2)
    assert metrics.has_collapsed(np.linspace(0, 5, 50), 2.5 + np.linspace(0, 1e-3, 50), 1)
    assert not metrics.has_collapsed(np.linspace(0, 5, 50), np.linspace(1, 4, 50), 1)


def test_the_glue_score_agrees_with_the_papers() -> None:
    names = {
        'cola': 51.3,
        'mnli': 82.2,
        'mrpc': 87.5,
        'qnli': 89.2,
        'qqp': 88.5,
        'rte': 59.9,
        'sst2': 91.3,
        'stsb': 86.9,
        'wnli': 56.3,
    }
    distilbert = {task: {'dev/score': value} for task, value in names.items()}
    assert round(table.glue_score('distilbert', distilbert), 1) == 77.0  # Sanh et al. 2019, Table 1
    bert: dict[str, dict[str, Any]] = {
        'mnli': {'dev/accuracy': 84.6, 'dev_mismatched/accuracy': 83.4},
        'qqp': {'dev/f1': 71.2},
        'qnli': {'dev/accuracy': 90.5},
        'sst2': {'dev/accuracy': 93.5},
        'cola': {'dev/matthews': 52.1},
        'stsb': {'dev/spearman': 85.8},
        'mrpc': {'dev/f1': 88.9},
        'rte': {'dev/accuracy': 66.4},
    }
    assert table.glue_score('bert', bert) == pytest.approx(79.6, abs=0.05)  # Devlin et al. 2019, Table 1
    with pytest.raises(UserError, match="the GLUE score of 'bert' needs mnli dev_mismatched/accuracy as well"):
        table.glue_score('bert', bert | {'mnli': {'dev/accuracy': 84.6}})
