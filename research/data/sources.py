"""Where text comes from: documents, each a list of paragraphs."""

import glob
import gzip
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from research.data import docstrings
from research.errors import UserError, choose, nearest


@dataclass(frozen=True)
class Source:
    """A kind of text, as two functions of (argument after the colon, field, cache folder)."""

    documents: Callable[[str, str, str], Iterator[list[str]]]  # never an empty document, nor an empty paragraph
    stamp: Callable[[str, str, str], Any]  # JSON-able and cheap; while it stays the same, so does the text


def documents(source: str, field: str = 'text', cache: str = 'runs/cache') -> Iterator[list[str]]:
    """The documents of a source ('docstrings', 'text:GLOB' or 'jsonl:GLOB'), each as its paragraphs.

    Raises UserError if there is no such source or file, nothing in it, or something that cannot be read.
    """
    row, argument = parse(source)
    empty = True
    for document in row.documents(argument, field, cache):
        paragraphs = [' '.join(paragraph.split()) for paragraph in document]
        if any(paragraphs):
            empty = False
            yield [paragraph for paragraph in paragraphs if paragraph]
    if empty:
        raise UserError(f"data.source='{source}' holds no text")


def stamp(source: str, field: str, cache: str) -> Any:
    """What a source's text depends on (names, sizes and times of files, or versions of packages), without reading it."""
    row, argument = parse(source)
    return [source.partition(':')[0], row.stamp(argument, field, cache)]


def parse(source: str) -> tuple[Source, str]:
    """The row of SOURCES that a source names, and its argument."""
    kind, _, argument = source.partition(':')
    choose('data.source', kind, SOURCES)
    if kind != 'docstrings' and not argument:
        raise UserError(f"data.source='{source}' names no files; write {kind}:GLOB, for example {kind}:books/*.{kind[:5]}")
    return SOURCES[kind], argument


def text(pattern: str, field: str, cache: str) -> Iterator[list[str]]:
    """Documents separated by blank lines, one paragraph (or sentence) a line."""
    del field, cache
    for path in files(pattern):
        document: list[str] = []
        for _, line in lines(path):
            if line.strip():
                document.append(line)
            elif document:
                yield document
                document = []
        if document:
            yield document


def json_lines(pattern: str, field: str, cache: str) -> Iterator[list[str]]:
    """One document a JSON line, in `field`, its paragraphs separated by newlines."""
    del cache
    for path in files(pattern):
        for number, record in records(path):
            yield string(record, field, path, number, 'data.field').split('\n')


def files(pattern: str) -> list[Path]:
    """The files that a glob matches, sorted; `**` goes down any number of folders."""
    paths = sorted(Path(path) for path in glob.glob(str(Path(pattern).expanduser()), recursive=True))
    found = [path for path in paths if path.is_file()]
    if not found:
        raise UserError(f"no file matches '{pattern}' (from '{Path.cwd()}')")
    return found


def file_stamps(pattern: str, field: str, cache: str) -> list[list[Any]]:
    """Path, size and time of each file that a glob matches, and the field."""
    del cache
    stats = [(path.resolve(), path.stat()) for path in files(pattern)]
    return [[field], *([str(path), stat.st_size, stat.st_mtime_ns] for path, stat in stats)]


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, line without its end) of a UTF-8 file, plain, .gz or .xz; a byte-order mark is skipped.

    Raises UserError with the byte offset of what is not UTF-8, or if the file cannot be opened or decompressed.
    """
    compressed = path.suffix in ('.gz', '.xz')
    offset = 0
    try:
        with open_bytes(path) as file:
            for number, line in enumerate(file, start=1):
                try:
                    decoded = line.decode('utf-8-sig' if number == 1 else 'utf-8')
                except UnicodeDecodeError as error:
                    where = ' of its decompressed text' if compressed else ''
                    raise UserError(f"'{path}' is not UTF-8 at byte {offset + error.start}{where} (line {number})") from error
                yield number, decoded.rstrip('\r\n')
                offset += len(line)
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"'{path}' is corrupt: {str(error).rstrip('.')} after {offset} bytes of text") from error
    except OSError as error:
        raise UserError(f"'{path}' cannot be read: {error.strerror or error}") from error


def open_bytes(path: Path) -> IO[bytes] | gzip.GzipFile | lzma.LZMAFile:
    """A file opened for its bytes, decompressed as its name says."""
    if path.suffix == '.gz':
        return gzip.open(path, 'rb')
    return lzma.open(path, 'rb') if path.suffix == '.xz' else open(path, 'rb')


def records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of each JSON line of a file; blank lines are skipped."""
    for number, line in lines(path):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"'{path}' line {number} is not JSON: {error.msg} at character {error.pos}") from error
        if not isinstance(record, dict):
            raise UserError(f"'{path}' line {number} is not a JSON object but {json.dumps(record)[:40]}")
        yield number, record


def string(record: dict[str, Any], field: str, path: Path, number: int, setting: str) -> str:
    """The text in a field of a record; setting: the name of the setting that chose the field."""
    if field not in record:
        raise UserError(
            f"'{path}' line {number} has no field '{field}' ({setting}){nearest(field, record)}; "
            f'it has {", ".join(record) or "none"}'
        )
    if not isinstance(record[field], str):
        raise UserError(f"'{path}' line {number}: field '{field}' is not a text but {json.dumps(record[field])[:40]}")
    if SURROGATE.search(record[field]):
        raise UserError(f"'{path}' line {number}: field '{field}' holds half a surrogate pair, which is no character")
    return record[field]


SOURCES: dict[str, Source] = {
    'docstrings': Source(
        documents=lambda argument, field, cache: docstrings.documents(cache),
        stamp=lambda argument, field, cache: docstrings.stamp(),
    ),
    'text': Source(documents=text, stamp=file_stamps),
    'jsonl': Source(documents=json_lines, stamp=file_stamps),
}


SURROGATE = re.compile('[\ud800-\udfff]')  # JSON can write one, UTF-8 cannot

# Where a sentence may end: a stop, perhaps a closing quote or bracket, white space, and then what a sentence can
# begin with.
END = re.compile(r'[.!?…]["\'”’)\]]*\s+(?=["\'“‘(\[]?[A-Z0-9À-Þ])')
ABBREVIATED = re.compile(
    r'(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|Mt|Sr|Jr|Capt|Col|Gen|Rev|vs|etc|cf|al|Fig|Eq|Sec|Ref|No|Vol|pp|e\.g|i\.e)|\b[A-Z])\.\s+$'
)


def sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph, by a rule on stops, capitals and common abbreviations; never an empty one."""
    result, start = [], 0
    for match in END.finditer(paragraph):
        if not ABBREVIATED.search(paragraph, max(start, match.start() - 8), match.end()):
            result.append(paragraph[start : match.end()].strip())
            start = match.end()
    return [*result, paragraph[start:].strip()] if paragraph[start:].strip() else result
