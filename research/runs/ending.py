"""The end of a run: the selected checkpoint is evaluated, and result.json is written."""

import dataclasses
import itertools
import math
import resource
import statistics
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from research import costs, parallel, processes, train
from research.data import tasks
from research.data.facts import MaskedFacts, SupervisedFacts
from research.data.settings import Data
from research.evaluation import floors, scoring, smoothness
from research.evaluation.gains import HeldOut, write_held_out
from research.evaluation.measures import evaluate
from research.models.heads import HEADS, Model, encode, score
from research.objectives.losses import ANSWERED_BY
from research.records import to_json
from research.runs.fingerprints import fingerprint_params
from research.runs.folder import (
    Baseline,
    Floor,
    Parameters,
    Result,
    Selected,
    Smoothness,
    read_metrics,
    seconds_so_far,
    write_result,
)
from research.runs.measuring import Measurement, explain_plateau, measure_split, selecting_metric
from research.runs.opening import Bench, Parts
from research.runs.timing import measure_pass
from research.train import State


def finish(parts: Parts, state: State, known: Measurement | None) -> dict[str, Any]:
    """Evaluates the selected checkpoint on every split, writes predictions and result.json, and returns the latter's content.

    known: the last state on all held-out rows, which pretraining does not measure again.
    """
    parts.checkpoints.wait()
    best = parts.checkpoints.best() if selecting_metric(parts) else None
    selected, params = None, train.evaluated(state)
    if best is not None and isinstance(parts.feed.facts, SupervisedFacts):
        selected = Selected(best, selecting_metric(parts), parts.feed.facts.selection)
        params = parts.plan.put_state(jax.tree.map(jax.numpy.asarray, parts.checkpoints.params(best)))
    metrics, evaluations, held_out = evaluate_splits(parts, params, known)
    if held_out is not None and processes.is_chief():
        write_held_out(parts.workdir, held_out)
    if known is None and isinstance(parts.feed.facts, MaskedFacts):
        log_held_out(parts, metrics)
    for split, evaluation in evaluations.items():
        if split == 'selection' and evaluation.threshold is not None:
            parts.log.line(f"predicts 'no answer' if it leads by more than {evaluation.threshold:.3f}: the best F1 of {split}")
        if processes.is_chief():
            scoring.write_predictions(parts.workdir / split, evaluation)
    result = make_result(parts, int(state.step), params, selected, metrics, evaluations)
    if isinstance(parts.feed.facts, SupervisedFacts) and result.baseline is not None:
        log_scores(parts, parts.feed.facts, result.metrics, result.baseline, evaluations)
        # Now, so that neither the time nor the memory of the run are those of its floors.
        result = add_floors(parts, parts.feed.facts, result) if processes.is_chief() else result
    content = write_result(parts.workdir, result) if processes.is_chief() else to_json(result)
    parts.log.line(f'done: {parts.workdir / "result.json"}')
    return content


def evaluate_splits(
    bench: Bench, params: Any, known: Measurement | None = None, whole: bool = True
) -> tuple[dict[str, float], dict[str, scoring.Evaluation], HeldOut | None]:
    """(the metrics of all splits, of a task the Evaluation on each, of pretraining the sums by document).

    known: the Measurement of pretraining, if there is one. whole: as in `measure_split`. 'selection' comes first: the threshold for
    'no answer' that is best there serves the other splits.
    """
    metrics: dict[str, float] = {}
    evaluations: dict[str, scoring.Evaluation] = {}
    threshold = held_out = None
    for split in sorted(bench.feed.evaluation, key=lambda name: name != 'selection'):
        found = known if known and not bench.x.data.task else measure_split(bench, params, split, threshold, whole=whole)
        metrics |= found.metrics
        held_out = found.held_out
        if found.evaluation is not None:
            evaluations[split] = found.evaluation
            threshold = found.evaluation.threshold if split == 'selection' else threshold
    return metrics, evaluations, held_out


