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
from research.files import write_record
from research.models.heads import Model, encode, score
from research.runs.folder import read_metrics, seconds_so_far
from research.runs.measuring import measure_split, selecting_metric
from research.runs.opening import Parts
from research.train import State


def finish(parts: Parts, state: State, known: dict[str, float]) -> dict[str, Any]:
    """Measures the model that the run stands for, writes what it says of each split of a task, and result.json.

    The split that is reported is read once, here, by the checkpoint that another one selected. What is `known` of the last
    state is not measured again in pretraining: it is the model there.
    """
    x, feed = parts.x, parts.feed
    parts.checkpoints.wait()
    best = parts.checkpoints.best() if selecting_metric(parts) else None
    selected, params = None, train.evaluated(state)
    if best is not None and isinstance(feed.facts, SupervisedFacts):
        selected = {'step': best, 'by': selecting_metric(parts), 'how': feed.facts.selection}
        params = parts.plan.put_state(jax.tree.map(jax.numpy.asarray, parts.checkpoints.params(best)))
    metrics: dict[str, float] = {}
    verdicts: dict[str, scoring.Verdict] = {}
    threshold = None
    for split in sorted(feed.evaluation, key=lambda name: name != 'selection'):
        found, verdict = (known, None) if known and not x.data.task else measure_split(parts, params, split, threshold)
        metrics |= found
        if verdict is not None:
            verdicts[split] = verdict
            if parallel.chief():
                scoring.write(parts.workdir / split, verdict)
            if split == 'selection' and verdict.threshold is not None:
                threshold = verdict.threshold
                parts.log.line(f'no answer where its logit leads by {threshold:.3f}, which gives the best F1 of {split}')
    lines = read_metrics(parts.workdir)
    speeds = [line['train/tokens_per_second'] for line in lines if 'train/tokens_per_second' in line]
    a, heads = x.model, parts.model.heads
    teacher = parts.teacher.architecture if parts.teacher else None
    spent = costs.costs(x.model, teacher, x.losses, x.data, x.run.batch)
    summary = costs.summary(a, heads)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)
    result = {
        'name': x.name,
        'steps': int(state.step),
        'metrics': metrics,
        'selected': selected,
        'parameters': summary,
        'flops_per_token': spent['per_token'],
        'flops_per_step': spent['per_step'],
        'checkpoint_bytes': sum(leaf.nbytes for leaf in jax.tree.leaves(params)),
        'train_seconds': seconds_so_far(parts.workdir),
        'wall_seconds': parts.log.wall(),
        'tokens_per_second': statistics.median(speeds) if speeds else None,
        'peak_memory_bytes': parallel.peak_memory() or resident,
        'latency_seconds': latency(parts.model, params, x.data.length),
        'smoothness': None if x.data.task else smooth(parts, params),
        'unigram_entropy': feed.facts.unigram_entropy,
        'labels': feed.facts.labels,
        **summarize(parts, metrics, verdicts),
    }
    if parallel.chief():
        write_record(parts.workdir / 'result.json', result)
    parts.log.line(f'done: {parts.workdir / "result.json"}')
    return result


def smooth(parts: Parts, params: Any) -> dict[str, list[float]] | None:
    """How far each layer moves what passes through it, over the first held-out batches; None where nothing is held out."""
    if 'dev' not in parts.feed.evaluation:
        return None
    batches = itertools.islice(parts.feed.evaluation['dev'], smoothness.BATCHES)
    measure = parts.plan.compile(smoothness.make_measure(parts.model))
    return smoothness.by_layer(evaluate(measure, parts.plan.put_batch, params, batches).means, parts.x.model.layers)


def summarize(parts: Parts, metrics: dict[str, float], verdicts: Mapping[str, scoring.Verdict]) -> dict[str, Any]:
    """What result.json says of a task beside its metrics; the same is told, with what habit and chance would score.

    `score` is the number of the reported split that the task is judged by. A `collapsed` split (1) was told one answer all through.
    """
    facts, log = parts.feed.facts, parts.log
    if not isinstance(facts, SupervisedFacts):
        return {'baseline': None, 'reported': None, 'score': None, 'collapsed': None}
    judged = {split: verdict for split, verdict in verdicts.items() if verdict.metrics}
    chances = {split: scoring.baseline(parts.x.data, parts.feed.encoded[split]) for split in judged}
    baseline = {
        name: {f'{split}/{metric}': value for split, chance in chances.items() for metric, value in chance[name].items()}
        for name in ('majority', 'random')
    }
    for split, verdict in judged.items():
        selecting = split == facts.selects and parts.steps
        how = f' ({facts.selection})' if selecting else ', read once'
        for name in chances[split]['majority']:
            key = f'{split}/{name}'
            chance = f'majority {baseline["majority"][key]:.4f}, random {baseline["random"][key]:.4f}'
            log.line(f'{key} {metrics[key]:.4f} ({chance}){how}')
        if verdict.collapsed:
            log.line(f'{split}: the model has collapsed: it tells (nearly) the same of every example')
    collapses = {split: int(verdict.collapsed) for split, verdict in judged.items()}
    headline = f'{facts.reported}/{tasks.task(parts.x.data).selects}'
    if headline in metrics:
        baseline = {name: {**values, 'score': values[headline]} for name, values in baseline.items()}
    return {
        'baseline': baseline,
        'reported': facts.reported or None,
        'score': metrics[headline] if headline in metrics else None,
        'collapsed': collapses | ({'reported': collapses[facts.reported]} if facts.reported in collapses else {}),
    }


def latency(model: Model, params: Any, length: int) -> float:
    """Seconds of one forward pass of one sequence of `length`, classifier included, vocabulary logits not: the median of 30."""
    classifiers = [name for name, _ in model.heads if name != 'mlm']

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
