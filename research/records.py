"""JSON from anywhere, read in one way: bounded in size and depth, and typed by the record that it becomes."""

import codecs
import collections.abc
import dataclasses
import json
import os
import shlex
import stat
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from research.errors import UserError
from research.files import write_whole

SIZE = 2**26  # bytes of a file that is read at once
MARKS = 3_000_000  # characters of '{[,' in a text, at most: each begins a value, which takes up to 200 bytes of memory
DEPTH = 100  # brackets within brackets
LINE = 2**20  # bytes of a line of metrics.jsonl: ours have some hundred
BITS = 1023  # of a whole number: larger ones have no float
SHOWN = 60  # characters of a value in a message


def open_regular(path: str, flags: int) -> int:
    """An opener for `open`. Raises UserError for a pipe or a device, which may never end; a folder is left to `open`."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)  # without it, a pipe would wait for a writer
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        os.close(descriptor)
        raise UserError(f'{path} is a pipe or a device: give a regular file')
    return descriptor


def read_text(path: Path, label: str = '', size: int = SIZE) -> str:
    """The text of a small file, without a byte-order mark.

    Raises UserError, whose message begins with `label` (default: the path), if it is larger than `size` bytes, not UTF-8 or no
    regular file, and OSError as `open` does.
    """
    label = label or str(path)
    with open(path, 'rb', opener=open_regular) as file:
        content = file.read(size + 1)
    if len(content) > size:
        raise UserError(f'{label} is larger than {size:,} bytes')
    try:
        return content.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        raise UserError(f'{label} is not UTF-8 at byte {error.start}; {suggest_conversion(path, content)}') from None


def suggest_conversion(path: Path | str, content: bytes, unpack: str = '') -> str:
    """The clause with the command that makes UTF-8 of a file; content: a part of its text; unpack: the program to decompress it."""
    wide = b'\0' in content or content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    encoding, given = 'UTF-16' if wide else 'WINDOWS-1252', shlex.quote(str(path))
    command = f'{unpack} -dc {given} | iconv -f {encoding} -t UTF-8' if unpack else f'iconv -f {encoding} -t UTF-8 {given}'
    return f'if it is {encoding}, convert it: {command} > NEW'


def parse_json(text: str, label: str, lenient: bool = False, unique: bool = False) -> Any:
    """The JSON value in `text`, with or without a byte-order mark.

    Raises UserError, whose message begins with `label`, for anything else: also for NaN, for numbers and nesting that no float
    and no recursion can hold, and for halves of a surrogate pair, which no file can hold. `lenient` lets NaN, infinity and these
    halves pass: for records whose reader validates the fields that it uses, and uses few. `unique` refuses a name that an object
    has twice, too, which another parser may read as the other value.
    """
    if len(text) > MARKS and sum(map(text.count, '{[,')) > MARKS:
        raise UserError(f'{label} is not JSON that can be read: it has over {MARKS:,} brackets and commas')
    try:
        pairs = _refuse_twice if unique else None
        constant = None if lenient else _refuse_constant
        value = json.loads(text.removeprefix('\ufeff'), parse_constant=constant, object_pairs_hook=pairs)
        _validate_tree(value, lenient)
        if not lenient and ('\\ud' in text or '\\uD' in text):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise UserError(f'{label} is not JSON that can be read: it nests deeper than {DEPTH}') from None
    except UnicodeEncodeError:
        raise UserError(f'{label} is not JSON that can be read: it holds half of a surrogate pair') from None
    except ValueError as error:
        raise UserError(f'{label} is not JSON ({error})') from None
    return value


def read_json(path: Path, label: str = '', size: int = SIZE) -> Any:
    """The JSON value in a file. Raises UserError as `read_text` and `parse_json` do, and OSError as `open` does."""
    return parse_json(read_text(path, label, size), label or str(path))


def read_object(path: Path, label: str = '', size: int = SIZE) -> dict[str, Any]:
    """The JSON object in a file. Raises UserError also for any other JSON value."""
    value = read_json(path, label, size)
    if not isinstance(value, dict):
        raise UserError(f'{label or path} is not a JSON object')
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f'{name} is not a number')


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError('an object has one name twice')
    return found


def _validate_tree(value: Any, lenient: bool) -> None:
    """Raises RecursionError if a JSON value nests too deep, and ValueError for a number that no float holds.

    `lenient` lets infinity pass.
    """
    level = [value]
    for _ in range(DEPTH + 1):
        below: list[Any] = []
        for each in level:
            if type(each) is int and each.bit_length() > BITS:
                raise ValueError('a number is too long')
            if not lenient and type(each) is float and each in (float('inf'), float('-inf')):
                raise ValueError('a number is too large')
            if type(each) is dict:
                below += each.values()
            elif type(each) is list:
                below += each
        if not below:
            return
        level = below
    raise RecursionError


def show(value: Any) -> str:
    """A JSON value for a message, cut if it is long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f'{text[:SHOWN]}…'


