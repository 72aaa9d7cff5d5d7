"""Experiments that are impossible, whatever the data and the machine, and keys that would change nothing."""

from collections.abc import Iterable

from research import optim
from research.data import validation as data_validation
from research.errors import UserError, choose
from research.experiment import Experiment, offered, scored
from research.models import architecture
from research.models.sharing import layout
from research.objectives import losses as objectives
from research.parallel import PARALLEL
from research.surgery import OWN


def validate(x: Experiment) -> None:
    """Raises UserError for an experiment that is impossible, whatever the data and the machine."""
    for field in ('batch', 'accumulate', 'log_every', 'keep'):
        if getattr(x.run, field) < 1:
            raise UserError(f'run.{field}={getattr(x.run, field)}: it must be at least 1')
    for field in ('steps', 'epochs', 'evaluate_every', 'evaluate_batches', 'patience', 'checkpoint_every'):
        if getattr(x.run, field) < 0:
            raise UserError(f'run.{field}={getattr(x.run, field)}: it must not be negative')
    if x.run.patience and not scored(x):
        raise UserError(
            f'run.patience={x.run.patience} waits for a better score, but there is none while training: '
            'it needs data.task, data.select=train or dev, and run.evaluate_every'
        )
    choose('run.parallel', x.run.parallel, PARALLEL)
    architecture.validate(x.model)
    layout(x.model)
    data_validation.validate(x.data, x.run.batch, x.seed)
    data_validation.validate_machine(x.machine)
    objectives.validate(x.losses, x.model, offered(x), x.teacher)
    optim.validate(x.optimizer)
    if x.run.steps == 0 and not x.start:
        raise UserError('run.steps=0 evaluates a trained model: give --config.start=RUN')
    if x.run.steps and not x.run.epochs:
        optim.schedule(x.optimizer, x.run.steps)
    if x.data.length > x.model.positions:
        raise UserError(f'data.length={x.data.length} is longer than model.positions={x.model.positions}')
    if x.data.pairs != 'none' and x.model.types == 1:
        raise UserError(
            f"data.pairs='{x.data.pairs}' tells segments apart by token types, but model.types=1; give 2, or 0 for none"
        )
    if x.start == 'teacher' and not x.teacher:
        raise UserError("start='teacher' needs a teacher: give --config.teacher=RUN")


def refuse_inherited(runs: Iterable[Experiment], changed: Iterable[str]) -> None:
    """Raises UserError for changed keys of an architecture that all of `runs` take from their starts: they would change nothing."""
    lost = [key for key in changed if key.startswith('model.') and key.removeprefix('model.') not in OWN]
    if lost and all(x.surgery.inherit for x in runs):
        raise UserError(
            f"{', '.join(lost)} would change nothing: with surgery.inherit the architecture is the start's; give "
            '--config.surgery.keep=SHARE for its depth, --config.surgery.sharing=NAME, or --config.surgery.inherit=false'
        )
