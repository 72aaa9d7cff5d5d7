"""The end of a run: the selected checkpoint is evaluated, and result.json is written."""

import itertools
import resource
import statistics
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from research import costs, parallel, train
from research.data import tasks
from research.data.facts import SupervisedFacts
from research.evaluation import scoring, smoothness
from research.evaluation.measures import evaluate
from research.models.heads import HEADS, Model, encode, score
from research.records import to_json
from research.runs.folder import (
    Baseline,
    Parameters,
    Result,
    Selected,
    Smoothness,
    read_metrics,
    seconds_so_far,
    write_result,
)
from research.runs.measuring import measure_split, selecting_metric
from research.runs.opening import Parts
from research.train import State


def finish(parts: Parts, state: State, known: dict[str, float]) -> dict[str, Any]:
    """Evaluates the selected checkpoint on every split, writes predictions and result.json, and returns the latter's content.

    known: the metrics of the last state, which pretraining does not measure again.
    """
    parts.checkpoints.wait()
    best = parts.checkpoints.best() if selecting_metric(parts) else None
    selected, params = None, train.evaluated(state)
    if best is not None and isinstance(parts.feed.facts, SupervisedFacts):
        selected = Selected(best, selecting_metric(parts), parts.feed.facts.selection)
        params = parts.plan.put_state(jax.tree.map(jax.numpy.asarray, parts.checkpoints.params(best)))
    metrics, evaluations = evaluate_splits(parts, params, known)
    result = make_result(parts, int(state.step), params, selected, metrics, evaluations)
    content = write_result(parts.workdir, result) if parallel.is_chief() else to_json(result)
    parts.log.line(f'done: {parts.workdir / "result.json"}')
    return content


def evaluate_splits(parts: Parts, params: Any, known: dict[str, float]) -> tuple[dict[str, float], dict[str, scoring.Evaluation]]:
    """(the metrics of all splits, of a task the Evaluation on each), and writes the predictions of each split of a task.

    'selection' comes first: the threshold for 'no answer' that is best there serves the other splits.
    """
    metrics: dict[str, float] = {}
    evaluations: dict[str, scoring.Evaluation] = {}
    threshold = None
    for split in sorted(parts.feed.evaluation, key=lambda name: name != 'selection'):
        found, evaluation = (known, None) if known and not parts.x.data.task else measure_split(parts, params, split, threshold)
        metrics |= found
        if evaluation is not None:
            evaluations[split] = evaluation
            if parallel.is_chief():
                scoring.write_predictions(parts.workdir / split, evaluation)
            if split == 'selection' and evaluation.threshold is not None:
                threshold = evaluation.threshold
                parts.log.line(
                    f"predicts 'no answer' if its logit exceeds the best span's by {threshold:.3f}: the best F1 of {split}"
                )
    return metrics, evaluations


def make_result(
    parts: Parts,
    steps: int,
    params: Any,
    selected: Selected | None,
    metrics: dict[str, float],
    evaluations: Mapping[str, scoring.Evaluation],
) -> Result:
    """The Result of the run, whose latency and smoothness are measured here."""
    x, facts = parts.x, parts.feed.facts
    speeds = [line['train/tokens_per_second'] for line in read_metrics(parts.workdir) if 'train/tokens_per_second' in line]
    teacher = parts.teacher.architecture if parts.teacher else None
    spent = costs.count_flops(x.model, teacher, x.losses, x.data, x.run.batch)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)
    supervised = facts if isinstance(facts, SupervisedFacts) else None
    headline = f'{supervised.reported}/{tasks.task(x.data).selects}' if supervised else ''
    return Result(
        name=x.name,
        steps=steps,
        metrics=metrics,
        selected=selected,
        parameters=Parameters(**costs.summarize_parameters(x.model, parts.model.heads)),
        flops_per_token=spent['per_token'],
        flops_per_step=spent['per_step'],
        checkpoint_bytes=sum(leaf.nbytes for leaf in jax.tree.leaves(params)),
        train_seconds=seconds_so_far(parts.workdir),
        wall_seconds=parts.log.wall(),
        tokens_per_second=statistics.median(speeds) if speeds else None,
        peak_memory_bytes=parallel.read_peak_memory() or resident,
        latency_seconds=measure_latency(parts.model, params, x.data.length),
        smoothness=None if x.data.task else measure_smoothness(parts, params),
        unigram_entropy=facts.unigram_entropy,
        labels=None if facts.labels is None else tuple(facts.labels),
        baseline=report_baselines(parts, supervised, metrics, evaluations) if supervised else None,
        reported=supervised.reported or None if supervised else None,
        score=metrics[headline] if headline in metrics else None,
        collapsed=find_collapses(evaluations, supervised.reported) if supervised else None,
    )


