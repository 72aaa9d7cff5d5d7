"""The loop of a run: steps, evaluation, checkpoints."""

import contextlib
import itertools
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
from research.runs.guard import BACK, Guard, is_due
from research.runs.measuring import (
    Measurement,
    covers_all,
    explain_plateau,
    is_exhausted,
    measure_split,
    read_scores,
    selecting_metric,
    was_measured,
    watched_split,
)
from research.runs.opening import Bench, Parts
from research.runs.profiling import Profiler
from research.train import State

# Steps given to the devices whose metrics are not read yet, so that these never wait for the host. More would only make a signal,
# or a return to a checkpoint, wait longer. It is fixed: all processes of a run must have given as many steps when they go back.
AHEAD = 2


class Recorder:
    """Writes the numbers of steps to the log, with the seconds and the speed of training; pauses count for neither."""

    def __init__(self, parts: Parts, first: int) -> None:
        self._parts = parts
        self._first = first + 1
        names = tuple(losses.active(parts.x.losses))
        self._losses = ('loss', *names, *(train.CAUSAL + name for name in names))
        # The first step of each shape in this session is mostly compilation, which says nothing about the speed.
        self._compiled = {step + 1 for step in steps.first_steps(parts.x.data, parts.steps, first)}
        self.guard = Guard(parts, first)
        self._before = seconds_so_far(parts.workdir)
        self._begin = self._window = time.monotonic()
        self._tokens = 0.0

    def seconds(self) -> float:
        """The seconds of training so far, all sessions of the run together."""
        return self._before + time.monotonic() - self._begin

    def record(self, step: int, metrics: Mapping[str, jax.Array]) -> bool:
        """Logs one step if `run.log_every` asks for it or it was skipped. Returns whether the run goes on (`Guard.accept`)."""
        parts = self._parts
        values = {name: float(value) for name, value in jax.device_get(dict(metrics)).items()}
        goes_on = self.guard.accept(step, values)
        self._tokens += values.pop('tokens')
        skipped = values.pop('skipped')
        now = time.monotonic()
        if step in self._compiled:
            self._tokens, self._window = 0.0, now
        if skipped:  # JSON has no number that is not finite
            values = {name: value for name, value in values.items() if math.isfinite(value)} | {'skipped': skipped}
        due = is_due(parts, step, parts.x.run.log_every)
        shown = due or step == self._first
        speed = self._tokens / max(now - self._window, 1e-9) if self._tokens and due else None
        if speed is not None:
            values['tokens_per_second'] = speed
        if due or skipped:
            parts.log.numbers(step, {'seconds': self.seconds(), **{f'train/{name}': value for name, value in values.items()}})
        if shown:
            parts.log.progress(step, {name: values[name] for name in self._losses if name in values}, speed)
        if due:
            self._tokens, self._window = 0.0, now
        return goes_on

    def go_back(self, step: int, state: State) -> State:
        """`Guard.go_back`, logged as a number of `step`."""
        with self.paused():
            state, found = self.guard.go_back(step, state)
        self._parts.log.numbers(step, {'seconds': self.seconds(), BACK: found})
        return state

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stops the clock while something else than training is done."""
        pause = time.monotonic()
        try:
            yield
        finally:
            self._window += time.monotonic() - pause
            self._begin += time.monotonic() - pause


def compile_step(bench: Bench) -> tuple[Callable[..., Any], dict[str, Any]]:
    """(the compiled step, what it is given as `frozen`: the teacher's parameters on the devices, if there is a teacher)."""
    x, plan, teacher = bench.x, bench.plan, bench.teacher
    frozen = {'teacher': plan.put_state(jax.tree.map(jax.numpy.asarray, teacher.params))} if teacher else {}
    step = train.make_step(
        bench.model,
        teacher.model if teacher else None,
        x.losses,
        x.optimizer,
        bench.steps,
        x.run.accumulate,
        x.run.spike,
        x.run.gradient_norms,
    )
    return plan.compile(step, donate=True), frozen


def fit(parts: Parts, state: State, first: int) -> tuple[State, Measurement | None]:
    """Trains from step `first` to the last, evaluates and saves on the way; returns also the last evaluation, if it read all rows.

    A finished run is not evaluated again. After a signal the state is saved at the end of the step, and Interrupted is raised.
    """
    x, scores, measured = parts.x, read_scores(parts, first), None
    if not parts.steps or is_exhausted(x.run.patience, scores):
        return state, measured
    recorder = Recorder(parts, first)
    with signals.postponed() as signal, Profiler(parts, recorder.paused) as profiler:
        # A signal came during that evaluation.
        unmeasured = [(first, state, True)] if first and _evaluates(parts, first) and not was_measured(parts, first) else []
        pauses = itertools.chain(unmeasured, _train(parts, state, first, recorder, profiler, signal))
        for step, state, planned in pauses:
            measured = _pause(parts, recorder, state, step, planned, scores, signal)
            if is_exhausted(x.run.patience, scores):
                parts.log.line(f'stops at step {step}: no better {selecting_metric(parts)} in {x.run.patience} evaluations')
                break
    return state, measured


def _train(
    parts: Parts, state: State, first: int, recorder: Recorder, profiler: Profiler, signal: signals.Pending
) -> Iterator[tuple[int, State, bool]]:
    """Trains from step `first` to the last; yields (step, state, whether that was planned) where the state is to be saved.

    That is where an evaluation or a checkpoint is due, where the run went back to an earlier checkpoint, and, unplanned, after a
    signal. Metrics are read when AHEAD later steps are under way; those of the first step, mostly compilation, at once.
    """
    compiled, frozen = compile_step(parts)
    begun = first + 1
    while first < parts.steps:
        unread: list[tuple[int, dict[str, jax.Array]]] = []
        for step, batch in zip(range(first + 1, parts.steps + 1), parts.feed.stream(first), strict=False):
            profiler.begin(step, state)
            state, metrics = compiled(state, frozen, parts.plan.put_batch(batch))
            unread.append((step, metrics))
            planned = _evaluates(parts, step) or is_due(parts, step, parts.x.run.checkpoint_every)
            due = signal.ends(step) or planned
            profiler.end(step, state, due)
            read, unread = (unread, []) if due or step == begun else (unread[:-AHEAD], unread[-AHEAD:])
            broken = next((number for number, metrics in read if not recorder.record(number, metrics)), None)
            if broken is not None:
                first, state = broken, recorder.go_back(broken, state)
                yield first, state, True
                break
            if due:
                yield step, state, planned
        else:
            return


def _pause(
    parts: Parts, recorder: Recorder, state: State, step: int, planned: bool, scores: list[float], signal: signals.Pending
) -> Measurement | None:
    """Evaluates `state` if that is due, saves it, and returns what was measured if that was all rows; adds the score to `scores`.

    Raises Interrupted after a signal, once the state is on disk. An evaluation that a signal ends is made anew in the next session.
    """
    measured, score, seconds = None, None, recorder.seconds()
    with recorder.paused():
        if _evaluates(parts, step):
            with contextlib.suppress(Interrupted):
                measured, score = _evaluate(parts, state, step, seconds, signal)
        scores += [] if score is None else [score]
        parts.checkpoints.save(state, score, planned)
        if signal.number is not None:
            parts.checkpoints.wait()
            parts.log.line(f'stopped by {signal.name()}: the state of step {step} is saved')
            raise Interrupted(signal.number, f'{parts.workdir.name}: the same command continues from step {step}')
    return measured if measured and covers_all(parts, watched_split(parts)) else None


def _evaluates(parts: Parts, step: int) -> bool:
    """Whether the watched split is evaluated at `step`."""
    return watched_split(parts) in parts.feed.evaluation and is_due(parts, step, parts.x.run.evaluate_every)


def _evaluate(parts: Parts, state: State, step: int, seconds: float, signal: signals.Pending) -> tuple[Measurement, float | None]:
    """Measures the watched split and logs it: (what was found, the number that selects). A signal raises Interrupted."""
    measured = measure_split(parts, train.evaluated(state), watched_split(parts), whole=False, between=signal.stop_between)
    found = measured.metrics
    broken = [name for name, value in found.items() if not math.isfinite(value)]
    if broken:
        raise UserError(
            f'step {step}: {", ".join(broken)} is not finite: the weights are broken. '
            'Try a lower --config.optimizer.lr or a longer warm-up in another --workdir'
        )
    parts.log.numbers(step, {'seconds': seconds, **found})
    parts.log.line(f'step {step} ' + ' '.join(f'{name} {value:.4f}' for name, value in found.items()))
    if plateau := explain_plateau(found, steps.count_unmasked(parts.x.data, parts.steps) - step):
        parts.log.line(plateau)
    name = selecting_metric(parts)
    return measured, found[name] if name else None
