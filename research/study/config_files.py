"""Files of configs/ and experiments/: FILE[:size] becomes an Experiment or a Study."""

import contextlib
import fnmatch
import importlib.util
import inspect
import traceback
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from research.errors import UserError, choose, nearest
from research.experiment import Experiment
from research.study.seeds import refuse_unpaired
from research.study.study import Study
from research.version import ROOT
from research.wire import from_wire, override, value

# Modules that config files of earlier versions import, and names of them -> where they are now.
MOVED = {
    'research.study.graph': 'research.study.study and research.study.columns',
    'research.study.papers': 'experiments.papers',
    'to_wire': 'research.wire',
    'from_wire': 'research.wire',
    **dict.fromkeys(('cache', 'prefetch', 'workers'), 'research.machine.Machine'),
}


def load(config: str) -> Experiment | Study:
    """The Experiment or the Study that FILE[:size] defines."""
    defined = module(config)
    _, _, size = config.partition('.py:')
    for function, read in (('get_study', lambda study: study), ('get_config', from_wire)):
        if hasattr(defined, function):
            if size:
                if not hasattr(defined, 'SIZES'):
                    raise UserError(f"{defined.__name__} has no SIZES: leave ':{size}' out")
                choose(f'size of {defined.__name__}', size, defined.SIZES)
            with _mistakes_of(defined.__name__):
                found = read(getattr(defined, function)(*([size] if size else [])))
            if isinstance(found, Study):
                refuse_unpaired(found)
            return found
    raise UserError(f'{defined.__name__} defines neither get_config nor get_study: it is no file of configs/ or experiments/')


def read_deviations(config: str) -> dict[str, tuple[str, ...]]:
    """Glob of runs -> lines 'KEY=VALUE: TEXT': where FILE[:size] differs from its paper on purpose, by DEVIATIONS of the file.

    DEVIATIONS holds them for each size: of all runs, or of a study by globs of its runs. Without a size they are those of the
    function's default; {} for a file without DEVIATIONS.
    """
    defined = module(config)
    if not hasattr(defined, 'DEVIATIONS'):
        return {}
    _, _, size = config.partition('.py:')
    if not size:
        function = defined.get_study if hasattr(defined, 'get_study') else defined.get_config
        size = next((each.default for each in inspect.signature(function).parameters.values()), '')
    found = defined.DEVIATIONS[size] if size in defined.DEVIATIONS else {}
    return dict(found) if isinstance(found, Mapping) else {'*': tuple(found)}


def choose_deviations(deviations: Mapping[str, Iterable[str]], run: str, x: Experiment) -> list[str]:
    """The lines that hold for `x`, the run of this name: those whose key still has the value that they state.

    Raises UserError for a line that is not 'KEY=VALUE: TEXT', and for one whose key does not exist or has no such value.
    """
    found = []
    for line in (line for glob, lines in deviations.items() if fnmatch.fnmatchcase(run, glob) for line in lines):
        said, colon, _ = line.partition(': ')
        key, equals, given = said.partition('=')
        if not (colon and equals):
            raise UserError(f"DEVIATIONS: '{line}' must be KEY=VALUE: TEXT, such as data.held_out=0.05: the paper trains on all")
        found += [line] if value(override(x, {key: given}), key) == value(x, key) else []
    return found


def module(config: str) -> types.ModuleType:
    """The Python file of FILE[:size], imported."""
    name, colon, _ = config.partition('.py:')
    path = Path(name + '.py' if colon else config)
    if not path.is_file() and not path.is_absolute():
        path = ROOT / path if (ROOT / path).is_file() else path  # the recipes of this project serve from any folder
    if not path.is_file():
        folders = ('configs', 'experiments')
        found = (file for folder in folders for file in (*sorted(Path(folder).glob('*.py')), *sorted((ROOT / folder).glob('*.py'))))
        named = (file for file in found if 'def get_' in file.read_text(encoding='utf-8'))
        files = list(dict.fromkeys(str(file.relative_to(ROOT) if file.is_relative_to(ROOT) else file) for file in named))
        raise UserError(f"no config file '{path}'{nearest(str(path), files)} (there are: {', '.join(files)})")
    spec = importlib.util.spec_from_file_location(str(path), path)
    if spec is None or spec.loader is None:
        raise UserError(f'{path} is not a Python file')
    found = importlib.util.module_from_spec(spec)
    with _mistakes_of(str(path)):
        spec.loader.exec_module(found)
    return found


def _is_config(path: Path) -> bool:
    """Whether the text of a file defines, or imports, what a config file has."""
    text = path.read_text(encoding='utf-8', errors='replace')
    return 'get_config' in text or 'get_study' in text


@contextlib.contextmanager
def _mistakes_of(path: str) -> Iterator[None]:
    """Raises UserError for a mistake in the config file itself: what its own lines raise, and names that it cannot import."""
    try:
        yield
    except UserError:
        raise
    except SyntaxError as error:
        raise UserError(f'{error.filename or path} line {error.lineno}: {error.msg}') from None
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if Path(frame.filename).resolve() == Path(path).resolve()]
        if own and (isinstance(error, ImportError) or frames[-1] is own[-1]):
            moved = [f"; what was '{name}' is in {place} now" for name, place in MOVED.items() if f"'{name}'" in str(error)]
            raise UserError(f'{path} line {own[-1].lineno}: {type(error).__name__}: {error}{"".join(moved)}') from error
        if not _is_config(Path(path)):
            raise UserError(f'{path} is no file of configs/ or experiments/: {type(error).__name__}: {error}') from error
        raise
