"""Where weights come from: a run folder, a Hugging Face folder or an id of the hub becomes a Donor."""

import dataclasses
from pathlib import Path
from typing import Any

import jax

from research import checkpoint
from research.copies import fetch_model
from research.data.settings import Data
from research.errors import UserError, nearest
from research.experiment import Experiment
from research.files import is_remote
from research.interchange import reading
from research.interchange.configuration import is_other_format
from research.interchange.hub import fetch, is_hub_id
from research.interchange.pooling import is_known
from research.models import paths
from research.models.architecture import Architecture
from research.models.heads import HEADS, Heads, Model, initialise
from research.records import parse_record
from research.remote import parse
from research.runs import definition
from research.runs.folder import read_environment, read_result
from research.surgery import Donor, Pooling, inherit

MEND = 'restore the run from a copy, or train it again'


def locate(source: str, workdir: Path) -> Path:
    """The folder that a source names; '@NAME' is the sibling of `workdir`."""
    return workdir.resolve().parent / source[1:] if source.startswith('@') else Path(source).expanduser()


def find(source: str, workdir: Path, key: str) -> Path:
    """The folder that a source names, fetched if it is in a bucket or the id of a model of the hub.

    Raises UserError if there is neither; `key` is the config key that names it, for messages.
    """
    found = find_there(source, workdir, key)
    if found is not None:
        return found
    folder = locate(source, workdir)
    siblings = [path.name for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []
    missing = f"{key}='{source}': there is no folder {folder}{nearest(folder.name, siblings)}"
    if not is_hub_id(source):
        raise UserError(f'{missing}; train it first, or give another')
    try:
        return fetch(source)
    except UserError as error:
        raise UserError(f'{missing}, and {error}') from None


def find_there(source: str, workdir: Path, key: str) -> Path | None:
    """The folder that a source names, fetched if it is in a bucket; None if it is not there, and may be an id of the hub.

    Raises UserError if there is nothing in the bucket.
    """
    if is_remote(source):
        return fetch_model(parse(source, key), key)
    folder = locate(source, workdir)
    return folder if folder.is_dir() else None


def is_run(folder: Path) -> bool:
    """Whether `folder` is a run folder rather than a Hugging Face folder."""
    return (folder / 'experiment.json').is_file() or not ((folder / 'config.json').is_file() or is_other_format(folder))


def read_experiment(source: str, workdir: Path, key: str) -> Experiment:
    """The experiment of the run that `source` names; for a Hugging Face model one that holds its architecture.

    Raises UserError if there is no such folder or it is neither.
    """
    folder = find(source, workdir, key)
    if not is_run(folder):
        return from_architecture(folder.name, reading.inspect(folder).architecture)
    return definition.read_definition(folder, f"{key}='{source}': ", ' (nor the config.json of a Hugging Face model)')


def from_architecture(name: str, a: Architecture) -> Experiment:
    """The experiment of a model that was trained elsewhere; its sequences are as long as it has positions."""
    return Experiment(name=name, model=a, data=Data(length=a.positions))


def open_model(source: str, workdir: Path, key: str) -> tuple[Donor, Experiment]:
    """The trained model that `source` names, its parameters in host memory, and the experiment that it was trained by."""
    folder = find(source, workdir, key)
    if not is_run(folder):
        found, _ = reading.open_folder(folder, source)
        return found, from_architecture(folder.name, found.architecture)
    x = read_experiment(source, workdir, key)
    named = f"{key}='{source}'"
    step, params = checkpoint.read_params(folder / 'checkpoints', named)
    heads = find_heads(params)
    wanted = list_shapes(jax.eval_shape(lambda: initialise(Model(x.model, heads), jax.random.key(0))))
    if wanted != list_shapes(params):
        raise UserError(f'{named}: the parameters of step {step} do not have the shapes of its experiment.json: {MEND}')
    tokenizer = folder / 'tokenizer'
    kept = tokenizer if tokenizer.is_dir() else None
    label = f'{source} (step {step})'
    return Donor(label, x.model, find_heads(params), params, kept, labels_of(folder), pooling=pooling_of(folder)), x


def open_donor(source: str, workdir: Path, key: str) -> Donor:
    """The trained model that `source` names, its parameters in host memory."""
    return open_model(source, workdir, key)[0]


def find_heads(params: Any) -> Heads:
    """The heads of a tree of parameters, with their numbers of classes."""
    shapes = list_shapes(params)
    found = []
    for name in HEADS:
        if f'{name}/output/bias' in shapes:
            found.append((name, shapes[f'{name}/output/bias']))
        elif f'{name}/output/kernel' in shapes:  # of a head whose output has no bias
            found.append((name, shapes[f'{name}/output/kernel'][-1:]))
    return tuple((name, *shape) for name, shape in found if len(shape) == 1)


def list_shapes(params: Any) -> dict[str, tuple[int, ...]]:
    """Path -> shape of each array of a tree."""
    return {paths.join(keys): leaf.shape for keys, leaf in jax.tree_util.tree_leaves_with_path(params)}


def open_start(x: Experiment, workdir: Path) -> Donor | None:
    """What the run starts from; None if its first weights are random."""
    key = 'teacher' if x.start == 'teacher' else 'start'
    return open_donor(source_of_start(x), workdir, key) if x.start else None


def labels_of(folder: Path) -> tuple[str, ...]:
    """The names of the labels of a run, as it wrote them when it began; () for a run without. Raises UserError for others."""
    environment = read_environment(folder)
    if environment is not None and 'labels' in environment.data:
        try:
            return parse_record(tuple[str, ...] | None, environment.data['labels']) or ()
        except (TypeError, ValueError):
            raise UserError(f'{folder / "environment.json"} has a damaged record of labels: {MEND}') from None
    result = read_result(folder)  # imports of earlier versions recorded them here alone
    return () if result is None else result.labels or ()


def pooling_of(folder: Path) -> Pooling:
    """How a run that was imported makes one vector of a text; the default for any other."""
    environment = read_environment(folder)
    if environment is None or 'pooling' not in environment.data:
        return Pooling()
    try:
        found = parse_record(Pooling, environment.data['pooling'])
    except (TypeError, ValueError):
        found = None
    if not isinstance(found, Pooling) or not is_known(found):
        raise UserError(f'{folder / "environment.json"} has a damaged record of pooling: import the model again')
    return found


def resolve(x: Experiment, workdir: Path) -> Experiment:
    """`x` with the architecture of its start filled in, if it inherits that.

    validation.validate_without_start comes first: it refuses an experiment that inherits from nothing.
    """
    if not x.surgery.inherit:
        return x
    source = source_of_start(x)
    return dataclasses.replace(x, model=inherit(x.surgery, x.model, read_experiment(source, workdir, 'start').model))


def source_of_start(x: Experiment) -> str:
    """The source that `start` names, with 'teacher' spelled out."""
    return x.teacher if x.start == 'teacher' else x.start
