"""What command lines have in common: FILE[:size], and --config.KEY=VALUE."""

import importlib.util
import types
from collections.abc import Iterable
from pathlib import Path

from research.errors import UserError, choose, nearest
from research.experiment import Experiment, from_wire
from research.study.graph import Study


def changes(rest: list[str], known: Iterable[str], flags: str) -> dict[str, str]:
    """Dotted name -> text, of what flags leave of a command line. Both `--config.a=b` and `--config.a b` are understood.

    Raises UserError for anything else, with the nearest of the `known` flags; flags: what is possible, in words.
    """
    found = {}
    rest = list(rest)
    while rest:
        given = rest.pop(0)
        name, equals, value = given.removeprefix('--').partition('=')
        if not given.startswith('--config.'):
            raise UserError(f"unknown argument '{given}'{nearest(name, known)} (flags: {flags})")
        if not equals:
            if not rest or rest[0].startswith('--'):
                raise UserError(f'{given} has no value: give {given}=VALUE')
            value = rest.pop(0)
        found[name.removeprefix('config.')] = value
    return found


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
            return read(getattr(defined, function)(*([size] if size else [])))
    raise UserError(f'{defined.__name__} defines neither get_config nor get_study: it is no file of configs/ or experiments/')


def module(config: str) -> types.ModuleType:
    """The Python file of FILE[:size], imported."""
    name, colon, _ = config.partition('.py:')
    path = Path(name + '.py' if colon else config)
    if not path.is_file():
        files = [str(file) for folder in ('configs', 'experiments') for file in sorted(Path(folder).glob('*.py'))]
        raise UserError(f"no config file '{path}'{nearest(str(path), files)} (there are: {', '.join(files)})")
    spec = importlib.util.spec_from_file_location(str(path), path)
    if spec is None or spec.loader is None:
        raise UserError(f'{path} is not a Python file')
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found
