"""Official metrics, computed on whole splits: of labels, of scores, of answers; and what chance and habit would score."""

import collections
import math
import re
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import scipy.stats
import sklearn.metrics
from numpy.typing import NDArray

# ---- Labels and scores --------------------------------------------------------------------------------------------------------


def accuracy(gold: NDArray, told: NDArray) -> float:
    """The share of examples that are told right."""
    return float(sklearn.metrics.accuracy_score(gold, told))


def f1(gold: NDArray, told: NDArray) -> float:
    """F1 of class 1 (MRPC, QQP); 0 where it is neither there nor told."""
    return float(sklearn.metrics.f1_score(gold, told, zero_division=cast(Any, 0.0)))


def matthews(gold: NDArray, told: NDArray) -> float:
    """Matthews' correlation; 0 where one class alone is told."""
    return float(sklearn.metrics.matthews_corrcoef(gold, told))


def pearson(gold: NDArray, told: NDArray) -> float:
    """Pearson's correlation; 0 where either side is constant, of which it is undefined."""
    return float(cast(Any, scipy.stats.pearsonr(gold, told))[0]) if np.ptp(gold) > 0 and np.ptp(told) > 0 else 0.0


def spearman(gold: NDArray, told: NDArray) -> float:
    """Spearman's correlation; 0 where either side is constant, of which it is undefined."""
    return float(cast(Any, scipy.stats.spearmanr(gold, told))[0]) if np.ptp(gold) > 0 and np.ptp(told) > 0 else 0.0


METRICS: dict[str, Callable[[NDArray, NDArray], float]] = {
    'accuracy': accuracy,
    'f1': f1,
    'matthews': matthews,
    'pearson': pearson,
    'spearman': spearman,
}
DRAWS = 100  # of the random baseline


def measure(names: Sequence[str], gold: NDArray, told: NDArray) -> dict[str, float]:
    """Some rows of METRICS, and 'score', their mean."""
    found = {name: METRICS[name](gold, told) for name in names}
    return found | {'score': math.fsum(found.values()) / len(found)}


def baselines(names: Sequence[str], gold: NDArray, classes: int) -> dict[str, dict[str, float]]:
    """What 'majority' and 'random' score: always the commonest label (the mean score), and labels (scores) drawn evenly.

    The random baseline is the mean over DRAWS draws of one seed.
    """
    draw = np.random.default_rng(0)
    if classes > 1:
        habit = np.full_like(gold, np.bincount(gold).argmax())
        drawn = [draw.integers(0, classes, len(gold)) for _ in range(DRAWS)]
    else:
        habit = np.full(len(gold), gold.mean())
        drawn = [draw.uniform(gold.min(), gold.max(), len(gold)) for _ in range(DRAWS)]
    scores = [measure(names, gold, each) for each in drawn]
    return {
        'majority': measure(names, gold, habit),
        'random': {name: float(np.mean([score[name] for score in scores])) for name in scores[0]},
    }


# A model that gives one answer to this share of all examples has collapsed, unless the answers are so.
COLLAPSED = 0.99


def collapsed(gold: NDArray, told: NDArray, classes: int) -> bool:
    """Whether a model tells one label of all but every hundredth example; of scores, whether it hardly tells examples apart."""
    if classes > 1:
        shares = [np.bincount(each, minlength=classes).max() / len(each) for each in (told, gold)]
        return bool(shares[0] >= COLLAPSED > shares[1])
    return bool(np.std(told) < (1 - COLLAPSED) * np.std(gold))


# ---- Answers ------------------------------------------------------------------------------------------------------------------

ARTICLES = re.compile(r'\b(a|an|the)\b', re.UNICODE)
PUNCTUATION = set(string.punctuation)


def normalized(text: str) -> str:
    """Lower-cased, then without ASCII punctuation, without English articles, with single spaces (Rajpurkar et al. 2016)."""
    bare = ''.join(character for character in text.lower() if character not in PUNCTUATION)
    return ' '.join(ARTICLES.sub(' ', bare).split())


def exact(gold: str, told: str) -> float:
    """1 where both are the same once normalized."""
    return float(normalized(gold) == normalized(told))


def overlap(gold: str, told: str, empty: bool) -> float:
    """F1 of the bags of normalized words. Two answers without a word: 1 where `empty` (SQuAD 2.0's definition), else 0 (1.1's)."""
    wanted, given = normalized(gold).split(), normalized(told).split()
    if empty and not (wanted and given):
        return float(wanted == given)
    common = sum((collections.Counter(wanted) & collections.Counter(given)).values())
    if not common:
        return 0.0
    precision, recall = common / len(given), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def squad(golds: Mapping[str, Sequence[str]], told: Mapping[str, str]) -> dict[str, Any]:
    """SQuAD 1.1's exact match and F1 in percent, the best over a question's golds; a question that is not told of scores 0."""
    pairs = [(golds[id], told[id]) for id in golds if id in told]
    exacts = sum(max(exact(gold, answer) for gold in each) for each, answer in pairs)
    overlaps = sum(max(overlap(gold, answer, empty=False) for gold in each) for each, answer in pairs)
    return {'exact': 100.0 * exacts / len(golds), 'f1': 100.0 * overlaps / len(golds), 'total': len(golds)}


def squad2(golds: Mapping[str, Sequence[str]], told: Mapping[str, str], none: Mapping[str, float]) -> dict[str, Any]:
    """SQuAD 2.0's numbers in percent: exact, f1, both of answerable (HasAns) and of other questions (NoAns), the best by threshold.

    golds: () where there is no answer. none: how sure it is of each question that it has none; best_exact and best_f1 are what
    the told answers score with all those left out that lie above one threshold, the best one. Questions not told of are left out.
    """
    has = {id: bool(each) for id, each in golds.items()}
    exacts, overlaps = {}, {}
    for id, each in golds.items():
        if id in told:
            valid = [gold for gold in each if normalized(gold)] or ['']
            exacts[id] = max(exact(gold, told[id]) for gold in valid)
            overlaps[id] = max(overlap(gold, told[id], empty=True) for gold in valid)
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
        found[f'best_{name}'], found[f'best_{name}_thresh'] = best_threshold(told, scores, none, has)
    return found


def best_threshold(
    told: Mapping[str, str], scores: Mapping[str, float], none: Mapping[str, float], has: Mapping[str, bool]
) -> tuple[float, float]:
    """The best score in percent, and the threshold on `none` that gives it: above it a question is told to have no answer."""
    current = sum(not has[id] for id in scores)
    best, threshold = current, 0.0
    for id in sorted(scores, key=lambda id: none[id]):
        current += scores[id] if has[id] else -1 if told[id] else 0
        if current > best:
            best, threshold = current, none[id]
    return 100.0 * best / len(scores), threshold
