"""Where text comes from: the documents of a source, each a list of paragraphs."""

import glob
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from research.data import builders, cleaners, docstrings
from research.data.json_lines import parse_line, string
from research.data.settings import Data
from research.data.text_files import LONGEST, UNPACKED, lines_and_bytes, refuse_long
from research.errors import UserError, choose, nearest
from research.machine import Machine

# A document as it is found: (share of its source read so far, its paragraphs, not cleaned yet and perhaps empty).
Found = tuple[float, list[str]]


@dataclass(frozen=True)
class Source:
    """A kind of text: a row of SOURCES."""

    documents: Callable[[str, Data, str], Iterator[Found]]  # (argument after the colon, settings, cache) -> its documents
    stamp: Callable[[str, Data], Any]  # (argument, settings) -> JSON-able and cheap; while it stays the same, so does the text
    origin: Callable[[str, Data], list[str]]  # (argument, settings) -> the text's name, independent of the working directory
    example: str  # of an argument; '' where there is none
    reads_field: bool = False  # whether data.field names the field of the text


def read(source: str, data: Data, cache: str) -> Iterator[Found]:
    """The documents of one source ('text:GLOB', say) as they are found; with a cleaner that knows titles, titles separate them.

    Raises UserError if there is no such source or file, or it cannot be read.
    """
    row, argument = parse(source)
    titles = [title for title in (cleaners.CLEANERS[name].title for name in data.cleaners) if title]
    found = row.documents(argument, data, cache)
    return regroup(found, titles) if titles else found


def documents(source: str, data: Data | None = None, cache: str = Machine.cache) -> Iterator[list[str]]:
    """The documents of one source as their cleaned paragraphs, without empty ones. Raises UserError if there is no text."""
    settings = data or Data()
    cleaned = (cleaners.clean(paragraphs, settings.cleaners) for _, paragraphs in read(source, settings, cache))
    present = filter(None, cleaned)
    first = next(present, None)
    if first is None:
        raise UserError(f"data.source='{source}' holds no text")
    return itertools.chain([first], present)


def explain_single_document(source: str, data: Data) -> UserError:
    """The error for a source of one document, where data.held_out is above 0."""
    hints = {
        'blank_lines': 'separate its documents by blank lines',
        'files': 'give several files, or data.documents=blank_lines if blank lines separate documents',
    }
    separate = f'{hints[data.documents]}, or ' if source.partition(':')[0] == 'text' else ''
    return UserError(
        f"'{source}' holds one document, which cannot be trained on and held out as well: {separate}"
        'give --config.data.held_out=0 to train on all of it, without evaluation'
    )


def stamp(source: str, data: Data) -> Any:
    """What a source's text depends on (names, sizes and times of files, or versions of packages), without reading it."""
    row, argument = parse(source)
    return [source.partition(':')[0], row.stamp(argument, data)]


def origin(source: str, data: Data) -> list[str]:
    """The name of a source's text: independent of its content and of the working directory."""
    row, argument = parse(source)
    kind = source.partition(':')[0]
    return [kind, *row.origin(argument, data)]


def parse(source: str) -> tuple[Source, str]:
    """The row of SOURCES that a source names, and its argument."""
    kind, _, argument = source.partition(':')
    row = SOURCES[choose('data.source', kind, SOURCES)]
    if row.example and not argument:
        raise UserError(f"data.source='{source}' lacks what comes after the colon; for example {kind}:{row.example}")
    return row, argument


def regroup(found: Iterable[Found], titles: list[Callable[[str], bool]]) -> Iterator[Found]:
    """The same paragraphs in documents that each begin with a title, if the first does; else the documents as they are.

    A source that does not begin with a title is of another format, as one of a mixture may be.
    """
    found, begin, opening = iter(found), [], ''
    while not opening and (each := next(found, None)) is not None:
        begin.append(each)
        opening = next((paragraph for paragraph in each[1] if paragraph.strip()), '')
    found = itertools.chain(begin, found)
    if not any(title(opening) for title in titles):
        yield from found
        return
    document: list[str] = []
    size, share = 0, 0.0
    for share, paragraphs in found:
        for paragraph in paragraphs:
            if document and any(title(paragraph) for title in titles):
                yield share, document
                document, size = [], 0
            document.append(paragraph)
            size += len(paragraph)
            refuse_long(size, f"a document that begins with '{document[0].strip()[:40]}'")
    if document:
        yield share, document


def text(pattern: str, data: Data, cache: str) -> Iterator[Found]:
    """Documents separated as `data.documents` says, one paragraph (or sentence) a line."""
    del cache
    for path, before, total in measure_files(pattern):
        document: list[str] = []
        size, position = 0, 0
        for number, line, position in lines_and_bytes(path):
            if line.strip():
                document.append(line)
                size += len(line)
                refuse_long(size, f"'{path}' line {number}: the document")
            elif document and data.documents == 'blank_lines':
                yield (before + position) / total, document
                document, size = [], 0
        if document:
            yield (before + position) / total, document


