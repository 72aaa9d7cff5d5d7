"""Steps of a run computed once more: from a checkpoint and the data to the numbers that were logged."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from research import train
from research.checkpoint_files import list_steps
from research.data.settings import has_causal
from research.errors import UserError
from research.experiment import Experiment
from research.runs.comparing import Comparison, Say
from research.runs.fingerprints import fingerprint_params
from research.runs.folder import is_step, read_metrics
from research.runs.guard import BACK
from research.runs.measuring import measure_split, watched_split
from research.runs.opening import Bench, first_state
from research.runs.reopening import begin_process, read_run, reading, reopen
from research.runs.sources import open_start
from research.runs.training import compile_step
from research.train import State

TIMES = ('step', 'wall', 'seconds', 'train/tokens_per_second')  # of a logged line: measured by a clock, not by the model


class Replayed(NamedTuple):
    """A step computed anew."""

    step: int
    state: State  # after it; the next step takes its memory
    numbers: dict[str, float]


def replay(folder: Path, step: int, say: Say) -> bool:
    """Computes the steps up to `step` anew, and returns whether they give every number that was logged on the way.

    It begins at the newest checkpoint before `step`, or at the first state, and goes on to the first logged step from there on.
    Also compared are the checkpoints on the way. Raises UserError for a step that was never logged or cannot be computed
    here, DamagedError if something is damaged.
    """
    x, environment = read_run(folder)
    logged = _read_log(folder)
    target = _find_target(folder, x, step, logged)
    begin_process(x, environment)
    steps = list_steps(folder / 'checkpoints')
    first = max((each for each in steps if each < step), default=0)
    opened = reopen(folder, x, environment)
    comparison, bench = opened.comparison, opened.bench
    if not opened.same_labels:
        return comparison.conclude(folder, opened.reasons, say)
    state = _begin(folder, bench, first, steps)
    say(f'{folder}: steps {first + 1} to {target}, from {f"the checkpoint of step {first}" if first else "the first state"}')
    for each in replay_steps(bench, state, first, target, _read_returns(folder)):
        if each.step in logged:
            _compare_step(comparison, bench, each, logged[each.step])
        if each.step in steps:
            _compare_checkpoint(folder, comparison, each)
        if each.step in (step, target):
            say(_describe(each, logged))
    return comparison.conclude(folder, opened.reasons, say)


def replay_steps(bench: Bench, state: State, first: int, last: int, returns: Mapping[int, int]) -> Iterator[Replayed]:
    """Steps first + 1 to last, from the state after step `first`.

    returns: step -> the earlier step whose state the run went back to there. Raises UserError if that is before `first`.
    """
    compiled, frozen = compile_step(bench)
    stream = bench.feed.stream(first)
    kept = {first: jax.tree.map(lambda leaf: leaf.copy(), state)} if first in returns.values() else {}
    try:
        for step, batch in zip(range(first + 1, last + 1), stream, strict=False):
            state, metrics = compiled(state, frozen, bench.plan.put_batch(batch))
            if step in returns:
                if returns[step] not in kept:
                    raise UserError(
                        f'after step {step} the run went back to step {returns[step]}, whose checkpoint is gone: '
                        f'give a --step up to {step}'
                    )
                back = jax.tree.map(lambda leaf: leaf.copy(), kept[returns[step]])
                state = dataclasses.replace(back, step=jnp.full_like(back.step, step))
            if step in returns.values():
                kept[step] = jax.tree.map(lambda leaf: leaf.copy(), state)
            yield Replayed(step, state, {f'train/{name}': float(value) for name, value in jax.device_get(dict(metrics)).items()})
    finally:
        stream.close()


def _read_log(folder: Path) -> dict[int, dict[str, float]]:
    """The logged numbers of each step, those of its evaluation included."""
    found: dict[int, dict[str, float]] = {}
    for line in read_metrics(folder):
        found.setdefault(int(line['step']), {}).update({name: line[name] for name in line if name not in (*TIMES, BACK)})
    return found


def _read_returns(folder: Path) -> dict[int, int]:
    """Each step after which the run went back to an earlier state -> the step of that state."""
    return {int(line['step']): int(line[BACK]) for line in read_metrics(folder) if BACK in line and is_step(line[BACK])}


def _find_target(folder: Path, x: Experiment, step: int, logged: dict[int, dict[str, float]]) -> int:
    """The first step from `step` on whose loss was logged. Raises UserError if there is none."""
    trained = _trained(logged)
    if not x.run.steps or not trained:
        raise UserError(f'{folder} has no logged step to replay: its metrics.jsonl has no loss of training')
    if not 1 <= step <= trained[-1]:
        raise UserError(f'--step={step}: give one from 1 to {trained[-1]}, the last that {folder} has logged')
    return min(each for each in trained if each >= step)


def _trained(logged: dict[int, dict[str, float]]) -> list[int]:
    """The steps whose loss was logged, in order."""
    return sorted(step for step, numbers in logged.items() if 'train/loss' in numbers)


def _begin(folder: Path, bench: Bench, first: int, steps: list[int]) -> State:
    """The state after step `first`. Raises UserError if it is step 0 and what the run starts from is gone."""
    x = bench.x
    if first:
        fresh = train.initial_state(bench.model, x.optimizer, x.seed, x.run.spike, has_causal(x.data))
        like = bench.plan.put_state(fresh)
        with reading(folder, first) as checkpoints:
            return bench.plan.put_state(checkpoints.restore(first, like))
    try:
        state, _ = first_state(bench.model, x, open_start(x, folder), bench.feed)
    except UserError as error:
        after = f'; steps after {steps[0]} can be replayed' if steps else ''
        raise UserError(f'there is no checkpoint before this step, and the first state is gone: {error}{after}') from None
    return bench.plan.put_state(state)


def _compare_step(comparison: Comparison, bench: Bench, each: Replayed, stored: dict[str, float]) -> None:
    """Compares the logged numbers of a step; those of an evaluation are measured anew."""
    split = watched_split(bench)
    found = dict(each.numbers)
    if split and any(name.startswith(f'{split}/') for name in stored):
        try:
            found |= measure_split(bench, train.evaluated(each.state), split, whole=False).metrics
        except UserError as error:  # weights that give no finite logits
            comparison.add(f'step {each.step}: {split}', 'numbers', str(error))
    for name, value in stored.items():
        comparison.add(f'step {each.step}: {name}', value, found[name] if name in found else None)


def _compare_checkpoint(folder: Path, comparison: Comparison, each: Replayed) -> None:
    """Compares the parameters of the checkpoint of a step, in all bits; not where the machine or the code is another."""
    with reading(folder, each.step) as checkpoints:
        stored = checkpoints.params(each.step)
    if not comparison.tolerance:
        found = fingerprint_params(train.evaluated(each.state))
        comparison.add(f"step {each.step}: the fingerprint of the checkpoint's parameters", fingerprint_params(stored), found)


def _describe(each: Replayed, logged: dict[int, dict[str, float]]) -> str:
    """'step 20: loss equal (2.5 = 2.5, all bits)', or how it differs, or that it was not logged."""
    loss = each.numbers['train/loss']
    trained = _trained(logged)
    if each.step not in trained:
        nearest = [*[step for step in trained if step < each.step][-1:], *[step for step in trained if step > each.step][:1]]
        return f'step {each.step}: loss {loss} (not logged; the nearest that are: {" and ".join(map(str, nearest))})'
    stored = logged[each.step]['train/loss']
    if stored == loss:
        return f'step {each.step}: loss equal ({stored} = {loss}, all bits)'
    return f'step {each.step}: loss {loss}, logged {stored}'
