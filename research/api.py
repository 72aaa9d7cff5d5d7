"""The door for notebooks and programs: launch an experiment, load a trained model, predict.

Nothing is printed unless `verbose=True`; a mistake of the user raises UserError with one line of text.

    from research import api

    result = api.launch('configs/bert.py:tiny', 'runs/tiny', changes={'run.steps': 1000, 'run.batch': 16})
    model, params, tokenizer = api.load('runs/tiny')
    api.predict('runs/tiny', 'The capital of France is [MASK].', kind='fill-mask')
"""

import contextlib
import dataclasses
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections
from tokenizers import Tokenizer

from research.data.tokenizers import load_tokenizer
from research.errors import UserError
from research.experiment import Experiment
from research.models.heads import Model
from research.predict import batching
from research.predict.inputs import Input
from research.predict.kinds import Kind, read_input
from research.runs import run as runs
from research.runs import sources
from research.runs.folder import read_result
from research.runs.mirror import open_workdir
from research.study import request
from research.study.execution.execute import run_study
from research.study.execution.settings import Execution
from research.study.reporting.report import report
from research.study.study import Study
from research.surgery import Donor
from research.wire import from_wire

__all__ = ['Loaded', 'UserError', 'launch', 'load', 'predict']


@contextlib.contextmanager
def _printing(verbose: bool) -> Iterator[None]:
    """Lets everything be printed, or nothing."""
    if verbose:
        yield
        return
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


# ---- Launch ---------------------------------------------------------------------------------------------------------------------


def launch(
    asked: str | Path | Experiment | Study | ml_collections.ConfigDict,
    workdir: str | Path | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    sweep: str | Sequence[str] = (),
    jobs: int = 1,
    verbose: bool = False,
) -> Any:
    """Runs what is asked for in `workdir` (by default runs/NAME) and returns its result.

    asked: FILE[:size] of configs/ or experiments/, or an Experiment, a Study or a ConfigDict. changes: dotted key -> value, as
    --config.KEY=VALUE. sweep: axes that multiply, as --sweep. jobs: runs of a study at once.

    An experiment returns its Result; a study returns a dict run -> Result and writes its report into `workdir`. A folder that was
    begun continues, and one that is done is not run again. Raises UserError for mistakes, and if a run of a study has no result.
    """
    if not isinstance(changes or {}, Mapping) or not all(isinstance(key, str) for key in changes or ()):
        raise UserError(f"changes={changes!r} must be a dict from keys to values, such as {{'run.steps': 1000}}")
    if not isinstance(workdir, str | Path | None):
        raise UserError(f'workdir={workdir!r} must be a path')
    if not isinstance(jobs, int) or jobs < 1:
        raise UserError(f'jobs={jobs!r} must be a number of runs, at least 1')
    with _printing(verbose):
        ready = _define(asked, dict(changes or {}), (sweep,) if isinstance(sweep, str) else tuple(sweep))
        folder, mirror = open_workdir(str(workdir or f'runs/{ready.name}'))
        if mirror and not isinstance(ready, Experiment):
            raise UserError(f'workdir={workdir!r}: a study needs a folder on a disk; a single run may be in a bucket')
        try:
            if isinstance(ready, Experiment):
                runs.run(ready, folder, mirror=mirror)
                return read_result(folder)
            run_study(ready, folder, Execution(jobs=jobs), report)
            return {name: read_result(folder / name) for name in ready.runs}
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            raise UserError(f'{folder} cannot be used: {error}') from error


def _define(
    asked: str | Path | Experiment | Study | ml_collections.ConfigDict, changes: dict[str, Any], sweep: tuple[str, ...]
) -> Experiment | Study:
    if isinstance(asked, str | Path):
        return request.define(str(asked), None, changes, sweep)
    if isinstance(asked, ml_collections.ConfigDict):
        asked = from_wire(asked)
    if not isinstance(asked, Experiment | Study):
        raise UserError(f'{asked!r} cannot be launched: give FILE[:size] of a config, an Experiment, a Study or a ConfigDict')
    return request.change(asked, changes, sweep)


# ---- Load -----------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A trained model. `model, params, tokenizer = load(…)` unpacks the first three."""

    model: Model  # a flax module: research.models.heads.encode(model, params, batch) gives its hidden states
    params: Any  # a nested dict of numpy arrays
    tokenizer: Tokenizer | None
    experiment: Experiment  # what it was trained by; for a Hugging Face folder it holds the architecture only
    donor: Donor

    def __iter__(self) -> Iterator[Any]:
        return iter((self.model, self.params, self.tokenizer))


def load(source: str | Path, *, verbose: bool = False) -> Loaded:
    """The model of a run folder, a Hugging Face folder or an id of the hub, its parameters in host memory.

    A run is its best checkpoint if it selects one, else its newest. Raises UserError if there is no such model.
    """
    if not isinstance(source, str | Path) or not str(source):
        raise UserError(f'source={source!r} must be a run folder, a Hugging Face folder or an id of the hub')
    with _printing(verbose):
        donor, x = sources.open_model(str(source), Path.cwd() / 'run', 'source')
        tokenizer = None if donor.tokenizer is None else load_tokenizer(donor.tokenizer)
    return Loaded(donor.model, donor.params, tokenizer, x, donor)


# ---- Predict --------------------------------------------------------------------------------------------------------------------


def predict(
    source: str | Path | Loaded,
    inputs: str | Mapping[str, str] | Sequence[str | Mapping[str, str]],
    kind: str,
    *,
    no_answer: float | None = None,
    verbose: bool = False,
) -> Any:
    """The prediction for each input, as `python -m research.predict` gives it; for one input, its prediction (not a list).

    inputs: texts, or dicts with the fields of the kind: 'text' and perhaps 'pair', or 'question' and 'context'.
    kind: fill-mask, classify, answer, embed or hidden. no_answer: for 'answer', predict '' if 'no answer' leads by more than this;
    None: as the model was trained. Raises UserError for a model without the head that the kind reads, and
    for an input without the fields that the kind reads.
    """
    with _printing(verbose):
        loaded = source if isinstance(source, Loaded) else load(source, verbose=verbose)
        row = batching.require(loaded.donor, kind)
        single = isinstance(inputs, str | Mapping)
        if not single and not isinstance(inputs, Iterable):
            raise UserError(f'inputs={inputs!r} must be a text, a dict of texts, or several of them')
        given = [inputs] if single else list(inputs)
        read = [_read(each, f'input {number}', row) for number, each in enumerate(given, 1)]
        found = list(batching.predict(loaded.donor, row, loaded.experiment.data, read, no_answer=no_answer))
    return found[0] if single else found


def _read(given: Any, where: str, row: Kind) -> Input:
    if not isinstance(given, str | Mapping):
        raise UserError(f'{where} is {given!r}: give a text, or a dict with the fields {", ".join(row.fields)}')
    return read_input({'text': given} if isinstance(given, str) else given, where, row)
