"""The loop of a run: steps, evaluation, checkpoints."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from research import train
from research.data import steps
from research.errors import Interrupted, UserError
from research.objectives import losses
from research.runs import signals
from research.runs.folder import seconds_so_far
from research.runs.measuring import is_exhausted, measure_split, read_scores, selecting_metric, was_measured, watched_split
from research.runs.opening import Parts
from research.train import State


class Recorder:
    """Writes the numbers of steps to the log, with the seconds and the speed of training; pauses count for neither."""

    def __init__(self, parts: Parts, first: int) -> None:
        self._parts = parts
        self._losses = ('loss', *losses.active(parts.x.losses))
        # The first step of each length is mostly compilation, which says nothing about the speed.
        self._compiled = (first + 1, steps.boundary(parts.x.data, parts.steps) + 1)
        self._before = seconds_so_far(parts.workdir)
        self._begin = self._window = time.monotonic()
        self._tokens = 0.0

    def seconds(self) -> float:
        """The seconds of training so far, all sessions of the run together."""
        return self._before + time.monotonic() - self._begin

    def record(self, step: int, metrics: Mapping[str, jax.Array]) -> None:
        """Logs one step if `run.log_every` asks for it. Raises UserError if a number is not finite."""
        parts = self._parts
        values = {name: float(value) for name, value in jax.device_get(dict(metrics)).items()}
        _refuse_broken(parts, step, values)
        self._tokens += values.pop('tokens')
        now = time.monotonic()
        if step in self._compiled:
            self._tokens, self._window = 0.0, now
        if step % parts.x.run.log_every and step != parts.steps:
            return
        speed = self._tokens / max(now - self._window, 1e-9) if self._tokens else None
        if speed is not None:
            values['tokens_per_second'] = speed
        parts.log.numbers(step, {'seconds': self.seconds(), **{f'train/{name}': value for name, value in values.items()}})
        parts.log.progress(step, {name: values[name] for name in self._losses}, speed)
        self._tokens, self._window = 0.0, now

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stops the clock while something else than training is done."""
        pause = time.monotonic()
        try:
            yield
        finally:
            self._window += time.monotonic() - pause
            self._begin += time.monotonic() - pause


def _refuse_broken(parts: Parts, step: int, values: Mapping[str, float]) -> None:
    broken = [name for name, value in values.items() if not math.isfinite(value)]
    if broken:
        good = parts.checkpoints.latest()
        last = f'the last good checkpoint is that of step {good}' if good else 'there is no checkpoint yet'
        raise UserError(
            f'step {step}: {", ".join(broken)} is not finite; {last} in {parts.workdir}. '
            'Try a lower --config.optimizer.lr or a longer warm-up'
        )


def compile_step(parts: Parts) -> tuple[Callable[..., Any], dict[str, Any]]:
    """(the compiled step, what it is given as `frozen`: the teacher's parameters on the devices, if there is a teacher)."""
    x, plan, teacher = parts.x, parts.plan, parts.teacher
    frozen = {'teacher': plan.put_state(jax.tree.map(jax.numpy.asarray, teacher.params))} if teacher else {}
    step = train.make_step(parts.model, teacher.model if teacher else None, x.losses, x.optimizer, parts.steps, x.run.accumulate)
    return plan.compile(step, donate=True), frozen


def fit(parts: Parts, state: State, first: int) -> tuple[State, dict[str, float]]:
    """Trains from step `first` to the last, evaluates and saves on the way; returns also what the last evaluation measured.

    Metrics of step k − 1 are read while step k runs. A finished run is not evaluated again. After a signal the state is saved at
    the end of the step, and Interrupted is raised.
    """
    x, scores, measured = parts.x, read_scores(parts), dict[str, float]()
    if not parts.steps or is_exhausted(x.run.patience, scores):
        return state, measured
    compiled, frozen = compile_step(parts)
    recorder = Recorder(parts, first)
    with signals.postponed() as signal:
        if first and _evaluates(parts, first) and not was_measured(parts, first):
            measured = _pause(parts, recorder, state, first, scores, signal)  # a signal came during that evaluation
        unread = None
        for step, batch in zip(range(first + 1, parts.steps + 1), parts.feed.stream(first), strict=False):
            if is_exhausted(x.run.patience, scores):
                parts.log.line(f'stops at step {step - 1}: no better {selecting_metric(parts)} in {x.run.patience} evaluations')
                break
            state, metrics = compiled(state, frozen, parts.plan.put_batch(batch))
            if unread is not None:
                recorder.record(*unread)
            unread = step, metrics
            if _evaluates(parts, step) or _is_due(parts, step, x.run.checkpoint_every) or signal.number is not None:
                recorder.record(*unread)
                unread = None
                measured = _pause(parts, recorder, state, step, scores, signal)
    return state, measured


def _pause(
    parts: Parts, recorder: Recorder, state: State, step: int, scores: list[float], signal: signals.Pending
) -> dict[str, float]:
    """Evaluates `state` if that is due, saves it, and returns what was measured; adds the score to `scores`.

    Raises Interrupted after a signal, once the state is on disk. An evaluation that a signal ends is made anew in the next session.
    """
    measured, score, seconds = dict[str, float](), None, recorder.seconds()
    with recorder.paused():
        if _evaluates(parts, step):
            with contextlib.suppress(Interrupted):
                measured, score = _evaluate(parts, state, step, seconds, signal)
        scores += [] if score is None else [score]
        parts.checkpoints.save(state, score)
        if signal.number is not None:
            parts.checkpoints.wait()
            parts.log.line(f'stopped by {signal.name()}: the state of step {step} is saved')
            raise Interrupted(signal.number, f'{parts.workdir.name}: the same command continues from step {step}')
    return measured


def _evaluates(parts: Parts, step: int) -> bool:
    """Whether the watched split is evaluated at `step`."""
    return watched_split(parts) in parts.feed.evaluation and _is_due(parts, step, parts.x.run.evaluate_every)


def _is_due(parts: Parts, step: int, every: int) -> bool:
    return step == parts.steps or bool(every and step % every == 0)


def _evaluate(
    parts: Parts, state: State, step: int, seconds: float, signal: signals.Pending
) -> tuple[dict[str, float], float | None]:
    """Measures the watched split and logs it: (its numbers, the one that selects checkpoints). A signal raises Interrupted."""
    found, _ = measure_split(parts, train.evaluated(state), watched_split(parts), between=signal.stop_between)
    parts.log.numbers(step, {'seconds': seconds, **found})
    parts.log.line(f'step {step} ' + ' '.join(f'{name} {value:.4f}' for name, value in found.items()))
    name = selecting_metric(parts)
    return found, found[name] if name else None
