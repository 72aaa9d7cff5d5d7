"""Lines of text files, plain or compressed."""

import gzip
import io
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from research.errors import UserError
from research.records import suggest_conversion

LONGEST = 2**26  # characters of a document, at most: it is held in memory as a whole
RECORD = 2**21  # characters of an example of a task, at most: it is cut into pieces as a whole, which takes 300 bytes a character
UNPACKED = 8  # documents of a binary file that are unpacked at once: each may be LONGEST, and take a few bytes in the file
MEMORY = 2**28  # bytes that an .xz may ask for its dictionary; xz -9 takes 2**26
BUFFER = 2**16  # bytes of a compressed file that are read and decompressed at once
BEGIN = 2**20  # bytes within which a file shows by what its lines end


def refuse_long(size: int, where: str) -> None:
    """Raises UserError for a document of more than LONGEST characters."""
    if size > LONGEST:
        raise UserError(f'{where} has more than {LONGEST:,} characters; separate documents by blank lines, or cut it')


def lines(path: Path, longest: int = 0) -> Iterator[tuple[int, str]]:
    """(line number from 1, line without its end) of a UTF-8 file, decompressed by the end of its name; see `lines_and_bytes`."""
    return ((number, line) for number, line, _ in lines_and_bytes(path, longest))


def lines_and_bytes(path: Path, longest: int = 0, given: IO[bytes] | None = None) -> Iterator[tuple[int, str, int]]:
    """(line number from 1, line without its end, bytes of the file read) of a UTF-8 file; a byte-order mark is skipped.

    A file whose name ends in .gz, .xz or .zst is decompressed. given: read in place of the file, such as the standard input, which
    `path` then only names. Raises UserError with the byte offset of text that is not UTF-8, for a line of more than `longest`
    characters (0: LONGEST), or if the file cannot be opened or decompressed.
    """
    compressed = given is None and path.suffix in COMPRESSED
    named, unpack = 'FILE' if given else path, UNPACK[path.suffix] if compressed else ''
    offset, longest = 0, longest or LONGEST
    try:
        with ExitStack() as stack:
            raw = stack.enter_context(open(path, 'rb')) if given is None else given
            has_places = raw.seekable()  # a pipe has none
            if compressed and not os.fstat(raw.fileno()).st_size:
                raise EOFError('it has no bytes')
            file = stack.enter_context(COMPRESSED[path.suffix](raw)) if compressed else raw
            for number, line in enumerate(split_lines(file, longest), 1):
                if is_longer(line, longest):
                    raise UserError(f"'{path}' line {number} has more than {longest:,} characters, which are held at once: cut it")
                if number == 1 and line.count(0) * 3 > len(line):
                    raise UserError(
                        f"'{path}' is not UTF-8: it holds as many zeros as UTF-16 does; {suggest_conversion(named, line, unpack)}"
                    )
                try:
                    decoded = line.decode('utf-8-sig' if number == 1 else 'utf-8')
                except UnicodeDecodeError as error:
                    where = ' of its decompressed text' if compressed else ''
                    place = f'byte {offset + error.start}{where} (line {number})'
                    raise UserError(f"'{path}' is not UTF-8 at {place}; {suggest_conversion(named, line, unpack)}") from error
                yield number, decoded.rstrip('\r\n'), raw.tell() if has_places else 0
                offset += len(line)
    except (EOFError, lzma.LZMAError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's; those of gzip and pyarrow about data have none
            raise UserError(f"'{path}' cannot be read: {error.strerror}") from error
        raise UserError(f"'{path}' is corrupt: {str(error).rstrip('.')} after {offset} bytes of text") from error


def split_lines(file: IO[bytes], longest: int) -> Iterator[bytes]:
    """The lines of a file with their ends, which are newlines; carriage returns in a file that begins without any newline.

    One of more than `longest` characters is the last, and is cut after some more.
    """
    line = file.readline(BEGIN)
    if b'\n' not in line and b'\r' in line:
        yield from split_at_returns(file, line, longest)
        return
    while line:
        parts = [line]
        size = count_characters(line) if len(line) == BEGIN else 0
        while len(parts[-1]) == BEGIN and not parts[-1].endswith(b'\n') and size <= longest + 2:
            parts.append(file.readline(BEGIN))
            size += count_characters(parts[-1])
        line = b''.join(parts)
        yield line
        if is_longer(line, longest):
            return
        line = file.readline(BEGIN)


def split_at_returns(file: IO[bytes], begin: bytes, longest: int) -> Iterator[bytes]:
    """The lines of a file that end in carriage returns, as those of old spreadsheets do; `begin`: what was read of it."""
    rest, more = b'', begin
    while more and not is_longer(rest, longest):
        *whole, rest = (rest + more).split(b'\r')
        yield from (line + b'\r' for line in whole)
        more = file.read(max(BEGIN, len(rest)))
    if rest:
        yield rest


def is_longer(line: bytes, longest: int) -> bool:
    """Whether a line, with its end of up to two, has more than `longest` characters."""
    return len(line) > longest + 2 and count_characters(line) > longest + 2


def count_characters(text: bytes) -> int:
    """The number of characters of a text in UTF-8: of the bytes that begin one."""
    return len(text.translate(None, CONTINUATION))


CONTINUATION = bytes(range(0x80, 0xC0))  # bytes of a character after its first


class Pieces(io.RawIOBase):
    """Pieces of bytes, one after another, as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self.pieces, self.left = pieces, memoryview(b'')

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills a part of `buffer` and returns its size; 0 is the end."""
        while not self.left:
            piece = next(self.pieces, None)
            if piece is None:
                return 0
            self.left = memoryview(piece)
        size = min(len(buffer), len(self.left))
        buffer[:size], self.left = self.left[:size], self.left[size:]
        return size


def xz(raw: IO[bytes]) -> io.BufferedReader:
    """A file of xz streams, decompressed. `lzma.open` would take a damaged second stream for the end of the file."""
    return io.BufferedReader(Pieces(streams(raw)), BUFFER)


def streams(raw: IO[bytes]) -> Iterator[bytes]:
    """The text of xz streams, one after another, with zeros between them or none.

    Raises EOFError within one, and UserError for one that needs more than MEMORY.
    """
    data = raw.read(BUFFER)
    while data:
        stream = lzma.LZMADecompressor(memlimit=MEMORY)
        while not stream.eof:
            if stream.needs_input and not data:
                data = raw.read(BUFFER)
                if not data:
                    raise EOFError('it ends within a stream')
            try:
                piece = stream.decompress(data, BUFFER)
            except lzma.LZMAError as error:
                if 'Memory usage limit' not in str(error):
                    raise
                raise UserError(f"'{raw.name}' needs over {MEMORY:,} bytes to be decompressed: compress it with xz -9") from None
            yield piece
            data = b''
        data = stream.unused_data.lstrip(b'\0')
        while not data and (more := raw.read(BUFFER)):
            data = more.lstrip(b'\0')


def zstandard(raw: IO[bytes]) -> io.BufferedReader:
    """A file of Zstandard frames, decompressed."""
    import pyarrow

    return io.BufferedReader(pyarrow.CompressedInputStream(raw, 'zstd'))


# The end of a file's name -> what decompresses the file.
COMPRESSED: dict[str, Callable[[Any], Any]] = {'.gz': gzip.open, '.xz': xz, '.zst': zstandard}
UNPACK = {'.gz': 'gzip', '.xz': 'xz', '.zst': 'zstd'}  # the programs that do the same
