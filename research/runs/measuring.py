"""The numbers of a run on one split, and which of them selects checkpoints."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from research.data import tasks
from research.data.facts import SupervisedFacts
from research.evaluation import scoring
from research.evaluation.gains import HeldOut
from research.evaluation.measures import evaluate
from research.evaluation.spans import choose_reading
from research.runs.folder import read_metrics
from research.runs.opening import Bench, Parts

# Nats of gain over frequencies below which a model counts as one without context: about the standard error of a loss over the
# 4,500 predicted pieces of 32 small batches, so that an evaluation could not tell less from nothing.
PLATEAU = 0.05


class Measurement(NamedTuple):
    """The numbers of a split, named 'split/loss', and what else was found there."""

    metrics: dict[str, float]
    evaluation: scoring.Evaluation | None = None  # of a task: its predictions
    held_out: HeldOut | None = None  # of pretraining: sums by document


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


def covers_all(bench: Bench, split: str) -> bool:
    """Whether an evaluation while the run trains reads all rows of a split."""
    limit = bench.x.run.evaluate_batches
    return bool(bench.x.data.task) or not limit or limit >= len(bench.feed.evaluation[split])


def measure_split(
    bench: Bench,
    params: Any,
    split: str,
    threshold: float | None = None,
    whole: bool = True,
    between: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> Measurement:
    """The Measurement of one split.

    threshold: replaces data.answers.threshold. whole: whether all of pretraining's dev is read, or at most `run.evaluate_batches`.
    between: wraps the batches, so that it can stop the evaluation.
    """
    x = bench.x
    limit = None if whole or covers_all(bench, split) else x.run.evaluate_batches
    batches = itertools.islice(bench.feed.evaluation[split], limit)
    found = evaluate(bench.measure, bench.plan.put_batch, params, between(batches))
    if not x.data.task:
        means = {**found.means, **(found.held_out.describe() if found.held_out else {})}
        return Measurement({f'{split}/{name}': value for name, value in means.items()}, held_out=found.held_out)
    encoded = bench.feed.encoded[split]
    threshold = x.data.answers.threshold if threshold is None else threshold
    evaluation = scoring.score_split(x.data, encoded, found.logits, threshold, choose_reading(dict(bench.model.heads)))
    means = found.means if encoded.known else {}
    return Measurement({f'{split}/{name}': value for name, value in {**means, **evaluation.metrics}.items()}, evaluation)


def explain_plateau(metrics: Mapping[str, float], unmasked: int = 0) -> str:
    """A log line if a model knows no more than the frequencies of pieces, with what helps; '' otherwise.

    unmasked: the steps left before the first masked batch.
    """
    gain = metrics['dev/gain'] if 'dev/gain' in metrics else PLATEAU
    if gain >= PLATEAU:
        return ''
    if unmasked > 0:
        return f'gain over frequencies {gain:.2f} nats: all batches were causal so far; masked ones begin in {unmasked:,} steps'
    return (
        f'gain over frequencies {gain:.2f} nats: this model has learnt nothing of context yet; Muon (optimizer.name=muon), '
        'causal batches first (data.causal.share) and more steps help, as in configs/bert.py:budget'
    )