def log_held_out(parts: Parts, metrics: Mapping[str, float]) -> None:
    """Logs the measures on all held-out rows."""
    if metrics:
        parts.log.line('all held-out rows: ' + ' '.join(f'{name} {value:.4f}' for name, value in metrics.items()))
    if plateau := explain_plateau(metrics):
        parts.log.line(plateau)


def make_result(
    parts: Parts,
    steps: int,
    params: Any,
    selected: Selected | None,
    metrics: dict[str, float],
    evaluations: Mapping[str, scoring.Evaluation],
) -> Result:
    """The Result of the run, whose latency and smoothness are measured here."""
    x = parts.x
    key = 'train/tokens_per_second'
    speeds = [line[key] for line in read_metrics(parts.workdir) if key in line and math.isfinite(line[key])]
    teacher = parts.teacher.architecture if parts.teacher else None
    spent = costs.count_flops(x.model, teacher, x.losses, x.data, x.run.batch)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)
    return Result(
        name=x.name,
        steps=steps,
        selected=selected,
        flops_per_token=spent['per_token'],
        flops_per_step=spent['per_step'],
        train_seconds=seconds_so_far(parts.workdir),
        wall_seconds=parts.log.wall(),
        tokens_per_second=statistics.median(speeds) if speeds else None,
        peak_memory_bytes=parallel.read_peak_memory() or resident,
        latency_seconds=measure_latency(parts.model, params, x.data),
        pass_seconds=time_pass(parts, params) if x.run.time_pass else None,
        **assess(parts, params, metrics, evaluations),
    )


def time_pass(parts: Parts, params: Any) -> float | None:
    """`measure_pass` over the reported split of a task, which is logged; None if nothing is reported, or processes share it."""
    facts = parts.feed.facts
    if not isinstance(facts, SupervisedFacts) or not facts.reported or jax.process_count() > 1:
        return None
    encoded = parts.feed.encoded[facts.reported]
    answers, heads = parts.x.data.answers, dict(parts.model.heads)
    head = next(name for name in ANSWERED_BY[tasks.task(parts.x.data).kind] if name in heads)
    seconds = measure_pass(parts.model, params, encoded, head, (answers.starts, answers.ends))
    parts.log.line(f'a pass over {encoded.rows:,} rows of {facts.reported}, one at a time on one core: {seconds:.2f} s')
    return seconds


def assess(bench: Bench, params: Any, metrics: dict[str, float], evaluations: Mapping[str, scoring.Evaluation]) -> dict[str, Any]:
    """The fields of a Result that follow from the parameters and the data alone: no time, no memory."""
    x, facts = bench.x, bench.feed.facts
    supervised = facts if isinstance(facts, SupervisedFacts) else None
    headline = f'{supervised.reported}/{tasks.task(x.data).selects}' if supervised else ''
    return {
        'metrics': metrics,
        'parameters': Parameters(**costs.summarize_parameters(x.model, bench.model.heads)),
        'checkpoint_bytes': sum(leaf.nbytes for leaf in jax.tree.leaves(params)),
        'smoothness': None if x.data.task else measure_smoothness(bench, params),
        'unigram_entropy': facts.unigram_entropy,
        'contextless': facts.contextless,
        'labels': None if facts.labels is None else tuple(facts.labels),
        'baseline': score_baselines(bench, supervised, evaluations) if supervised else None,
        'reported': supervised.reported or None if supervised else None,
        'score': metrics[headline] if headline in metrics else None,
        'collapsed': find_collapses(evaluations, supervised.reported) if supervised else None,
        'fingerprint': fingerprint_params(params),
    }


def measure_smoothness(bench: Bench, params: Any) -> Smoothness | None:
    """The distance and the angle by which each layer moves its input, over the first held-out batches; None without any."""
    if 'dev' not in bench.feed.evaluation:
        return None
    batches = itertools.islice(bench.feed.evaluation['dev'], smoothness.BATCHES)
    measure = bench.plan.compile(smoothness.make_measure(bench.model))
    means = evaluate(measure, bench.plan.put_batch, params, batches).means
    return Smoothness(**{name: tuple(each) for name, each in smoothness.group_by_layer(means, bench.x.model.layers).items()})


