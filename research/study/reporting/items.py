"""What runs scored on each held-out document, or on each example of a task: what comparisons resample."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from research.data import tasks
from research.data.tasks.example import Task
from research.errors import UserError
from research.evaluation import metrics
from research.evaluation.gains import read_held_out
from research.evaluation.statistics import Runs, Score, ratio
from research.records import read_lines
from research.study.keys import SPLITS
from research.study.reporting.cells import Evidence


@dataclasses.dataclass(frozen=True, eq=False)
class Items:
    """K sums of each of N documents or examples, whose total the score is computed from."""

    ids: NDArray  # [N] different, in increasing order
    sums: NDArray[np.float64]  # [N, K]
    score: Score
    gold: tuple[str, ...] = ()  # answers of examples, or the corpus of documents: the same ids may be of other data


# ---- Held-out documents ---------------------------------------------------------------------------------------------------------

# Metric of held-out documents -> its nats in each.
HELD_OUT: dict[str, Callable[[Any], NDArray]] = {
    'gain': lambda found: found.frequencies - found.loss,
    'mlm_masked': lambda found: found.loss,
    'frequencies': lambda found: found.frequencies,
}


def read_documents(run: Evidence, metric: str) -> Items | None:
    """The Items of a metric of HELD_OUT; None if the run left no held_out.npz."""
    found = read_held_out(run.folder)
    if found is None:
        return None
    facts = run.environment.data if run.environment is not None else {}
    corpus = str(facts['fingerprint']) if 'fingerprint' in facts else ''
    return Items(found.document, np.stack([HELD_OUT[metric](found), found.count.astype(np.float64)], -1), ratio, (corpus,))


# ---- Examples of tasks ----------------------------------------------------------------------------------------------------------


def _f1(sums: NDArray) -> NDArray:
    """F1 of the sums (true positives, false positives, false negatives, …); 0 without any."""
    hits, false, missed = (sums[..., place] for place in range(3))
    return 2 * hits / np.maximum(2 * hits + false + missed, 1)


def _matthews(sums: NDArray) -> NDArray:
    """Matthews' correlation of the sums (true positives, false positives, false negatives, true negatives); 0 if undefined."""
    hits, false, missed, others = (sums[..., place] for place in range(4))
    size = (hits + false) * (hits + missed) * (others + false) * (others + missed)
    return (hits * others - false * missed) / np.sqrt(np.where(size > 0, size, 1))


def _accuracy(sums: NDArray) -> NDArray:
    return (sums[..., 0] + sums[..., 3]) / sums.sum(-1)


# Metric of labels -> its Score of the four sums of a confusion.
CONFUSED: dict[str, Score] = {'accuracy': _accuracy, 'f1': _f1, 'matthews': _matthews}


def read_examples(run: Evidence, key: str) -> Items | None:
    """The Items of the examples behind a metric, or the score; None if they are not there, or the metric has no such sums."""
    result, x = run.result, run.experiment
    split, _, metric = (f'{result.reported}/score' if result and key == 'score' else key.removeprefix('metrics:')).partition('/')
    if result is None or x is None or x.data.task not in tasks.TASKS or split not in SPLITS:
        return None
    row = tasks.task(x.data)
    try:
        lines = read_lines(run.folder / split / 'predictions.jsonl')
        lines = sorted(lines, key=lambda line: line['id'])
        names = row.labels(x.data)
        found = _sum_answers(lines, row, metric) if row.kind == 'span' else _sum_labels(lines, row, metric, names)
    except (AttributeError, KeyError, TypeError, ValueError, UserError):  # another version wrote them
        return None
    return found if found is not None and len(set(found.ids.tolist())) == len(found.ids) > 0 else None


def _sum_answers(lines: Sequence[Mapping[str, Any]], row: Task, metric: str) -> Items | None:
    """Of questions: the share of exact matches, or the mean F1."""
    scores: dict[str, Callable[[str, str], float]] = {
        'exact': metrics.exact_match,
        'f1': lambda gold, given: metrics.word_f1(gold, given, row.no_answer),
    }
    scores['score'] = scores['f1']
    if metric not in scores:
        return None
    golds = [line['answers'] for line in lines]
    valid = [[gold for gold in each if metrics.normalize(gold) or not row.no_answer] or [''] for each in golds]
    best = [max(scores[metric](gold, line['prediction']) for gold in each) for each, line in zip(valid, lines, strict=True)]
    return Items(_ids(lines), np.stack([best, np.ones(len(best))], -1), ratio, tuple(map(str, golds)))


def _sum_labels(lines: Sequence[Mapping[str, Any]], row: Task, metric: str, names: Sequence[str]) -> Items | None:
    """Of labels: the share that is right or, of two classes, the confusion."""
    if row.kind == 'score':  # correlations are computed from ranks
        return None
    wanted = row.metrics if metric == 'score' else (metric,)
    golds, given = ([line[key] for line in lines] for key in ('label', 'prediction'))
    right = np.array([gold == each for gold, each in zip(golds, given, strict=True)], np.float64)
    if wanted == ('accuracy',):
        return Items(_ids(lines), np.stack([right, np.ones(len(right))], -1), ratio, tuple(golds))
    if len(names) != 2 or not set(wanted) <= set(CONFUSED):
        return None
    positive = np.array([each == names[1] for each in given])
    cells = [right * positive, (1 - right) * positive, (1 - right) * ~positive, right * ~positive]
    scores = [CONFUSED[name] for name in wanted]
    return Items(_ids(lines), np.stack(cells, -1), lambda sums: np.mean([score(sums) for score in scores], axis=0), tuple(golds))


def _ids(lines: Sequence[Mapping[str, Any]]) -> NDArray:
    return np.array([str(line['id']) for line in lines])


# ---- Both -----------------------------------------------------------------------------------------------------------------------


def read_items(run: Evidence, key: str) -> Items | None:
    """The Items behind the number at `key` of a run's result; None if it left none."""
    metric = key.removeprefix('metrics:dev/')
    if run.experiment is not None and not run.experiment.data.task:
        return read_documents(run, metric) if metric in HELD_OUT else None
    return read_examples(run, key)


def pair_items(sides: Sequence[Sequence[Items | None]]) -> list[list[Items]] | None:
    """The Items of each run of each side, if all have the same documents or examples; else None."""
    known = [[each for each in side if each is not None] for side in sides]
    every = [each for side in known for each in side]
    if not every or len(every) != sum(map(len, sides)):
        return None
    first = every[0]
    same = all(np.array_equal(each.ids, first.ids) and each.gold == first.gold for each in every)
    return known if same else None


def make_runs(items: Sequence[Items], seeds: Sequence[int]) -> Runs:
    """The Runs of some Items on the same documents; `seeds` are the units of each."""
    numbers = {seed: place for place, seed in enumerate(sorted(set(seeds)))}
    return Runs(np.stack([each.sums for each in items]), np.array([numbers[seed] for seed in seeds]), items[0].score)
