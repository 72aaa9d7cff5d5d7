"""JSON objects, one a line."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from research.data.text_files import RECORD, lines_and_bytes
from research.errors import UserError, nearest
from research.records import parse_json, show


def records(path: Path, given: IO[bytes] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of each JSON line of a file, of RECORD characters at most; blank lines are skipped."""
    found = lines_and_bytes(path, RECORD, given)
    return ((number, parse_line(line, path, number)) for number, line, _ in found if line.strip())


def parse_line(line: str, path: Path | str, number: int) -> dict[str, Any]:
    """The object of a JSON line, with or without a byte-order mark. Numbers may be NaN, as Python and pandas write it."""
    where = f"'{path}' line {number}"
    record = parse_json(line, where, lenient=True)
    if not isinstance(record, dict):
        raise UserError(f'{where} is not a JSON object but {show(record)}')
    return record


def string(record: Mapping[str, Any], column: str, where: str, setting: str = '') -> str:
    """The text in a column of a record; `setting`: the key that names the column. Raises UserError if it is missing."""
    if column not in record:
        chosen = f' ({setting})' if setting else ''
        raise UserError(f"{where} has no column '{column}'{chosen}{nearest(column, record)}; it has {', '.join(record) or 'none'}")
    found = record[column]
    if not isinstance(found, str):
        raise UserError(f"{where}: column '{column}' is not a text but {found!r:.40}")
    if SURROGATE.search(found):
        raise UserError(f"{where}: column '{column}' holds half a surrogate pair, which is not a character")
    return found


SURROGATE = re.compile('[\ud800-\udfff]')  # JSON can write one, UTF-8 cannot
