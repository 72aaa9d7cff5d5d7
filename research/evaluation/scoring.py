"""From a split's logits to answers, official metrics and files of predictions."""

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
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
from research.evaluation.spans import Answer, find_answers, rank_answers, score_no_answer

# A metric that is no share -> the same as one, in [0, 1] as all others are.
PERCENT = ('exact', 'f1', 'HasAns_exact', 'HasAns_f1', 'NoAns_exact', 'NoAns_f1', 'best_exact', 'best_f1')


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a model says of a split, and how good it is."""

    predictions: list[dict[str, Any]]  # of each example, in the order of the data
    metrics: dict[str, float]  # {} where it is not known what is right
    collapsed: bool
    files: dict[str, Any]  # other files by name: what is written there as JSON
    threshold: float | None = None  # kind 'span': the one that gives the best F1 here


def judge(data: Data, questions: Encoded, logits: list[NDArray], threshold: float) -> Verdict:
    """The Verdict on the logits of each row of a split. threshold: where SQuAD 2.0's questions get no answer.

    Raises UserError for logits that are not finite.
    """
    broken = sum(not np.isfinite(each).all() for each in logits)
    if broken:
        raise UserError(f'the model tells of {broken:,} of {len(logits):,} rows what is not finite: its parameters are broken')
    return JUDGES[tasks.task(data).kind](data, questions, logits, threshold)


def identity(questions: Encoded, number: int) -> dict[str, Any]:
    """What says which example a prediction is of."""
    example = questions.members[number]
    return {'id': example.id or str(number)}


def own_order(data: Data, questions: Encoded) -> tuple[str, ...]:
    """The labels as the task orders them, by which metrics count: F1 is of class 1, whatever number data.labels gives to which."""
    return tasks.TASKS[data.task].labels(data) if data.labels else questions.names


def gold_numbers(data: Data, questions: Encoded) -> NDArray:
    """What is right of each example [N]: the number of its label in the task's own order."""
    order = own_order(data, questions)
    return np.array([order.index(example.label) for example in questions.members])


def gold_scores(questions: Encoded) -> NDArray:
    """What is right of each example [N]: its score."""
    return np.array([example.score for example in questions.members], float)


def gold_answers(questions: Encoded) -> dict[str, tuple[str, ...]]:
    """The right answers to each question, by its id."""
    return {example.id: tuple(text for _, text in example.answers) for example in questions.members}


def judge_labels(data: Data, questions: Encoded, logits: list[NDArray], threshold: float) -> Verdict:
    """The most probable label, or candidate, of each example."""
    names = questions.names
    told = [names[int(each.argmax())] for each in logits]
    predictions = []
    for number, (example, each) in enumerate(zip(questions.members, logits, strict=True)):
        right = {'label': example.label} if example.label else {}
        shares = {name: round(float(share), 6) for name, share in zip(names, softmax(each.astype(np.float64)), strict=True)}
        predictions.append({**identity(questions, number), **right, 'prediction': told[number], 'probabilities': shares})
    if not questions.known:
        return Verdict(predictions, {}, False, {})
    wanted, order = tasks.task(data).metrics, own_order(data, questions)
    gold = gold_numbers(data, questions)
    guess = np.array([order.index(name) for name in told])
    found = metrics.measure(wanted, gold, guess)
    parts = [example.part for example in questions.members]
    for part in sorted(set(parts) - {''}):
        at = np.array([part == each for each in parts])
        found |= {f'{name}_{part}': metrics.METRICS[name](gold[at], guess[at]) for name in wanted}
    return Verdict(predictions, found, metrics.collapsed(gold, guess, len(names)), {})


def judge_scores(data: Data, questions: Encoded, logits: list[NDArray], threshold: float) -> Verdict:
    """The score of each example."""
    told = np.array([float(each[0]) for each in logits])
    predictions = [
        {**identity(questions, number), **({} if example.score is None else {'score': example.score}), 'prediction': float(score)}
        for number, (example, score) in enumerate(zip(questions.members, told, strict=True))
    ]
    if not questions.known:
        return Verdict(predictions, {}, False, {})
    gold = gold_scores(questions)
    found = metrics.measure(tasks.task(data).metrics, gold, told)
    return Verdict(predictions, found, metrics.collapsed(gold, told, 1), {})


