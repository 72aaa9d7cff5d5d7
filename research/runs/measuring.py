"""The numbers of a run on one split, and which of them selects checkpoints."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

from research.data import tasks
from research.data.facts import SupervisedFacts
from research.evaluation import scoring
from research.evaluation.measures import evaluate
from research.runs.folder import read_metrics
from research.runs.opening import Parts


def watched_split(parts: Parts) -> str:
    """The split that is evaluated while training: dev of pretraining, the one that selects of a task; '' if none does."""
    return parts.feed.facts.selects if isinstance(parts.feed.facts, SupervisedFacts) else 'dev'


def selecting_metric(parts: Parts) -> str:
    """The metric that selects the run's checkpoints, such as 'selection/accuracy'; '' if nothing selects."""
    x, split = parts.x, watched_split(parts)
    return f'{split}/{tasks.task(x.data).selects}' if x.data.task and split else ''


def read_scores(parts: Parts) -> list[float]:
    """The selecting metric in earlier sessions of the run, oldest first."""
    name = selecting_metric(parts)
    return [line[name] for line in read_metrics(parts.workdir) if name in line] if name else []


def was_measured(parts: Parts, step: int) -> bool:
    """Whether metrics.jsonl holds an evaluation of the watched split at `step`."""
    names = f'{watched_split(parts)}/'
    return any(line['step'] == step and any(name.startswith(names) for name in line) for line in read_metrics(parts.workdir))


def is_exhausted(patience: int, scores: list[float]) -> bool:
    """Whether none of the last `patience` scores is better than the best before them; patience 0 waits for ever."""
    return bool(patience) and len(scores) > patience and max(scores[-patience:]) <= max(scores[:-patience])


def measure_split(
    parts: Parts,
    params: Any,
    split: str,
    threshold: float | None = None,
    between: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> tuple[dict[str, float], scoring.Evaluation | None]:
    """The numbers of one split, named 'split/loss', and for a task its predictions.

    Of pretraining's dev at most `run.evaluate_batches` are read. threshold: replaces data.answers.threshold. between: wraps the
    batches, so that it can stop the evaluation.
    """
    x = parts.x
    limit = x.run.evaluate_batches if not x.data.task else 0
    batches = itertools.islice(parts.feed.evaluation[split], limit or None)
    found = evaluate(parts.measure, parts.plan.put_batch, params, between(batches))
    if not x.data.task:
        return {f'{split}/{name}': value for name, value in found.means.items()}, None
    encoded = parts.feed.encoded[split]
    evaluation = scoring.score_split(x.data, encoded, found.logits, x.data.answers.threshold if threshold is None else threshold)
    means = found.means if encoded.known else {}
    return {f'{split}/{name}': value for name, value in {**means, **evaluation.metrics}.items()}, evaluation
