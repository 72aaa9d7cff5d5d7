"""Official metrics of labels, scores and answers, computed on whole splits, and their baselines."""

import collections
import importlib
import math
import re
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

# Loaded when a metric is computed: the launcher of a study names metrics only, and both together take 140 MB.


def _sklearn() -> Any:
    return importlib.import_module('sklearn.metrics')


def _scipy() -> Any:
    return importlib.import_module('scipy.stats')


# ---- Labels and scores --------------------------------------------------------------------------------------------------------


def accuracy(gold: NDArray, predicted: NDArray) -> float:
    """The share of examples whose label is predicted correctly."""
    return float(_sklearn().accuracy_score(gold, predicted))


def f1(gold: NDArray, predicted: NDArray) -> float:
    """F1 of class 1 (MRPC, QQP); 0 if class 1 is neither gold nor predicted anywhere."""
    return float(_sklearn().f1_score(gold, predicted, zero_division=cast(Any, 0.0)))


def matthews(gold: NDArray, predicted: NDArray) -> float:
    """Matthews' correlation; 0 if only one class is predicted."""
    return float(_sklearn().matthews_corrcoef(gold, predicted))


def pearson(gold: NDArray, predicted: NDArray) -> float:
    """Pearson's correlation; 0 if either side is constant, where it is undefined."""
    return float(cast(Any, _scipy().pearsonr(gold, predicted))[0]) if np.ptp(gold) > 0 and np.ptp(predicted) > 0 else 0.0


def spearman(gold: NDArray, predicted: NDArray) -> float:
    """Spearman's correlation; 0 if either side is constant, where it is undefined."""
    return float(cast(Any, _scipy().spearmanr(gold, predicted))[0]) if np.ptp(gold) > 0 and np.ptp(predicted) > 0 else 0.0


METRICS: dict[str, Callable[[NDArray, NDArray], float]] = {
    'accuracy': accuracy,
    'f1': f1,
    'matthews': matthews,
    'pearson': pearson,
    'spearman': spearman,
}
DRAWS = 100  # draws of the random baseline


def measure(names: Sequence[str], gold: NDArray, predicted: NDArray) -> dict[str, float]:
    """The metrics `names` of METRICS, and 'score', their mean."""
    found = {name: METRICS[name](gold, predicted) for name in names}
    return found | {'score': math.fsum(found.values()) / len(found)}


def compute_baselines(names: Sequence[str], gold: NDArray, classes: int) -> dict[str, dict[str, float]]:
    """The metrics of two baselines: 'majority' predicts the most frequent label, 'random' labels drawn uniformly.

    If `classes` is 1, the labels are scores: 'majority' predicts their mean. The metrics of 'random' are means over DRAWS draws.
    """
    draw = np.random.default_rng(0)
    if classes > 1:
        constant = np.full_like(gold, np.bincount(gold).argmax())
        drawn = [draw.integers(0, classes, len(gold)) for _ in range(DRAWS)]
    else:
        constant = np.full(len(gold), gold.mean())
        drawn = [draw.uniform(gold.min(), gold.max(), len(gold)) for _ in range(DRAWS)]
    scores = [measure(names, gold, each) for each in drawn]
    return {
        'majority': measure(names, gold, constant),
        'random': {name: float(np.mean([score[name] for score in scores])) for name in scores[0]},
    }


# A model that predicts the same for this share of all examples has collapsed, unless the gold answers are as uniform.
COLLAPSED = 0.99


def has_collapsed(gold: NDArray, predicted: NDArray, classes: int) -> bool:
    """Whether (nearly) all predicted labels are the same, or the predicted scores (`classes` is 1) hardly vary; see COLLAPSED."""
    if classes > 1:
        shares = [np.bincount(each, minlength=classes).max() / len(each) for each in (predicted, gold)]
        return bool(shares[0] >= COLLAPSED > shares[1])
    return bool(np.std(predicted) < (1 - COLLAPSED) * np.std(gold))


# ---- Answers ------------------------------------------------------------------------------------------------------------------

