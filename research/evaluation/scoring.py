"""From the logits of a split to predictions, official metrics and files."""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from research.data import tasks
from research.data.encoding import Encoded
from research.data.settings import Data
from research.errors import UserError
from research.evaluation import metrics
from research.evaluation.spans import READINGS, Answer, rank_answers
from research.files import write_whole

# SQuAD's metrics that its official definition gives in percent; here all metrics are divided by 100.
PERCENT = ('exact', 'f1', 'HasAns_exact', 'HasAns_f1', 'NoAns_exact', 'NoAns_f1', 'best_exact', 'best_f1')


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The predictions for a split, and their metrics."""

    predictions: list[dict[str, Any]]  # of each example, in the order of the data
    metrics: dict[str, float]  # {} if the split is not labelled
    collapsed: bool
    files: dict[str, Any]  # name of another file -> its content, to be written as JSON
    threshold: float | None = None  # kind 'span': the threshold for 'no answer' with the best F1 on this split


def score_split(data: Data, encoded: Encoded, logits: list[NDArray], threshold: float, head: str = 'span') -> Evaluation:
    """The Evaluation of the logits of each row of a split.

    threshold: predict 'no answer' if it leads by more than this (SQuAD 2.0). head: the row of READINGS by which the logits of
    answers are read. Raises UserError if the logits are not finite.
    """
    broken = sum(not np.isfinite(each).all() for each in logits)
    if broken:
        raise UserError(f'the logits of {broken:,} of {len(logits):,} rows are not finite: the parameters of the model are broken')
    return SCORERS[tasks.task(data).kind](data, encoded, logits, threshold, head)


def identify_example(encoded: Encoded, number: int) -> dict[str, Any]:
    """{'id': …} of an example: its own id, or its number in the split."""
    return {'id': encoded.members[number].id or str(number)}


# ---- Gold ---------------------------------------------------------------------------------------------------------------------


def order_labels(data: Data, encoded: Encoded) -> tuple[str, ...]:
    """The labels in the task's own order, whatever order data.labels gives: F1 is defined for class 1."""
    return tasks.TASKS[data.task].labels(data) if data.labels else encoded.names


def number_gold_labels(data: Data, encoded: Encoded) -> NDArray:
    """The number of each example's gold label in the task's own order, [N]."""
    order = order_labels(data, encoded)
    return np.array([order.index(example.label) for example in encoded.members])


def collect_gold_scores(encoded: Encoded) -> NDArray:
    """The gold score of each example, [N]."""
    return np.array([example.score for example in encoded.members], float)


def collect_gold_answers(encoded: Encoded) -> dict[str, tuple[str, ...]]:
    """{id of a question: its gold answers}."""
    return {example.id: tuple(text for _, text in example.answers) for example in encoded.members}


# ---- Each kind of task --------------------------------------------------------------------------------------------------------


def score_labels(data: Data, encoded: Encoded, logits: list[NDArray], threshold: float, head: str) -> Evaluation:
    """Predicts the most probable label, or candidate, of each example."""
    names = encoded.names
    predicted = [names[int(each.argmax())] for each in logits]
    predictions = []
    for number, (example, each) in enumerate(zip(encoded.members, logits, strict=True)):
        gold = {'label': example.label} if example.label else {}
        shares = {name: round(float(share), 6) for name, share in zip(names, softmax(each.astype(np.float64)), strict=True)}
        predictions.append({**identify_example(encoded, number), **gold, 'prediction': predicted[number], 'probabilities': shares})
    if not encoded.known:
        return Evaluation(predictions, {}, False, {})
    wanted, order = tasks.task(data).metrics, order_labels(data, encoded)
    golds = number_gold_labels(data, encoded)
    numbers = np.array([order.index(name) for name in predicted])
    found = metrics.measure(wanted, golds, numbers)
    parts = np.array([example.part for example in encoded.members])
    for part in sorted(set(parts.tolist()) - {''}):
        inside = parts == part
        found |= {f'{name}_{part}': metrics.METRICS[name](golds[inside], numbers[inside]) for name in wanted}
    return Evaluation(predictions, found, metrics.has_collapsed(golds, numbers, len(names)), {})


def score_numbers(data: Data, encoded: Encoded, logits: list[NDArray], threshold: float, head: str) -> Evaluation:
    """Predicts the score of each example."""
    predicted = np.array([float(each[0]) for each in logits])
    predictions = []
    for number, (example, score) in enumerate(zip(encoded.members, predicted, strict=True)):
        gold = {} if example.score is None else {'score': example.score}
        predictions.append({**identify_example(encoded, number), **gold, 'prediction': float(score)})
    if not encoded.known:
        return Evaluation(predictions, {}, False, {})
    golds = collect_gold_scores(encoded)
    found = metrics.measure(tasks.task(data).metrics, golds, predicted)
    return Evaluation(predictions, found, metrics.has_collapsed(golds, predicted, 1), {})


