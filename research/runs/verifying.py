"""A finished run evaluated once more, from its folder alone: do its weights and data give the numbers that it recorded?"""

import dataclasses
from pathlib import Path
from typing import Any

import jax

from research.checkpoint_files import list_steps
from research.errors import UserError
from research.evaluation.floors import is_floor
from research.evaluation.gains import FILE, HeldOut, read_held_out
from research.evaluation.scoring import Evaluation, render_predictions
from research.experiment import Experiment
from research.models.heads import initialise
from research.records import parse_lines, to_json
from research.runs.comparing import CHOICES, Comparison, Difference, Say
from research.runs.ending import assess, evaluate_splits
from research.runs.fingerprints import fingerprint_params
from research.runs.folder import Environment, Result, read_result
from research.runs.opening import Bench, first_state
from research.runs.reopening import Reopened, begin_process, read_run, reading, reopen
from research.runs.sources import find_heads, list_shapes, open_start

PARAMETERS = "the parameters' fingerprint"


def verify(folder: Path, say: Say) -> bool:
    """Evaluates the selected checkpoint of a finished run, and returns whether it gives the recorded result and predictions.

    Lists each difference. Raises UserError if the run is not finished, or cannot be evaluated here, DamagedError if it is damaged.
    """
    x, environment = read_run(folder)
    result = read_result(folder)
    if result is None:
        raise UserError(f'{folder} is not finished: it has no whole result.json; python launch.py --workdir={folder} goes on')
    if 'tokenizer_fingerprint' not in environment.data:
        return _verify_imported(folder, result, say)
    begin_process(x, environment)
    opened, params = _open(folder, x, environment, result)
    comparison = opened.comparison
    if opened.same_labels and _compare_shapes(comparison, opened.bench, params):
        _compare_result(folder, opened, result, params)
    return comparison.conclude(folder, opened.reasons, say)


def _open(folder: Path, x: Experiment, environment: Environment, result: Result) -> tuple[Reopened, Any]:
    """(the run, the parameters that it was evaluated with, as numpy arrays)."""
    if result.steps == 0:
        opened = reopen(folder, x, environment)
        return opened, first_state(opened.bench.model, x, open_start(x, folder), opened.bench.feed)[0].params
    step = result.selected.step if result.selected else result.steps
    params = _read(folder, step)
    return reopen(folder, x, environment, find_heads(params)), params


def _read(folder: Path, step: int) -> Any:
    """The parameters of a checkpoint. Raises UserError if it is not there, DamagedError if it cannot be read."""
    steps = list_steps(folder / 'checkpoints')
    if step not in steps:
        there = ', '.join(map(str, steps)) or 'none'
        raise UserError(f'{folder} was evaluated with the checkpoint of step {step}, which is gone (there are: {there})')
    with reading(folder, step) as checkpoints:
        return checkpoints.params(step)


def _verify_imported(folder: Path, result: Result, say: Say) -> bool:
    """Compares the parameters of an imported model, which has no metrics."""
    params = _read(folder, result.steps)
    comparison = Comparison(0.0)
    comparison.add('parameters.total', result.parameters.total, sum(leaf.size for leaf in jax.tree.leaves(params)))
    if result.fingerprint is not None:
        comparison.add(PARAMETERS, result.fingerprint, fingerprint_params(params))
    say(f'{folder} was imported: it has parameters, and no metrics to compute anew')
    return comparison.conclude(folder, (), say)


def _compare_shapes(comparison: Comparison, bench: Bench, params: Any) -> bool:
    """Whether the parameters are those of the model, by path and shape; each difference is recorded."""
    wanted = jax.eval_shape(lambda: initialise(bench.model, jax.random.key(0)))
    shapes = Comparison(0.0)
    shapes.add('shape', list_shapes(wanted), list_shapes(params))
    comparison.differences += shapes.differences
    return not shapes.differences


