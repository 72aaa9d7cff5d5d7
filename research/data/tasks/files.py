"""Rows of task files: .tsv, .csv and JSON lines, plain or compressed."""

import csv
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from research.data import json_lines, text_files
from research.data.text_files import RECORD
from research.errors import UserError

Record = dict[str, Any]


def tab_separated(path: Path) -> Iterator[tuple[int, Record]]:
    """(line number, column -> text) of each line of a .tsv file with a header. Only tabs separate columns; quotes are text."""
    return name_columns(path, ((number, line.split('\t')) for number, line in text_files.lines(path, RECORD) if line))


def comma_separated(path: Path) -> Iterator[tuple[int, Record]]:
    """(line number, column -> text) of each row of a .csv file with a header; quoted cells may hold commas and newlines."""
    return name_columns(path, read_cells(path, ','))


def tab_separated_or_quoted(path: Path) -> Iterator[tuple[int, Record]]:
    """As `tab_separated`; cells are quoted as in a .csv file where `is_quoted` finds them so."""
    return name_columns(path, read_cells(path, '\t')) if is_quoted(path) else tab_separated(path)


def read_cells(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of each row that is not empty; quoted cells may hold separators and newlines."""
    csv.field_size_limit(RECORD)  # the default of Python is 131,072 characters
    reader = csv.reader((line + '\n' for _, line in text_files.lines(path, RECORD)), delimiter=separator, strict=True)
    while True:
        begin = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(f"'{path}' line {begin} is not CSV: {error}") from None
        if cells:
            yield begin, cells


def is_quoted(path: Path) -> bool:
    """Whether a .tsv file was written as pandas and spreadsheets do, which quote cells and double the quotes in them.

    If its lines have equally many cells, each cell with a quote must be quoted as a whole, and one must show why: it is the header,
    or holds a quote, or just those with a comma are quoted. Else, quoted cells with newlines must make all rows equally long.
    """
    width, even, whole, reasons, commas = 0, True, True, False, []
    for _, line in text_files.lines(path, RECORD):
        if line:
            cells = line.split('\t')
            header = not width
            width = width or len(cells)
            even = even and len(cells) == width
            quoted = [cell for cell in cells if '"' in cell]
            whole = whole and all(QUOTED.fullmatch(cell) for cell in quoted)
            reasons = reasons or any(header or '""' in cell[1:-1] for cell in quoted)
            commas += [',' in cell and '"' in cell for cell in cells if ',' in cell or '"' in cell]
    if even:
        return whole and (reasons or (any(commas) and all(commas)))
    try:
        return len({len(cells) for _, cells in read_cells(path, '\t')}) == 1
    except UserError:
        return False


QUOTED = re.compile('"(?:[^"]|"")*"')


def name_columns(path: Path, rows: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, Record]]:
    """Rows as records, with the names in the first row. Raises UserError for a row with more or fewer cells."""
    header: list[str] = []
    for number, cells in rows:
        if not header:
            header = [cell.strip() for cell in cells]
            twice = [name for name, count in Counter(filter(None, header)).items() if count > 1]
            if twice:
                raise UserError(f"'{path}' line {number} names the column '{twice[0]}' twice")
        elif len(cells) != len(header):
            raise UserError(f"'{path}' line {number} has {len(cells)} columns, its header has {len(header)}: {', '.join(header)}")
        else:
            yield number, dict(zip(header, cells, strict=True))


READERS: dict[str, Callable[[Path], Iterator[tuple[int, Record]]]] = {
    '.tsv': tab_separated_or_quoted,
    '.csv': comma_separated,
    '.jsonl': json_lines.records,
}


def rows(path: Path) -> Iterator[tuple[int, Record]]:
    """(line number, record) of each row of a file, read by the end of its name. Raises UserError for an unknown end."""
    if kind_of(path) not in READERS:
        ends, compressed = ', '.join(READERS), ', '.join(text_files.COMPRESSED)
        raise UserError(f"'{path}' is not a task file: its name must end in {ends}, with or without {compressed} after it")
    return READERS[kind_of(path)](path)


def kind_of(path: Path) -> str:
    """The end of a file's name, before one of a compressed file: '.tsv'; '' if it has none."""
    suffixes = [suffix for suffix in path.suffixes if suffix not in text_files.COMPRESSED]
    return suffixes[-1] if suffixes else ''


def find_one(folder: Path, name: str) -> list[Path]:
    """[the file of this name in a folder, plain or compressed]; [] if there is none. Raises UserError for several."""
    found = [path for suffix in ('', *text_files.COMPRESSED) if (path := folder / f'{name}{suffix}').is_file()]
    if len(found) > 1:
        raise UserError(f"'{folder}' has several files of {name} ({', '.join(path.name for path in found)}); leave one")
    return found


def text(record: Mapping[str, Any], column: str, where: str, setting: str = '') -> str:
    """The text in a column. Raises UserError if it is missing or empty; see `json_lines.string`."""
    found = json_lines.string(record, column, where, setting)
    if not found.strip():
        raise UserError(f"{where}: column '{column}' holds an empty text")
    return found


def identifier(record: Mapping[str, Any], where: str) -> str:
    """The id of a record. Raises UserError unless it is a text or a whole number; KeyError if there is none."""
    found = record['id']
    if not isinstance(found, str | int) or isinstance(found, bool):
        raise UserError(f'{where}: an id must be a text or a whole number, not {found!r:.40}')
    return str(found)


def number(given: Any, column: str, where: str, low: float, high: float) -> float:
    """The number in a column. Raises UserError unless it lies in [low, high]."""
    try:
        found = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise UserError(f"{where}: column '{column}' holds {given!r:.40}, which is no number")
    if not low <= found <= high:
        raise UserError(f"{where}: column '{column}' holds {found:g}, which does not lie between {low:g} and {high:g}")
    return found
