"""An experiment to and from ConfigDict, JSON and the text of a command line."""

import ast
import dataclasses
import json
import math
import operator
import os
import typing
from collections.abc import Mapping
from typing import Any, cast

import ml_collections

from research.data.masking import Masking, resolve_schedule
from research.errors import UserError, nearest
from research.escape import clean
from research.experiment import Experiment, is_scored

LONGEST = 20_000  # characters of a value
SHOWN = 200  # of them in a message
# Keys of earlier versions -> their names today. A user who types one is given the new name; files that hold one are read.
RENAMED = {'data.cache': 'machine.cache', 'data.prefetch': 'machine.prefetch', 'data.workers': 'machine.workers'}
# Values of earlier versions -> their names today: of commands and of files alike.
RESPELLED = {'model.remat': {'true': 'block', '1': 'block', 'false': 'none', '0': 'none'}}


def to_wire(x: Experiment) -> ml_collections.ConfigDict:
    """The experiment as a locked ConfigDict."""
    return ml_collections.ConfigDict(dataclasses.asdict(x)).lock()


def from_wire(wire: Mapping[str, Any] | ml_collections.ConfigDict) -> Experiment:
    """The experiment that a wire (or its JSON) describes. Raises UserError for a key that does not exist or has another type."""
    plain = json.loads(json.dumps(wire.to_dict() if isinstance(wire, ml_collections.ConfigDict) else wire))
    for key in RESPELLED:
        section, name = key.split('.')
        if isinstance(plain, dict) and section in plain and isinstance(plain[section], dict) and name in plain[section]:
            plain[section][name] = _respell(key, plain[section][name])
    return _parse(Experiment, plain, '')


def from_stored(stored: Any) -> Experiment:
    """The experiment of a JSON file, which an earlier version may have written: keys of RENAMED get their names of today.

    Raises UserError as `from_wire`.
    """
    plain = json.loads(json.dumps(stored))
    for old, new in RENAMED.items():
        (section, name), (target, renamed) = old.split('.'), new.split('.')
        if isinstance(plain, dict) and section in plain and isinstance(plain[section], dict) and name in plain[section]:
            plain.setdefault(target, {})[renamed] = plain[section].pop(name)
    x = from_wire(plain)
    older = 'data' in plain and 'held_out_masks' not in plain['data']
    return _keep_masks(x) if older else x


def _keep_masks(x: Experiment) -> Experiment:
    """`x` of a version that always masked held-out rows as in training; 'bert' if those masks are BERT's."""
    decisive = operator.attrgetter('policy', 'rate', 'mask', 'random')
    masks = 'bert' if decisive(resolve_schedule(x.data.masking, 1.0)) == decisive(Masking()) else 'training'
    return dataclasses.replace(x, data=dataclasses.replace(x.data, held_out_masks=masks))


def _respell(key: str, value: Any) -> Any:
    """The value of a key, which an earlier version may have spelled."""
    spelled = str(value).lower()
    return RESPELLED[key][spelled] if key in RESPELLED and spelled in RESPELLED[key] else value


def _parse(kind: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        if not isinstance(value, dict):
            raise UserError(f'{path[:-1] or "the experiment"} must hold {", ".join(hints)}; it is {clean(repr(value), SHOWN)}')
        for key in value:
            if key not in hints:
                raise UserError(f"no config key '{path}{key}'{nearest(key, hints)} (there are: {', '.join(hints)})")
        return cast(Any, kind)(**{key: _parse(hints[key], item, f'{path}{key}.') for key, item in value.items()})
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f'{path[:-1]}={clean(repr(value), SHOWN)} must be a tuple')
        return tuple(_parse(typing.get_args(kind)[0], item, path) for item in value)
    if type(value) is int and abs(value) >= 2**63:
        raise UserError(f'{path[:-1]} must be below 2**63; it has {len(hex(value)) - 2} hexadecimal digits')
    if type(value) is str and (len(value) > LONGEST or not value.isprintable()):
        _validate_text(value, path[:-1])
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is float and isinstance(value, float) and not math.isfinite(value):
        raise UserError(f'{path[:-1]}={value} must be finite')
    if type(value) is not kind:
        raise UserError(f'{path[:-1]}={clean(repr(value), SHOWN)} must be of type {kind.__name__}')
    return value


