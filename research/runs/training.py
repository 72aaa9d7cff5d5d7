"""The loop of a run: steps, evaluation, checkpoints."""

import itertools
import math
import time
from collections.abc import Mapping
from typing import Any

import jax

from research import train
from research.data import steps, tasks
from research.data.facts import SupervisedFacts
from research.errors import UserError
from research.evaluation import scoring
from research.evaluation.measures import evaluate
from research.runs.folder import read_metrics, seconds_so_far
from research.runs.opening import Parts
from research.train import State


def fit(parts: Parts, state: State, first: int) -> tuple[State, dict[str, float]]:
    """Trains from step `first` to the last, evaluating and saving on the way, and returns what the last evaluation found too.

    The numbers of step k − 1 are read while k runs. Where no step is left there is no evaluation either.
    """
    x, plan, log = parts.x, parts.plan, parts.log
    watched, scores = watched_split(parts), earlier_scores(parts)
    found: dict[str, float] = {}
    if not parts.steps or exhausted(x.run.patience, scores):
        return state, found
    frozen = {'teacher': plan.put_state(jax.tree.map(jax.numpy.asarray, parts.teacher.params))} if parts.teacher else {}
    teacher = parts.teacher.model if parts.teacher else None
    step_function = train.make_step(parts.model, teacher, x.losses, x.optimizer, parts.steps, x.run.accumulate)
    compiled = plan.compile(step_function, donate=True)
    before = seconds_so_far(parts.workdir)
    begin = window = time.monotonic()
    tokens = 0.0

    def settle(step: int, metrics: Mapping[str, train.Term]) -> None:
        nonlocal tokens, window
        values = {name: float(term.total) / max(float(term.count), 1.0) for name, term in jax.device_get(dict(metrics)).items()}
        broken = [name for name, value in values.items() if not math.isfinite(value)]
        if broken:
            good = parts.checkpoints.latest()
            last = f'the last good checkpoint is that of step {good}' if good else 'there is no checkpoint yet'
            raise UserError(
                f'step {step}: {", ".join(broken)} is not finite; {last} in {parts.workdir}. '
                'Try a lower --config.optimizer.lr or a longer warm-up'
            )
        tokens += values.pop('tokens')
        now = time.monotonic()
        # The first step of a length is mostly compilation: it says nothing of the speed.
        if step in (first + 1, steps.boundary(x.data, parts.steps) + 1):
            tokens, window = 0.0, now
        if step % x.run.log_every == 0 or step == parts.steps:
            if tokens:
                values['tokens_per_second'] = tokens / max(now - window, 1e-9)
            named = {f'train/{name}': value for name, value in values.items()}
            log.numbers(step, {'seconds': before + now - begin, **named})
            log.progress(step, named)
            tokens, window = 0.0, now

    pending = None
    for step, batch in zip(range(first + 1, parts.steps + 1), parts.feed.stream(first), strict=False):
        state, metrics = compiled(state, frozen, plan.put_batch(batch))
        if pending is not None:
            settle(*pending)
        pending = step, metrics
        last = step == parts.steps
        scoring = watched in parts.feed.evaluation and (last or bool(x.run.evaluate_every and step % x.run.evaluate_every == 0))
        if last or scoring or (x.run.checkpoint_every and step % x.run.checkpoint_every == 0):
            settle(*pending)
            pending, pause = None, time.monotonic()
            score = None
            if scoring:
                found, _ = measure_split(parts, train.evaluated(state), watched)
                log.numbers(step, {'seconds': before + pause - begin, **found})
                log.line(f'step {step} ' + ' '.join(f'{name} {value:.4f}' for name, value in found.items()))
                score = found[selected_by(parts)] if selected_by(parts) else None
                scores += [score] if score is not None else []
            parts.checkpoints.save(state, score)
            window += time.monotonic() - pause
            begin += time.monotonic() - pause
            if exhausted(x.run.patience, scores):
                log.line(f'stops at step {step}: no better {selected_by(parts)} in {x.run.patience} evaluations')
                break
    return state, found


def watched_split(parts: Parts) -> str:
    """The split that is evaluated while training: dev of pretraining, of a task the one that selects; '' is none."""
    return parts.feed.facts.selects if isinstance(parts.feed.facts, SupervisedFacts) else 'dev'


def selected_by(parts: Parts) -> str:
    """The number that the run's checkpoints are selected by; '' where nothing is selected."""
    x, split = parts.x, watched_split(parts)
    return f'{split}/{tasks.task(x.data).selects}' if x.data.task and split else ''


def earlier_scores(parts: Parts) -> list[float]:
    """The scores that earlier sessions of the run selected by, oldest first."""
    name = selected_by(parts)
    return [line[name] for line in read_metrics(parts.workdir) if name in line] if name else []


def exhausted(patience: int, scores: list[float]) -> bool:
    """Whether none of the last `patience` scores is better than the best before them."""
    return bool(patience) and len(scores) > patience and max(scores[-patience:]) <= max(scores[:-patience])


def measure_split(
    parts: Parts, params: Any, split: str, threshold: float | None = None
) -> tuple[dict[str, float], scoring.Verdict | None]:
    """The numbers of one split, named 'split/loss', and of a task what the model says of each example.

    Of pretraining's dev at most `run.evaluate_batches` are read. threshold: in place of data.answers.threshold.
    """
    x = parts.x
    limit = x.run.evaluate_batches if not x.data.task else 0
    batches = itertools.islice(parts.feed.evaluation[split], limit or None)
    found = evaluate(parts.measure, parts.plan.put_batch, params, batches)
    if not x.data.task:
        return {f'{split}/{name}': value for name, value in found.means.items()}, None
    questions = parts.feed.encoded[split]
    verdict = scoring.judge(x.data, questions, found.logits, x.data.answers.threshold if threshold is None else threshold)
    means = found.means if questions.known else {}
    return {f'{split}/{name}': value for name, value in {**means, **verdict.metrics}.items()}, verdict