def measure_smoothness(parts: Parts, params: Any) -> Smoothness | None:
    """The distance and the angle by which each layer moves its input, over the first held-out batches; None without any."""
    if 'dev' not in parts.feed.evaluation:
        return None
    batches = itertools.islice(parts.feed.evaluation['dev'], smoothness.BATCHES)
    measure = parts.plan.compile(smoothness.make_measure(parts.model))
    means = evaluate(measure, parts.plan.put_batch, params, batches).means
    return Smoothness(**{name: tuple(each) for name, each in smoothness.group_by_layer(means, parts.x.model.layers).items()})


def report_baselines(
    parts: Parts, facts: SupervisedFacts, metrics: dict[str, float], evaluations: Mapping[str, scoring.Evaluation]
) -> Baseline:
    """The baselines of the labelled splits of a task, each logged beside the model's own metric."""
    log = parts.log
    judged = {split: evaluation for split, evaluation in evaluations.items() if evaluation.metrics}
    found: dict[str, dict[str, float]] = {'majority': {}, 'random': {}}
    for split, evaluation in judged.items():
        chances = scoring.score_baselines(parts.x.data, parts.feed.encoded[split])
        how = f' ({facts.selection})' if split == facts.selects and parts.steps else ', read once'
        for guess in found:
            found[guess] |= {f'{split}/{name}': value for name, value in chances[guess].items()}
        for key in [f'{split}/{name}' for name in chances['majority']]:
            chance = ', '.join(f'{guess} {found[guess][key]:.4f}' for guess in found)
            log.line(f'{key} {metrics[key]:.4f} ({chance}){how}')
        if evaluation.collapsed:
            log.line(f'{split}: the model has collapsed: (nearly) all of its predictions are the same')
    headline = f'{facts.reported}/{tasks.task(parts.x.data).selects}'
    if headline in metrics:
        found = {guess: {**values, 'score': values[headline]} for guess, values in found.items()}
    return Baseline(**found)


def find_collapses(evaluations: Mapping[str, scoring.Evaluation], reported: str) -> dict[str, int]:
    """Labelled split -> 1 if the model has collapsed there, else 0; 'reported' -> the same of the reported split."""
    found = {split: int(evaluation.collapsed) for split, evaluation in evaluations.items() if evaluation.metrics}
    return found | ({'reported': found[reported]} if reported in found else {})


def measure_latency(model: Model, params: Any, length: int) -> float:
    """Seconds of a forward pass of one sequence of `length`: the median of 30, with classifiers, without vocabulary logits."""
    classifiers = [name for name, _ in model.heads if not HEADS[name].at_positions]

    def forward(params: Any, batch: Any) -> Any:
        outputs = encode(model, params, batch)
        return outputs.hidden, [score(model, params, name, outputs) for name in classifiers]

    compiled = jax.jit(forward)
    ids = np.zeros((1, length), np.int32)
    batch = {'ids': ids, 'types': ids, 'mask': ids + 1}
    times = []
    for _ in range(33):
        begin = time.perf_counter()
        jax.block_until_ready(compiled(params, batch))
        times.append(time.perf_counter() - begin)
    return statistics.median(times[3:])