def _validate_text(text: str, key: str) -> None:
    """Raises UserError for a text that no path and no file of ours can hold."""
    if len(text) > LONGEST:
        raise UserError(f'{key} has {len(text):,} characters: at most {LONGEST:,} are read')
    if any(letter == '\0' or '\ud800' <= letter <= '\udfff' for letter in text):
        raise UserError(f'{key}={text!r} holds a byte 0, or bytes that are not UTF-8: rename the file')


def override(x: Experiment, changes: Mapping[str, Any]) -> Experiment:
    """`x` with some keys changed: dotted name -> a value, or the text of one as a command line gives it.

    Raises UserError for an unknown key (with the nearest) and for a value of another type.
    """
    for key, value in changes.items():
        if key in RENAMED:
            raise UserError(f"the config key '{key}' is called '{RENAMED[key]}' now: give --config.{RENAMED[key]}=…")
        x = _override(x, key.split('.'), _respell(key, value), key)
    return x


def override_sibling(x: Experiment, changes: Mapping[str, Any]) -> Experiment:
    """As `override`, for a run of a study: a start, teacher or tokenizer that is another run of it ('@NAME') stays that.

    `run.patience` is for those of the study that have a score to wait for.
    """
    known = keys(Experiment)
    found = override(x, {key: new for key, new in changes.items() if key not in known or not str(value(x, key)).startswith('@')})
    waits = found.run.patience > 0 and not is_scored(found)
    return override(found, {'run.patience': x.run.patience}) if waits else found


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
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    elif hasattr(value, 'ndim') and not value.ndim:  # a number of numpy's
        value = value.item()
    parsed = _read(kind, value, key) if isinstance(value, str) else value
    return dataclasses.replace(x, **{name: _parse(kind, parsed, f'{key}.')})


def _read(kind: Any, text: str, key: str) -> Any:
    """The value of type `kind` that `text` spells."""
    if len(text) > LONGEST:
        raise UserError(f'{key} has {len(text):,} characters: at most {LONGEST:,} are read')
    if kind is str:
        return text
    if kind is bool:
        if text.lower() not in ('true', 'false', '1', '0'):
            raise UserError(f'{key}={text}: give true or false')
        return text.lower() in ('true', '1')
    try:
        if typing.get_origin(kind) is tuple and typing.get_args(kind)[0] is str:
            return _read_texts(text)
        if typing.get_origin(kind) is tuple:
            read = ast.literal_eval(text if text.startswith(('(', '[')) else f'({text},)')
            return tuple(read)
        return kind(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        name = 'tuple, such as 0,2,4' if typing.get_origin(kind) is tuple else kind.__name__
        shown = clean(text, SHOWN)
        raise UserError(f"{key}={shown}: '{shown}' is no {name}") from None


def _read_texts(text: str) -> tuple[str, ...]:
    """The texts of a tuple: a,b or (a,b); with quotes, as Python writes it, they may hold commas and brackets."""
    try:
        read = ast.literal_eval(text if text.startswith(('(', '[')) else f'({text},)')
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        read = None
    if isinstance(read, tuple | list) and all(isinstance(each, str) for each in read):
        return tuple(read)
    return tuple(item.strip() for item in text.strip('()').replace("'", '').split(',') if item.strip())


def keys(kind: Any, prefix: str = '', compared: bool = False) -> list[str]:
    """Every dotted name that can be overridden.

    compared: only those that belong to what an experiment is; where and how fast it runs does not.
    """
    found, hints = [], typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        name, hint = field.name, hints[field.name]
        if field.compare or not compared:
            found += keys(hint, f'{prefix}{name}.', compared) if dataclasses.is_dataclass(hint) else [prefix + name]
    return found


def differences(a: Experiment, b: Experiment) -> list[str]:
    """The dotted names whose values differ, with both values, as far as they belong to the identity of an experiment."""
    values = {key: (value(a, key), value(b, key)) for key in keys(Experiment, compared=True)}
    return [f'{key}: {left!r} -> {right!r}' for key, (left, right) in values.items() if left != right]


def value(x: Any, key: str) -> Any:
    """The value at a dotted name."""
    for name in key.split('.'):
        x = getattr(x, name)
    return x


def setting(x: Experiment) -> Experiment:
    """`x` reduced to what all seeds of one experiment share: no seed, no name, and no particular sibling as start or teacher."""
    start, teacher = ('@' if source.startswith('@') else source for source in (x.start, x.teacher))
    return dataclasses.replace(x, seed=0, name='', start=start, teacher=teacher)