def _compare_result(folder: Path, opened: Reopened, result: Result, params: Any) -> None:
    """Evaluates the parameters, and compares the numbers with result.json and the predictions with the files of the splits."""
    bench, comparison = opened.bench, opened.comparison
    placed = bench.plan.put_state(jax.tree.map(jax.numpy.asarray, params))
    if result.fingerprint is not None:
        comparison.add(PARAMETERS, result.fingerprint, fingerprint_params(placed))
    # Runs before 0.2 read `run.evaluate_batches` batches at their end too, and did not tell the kinds of predicted pieces apart.
    older = result.contextless is None and not any('/mlm_' in name and 'accuracy' not in name for name in result.metrics)
    try:
        metrics, evaluations, held_out = evaluate_splits(bench, placed, whole=not older)
    except UserError as error:  # weights that give no finite logits
        comparison.add('metrics', 'numbers', str(error))
        return
    if older and not bench.x.data.task:
        metrics, held_out = {name: metrics[name] for name in metrics if name in result.metrics}, None
    found = {name: to_json(value) for name, value in assess(bench, placed, metrics, evaluations).items() if name != 'fingerprint'}
    if older:
        del found['contextless']
    stored = {name: to_json(getattr(result, name)) for name in found}
    # Floors are learnt from the data alone: they say nothing of the weights.
    stored['metrics'] = {name: value for name, value in stored['metrics'].items() if not is_floor(name)}
    smallest = min((len(each.predictions) for each in evaluations.values()), default=0)
    # Of a small split one other prediction is more than any tolerance of numbers.
    loose = max(comparison.tolerance, 2 / smallest) if smallest and comparison.tolerance else comparison.tolerance
    comparison.add('', stored, found, tolerance=loose)
    if held_out is not None:
        _compare_held_out(comparison, folder, held_out)
    for split, evaluation in evaluations.items():
        _compare_predictions(comparison, folder / split, split, evaluation)


def _compare_held_out(comparison: Comparison, folder: Path, found: HeldOut) -> None:
    """Compares held_out.npz, array by array."""
    stored = read_held_out(folder)
    if stored is None:
        comparison.add(FILE, None, 'a file')
        return
    for field in dataclasses.fields(HeldOut):
        comparison.add(f'{FILE}: {field.name}', *(getattr(each, field.name).tolist() for each in (stored, found)))


def _compare_predictions(comparison: Comparison, folder: Path, split: str, evaluation: Evaluation) -> None:
    """Compares the files of a split: in all bytes, or its predictions one by one where numbers may differ."""
    for name, content in render_predictions(evaluation).items():
        path = folder / name
        stored = path.read_bytes() if path.is_file() else None
        if stored == content:
            comparison.exact += 1
        elif stored is None:
            comparison.add(f'{split}/{name}', None, 'a file')
        elif name == 'predictions.jsonl':
            _compare_lines(comparison, f'{split}/{name}', stored, evaluation)
        elif not comparison.tolerance:
            comparison.add(f'{split}/{name}', 'a file', 'a file of other content')


def _compare_lines(comparison: Comparison, name: str, stored: bytes, evaluation: Evaluation) -> None:
    """Compares predictions.jsonl line by line. Where numbers may differ, a share of CHOICES may be other choices."""
    lines = list(parse_lines(stored.splitlines()))
    if len(lines) != len(evaluation.predictions):
        comparison.add(f'{name}: lines', len(lines), len(evaluation.predictions))
        return
    firsts: list[Difference] = []
    for line, prediction in zip(lines, evaluation.predictions, strict=True):
        part = Comparison(comparison.tolerance)
        part.add(f'{name}: {prediction["id"]}', line, to_json(prediction))
        firsts += part.differences[:1]
    if not firsts or (comparison.tolerance and len(firsts) <= max(1, CHOICES * len(lines))):
        comparison.near += bool(comparison.tolerance)
        comparison.exact += not comparison.tolerance
    else:
        comparison.differences += firsts
