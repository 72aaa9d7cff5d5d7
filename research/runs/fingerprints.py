"""Fingerprints of parameters and of code: sixteen hexadecimal digits of a SHA-256."""

import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from research.models import paths


def fingerprint_params(params: Any) -> str:
    """The fingerprint of every bit of a tree of arrays, with their paths, types and shapes."""
    content = hashlib.sha256()
    for keys, leaf in jax.tree_util.tree_leaves_with_path(params):
        array = np.ascontiguousarray(leaf)
        content.update(f'{paths.join(keys)} {array.dtype} {array.shape}\n'.encode())
        content.update(array.reshape(-1).view(np.uint8).data)
    return content.hexdigest()[:16]


def fingerprint_code(root: Path) -> str:
    """The fingerprint of the code under `root` that runs are made by: its package `research` and `launch.py`."""
    content = hashlib.sha256()
    for path in [*sorted((root / 'research').rglob('*.py')), root / 'launch.py']:
        if path.is_file():  # an installed copy may have no launch.py beside it
            content.update(f'{path.relative_to(root).as_posix()}\n'.encode() + path.read_bytes())
    return content.hexdigest()[:16]
