"""The ids of a part of a corpus laid end to end and mapped from disk: what sequences are cut from.

A shard gives a section at a time, which takes a hundred microseconds for the 128 pieces that are wanted of it. A second
copy costs as much disk as the shards, two bytes a piece, and a batch is then a single gather.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from research.data.corpus import Part

CHUNK = 1024  # sections copied at once


def flat(part: Part, path: Path) -> NDArray[Any]:
    """The ids of `part` [P], written to `path` unless they are there whole; its folder is that of the prepared corpus."""
    size = int(part.lengths.sum(dtype=np.int64))
    if not path.is_file() or path.stat().st_size != size * np.dtype(part.dtype).itemsize:
        unfinished = path.with_name(f'{path.name}.{os.getpid()}.part')
        try:
            with open(unfinished, 'wb') as file:
                for begin in range(0, len(part.document), CHUNK):
                    sections = np.arange(begin, min(begin + CHUNK, len(part.document)))
                    file.writelines(record.data for record in part.read(sections))
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    return np.memmap(path, part.dtype, mode='r') if size else np.zeros(0, part.dtype)