def score_answers(data: Data, encoded: Encoded, logits: list[NDArray], threshold: float, head: str) -> Evaluation:
    """Predicts the best answer of each question over all its windows; in SQuAD 2.0 possibly no answer."""
    may_be_empty = tasks.task(data).no_answer
    golds = collect_gold_answers(encoded)
    predictions, predicted, probabilities, best_spans, leads = [], {}, {}, {}, {}
    for number, (example, (best, lead)) in enumerate(zip(encoded.members, find_best(data, encoded, logits, head), strict=True)):
        texts = [example.pair[each.start : each.end] for each in best] or ['']
        best_spans[example.id], leads[example.id] = texts[0], lead
        probabilities[example.id] = 1 / (1 + float(np.exp(-np.clip(lead, -500, 500))))
        predicted[example.id] = '' if may_be_empty and lead > threshold else texts[0]
        prediction = {
            **identify_example(encoded, number),
            'answers': list(golds[example.id]),
            'prediction': predicted[example.id],
        }
        if may_be_empty:
            prediction['no_answer'] = probabilities[example.id]
        prediction['best'] = [
            {'text': text, 'start': each.start, 'end': each.end, 'logit': round(each.logit, 4)}
            for text, each in zip(texts, best, strict=False)
        ]
        predictions.append(prediction)
    tuned, files = None, {'predictions.json': predicted}
    if may_be_empty:
        official = metrics.score_squad2(golds, predicted, probabilities)
        files |= {'scores.json': official, 'na_probs.json': probabilities}
        tuned = tune_threshold(golds, best_spans, leads)
    else:
        official = metrics.score_squad(golds, predicted)
        files |= {'scores.json': official}
    found = {name: value / 100 if name in PERCENT else value for name, value in official.items()}
    return Evaluation(predictions, found | {'score': found['f1']}, have_answers_collapsed(golds, predicted), files, tuned)


def find_best(data: Data, encoded: Encoded, logits: list[NDArray], head: str) -> list[tuple[list[Answer], float]]:
    """(the best answers, by how much 'no answer' leads) of each question: the latter in the window where it does so least."""
    reading = READINGS[head]
    windows: list[list[tuple[list[Answer], NDArray]]] = [[] for _ in encoded.members]
    for owner, window, each in zip(encoded.owner.tolist(), encoded.windows, logits, strict=True):
        windows[owner].append((reading.find(each, window, data.answers.longest, data.answers.best), each))
    found = []
    for mine in windows:
        best = rank_answers([answers for answers, _ in mine], data.answers.best)
        found.append((best, min(reading.lead(each, best[0].logit if best else 0.0) for _, each in mine)))
    return found


def have_answers_collapsed(golds: Mapping[str, Sequence[str]], predicted: Mapping[str, str]) -> bool:
    """Whether (nearly) all predicted answers are the same text, and that text is not the gold answer as often."""
    common, count = Counter(predicted.values()).most_common(1)[0]
    right = sum(common in golds[id] or (not common and not golds[id]) for id in golds)
    return len(predicted) > 1 and count / len(predicted) >= metrics.COLLAPSED > right / len(predicted)


def tune_threshold(golds: Mapping[str, tuple[str, ...]], predicted: Mapping[str, str], leads: Mapping[str, float]) -> float:
    """The threshold for 'no answer' with the best F1 (Devlin et al. 2019, §4.3).

    predicted: the best span of each question; leads: by how much the logit of no answer exceeds that span's.
    """
    found = metrics.score_squad2(golds, predicted, leads)
    never_answer = 100.0 * sum(not each for each in golds.values()) / len(golds)
    return min(leads.values()) - 1 if found['best_f1'] <= never_answer else found['best_f1_thresh']


# Kind of a task -> its function. All have the arguments of `score_split`.
SCORERS: dict[str, Callable[[Data, Encoded, list[NDArray], float, str], Evaluation]] = {
    'label': score_labels,
    'choice': score_labels,
    'score': score_numbers,
    'span': score_answers,
}


# ---- Baselines and files ------------------------------------------------------------------------------------------------------


def score_baselines(data: Data, encoded: Encoded) -> dict[str, dict[str, float]]:
    """The metrics of the 'majority' and the 'random' baseline on a labelled split."""
    row = tasks.task(data)
    if row.kind == 'score':
        return metrics.compute_baselines(row.metrics, collect_gold_scores(encoded), 1)
    if row.kind != 'span':
        return metrics.compute_baselines(row.metrics, number_gold_labels(data, encoded), len(encoded.names))
    golds = collect_gold_answers(encoded)
    draw = np.random.default_rng(0)
    drawn = {}
    for example in encoded.members:
        words = example.pair.split()
        begin = int(draw.integers(len(words)))
        drawn[example.id] = ' '.join(words[begin : begin + int(draw.integers(1, 6))])
    found = {}
    for name, guess in (('majority', dict.fromkeys(golds, '')), ('random', drawn)):
        if row.no_answer:
            official = metrics.score_squad2(golds, guess, dict.fromkeys(golds, 0.0))
        else:
            official = metrics.score_squad(golds, guess)
        found[name] = {key: official[key] / 100 for key in ('exact', 'f1')} | {'score': official['f1'] / 100}
    return found


def render_predictions(evaluation: Evaluation) -> dict[str, bytes]:
    """The files of a split: predictions.jsonl, and for SQuAD predictions.json, na_probs.json and scores.json."""
    lines = [json.dumps(each, ensure_ascii=False) + '\n' for each in evaluation.predictions]
    files = {name: (json.dumps(value, ensure_ascii=False, indent=1) + '\n').encode() for name, value in evaluation.files.items()}
    return {'predictions.jsonl': ''.join(lines).encode(), **files}


def write_predictions(folder: Path, evaluation: Evaluation) -> None:
    """Writes the files of a split, each atomically."""
    for name, content in render_predictions(evaluation).items():
        write_whole(folder / name, content)
