"""An experiment is a value: what is trained, on what, by which losses, from where, and how long.

The dataclasses beside their consumers are the schema; an `ml_collections.ConfigDict` is the wire on which flags and sweeps write.
"""

import ast
import dataclasses
import json
import math
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import ml_collections

from research import optim
from research.data import loading, tasks
from research.data.settings import Data
from research.errors import UserError, choose, nearest
from research.models import architecture
from research.models.architecture import Architecture
from research.models.sharing import layout
from research.objectives import losses as objectives
from research.objectives.losses import Losses
from research.optim import Optimizer
from research.parallel import PARALLEL
from research.surgery import OWN, Surgery


@dataclasses.dataclass(frozen=True)
class Run:
    """How long and how a run goes on, and what it leaves in its folder."""

    steps: int = 1000  # 0 evaluates the start and trains nothing
    epochs: float = 0.0  # passes over the training examples; above 0 it decides the number of steps, unless that is 0
    batch: int = 32  # sequences a step, over all devices
    accumulate: int = 1  # micro-batches a step
    parallel: str = 'jit'  # a row of PARALLEL
    log_every: int = 20  # steps
    evaluate_every: int = 0  # steps; 0 = at the end only
    evaluate_batches: int = 32  # of pretraining, batches of the dev split, at most; 0 = all. A task's splits are read whole
    patience: int = 0  # evaluations without a better score after which a task's run stops; 0 = never
    checkpoint_every: int = 500  # steps; 0 = at the end only
    keep: int = 2  # of the newest checkpoints, beside the best


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All that a run needs to know. `start` and `teacher` are run folders; '@NAME' is a sibling of the run's own."""

    name: str = 'experiment'
    seed: int = 0
    model: Architecture = Architecture()
    data: Data = Data()
    losses: Losses = Losses()
    start: str = ''  # the source of the first weights; '' = random, 'teacher' = the teacher's
    surgery: Surgery = Surgery()  # how the weights of `start` become this model's
    teacher: str = ''  # the source of the teacher; '' = none
    optimizer: Optimizer = Optimizer()
    run: Run = Run()


def offered(x: Experiment) -> frozenset[str]:
    """What the experiment's data offer to losses: rows of objectives.losses.REMEDIES."""
    return frozenset({tasks.task(x.data).kind} if x.data.task else {'masked', x.data.pairs})


def scored(x: Experiment) -> bool:
    """Whether a score is measured while it trains, by which it is selected."""
    return bool(x.data.task and x.data.select != 'last' and x.run.evaluate_every)


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
    loading.check(x.data, x.run.batch, x.seed)
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


def to_wire(x: Experiment) -> ml_collections.ConfigDict:
    """The experiment as a locked ConfigDict."""
    return ml_collections.ConfigDict(dataclasses.asdict(x)).lock()


def from_wire(wire: Mapping[str, Any] | ml_collections.ConfigDict) -> Experiment:
    """The experiment that a wire (or its JSON) describes; UserError for a key or a type that it does not have."""
    plain = json.loads(json.dumps(wire.to_dict() if isinstance(wire, ml_collections.ConfigDict) else wire))
    return _parse(Experiment, plain, '')