def score_baselines(bench: Bench, facts: SupervisedFacts, evaluations: Mapping[str, scoring.Evaluation]) -> Baseline:
    """The baselines of the labelled splits of a task."""
    found: dict[str, dict[str, float]] = {'majority': {}, 'random': {}}
    for split, evaluation in evaluations.items():
        if evaluation.metrics:
            chances = scoring.score_baselines(bench.x.data, bench.feed.encoded[split])
            for guess in found:
                found[guess] |= {f'{split}/{name}': value for name, value in chances[guess].items()}
    headline = f'{facts.reported}/{tasks.task(bench.x.data).selects}'
    if facts.reported in evaluations and evaluations[facts.reported].metrics:
        found = {guess: {**values, 'score': values[headline]} for guess, values in found.items()}
    return Baseline(**found)


def log_scores(
    parts: Parts,
    facts: SupervisedFacts,
    metrics: Mapping[str, float],
    baseline: Baseline,
    evaluations: Mapping[str, scoring.Evaluation],
) -> None:
    """Logs each metric that has baselines beside them, and which splits the model has collapsed on."""
    for split, evaluation in evaluations.items():
        how = f' ({facts.selection})' if split == facts.selects and parts.steps else ', read once'
        for key in [key for key in baseline.majority if key.startswith(f'{split}/')]:
            chance = f'majority {baseline.majority[key]:.4f}, random {baseline.random[key]:.4f}'
            parts.log.line(f'{key} {metrics[key]:.4f} ({chance}){how}')
        if evaluation.metrics and evaluation.collapsed:
            parts.log.line(f'{split}: the model has collapsed: (nearly) all of its predictions are the same')


def add_floors(parts: Parts, facts: SupervisedFacts, result: Result) -> Result:
    """The Result with the floors of its task as metrics, and its score beside them, which is logged."""
    x, encoded = parts.x, parts.feed.encoded
    splits = {split: each.members for split, each in encoded.items()}
    names = next((each.names for each in encoded.values()), ())
    found = floors.find_floors(x.data, x.machine.cache, facts.fingerprint, names, parts.feed.learnt, splits)
    if result.score is None:
        return result
    line = floors.describe(found, f'{facts.reported}/{tasks.task(x.data).selects}', result.score)
    parts.log.line(line)
    return dataclasses.replace(result, metrics={**result.metrics, **found.metrics}, floors=Floor(line, found.missing))


def find_collapses(evaluations: Mapping[str, scoring.Evaluation], reported: str) -> dict[str, int]:
    """Labelled split -> 1 if the model has collapsed there, else 0; 'reported' -> the same of the reported split."""
    found = {split: int(evaluation.collapsed) for split, evaluation in evaluations.items() if evaluation.metrics}
    return found | ({'reported': found[reported]} if reported in found else {})


def measure_latency(model: Model, params: Any, data: Data) -> float:
    """Seconds of a forward pass of one sequence of data.length: the median of 30, with classifiers, without vocabulary logits."""
    classifiers = [name for name, _ in model.heads if not HEADS[name].at_positions]
    tried = data.answers.starts, data.answers.ends

    def latency(params: Any, batch: Any) -> Any:
        outputs = encode(model, params, batch)
        return outputs.hidden, [score(model, params, name, outputs, HEADS[name].reads(batch, tried)) for name in classifiers]

    compiled = jax.jit(latency)
    ids = np.zeros((1, data.length), np.int32)
    batch = {'ids': ids, 'types': ids, 'mask': ids + 1}
    times = []
    for _ in range(33):
        begin = time.perf_counter()
        jax.block_until_ready(compiled(params, batch))
        times.append(time.perf_counter() - begin)
    return statistics.median(times[3:])
