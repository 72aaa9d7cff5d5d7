"""Experiments that are refused before anything starts: impossible values, and keys that would change nothing."""

import dataclasses
import functools
from collections.abc import Iterable

import jax

from research import optim, surgery
from research.data import validation as data_validation
from research.data.settings import has_causal
from research.errors import UserError, choose
from research.escape import clean
from research.experiment import Experiment, is_scored, offered
from research.files import validate_name
from research.models import architecture, attention, paths, sharing
from research.models.heads import HEADS, Model, initialise
from research.objectives import losses
from research.objectives import validation as losses_validation
from research.parallel import PARALLEL
from research.wire import value


def validate(x: Experiment) -> None:
    """Raises UserError for an experiment that is impossible, whatever the data and the machine."""
    _validate_all_but_parts(x)
    _validate_parts(x)


def validate_without_start(x: Experiment) -> None:
    """`validate` before the start, whose architecture the experiment inherits, is known: its positions and its parts may be any."""
    if not x.surgery.inherit:
        validate(x)
        return
    model = dataclasses.replace(x.model, positions=max(x.model.positions, x.data.length))
    _validate_all_but_parts(dataclasses.replace(x, model=model))


def _validate_all_but_parts(x: Experiment) -> None:
    _validate_names(x)
    _validate_run(x)
    architecture.validate(x.model)
    attention.validate(x.model)
    sharing.layout(x.model)
    if not 0 <= x.seed < 2**32:
        raise UserError(f'seed={x.seed} must not be negative, and below {2**32}')
    data_validation.validate(x.data)
    data_validation.validate_machine(x.machine)
    surgery.validate(x.surgery, bool(x.start))
    losses_validation.validate(x.losses, x.model, offered(x), x.teacher)
    optim.validate(x.optimizer)
    _validate_together(x)


def _validate_names(x: Experiment) -> None:
    validate_name('name', x.name)
    for key, source in (('start', x.start), ('teacher', x.teacher)):
        if clean(source) != source or source == '@' or source != source.strip():
            raise UserError(
                f"{key}={source!r} must be a run folder, a Hugging Face folder, an id of the hub, or '@' and a run of the study"
            )
    if x.teacher in ('teacher', 'start'):
        raise UserError(f"teacher='{x.teacher}' must be a run folder, a Hugging Face folder or an id of the hub")


def _validate_run(x: Experiment) -> None:
    run = x.run
    for field in ('batch', 'accumulate', 'model_devices', 'log_every', 'keep'):
        if getattr(run, field) < 1:
            raise UserError(f'run.{field}={getattr(run, field)} must be at least 1')
    periods = ('evaluate_every', 'evaluate_batches', 'patience', 'checkpoint_every')
    for field in ('steps', 'epochs', *periods, 'max_skipped', 'spike', 'profile'):
        if getattr(run, field) < 0:
            raise UserError(f'run.{field}={getattr(run, field)} must not be negative')
    if not run.epochs:
        validate_profile(run.profile, run.steps)
    choose('way to use devices (run.parallel)', run.parallel, PARALLEL)
    if run.model_devices > 1 and not PARALLEL[run.parallel].splits_matrices:
        fit = ' or '.join(f"'{name}'" for name, row in PARALLEL.items() if row.splits_matrices)
        raise UserError(f"run.model_devices={run.model_devices} does not work with run.parallel='{run.parallel}': give {fit}")
    if run.batch % run.accumulate:
        raise UserError(f'run.batch={run.batch} cannot be divided by run.accumulate={run.accumulate}')
    if run.patience and not is_scored(x):
        raise UserError(
            f'run.patience={run.patience} needs a score while training: '
            'give data.task, data.select=train or dev, and run.evaluate_every'
        )


def validate_profile(profile: int, steps: int) -> None:
    """Raises UserError if the step to profile comes after the last of the run."""
    if profile > steps:
        raise UserError(
            f'run.profile={profile} comes after the last step of the run, {steps}: give a step of it, or 0 for no profile'
        )