def json_lines(pattern: str, data: Data, cache: str) -> Iterator[Found]:
    """One document a JSON line, in `data.field`, its paragraphs separated by newlines."""
    del cache
    for path, before, total in measure_files(pattern):
        for number, line, position in lines_and_bytes(path, 2 * LONGEST):
            if line.strip():
                document = string(parse_line(line, path, number), data.field, f"'{path}' line {number}", 'data.field')
                refuse_long(len(document), f"'{path}' line {number}: the document")
                yield (before + position) / total, document.split('\n')


def parquet(pattern: str, data: Data, cache: str) -> Iterator[Found]:
    """One document a row of Parquet files, in the column `data.field`, its paragraphs separated by newlines."""
    import pyarrow as arrow
    from pyarrow.parquet import ParquetFile

    del cache

    for path, before, total in measure_files(pattern):
        try:
            with ParquetFile(path) as file:
                names = file.schema_arrow.names
                if data.field not in names:
                    raise UserError(
                        f"'{path}' has no column '{data.field}' (data.field){nearest(data.field, names)}; it has {', '.join(names)}"
                    )
                if names.count(data.field) > 1:
                    raise UserError(f"'{path}' has {names.count(data.field)} columns '{data.field}' (data.field)")
                kind = file.schema_arrow.field(data.field).type
                if not (arrow.types.is_string(kind) or arrow.types.is_large_string(kind)):
                    raise UserError(f"'{path}': column '{data.field}' is not of texts but of {kind}")
                row = 0
                for batch in file.iter_batches(batch_size=UNPACKED, columns=[data.field]):
                    for value in batch.column(0):
                        row += 1
                        share = row / file.metadata.num_rows
                        yield (before + share * path.stat().st_size) / total, cell(value, data.field, path, row).split('\n')
        except arrow.ArrowException as error:
            raise UserError(f"'{path}' is corrupt, or no Parquet file: {str(error).splitlines()[0]}") from error
        except OSError as error:
            raise UserError(f"'{path}' cannot be read: {error.strerror or str(error).splitlines()[0]}") from error


def cell(value: Any, field: str, path: Path, row: int) -> str:
    """The text of a cell of a Parquet file."""
    try:
        document = value.as_py()
    except UnicodeDecodeError as error:
        raise UserError(f"'{path}' row {row}: column '{field}' is not UTF-8 at byte {error.start}") from error
    if document is None:
        raise UserError(f"'{path}' row {row}: column '{field}' holds no text but null")
    refuse_long(len(document), f"'{path}' row {row}: the document")
    return document


def measure_files(pattern: str) -> Iterator[tuple[Path, int, int]]:
    """(path, bytes of the files before it, bytes of all) of each file that a glob matches."""
    paths = files(pattern)
    sizes = [path.stat().st_size for path in paths]
    return zip(paths, itertools.accumulate(sizes, initial=0), itertools.repeat(max(1, sum(sizes))), strict=False)


def files(pattern: str) -> list[Path]:
    """The files that a glob matches, sorted; `**` goes down any number of folders."""
    paths = sorted(Path(path) for path in glob.glob(str(Path(pattern).expanduser()), recursive=True))
    lost = [path for path in paths if not path.exists()]
    if lost:
        raise UserError(f"'{lost[0]}' is a link to a file that does not exist")
    found = [path for path in paths if path.is_file()]
    if not found:
        folder = '; it is a folder: name its files, as FOLDER/*.txt' if Path(pattern).expanduser().is_dir() else ''
        raise UserError(f"no file matches '{pattern}' (from '{Path.cwd()}'){folder}")
    return found


def file_stamps(pattern: str, data: Data) -> list[list[Any]]:
    """Path, size and time of each file that a glob matches, and the settings that decide how they are read."""
    stats = [(path.resolve(), path.stat()) for path in files(pattern)]
    return [[data.field, data.documents], *([str(path), stat.st_size, stat.st_mtime_ns] for path, stat in stats)]


def file_origin(pattern: str, data: Data) -> list[str]:
    """The absolute path of a glob."""
    del data
    return [os.path.abspath(pattern)]


SOURCES: dict[str, Source] = {
    'docstrings': Source(
        documents=lambda argument, data, cache: ((0.0, document) for document in docstrings.documents(cache)),
        stamp=lambda argument, data: docstrings.stamp(),
        origin=lambda argument, data: [],
        example='',
    ),
    'text': Source(text, file_stamps, file_origin, 'corpus/*.txt'),
    'jsonl': Source(json_lines, file_stamps, file_origin, 'corpus/*.jsonl.xz', reads_field=True),
    'parquet': Source(parquet, file_stamps, file_origin, 'corpus/*.parquet', reads_field=True),
    'tfds': Source(
        documents=lambda argument, data, cache: builders.documents(argument, data.field, data.folder),
        stamp=lambda argument, data: [data.field, builders.stamp(argument, data.folder)],
        origin=lambda argument, data: [argument, data.folder],
        example='wikipedia/20230601.en',
        reads_field=True,
    ),
}