def judge_answers(data: Data, questions: Encoded, logits: list[NDArray], threshold: float) -> Verdict:
    """The best answer of each question over its windows; of SQuAD 2.0 none where its logit leads by more than `threshold`."""
    windows: list[list[list[Answer]]] = [[] for _ in questions.members]
    none = [np.inf] * len(questions.members)
    for owner, window, each in zip(questions.owner.tolist(), questions.windows, logits, strict=True):
        found = find_answers(each, window.first, window.offsets, data.answers.longest, data.answers.best)
        windows[owner].append(found)
        none[owner] = min(none[owner], score_no_answer(each))
    impossible = tasks.task(data).no_answer
    predictions, told, sure, raw, leads = [], {}, {}, {}, {}
    golds = gold_answers(questions)
    for number, (example, mine) in enumerate(zip(questions.members, windows, strict=True)):
        best = rank_answers(mine, data.answers.best)
        texts = [example.pair[each.start : each.end] for each in best] or ['']
        lead = none[number] - best[0].logit if best else 0.0
        raw[example.id], leads[example.id] = texts[0], lead
        sure[example.id] = 1 / (1 + float(np.exp(-np.clip(lead, -500, 500))))
        told[example.id] = '' if impossible and lead > threshold else texts[0]
        nbest = [
            {'text': text, 'start': each.start, 'end': each.end, 'logit': round(each.logit, 4)}
            for text, each in zip(texts, best, strict=False)
        ]
        predictions.append(
            {
                **identity(questions, number),
                'answers': list(golds[example.id]),
                'prediction': told[example.id],
                **({'no_answer': sure[example.id]} if impossible else {}),
                'best': nbest,
            }
        )
    official = metrics.squad2(golds, told, sure) if impossible else metrics.squad(golds, told)
    shares = {name: value / 100 if name in PERCENT else value for name, value in official.items()}
    files = {'predictions.json': told, 'scores.json': official} | ({'na_probs.json': sure} if impossible else {})
    tuned = tune(golds, raw, leads) if impossible else None
    common, count = Counter(told.values()).most_common(1)[0]
    right = sum(common in golds[id] or (not common and not golds[id]) for id in golds)
    collapsed = len(told) > 1 and count / len(told) >= metrics.COLLAPSED > right / len(told)
    return Verdict(predictions, shares | {'score': shares['f1']}, collapsed, files, tuned)


def baseline(data: Data, questions: Encoded) -> dict[str, dict[str, float]]:
    """What 'majority' and 'random' score on a split of which it is known what is right."""
    row = tasks.task(data)
    if row.kind == 'score':
        return metrics.baselines(row.metrics, gold_scores(questions), 1)
    if row.kind != 'span':
        return metrics.baselines(row.metrics, gold_numbers(data, questions), len(questions.names))
    golds, impossible = gold_answers(questions), row.no_answer
    draw = np.random.default_rng(0)
    drawn = {}
    for example in questions.members:
        words = example.pair.split()
        begin = int(draw.integers(len(words)))
        drawn[example.id] = ' '.join(words[begin : begin + int(draw.integers(1, 6))])
    chance = {}
    for name, guess in (('majority', dict.fromkeys(golds, '')), ('random', drawn)):
        scored = metrics.squad2(golds, guess, dict.fromkeys(golds, 0.0)) if impossible else metrics.squad(golds, guess)
        chance[name] = {key: scored[key] / 100 for key in ('exact', 'f1')} | {'score': scored['f1'] / 100}
    return chance


def tune(golds: Mapping[str, tuple[str, ...]], told: Mapping[str, str], leads: Mapping[str, float]) -> float:
    """The lead of no answer above which none is given that makes the best F1 (Devlin et al. 2019, §4.3)."""
    found = metrics.squad2(golds, told, leads)
    silence = 100.0 * sum(not each for each in golds.values()) / len(golds)
    return min(leads.values()) - 1 if found['best_f1'] <= silence else found['best_f1_thresh']


JUDGES: dict[str, Callable[[Data, Encoded, list[NDArray], float], Verdict]] = {
    'label': judge_labels,
    'choice': judge_labels,
    'score': judge_scores,
    'span': judge_answers,
}


def write(folder: Path, verdict: Verdict) -> None:
    """predictions.jsonl, and for SQuAD predictions.json, na_probs.json and scores.json, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ''.join(json.dumps(each, ensure_ascii=False) + '\n' for each in verdict.predictions)
    texts: Mapping[str, str] = {
        'predictions.jsonl': lines,
        **{name: json.dumps(value, ensure_ascii=False, indent=1) + '\n' for name, value in verdict.files.items()},
    }
    for name, text in texts.items():
        part = folder / f'{name}.part'
        part.write_text(text, encoding='utf-8')
        os.replace(part, folder / name)
