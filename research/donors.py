"""Where weights come from: a source by name becomes a Donor."""

import dataclasses
import json
from pathlib import Path

from research import checkpoint, experiment
from research.errors import UserError, nearest
from research.experiment import Experiment
from research.models.heads import HEADS
from research.surgery import Donor, inherit


def locate(source: str, workdir: Path) -> Path:
    """The folder that a source names; '@NAME' is the sibling of `workdir`."""
    return workdir.parent / source[1:] if source.startswith('@') else Path(source).expanduser()


def read_experiment(source: str, workdir: Path, key: str) -> Experiment:
    """The experiment of the run folder that `source` names; `key` is the config key that names it, for messages.

    Raises UserError where there is no such folder or it is no run folder.
    """
    folder = locate(source, workdir)
    if not folder.is_dir():
        siblings = [path.name for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []
        raise UserError(
            f"{key}='{source}': there is no folder {folder}{nearest(folder.name, siblings)}; train it first, or give --config.{key}=RUN"
        )
    try:
        return experiment.from_wire(json.loads((folder / 'experiment.json').read_text()))
    except FileNotFoundError:
        raise UserError(f"{key}='{source}': {folder} is no run folder: it has no experiment.json") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{key}='{source}': {folder}/experiment.json is not JSON ({error})") from None


def open_donor(source: str, workdir: Path, key: str) -> Donor:
    """The trained model that `source` names, its parameters in host memory."""
    x = read_experiment(source, workdir, key)
    folder = locate(source, workdir)
    step, params = checkpoint.read_params(folder / 'checkpoints', f"{key}='{source}'")
    heads = tuple((name, params[name]['output']['bias'].shape[0]) for name in HEADS if name in params)
    tokenizer = folder / 'tokenizer'
    return Donor(f'{source} (step {step})', x.model, heads, params, tokenizer if tokenizer.is_dir() else None)


def resolve(x: Experiment, workdir: Path) -> Experiment:
    """`x` with the architecture of its start filled in, where it inherits that.

    Raises UserError where it inherits from nothing.
    """
    if not x.surgery.inherit:
        return x
    source = source_of_start(x)
    if not source:
        raise UserError('this experiment inherits the architecture of its start: give --config.start=RUN')
    return dataclasses.replace(x, model=inherit(x.model, read_experiment(source, workdir, 'start').model))


def source_of_start(x: Experiment) -> str:
    """The source that `start` names, with 'teacher' spelled out."""
    return x.teacher if x.start == 'teacher' else x.start
