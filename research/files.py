"""Files that a kill never leaves half-written: bytes, JSON objects, JSON lines; locks; and fingerprints of values."""

import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import Any


def read_record(path: Path) -> dict[str, Any] | None:
    """The JSON object in `path`; None when the file is missing, half-written or holds something else."""
    try:
        record = json.loads(path.read_text(encoding='utf-8'))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def lines(text: str) -> list[dict[str, Any]]:
    """The JSON objects of a text, one a line; a line that a kill cut short is left out."""
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
    """The JSON objects in the lines of `path`; [] where there is no such file."""
    return lines(path.read_text(encoding='utf-8')) if path.exists() else []


def write_whole(path: Path, content: bytes) -> None:
    """Writes `path` so that a reader, or a kill, sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.name}.{os.getpid()}.part')
    partial.write_bytes(content)
    os.replace(partial, path)


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Writes a JSON object, whole."""
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
    """Sixteen hexadecimal digits that change with any part of a JSON-able value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
