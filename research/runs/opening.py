"""Opening a run: data, the number of steps, the first state."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax

from research import checkpoint, costs, parallel, train
from research.data import feed as feeds
from research.data import masking, steps
from research.data.facts import SupervisedFacts
from research.data.frequencies import find_shares
from research.data.settings import Data, has_causal
from research.data.tokenizers import describe_unreachable
from research.errors import UserError
from research.experiment import Experiment
from research.models.attention import choose_kernel
from research.models.heads import Heads, Model, find_log_shares
from research.objectives import losses
from research.runs import sources
from research.runs.log import Log
from research.runs.validation import validate_transfer
from research.surgery import Donor, transplant
from research.train import State
from research.validation import validate_profile


@dataclasses.dataclass(frozen=True)
class Bench:
    """What the numbers of a run are computed with: nothing here writes."""

    x: Experiment
    plan: parallel.Plan
    model: Model
    teacher: Donor | None
    feed: feeds.Feed
    steps: int
    measure: Callable


@dataclasses.dataclass(frozen=True)
class Parts(Bench):
    """Everything that a run works with, opened and validated."""

    workdir: Path
    checkpoints: checkpoint.Checkpoints
    log: Log


def number_of_steps(x: Experiment, feed: feeds.Feed) -> int:
    """How many steps the run takes: `run.epochs` decides if it is given and `run.steps` is not 0.

    Raises UserError if the task has no training examples, or the step to profile comes after the last.
    """
    if not x.run.steps:
        return 0
    if not feed.examples:
        raise UserError(f"the task '{x.data.task}' has no training examples: give --config.run.steps=0 to evaluate a model on it")
    found = steps.number_of_steps(x.run.steps, x.run.epochs, feed.examples, x.run.batch)
    validate_profile(x.run.profile, found)
    return found


def load_data(x: Experiment, workdir: Path, start: Donor | None, teacher: Donor | None, plan: parallel.Plan) -> feeds.Feed:
    """The feed of this process, with the tokenizer that `data.tokenizer` names.

    'start' and 'teacher' are their own, '@NAME' is that of a sibling.
    """
    data = x.data
    for key, donor in (('start', start), ('teacher', teacher)):
        if data.tokenizer == key:
            if donor is None or donor.tokenizer is None:
                raise UserError(
                    f"data.tokenizer='{key}', but there is no {key} with a tokenizer: "
                    f'give --config.{key}=RUN or another --config.data.tokenizer'
                )
            data = dataclasses.replace(data, tokenizer=str(donor.tokenizer))
    if data.tokenizer.startswith('@'):
        data = dataclasses.replace(data, tokenizer=str(sources.locate(data.tokenizer, workdir) / 'tokenizer'))
    return load_feed(x, data, plan)


def load_feed(x: Experiment, data: Data, plan: parallel.Plan) -> feeds.Feed:
    """The feed of this process with the settings `data`, whose tokenizer is no longer that of a start, a teacher or a sibling."""
    return feeds.load(
        data,
        x.machine,
        batch=x.run.batch,
        seed=x.seed,
        vocabulary=x.model.vocabulary,
        steps=x.run.steps,
        epochs=x.run.epochs,
        mine=plan.rows(x.run.batch),
        divisor=plan.devices // x.run.model_devices * x.run.accumulate,
    )


def build_models(x: Experiment, heads: Heads, teacher: Donor | None) -> tuple[Model, Donor | None, list[str]]:
    """(the model, the teacher, log lines), with the kernels of attention that this machine's devices and the losses allow."""
    want, platform = losses.wants(x.losses), parallel.find_platform()
    kernel, line = choose_kernel(x.model, want, platform, training=x.run.steps > 0)
    if teacher is not None:
        a = dataclasses.replace(teacher.architecture, attention='auto')
        a = dataclasses.replace(a, attention=choose_kernel(a, want, platform, training=False)[0])
        teacher = dataclasses.replace(teacher, architecture=a)
    return Model(dataclasses.replace(x.model, attention=kernel), heads), teacher, [line]


def first_state(model: Model, x: Experiment, start: Donor | None, feed: feeds.Feed) -> tuple[State, list[str]]:
    """The State of step 0, and log lines on where its parameters come from."""
    state = train.initial_state(model, x.optimizer, x.seed, x.run.spike, has_causal(x.data))
    size = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    predicted = costs.summarize_parameters(x.model, model.heads)['total']
    if size != predicted:
        raise AssertionError(f'{size} parameters, but {predicted} were predicted')
    params, notes, fresh = state.params, ['start: all parameters are random'], True
    if start is not None:
        params, transfer = transplant(model, params, start, x.surgery)
        validate_transfer(x, transfer)
        notes, fresh = transfer.lines(), 'mlm/output/bias' in transfer.random
    if x.model.mlm_bias == 'frequencies' and fresh and 'mlm' in params and feed.counts is not None:
        bias = params['mlm']['output']['bias']
        found = jax.numpy.asarray(find_log_shares(find_shares(feed.counts, feed.pieces.special), len(bias)))
        params = {**params, 'mlm': {**params['mlm'], 'output': {'bias': found}}}
        notes.append("start: the MLM head's bias is the log of the training frequencies")
    return state if params is state.params else train.with_params(state, params, x.optimizer), notes


def introduce(parts: Parts, notes: list[str]) -> None:
    """Logs the size of the run, its data and `notes`."""
    log, facts = parts.log, parts.feed.facts
    total = costs.summarize_parameters(parts.x.model, parts.model.heads)['total']
    log.line(f'{total:,} parameters, {parts.plan.devices} device(s), {parts.feed.examples:,} training examples')
    if facts.unigram_entropy is not None:
        floor = '' if facts.contextless is None else f'; held-out loss without context: {facts.contextless:.3f}'
        log.line(f'unigram entropy of the corpus: {facts.unigram_entropy:.3f} nats{floor}')
    if not parts.x.data.task and (notice := masking.describe_cap(parts.x.data.masking, parts.x.data.length)):
        log.line(notice)
    if notice := describe_unreachable(parts.feed.tokenizer, parts.feed.pieces):
        log.line(notice)
    if isinstance(facts, SupervisedFacts):
        for line in facts.notices:
            log.line(line)
        log.line(f'{facts.selection}; reported: {facts.reported or "nothing"}')
    for line in notes:
        log.line(line)
