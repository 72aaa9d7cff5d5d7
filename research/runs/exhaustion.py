"""Out of memory: what was asked of the devices, and what would fit."""

import contextlib
from collections.abc import Iterator

from jax.errors import JaxRuntimeError

from research import chips, predictions
from research.command import EXHAUSTED
from research.errors import UserError
from research.experiment import Experiment
from research.models.architecture import Architecture
from research.models.heads import Heads
from research.predictions import Work


def is_exhaustion(error: Exception) -> bool:
    """Whether an error of XLA is about memory."""
    return EXHAUSTED in str(error)


@contextlib.contextmanager
def explaining_exhaustion(x: Experiment, heads: Heads, teacher: Architecture | None, devices: int) -> Iterator[None]:
    """Within the block, an error of XLA about memory becomes a UserError that says what would fit; other errors pass.

    heads: the student's. teacher: the architecture of a teacher that a loss reads.
    """
    try:
        yield
    except JaxRuntimeError as error:
        if not is_exhaustion(error):
            raise
        planned = [work for _, work in predictions.plan_work(x, heads, teacher)]
        raise UserError(explain_exhaustion(planned, chips.read_memory(), devices, ' '.join(str(error).split()))) from error


def explain_exhaustion(planned: list[Work], memory: float, devices: int, said: str) -> str:
    """The line for a run whose stages are `planned`, on so many devices of `memory` bytes; `said` is the error of XLA."""
    on_cpu = [predictions.compile_for_cpu(work) for work in planned] if chips.is_cpu() else planned
    work = max(on_cpu, key=lambda work: sum(predictions.predict_memory(work, devices).values()))
    needed = sum(predictions.predict_memory(work, devices).values())
    asked = f'run.batch={work.batch} of {work.length} pieces, run.accumulate={work.accumulate}'
    line = (
        f'out of memory: a step with {asked} on {devices} device(s) takes about {needed / 1e9:,.2f} GB of each by prediction, '
        f'and each has {memory / 1e9:,.2f} GB'
    )
    batch = predictions.find_largest_batch(work, memory, devices)
    parts = predictions.find_accumulation(work, memory, devices)
    remedies = []
    if 0 < batch < work.batch:
        remedies.append(f'--config.run.batch={batch}, the largest that would fit')
    if parts > work.accumulate:
        remedies.append(f'--config.run.accumulate={parts} for the same batch in smaller parts')
    if not batch:
        state = predictions.predict_memory(work, devices)['state']
        remedies.append(f'a smaller model or data.length, or model.remat: one row is too much beside {state / 1e9:,.2f} GB')
    if not remedies:  # the prediction says that it fits: something else takes memory, or the prediction is too low
        remedies.append(f'a smaller --config.run.batch or a larger --config.run.accumulate: by prediction it fits ({said})')
    return f'{line}; give {", or ".join(remedies)}'