def _validate_together(x: Experiment) -> None:
    """Raises UserError for values that are possible one by one, but not together."""
    if x.run.steps == 0 and not x.start:
        raise UserError('run.steps=0 evaluates a trained model: give --config.start=RUN')
    if x.run.steps and not x.run.epochs:
        optim.schedule(x.optimizer, x.run.steps)
    for field in ('heads', 'inner'):
        if (size := getattr(x.model, field)) % x.run.model_devices:
            fits = [str(count) for count in range(1, x.run.model_devices) if x.model.heads % count == x.model.inner % count == 0]
            raise UserError(
                f'run.model_devices={x.run.model_devices} does not divide model.{field}={size}: give '
                f'--config.run.model_devices={" or ".join(fits)}'
            )
    if x.model.mlm_bias == 'frequencies' and x.data.task and 'mlm' in losses.heads(x.losses):
        raise UserError(
            f"model.mlm_bias='frequencies' needs the counts of a corpus, which data.task='{x.data.task}' has not: "
            'give --config.model.mlm_bias=zeros'
        )
    if has_causal(x.data) and losses.needs_teacher(x.losses):
        raise UserError(
            f'data.causal.share={x.data.causal.share} predicts the piece that follows, but a teacher of masked pieces the one that '
            'is there: give --config.data.causal.share=0, or weight 0 to the losses that read the teacher'
        )
    if x.data.length > x.model.positions:
        raise UserError(f'data.length={x.data.length} is longer than model.positions={x.model.positions}')
    if x.data.pairs != 'none' and x.model.types == 1:
        raise UserError(
            f"data.pairs='{x.data.pairs}' tells segments apart by token types, but model.types=1; give 2, or 0 for none"
        )
    for key, source in (('start', x.start), ('teacher', x.teacher)):
        if x.data.tokenizer == key and not source:
            raise UserError(
                f"data.tokenizer='{key}', but there is no {key}: give --config.{key}=RUN or another --config.data.tokenizer"
            )
    if x.start == 'teacher' and not x.teacher:
        raise UserError("start='teacher' needs a teacher: give --config.teacher=RUN")


def _validate_parts(x: Experiment) -> None:
    """Raises UserError for parts that the model does not have, in the keys that name parts of it."""
    if x.optimizer.frozen or x.surgery.drop:
        found, layout = _parameters(x.model, losses.heads(x.losses)), sharing.layout(x.model)
        paths.validate('optimizer.frozen', x.optimizer.frozen, found, layout)
        paths.validate('surgery.drop', x.surgery.drop, found, layout)


@functools.cache
def _parameters(a: architecture.Architecture, heads: tuple[str, ...]) -> tuple[str, ...]:
    """The paths of the parameters of a model; how many classes its heads have makes no difference to them."""
    model = Model(a, tuple((name, 2) for name in heads))
    shapes = jax.eval_shape(lambda: initialise(model, jax.random.key(0)))
    return tuple(paths.join(keys) for keys, _ in jax.tree_util.tree_leaves_with_path(shapes))


# ---- Keys that would change nothing ---------------------------------------------------------------------------------------------


def unused(x: Experiment) -> dict[str, str]:
    """Each key that this experiment does not read -> why a change of it would change nothing."""
    model = dataclasses.replace(x.model, sharing=x.surgery.sharing) if x.surgery.inherit and x.surgery.sharing else x.model
    found = sharing.unused(model) | data_validation.unused(x.data) | losses_validation.unused(x.losses)
    found |= optim.unused(x.optimizer) | surgery.unused(x.surgery, bool(x.start))
    if x.teacher and not losses.needs_teacher(x.losses) and 'teacher' not in (x.start, x.data.tokenizer):
        found['teacher'] = 'no loss reads it: give one, such as --config.losses.soft.weight=1, or --config.start=teacher'
    if x.data.task and not any(HEADS[head].searches for head in losses.heads(x.losses)):
        why = 'it is for the head whose end depends on the start, which losses.answer.weight=0 turns off'
        found |= {f'data.answers.{name}': why for name in ('starts', 'ends') if f'data.answers.{name}' not in found}
    if 'mlm' not in losses.heads(x.losses):
        found['model.mlm_bias'] = 'no loss reads the MLM head'
    if x.data.task:
        found['run.evaluate_batches'] = 'the splits of a task are evaluated whole'
    else:
        found['run.time_pass'] = 'the pass that it measures is over a split of a task: give --config.data.task'
    return found


def refuse_unused(runs: Iterable[Experiment], changed: Iterable[str]) -> None:
    """Raises UserError if one of the keys that the user changed would change nothing in any of `runs`.

    A value that turns a thing off, its default, is never refused: where there is no start, surgery.inherit=false is true.
    """
    runs, changed = list(runs), list(changed)
    lost = [key for key in changed if all(key in _inherited(x) for x in runs)]
    if lost:
        raise UserError(
            f"{', '.join(lost)} would change nothing: with surgery.inherit the architecture is the start's; give "
            '--config.surgery.keep=SHARE for its depth, --config.surgery.sharing=NAME, --config.surgery.without=PART, or '
            '--config.surgery.inherit=false'
        )
    default = Experiment()
    reasons = [{key: why for key, why in unused(x).items() if value(x, key) != value(default, key)} for x in runs]
    for key in changed:
        if all(key in each for each in reasons):
            raise UserError(f'{key} would change nothing: {reasons[0][key]}')


def _inherited(x: Experiment) -> list[str]:
    """The keys of the architecture that the start decides."""
    if not x.surgery.inherit:
        return []
    own = (*surgery.OWN, *(sharing.SHARING[x.surgery.sharing].options if x.surgery.sharing in sharing.SHARING else ()))
    return [f'model.{field.name}' for field in dataclasses.fields(x.model) if field.name not in own]
