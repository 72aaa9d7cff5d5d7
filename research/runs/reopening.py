"""A run opened again from its folder alone, to compute its numbers anew. Nothing here writes into the folder."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from research import experiment, parallel, validation
from research.checkpoint import Checkpoints
from research.checkpoint_files import find_damage
from research.compiled import use_compiled
from research.data import feed as feeds
from research.errors import DamagedError, UserError
from research.evaluation.measures import make_measure
from research.experiment import Experiment, student_heads
from research.models.heads import Heads
from research.objectives import losses
from research.records import parse_record
from research.runs import memory, sources
from research.runs.comparing import TOLERANCE, Comparison, compare_environments
from research.runs.definition import read_definition
from research.runs.environment import describe_environment
from research.runs.folder import Devices, Environment, read_environment
from research.runs.opening import Bench, build_models, load_feed, number_of_steps

DEVICES = 1024  # of a run: a process simulates as many
REMEDY = 'the folder is damaged, or of another version of this code'


@dataclasses.dataclass(frozen=True)
class Reopened:
    """A run, what was compared so far, and why numbers may differ in the last bits."""

    bench: Bench
    comparison: Comparison
    reasons: tuple[str, ...]
    same_labels: bool  # whether the data still have the labels of the run, without which nothing can be computed


def read_run(folder: Path) -> tuple[Experiment, Environment]:
    """The experiment and the environment of a run folder. Raises UserError if it is none, or one of them is missing or damaged."""
    x = read_definition(folder)
    environment = read_environment(folder)
    if environment is None:
        raise UserError(f'{folder / "environment.json"} is missing or half-written: {REMEDY}')
    try:
        count = parse_record(Devices, environment.devices).count
    except (TypeError, ValueError):
        count = 0
    if not 1 <= count <= DEVICES:
        raise UserError(f'{folder / "environment.json"}: devices lacks the platform or a count from 1 to {DEVICES:,}: {REMEDY}')
    return x, environment


def begin_process(x: Experiment, environment: Environment) -> None:
    """Makes this process like that of the run. Call it before jax opens its devices."""
    memory.keep_memory()
    if x.run.deterministic:
        parallel.request_determinism()
    stored = environment.devices
    if stored['platform'] == 'cpu' and not parallel.is_started():
        parallel.simulate_devices(stored['count'])
    use_compiled()


def reopen(folder: Path, x: Experiment, environment: Environment, heads: Heads | None = None) -> Reopened:
    """Opens the data, with the run's own tokenizer, and the teacher if `heads` are not known; compares the data.

    Raises UserError if something that the run was made of is not there, DamagedError if it is not as it was written.
    """
    validation.validate(x)
    data = dataclasses.replace(x.data, tokenizer=str(folder / 'tokenizer'), changed='prepare')
    teacher = sources.open_donor(x.teacher, folder, 'teacher') if heads is None and losses.needs_teacher(x.losses) else None
    plan = parallel.make_plan(x.run.parallel, x.run.batch, x.run.accumulate, x.run.model_devices)
    feed = load_feed(x, data, plan)
    heads = heads if heads is not None else student_heads(x, teacher.architecture if teacher else None)
    model, teacher, _ = build_models(dataclasses.replace(x, model=dataclasses.replace(x.model, attention='auto')), heads, teacher)
    measure = plan.compile(make_measure(model, experiment.offered(x), (x.data.answers.starts, x.data.answers.ends)))
    bench = Bench(x, plan, model, teacher, feed, number_of_steps(x, feed), measure)
    reasons = compare_environments(environment.all_sessions(), describe_environment({}))
    comparison = Comparison(TOLERANCE[x.model.dtype] if reasons else 0.0)
    compare_data(comparison, environment, feed)
    same_labels = 'labels' not in environment.data or environment.data['labels'] == feed.facts.labels
    return Reopened(bench, comparison, reasons, same_labels)


def compare_data(comparison: Comparison, environment: Environment, feed: feeds.Feed) -> None:
    """Compares the labels, and the fingerprints of the tokenizer and of the data."""
    names = {
        'tokenizer_fingerprint': "the tokenizer's fingerprint",
        'fingerprint': "the data's fingerprint",
        'labels': 'the labels',
    }
    for key, words in names.items():
        if key in environment.data:
            comparison.add(words, environment.data[key], getattr(feed.facts, key))


@contextlib.contextmanager
def reading(folder: Path, step: int) -> Iterator[Checkpoints]:
    """The checkpoints of a run, to read that of `step` alone.

    Raises DamagedError if a file of that is not as it was written, and for whatever reading raises in the block.
    """
    damage = find_damage(folder / 'checkpoints' / str(step))
    if damage:
        raise DamagedError(f'the checkpoint of step {step} is damaged: {damage}')
    checkpoints = Checkpoints(folder / 'checkpoints', read_only=True)
    try:
        yield checkpoints
    except Exception as error:  # Orbax and TensorStore raise what they like for bytes that are not theirs
        reason = (str(error).strip().splitlines() or [''])[0]
        raise DamagedError(f'the checkpoint of step {step} cannot be read: {type(error).__name__}: {reason}') from error
    finally:
        checkpoints.close()