ARTICLES = re.compile(r'\b(a|an|the)\b', re.UNICODE)
PUNCTUATION = set(string.punctuation)


def normalize(text: str) -> str:
    """Lower-cases a text and removes ASCII punctuation, English articles and extra spaces (Rajpurkar et al. 2016)."""
    bare = ''.join(character for character in text.lower() if character not in PUNCTUATION)
    return ' '.join(ARTICLES.sub(' ', bare).split())


def exact_match(gold: str, predicted: str) -> float:
    """1 if both are the same after `normalize`, else 0."""
    return float(normalize(gold) == normalize(predicted))


def word_f1(gold: str, predicted: str, empty: bool) -> float:
    """F1 of the normalized words of two answers. If neither has a word: 1 if `empty` (SQuAD 2.0), else 0 (SQuAD 1.1)."""
    wanted, given = normalize(gold).split(), normalize(predicted).split()
    if empty and not (wanted and given):
        return float(wanted == given)
    common = sum((collections.Counter(wanted) & collections.Counter(given)).values())
    if not common:
        return 0.0
    precision, recall = common / len(given), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def score_squad(golds: Mapping[str, Sequence[str]], predicted: Mapping[str, str]) -> dict[str, Any]:
    """SQuAD 1.1's exact match and F1 in percent: the best over a question's gold answers, 0 without a prediction."""
    pairs = [(golds[id], predicted[id]) for id in golds if id in predicted]
    exacts = sum(max(exact_match(gold, answer) for gold in each) for each, answer in pairs)
    overlaps = sum(max(word_f1(gold, answer, empty=False) for gold in each) for each, answer in pairs)
    return {'exact': 100.0 * exacts / len(golds), 'f1': 100.0 * overlaps / len(golds), 'total': len(golds)}


def score_squad2(golds: Mapping[str, Sequence[str]], predicted: Mapping[str, str], none: Mapping[str, float]) -> dict[str, Any]:
    """SQuAD 2.0's metrics in percent: exact and f1, the same for answerable (HasAns) and for other questions (NoAns), best_….

    golds: () if a question has no answer. none: the score of 'no answer' for each question. best_exact and best_f1 are the metrics
    at the best threshold, when questions with a higher score of 'no answer' get none. Questions without a prediction are left out.
    """
    has = {id: bool(each) for id, each in golds.items()}
    exacts, overlaps = {}, {}
    for id, each in golds.items():
        if id in predicted:
            valid = [gold for gold in each if normalize(gold)] or ['']
            exacts[id] = max(exact_match(gold, predicted[id]) for gold in valid)
            overlaps[id] = max(word_f1(gold, predicted[id], empty=True) for gold in valid)
    found: dict[str, Any] = {}
    for prefix, ids in (
        ('', list(exacts)),
        ('HasAns_', [id for id in exacts if has[id]]),
        ('NoAns_', [id for id in exacts if not has[id]]),
    ):
        if ids:
            for name, scores in (('exact', exacts), ('f1', overlaps)):
                found[prefix + name] = 100.0 * sum(scores[id] for id in ids) / len(ids)
            found[prefix + 'total'] = len(ids)
    for name, scores in (('exact', exacts), ('f1', overlaps)):
        found[f'best_{name}'], found[f'best_{name}_thresh'] = find_best_threshold(predicted, scores, none, has)
    return found


def find_best_threshold(
    predicted: Mapping[str, str], scores: Mapping[str, float], none: Mapping[str, float], has: Mapping[str, bool]
) -> tuple[float, float]:
    """(the best score in percent, its threshold): questions whose `none` is above the threshold are predicted to have no answer."""
    current = sum(not has[id] for id in scores)
    best, threshold = current, 0.0
    for id in sorted(scores, key=lambda id: none[id]):
        if has[id]:
            current += scores[id]
        elif predicted[id]:
            current -= 1
        if current > best:
            best, threshold = current, none[id]
    return 100.0 * best / len(scores), threshold
