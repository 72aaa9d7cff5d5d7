"""Folders that are either finished or absent."""

import hashlib
import json
import os
import shutil
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from research.errors import UserError


def fingerprint(value: Any) -> str:
    """Sixteen hexadecimal digits that change with any part of a JSON-able value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def prepared(folder: Path, write: Callable[[Path], None]) -> Path:
    """`folder`, written by `write` unless it is there already.

    `write` fills a neighbour that is then renamed, so that a killed process leaves nothing that looks finished, and
    of two processes that prepare the same folder at once the slower one throws its copy away.
    """
    if folder.is_dir():
        return folder
    unfinished = folder.with_name(f'.{folder.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}')
    try:
        unfinished.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"data.cache: cannot make the folder '{folder.parent}' ({error.strerror})") from error
    print(f'preparing {folder}: once, then it is read from there', file=sys.stderr, flush=True)
    try:
        write(unfinished)
        try:
            os.rename(unfinished, folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder
