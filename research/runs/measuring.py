"""The numbers of a run on one split, and which of them selects checkpoints."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

from research.data import tasks
from research.data.facts import SupervisedFacts
from research.evaluation import scoring
from research.evaluation.measures import evaluate
from research.evaluation.spans import choose_reading
from research.runs.folder import read_metrics
from research.runs.opening import Bench, Parts


def watched_split(bench: Bench) -> str:
    """The split that is evaluated while training: dev of pretraining, the one that selects of a task; '' if none does."""
    return bench.feed.facts.selects if isinstance(bench.feed.facts, SupervisedFacts) else 'dev'


def selecting_metric(bench: Bench) -> str:
    """The metric that selects the run's checkpoints, such as 'selection/accuracy'; '' if nothing selects."""
    x, split = bench.x, watched_split(bench)
    return f'{split}/{tasks.task(x.data).selects}' if x.data.task and split else ''


def read_scores(parts: Parts, first: int) -> list[float]:
    """The selecting metric up to step `first`, oldest first. Another process may not have dropped later lines yet."""
    name = selecting_metric(parts)
    return [line[name] for line in read_metrics(parts.workdir) if name in line and line['step'] <= first] if name else []


def was_measured(parts: Parts, step: int) -> bool:
    """Whether metrics.jsonl holds an evaluation of the watched split at `step`."""
    names = f'{watched_split(parts)}/'
    return any(line['step'] == step and any(name.startswith(names) for name in line) for line in read_metrics(parts.workdir))


def is_exhausted(patience: int, scores: list[float]) -> bool:
    """Whether none of the last `patience` scores is better than the best before them; patience 0 waits for ever."""
    return bool(patience) and len(scores) > patience and max(scores[-patience:]) <= max(scores[:-patience])


def measure_split(
    bench: Bench,
    params: Any,
    split: str,
    threshold: float | None = None,
    between: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> tuple[dict[str, float], scoring.Evaluation | None]:
    """The numbers of one split, named 'split/loss', and for a task its predictions.

    Of pretraining's dev at most `run.evaluate_batches` are read. threshold: replaces data.answers.threshold. between: wraps the
    batches, so that it can stop the evaluation.
    """
    x = bench.x
    limit = x.run.evaluate_batches if not x.data.task else 0
    batches = itertools.islice(bench.feed.evaluation[split], limit or None)
    found = evaluate(bench.measure, bench.plan.put_batch, params, between(batches))
    if not x.data.task:
        return {f'{split}/{name}': value for name, value in found.means.items()}, None
    encoded = bench.feed.encoded[split]
    threshold = x.data.answers.threshold if threshold is None else threshold
    evaluation = scoring.score_split(x.data, encoded, found.logits, threshold, choose_reading(dict(bench.model.heads)))
    means = found.means if encoded.known else {}
    return {f'{split}/{name}': value for name, value in {**means, **evaluation.metrics}.items()}, evaluation