def _parse(kind: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        if not isinstance(value, dict):
            raise UserError(f'{path[:-1] or "the experiment"} must hold {", ".join(hints)}; it is {value!r}')
        for key in value:
            if key not in hints:
                raise UserError(f"no config key '{path}{key}'{nearest(key, hints)} (there are: {', '.join(hints)})")
        return cast(Any, kind)(**{key: _parse(hints[key], item, f'{path}{key}.') for key, item in value.items()})
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f'{path[:-1]}={value!r} must be a tuple')
        return tuple(_parse(typing.get_args(kind)[0], item, path) for item in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is float and isinstance(value, float) and not math.isfinite(value):
        raise UserError(f'{path[:-1]}={value} must be finite')
    if type(value) is not kind:
        raise UserError(f'{path[:-1]}={value!r} must be of type {kind.__name__}')
    return value


def override(x: Experiment, changes: Mapping[str, Any]) -> Experiment:
    """`x` with some keys changed: dotted name -> a value, or the text of one as a command line gives it.

    Raises UserError for an unknown key (with the nearest) and for a value of another type.
    """
    for key, value in changes.items():
        x = _override(x, key.split('.'), value, key)
    return x


def override_sibling(x: Experiment, changes: Mapping[str, Any]) -> Experiment:
    """As `override`, for a run of a study: a start, teacher or tokenizer that is another run of it ('@NAME') stays that.

    `run.patience` is for those of the study that have a score to wait for.
    """
    known = keys(Experiment)
    found = override(x, {key: new for key, new in changes.items() if key not in known or not str(value(x, key)).startswith('@')})
    return found if scored(found) else override(found, {'run.patience': x.run.patience})


def _override(x: Any, path: list[str], value: Any, key: str) -> Any:
    hints = typing.get_type_hints(type(x))
    name, *rest = path
    if name not in hints:
        raise UserError(f"no config key '{key}'{nearest(key, keys(Experiment))}")
    inner = getattr(x, name)
    if rest:
        if not dataclasses.is_dataclass(inner):
            raise UserError(f"no config key '{key}': '{name}' is a value, without keys of its own")
        return dataclasses.replace(x, **{name: _override(inner, rest, value, key)})
    if dataclasses.is_dataclass(inner):
        raise UserError(
            f"'{key}' is not one value: give one of {', '.join(f'{key}.{k}' for k in typing.get_type_hints(type(inner)))}"
        )
    kind = hints[name]
    parsed = _read(kind, value, key) if isinstance(value, str) else value
    return dataclasses.replace(x, **{name: _parse(kind, parsed, f'{key}.')})


def _read(kind: Any, text: str, key: str) -> Any:
    """The value of type `kind` that `text` spells."""
    if kind is str:
        return text
    if kind is bool:
        if text.lower() not in ('true', 'false', '1', '0'):
            raise UserError(f'{key}={text}: give true or false')
        return text.lower() in ('true', '1')
    try:
        if typing.get_origin(kind) is tuple and typing.get_args(kind)[0] is str:
            return tuple(item for item in text.strip('()').replace("'", '').split(',') if item)
        if typing.get_origin(kind) is tuple:
            read = ast.literal_eval(text if text.startswith(('(', '[')) else f'({text},)')
            return tuple(read)
        return kind(text)
    except (ValueError, SyntaxError, TypeError):
        name = 'tuple, such as 0,2,4' if typing.get_origin(kind) is tuple else kind.__name__
        raise UserError(f"{key}={text}: '{text}' is no {name}") from None


def refuse_inherited(runs: Iterable[Experiment], changed: Iterable[str]) -> None:
    """Raises UserError for changed keys of an architecture that all of `runs` take from their starts: they would change nothing."""
    lost = [key for key in changed if key.startswith('model.') and key.removeprefix('model.') not in OWN]
    if lost and all(x.surgery.inherit for x in runs):
        raise UserError(
            f"{', '.join(lost)} would change nothing: with surgery.inherit the architecture is the start's; give "
            '--config.surgery.keep=SHARE for its depth, --config.surgery.sharing=NAME, or --config.surgery.inherit=false'
        )


def keys(kind: Any, prefix: str = '') -> list[str]:
    """Every dotted name that can be overridden."""
    found = []
    for name, hint in typing.get_type_hints(kind).items():
        found += keys(hint, f'{prefix}{name}.') if dataclasses.is_dataclass(hint) else [prefix + name]
    return found


PACE = ('data.prefetch', 'data.workers')  # how fast batches come; what they are does not depend on it


def differences(a: Experiment, b: Experiment) -> list[str]:
    """The dotted names whose values differ, with both values; but for PACE."""
    found = []
    for key in keys(Experiment):
        if key in PACE:
            continue
        left, right = value(a, key), value(b, key)
        if left != right:
            found.append(f'{key}: {left!r} -> {right!r}')
    return found


def value(x: Any, key: str) -> Any:
    """The value at a dotted name."""
    for name in key.split('.'):
        x = getattr(x, name)
    return x


def setting(x: Experiment) -> Experiment:
    """`x` without what the seeds of one experiment differ in: PACE, seed, name, which sibling they start from or are taught by."""
    start, teacher = ('@' if source.startswith('@') else source for source in (x.start, x.teacher))
    data = dataclasses.replace(x.data, prefetch=0, workers=0)
    return dataclasses.replace(x, seed=0, name='', start=start, teacher=teacher, data=data)


def read(folder: Path, label: str = '', mend: str = '') -> Experiment:
    """The experiment of a run folder.

    Raises UserError where there is none, or one of another version; `label` begins the message and `mend` says what may be done.
    """
    path = folder / 'experiment.json'
    try:
        return from_wire(json.loads(path.read_text('utf-8')))
    except FileNotFoundError:
        raise UserError(f'{label}{folder} is no run folder: it has no experiment.json{mend}') from None
    except json.JSONDecodeError as error:
        raise UserError(f'{label}{path} is not JSON ({error}){mend}') from None
    except UserError as error:
        raise UserError(f'{label}{path} is from another version of this code ({error}){mend}') from None


def squeeze(x: Experiment) -> Experiment:
    """The same experiment, tiny: what tests and first tries run in seconds. Sources are left as they are."""
    groups = min(x.model.groups, 2)
    model = dataclasses.replace(
        x.model,
        vocabulary=512,
        layers=2,
        width=32,
        heads=2,
        inner=48,
        embedding=16 if x.model.embedding != x.model.width else 32,
        positions=32,
        groups=groups,
        table=tuple(tuple(0 for _ in pair) for pair in x.model.table[:2]),
    )
    return dataclasses.replace(
        x,
        model=model,
        data=dataclasses.replace(x.data, length=32, prefetch=1, buckets=()),
        surgery=dataclasses.replace(x.surgery, layers=()),
        run=dataclasses.replace(
            x.run,
            steps=2,
            epochs=0.0,
            batch=8 * x.run.accumulate if x.run.accumulate < 3 else 16,
            accumulate=min(x.run.accumulate, 2),
            log_every=1,
            evaluate_every=0,
            patience=0,
            evaluate_batches=1,
            checkpoint_every=0,
        ),
        optimizer=dataclasses.replace(x.optimizer, warmup=min(x.optimizer.warmup, 0.5)),
    )
