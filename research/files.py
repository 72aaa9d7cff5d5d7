"""Files that a kill never leaves half-written, JSON records and lines, locks, and fingerprints of values."""

import contextlib
import fcntl
import hashlib
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read_record(path: Path) -> dict[str, Any] | None:
    """The JSON object in `path`; None if the file is missing, half-written or holds something else."""
    try:
        record = json.loads(path.read_text(encoding='utf-8'))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def parse_lines(text: str) -> list[dict[str, Any]]:
    """The JSON objects of a text with one on each line; skips other lines, such as one that a kill cut short."""
    found = []
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            found.append(record)
    return found


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects in the lines of `path`; [] if there is no such file."""
    return parse_lines(path.read_text(encoding='utf-8')) if path.exists() else []


@contextlib.contextmanager
def open_part(path: Path) -> Iterator[Path]:
    """A path of its own, beside `path`, to write to. It replaces `path` at the end of the block; after an error it is removed."""
    part = path.with_name(f'.{path.name}.{secrets.token_hex(4)}.part')  # another thread or node may write the same file
    try:
        yield part
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_whole(path: Path, content: bytes) -> None:
    """Writes `path` atomically: a reader sees the old content or the new, also after a kill."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_part(path) as part:
        part.write_bytes(content)


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Writes a JSON object atomically."""
    write_whole(path, (json.dumps(record, indent=2, ensure_ascii=False) + '\n').encode())


def take_lock(descriptor: int, shared: bool = False, wait: bool = False) -> bool:
    """Locks an open file or folder (`flock`) until it is closed or the process ends.

    Returns False if another process holds the lock and `wait` is False. Raises OSError if the file system has no locks.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def fingerprint(value: Any) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
