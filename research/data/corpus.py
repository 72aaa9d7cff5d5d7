"""A corpus on disk: the ids of every document, cut by one tokenizer, prepared once and then only opened.

A folder `<cache>/corpus-<settings>-<fingerprint>` holds, for each part (train, held_out), the shards
`<part>-00000.arrayrecord` … with one record for each section (a document, or at most SECTION pieces of a long one) and
its index `<part>.{lengths,starts,document}.npy`; and `counts.npy`, how often each piece occurs in train, and
`facts.json`. Nothing in it depends on the length of sequences, on masks or on pairs.

Reading one section of a shard takes a hundred microseconds, even for 128 pieces. So `<part>.ids` holds all ids once
more, in two bytes a piece, and a batch is a single gather.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from research.data.blocks import PARTS
from research.data.facts import CorpusFacts
from research.errors import DamagedError
from research.escape import flatten
from research.records import read_as

INDEX = {'lengths': '<i4', 'starts': '<i8', 'document': '<i8'}


@dataclass(frozen=True, eq=False)
class Part:
    """The sections of one part of a corpus: R of them, with S sentences in all. The arrays are mapped from disk."""

    ids: NDArray[Any]  # [P] of all sections, end to end
    lengths: NDArray[np.int32]  # [S] pieces of each sentence
    starts: NDArray[np.int64]  # [R + 1] index of each section's first sentence
    document: NDArray[np.int64]  # [R] the document that a section belongs to, increasing


@dataclass(frozen=True, eq=False)
class Corpus:
    """A prepared corpus."""

    folder: Path
    weight: float  # its share of the mixture
    facts: CorpusFacts
    counts: NDArray[np.int64]  # [V] occurrences of each piece in train
    train: Part
    held_out: Part


def checksum(path: Path) -> int:
    """The CRC-32 of a file."""
    found = 0
    with open(path, 'rb') as file:
        while chunk := file.read(2**22):
            found = zlib.crc32(chunk, found)
    return found


def open_corpus(folder: Path, weight: float) -> Corpus:
    """A prepared corpus. Raises DamagedError if one of its files has changed since it was written."""
    mend = f"; remove the folder '{folder}', and it is prepared anew"
    facts = read_as(CorpusFacts, folder / 'facts.json')
    if facts is None:
        raise DamagedError(f"'{folder / 'facts.json'}' cannot be read{mend}")
    for name, size in facts.sizes.items():
        found = (folder / name).stat().st_size if (folder / name).is_file() else 0
        if found != size:
            raise DamagedError(f"'{folder / name}' has {found:,} bytes and was written with {size:,}: it is damaged{mend}")
        if name in facts.checksums and checksum(folder / name) != facts.checksums[name]:
            raise DamagedError(f"'{folder / name}' has changed since it was written: it is damaged{mend}")
    try:
        return Corpus(folder, weight, facts, np.load(folder / 'counts.npy'), *(open_part(folder, part, facts) for part in PARTS))
    except (OSError, ValueError, TypeError) as error:
        raise DamagedError(f"'{folder}' cannot be read ({flatten(str(error), 200)}): it is damaged{mend}") from error


def open_part(folder: Path, part: str, facts: CorpusFacts) -> Part:
    """One part of a prepared corpus."""
    arrays = {name: np.load(folder / f'{part}.{name}.npy', mmap_mode='r') for name in INDEX}
    path = folder / f'{part}.ids'
    ids = np.memmap(path, facts.dtype, mode='r') if path.stat().st_size else np.zeros(0, facts.dtype)
    return Part(ids, **arrays)
