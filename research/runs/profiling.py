"""A trace of a few steps, in the run's folder, for Perfetto and TensorBoard; the log names what they spent their time on."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

import jax

from research import processes
from research.files import make_folder
from research.runs.opening import Parts
from research.runs.traces import measure_operations

STEPS = 3  # that are traced, fewer if an evaluation or a checkpoint comes between
SHOWN = 5  # operations that the log names


class Profiler:
    """Traces the steps from `run.profile` on. Of several processes the first alone traces. No number of the run depends on it.

    pause: stops the clock of training while a trace is written.
    """

    def __init__(self, parts: Parts, pause: Callable[[], AbstractContextManager[None]]) -> None:
        self._folder, self._log, self._pause = parts.workdir / 'profile', parts.log, pause
        self._first = parts.x.run.profile if processes.is_chief() else 0
        self._tracing = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._tracing:  # the run is interrupted
            jax.profiler.stop_trace()

    def begin(self, step: int, state: Any) -> None:
        """To be called before each step."""
        if step == self._first and not self._tracing:
            jax.block_until_ready(state)
            make_folder(self._folder)
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level, options.host_tracer_level = 0, 1  # what Python does in between is of no interest
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True, profiler_options=options)
            self._tracing = True

    def end(self, step: int, state: Any, last: bool) -> None:
        """To be called after each step, with the new state; `last`: whether something else than a step comes next."""
        if self._tracing and (last or step == self._first + STEPS - 1):
            jax.block_until_ready(state)
            with self._pause():
                self._tracing = False
                jax.profiler.stop_trace()
                self._report(step)
                self._first = 0  # a run that goes back does not trace again

    def _report(self, step: int) -> None:
        """Logs where the trace lies, and its dearest operations."""
        path = max(self._folder.rglob('*.xplane.pb'), key=lambda path: path.stat().st_mtime)
        shares = list(measure_operations(path).items())[:SHOWN]
        shown = ', '.join(f'{name} {share:.1%}' for name, share in shares) or 'nothing was traced'
        self._log.line(f'profile of steps {self._first} to {step}, for Perfetto and TensorBoard: {path.parent}')
        self._log.line(f'the dearest operations, with their share of the time: {shown}')
