"""Lines of text files, plain or compressed."""

import gzip
import io
import itertools
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from research.errors import UserError

LONGEST = 2**26  # characters of a document, at most: it is held in memory as a whole
BUFFER = 2**16  # bytes of a compressed file that are read and decompressed at once


def refuse_long(size: int, where: str) -> None:
    """Raises UserError for a document of more than LONGEST characters."""
    if size > LONGEST:
        raise UserError(f'{where} has more than {LONGEST:,} characters; separate documents by blank lines, or cut it')


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, line without its end) of a UTF-8 file, decompressed by the end of its name; see `lines_and_bytes`."""
    return ((number, line) for number, line, _ in lines_and_bytes(path))


def lines_and_bytes(path: Path) -> Iterator[tuple[int, str, int]]:
    """(line number from 1, line without its end, bytes of the file read) of a UTF-8 file; a byte-order mark is skipped.

    A file whose name ends in .gz, .xz or .zst is decompressed. Raises UserError with the byte offset of text that is not
    UTF-8, or if the file cannot be opened or decompressed.
    """
    compressed = path.suffix in COMPRESSED
    offset = 0
    try:
        with ExitStack() as stack:
            raw = stack.enter_context(open(path, 'rb'))
            if compressed and not os.fstat(raw.fileno()).st_size:
                raise EOFError('it has no bytes')
            file = stack.enter_context(COMPRESSED[path.suffix](raw)) if compressed else raw
            for number in itertools.count(1):
                line = file.readline(4 * LONGEST + 2)  # a character has four bytes at most; longer lines are refused
                if not line:
                    break
                if len(line) > 4 * LONGEST:
                    refuse_long(len(line), f"'{path}' line {number}")
                try:
                    decoded = line.decode('utf-8-sig' if number == 1 else 'utf-8')
                except UnicodeDecodeError as error:
                    where = ' of its decompressed text' if compressed else ''
                    raise UserError(f"'{path}' is not UTF-8 at byte {offset + error.start}{where} (line {number})") from error
                yield number, decoded.rstrip('\r\n'), raw.tell()
                offset += len(line)
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"'{path}' is corrupt: {str(error).rstrip('.')} after {offset} bytes of text") from error
    except OSError as error:
        if error.errno is None:  # pyarrow's errors about data; the system's have a number
            raise UserError(f"'{path}' is corrupt: {str(error).rstrip('.')} after {offset} bytes of text") from error
        raise UserError(f"'{path}' cannot be read: {error.strerror or error}") from error


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
    """The text of xz streams, one after another, with zeros between them or none. Raises EOFError within one."""
    data = raw.read(BUFFER)
    while data:
        stream = lzma.LZMADecompressor()
        while not stream.eof:
            if stream.needs_input and not data:
                data = raw.read(BUFFER)
                if not data:
                    raise EOFError('it ends within a stream')
            yield stream.decompress(data, BUFFER)
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