# ---- Records of our own ---------------------------------------------------------------------------------------------------------


def read_record(path: Path) -> dict[str, Any] | None:
    """The JSON object in `path`; None if the file is missing, half-written or holds something else.

    Earlier versions may have written NaN, which is read as that.
    """
    try:
        record = parse_json(read_text(path), str(path), lenient=True)
    except (FileNotFoundError, NotADirectoryError, UserError):
        return None
    return record if isinstance(record, dict) else None


def write_record(path: Path, record: Any) -> None:
    """Writes a JSON value atomically. Raises ValueError if it holds a number that is not finite."""
    write_whole(path, (json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + '\n').encode())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects in the lines of `path`; [] if there is no such file. Other lines, such as one cut short, are skipped.

    Raises UserError for a pipe or a device.
    """
    try:
        with open(path, 'rb', opener=open_regular) as file:
            return list(parse_lines(iter(lambda: file.readline(LINE), b'')))
    except (FileNotFoundError, NotADirectoryError):
        return []


def parse_lines(lines: typing.Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The JSON objects of lines with one on each; other lines, such as one that a power loss filled with zeros, are skipped."""
    for line in lines:
        try:
            record = parse_json(line.decode(), '', lenient=True)
        except (UnicodeDecodeError, UserError):
            continue
        if isinstance(record, dict):
            yield record


def to_json(value: Any) -> Any:
    """A record as JSON values; a field with a default is left out where it has that value."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        values = {field: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {field.name: to_json(each) for field, each in values.items() if each != field.default}
    if isinstance(value, Mapping):
        return {name: to_json(each) for name, each in value.items()}
    return [to_json(each) for each in value] if isinstance(value, list | tuple) else value


def read_as(kind: Any, path: Path) -> Any:
    """The record of type `kind` in a file; None if it is missing, half-written or does not fit."""
    record = read_record(path)
    try:
        return None if record is None else parse_record(kind, record)
    except (TypeError, ValueError):
        return None


def parse_record(kind: Any, value: Any) -> Any:
    """`value` as a `kind`: a record, a mapping, a tuple, a plain value or None. TypeError or ValueError if it does not fit.

    Keys that a record does not have are left out: a later version may have written them.
    """
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        hints = typing.get_type_hints(kind)
        return typing.cast(Any, kind)(**{name: parse_record(hint, value[name]) for name, hint in hints.items() if name in value})
    inner = typing.get_args(kind)
    if type(None) in inner:
        return None if value is None else parse_record(inner[0], value)
    if typing.get_origin(kind) in (collections.abc.Mapping, dict) and isinstance(value, dict):
        return {name: parse_record(inner[1], each) for name, each in value.items()}
    if typing.get_origin(kind) is list and isinstance(value, list):
        return [parse_record(inner[0], each) for each in value]
    if typing.get_origin(kind) is tuple and isinstance(value, list):
        return tuple(parse_record(inner[0], each) for each in value)
    if kind is not Any and type(value) is not kind and not (kind is float and type(value) is int):
        raise ValueError(f'{value!r} is no {kind}')
    return value
