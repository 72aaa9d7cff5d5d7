"""A corpus being written: block after block of documents, each whole on disk before the next begins.

A block N leaves, for each part that got documents, `<part>-N.arrayrecord` (a shard of the corpus), and `block-N.npz`
with the index and the counts; and last `block-N.json`, which says that it is whole. A killed preparation goes on after
the last whole block.
"""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from numpy.typing import NDArray

from research.data.cutting import Cut, shares

SHARD = 2**25  # pieces of a block: 64 MB where ids are uint16
PARTS: tuple[str, ...] = ('train', 'held_out')
BINS = 32  # of histograms: bin b counts lengths from 2^b to below 2^(b + 1)
SEEN = 2**18  # hashes of documents held in a set, before they join the sorted array


@dataclass(eq=False)
class Index:
    """What one block or several know of one part."""

    lengths: list[NDArray[np.int32]] = field(default_factory=list)  # pieces of each sentence
    sentences: list[NDArray[np.int32]] = field(default_factory=list)  # sentences of each section
    sections: list[NDArray[np.int32]] = field(default_factory=list)  # sections of each document


@dataclass(eq=False)
class Seen:
    """Hashes of the documents so far, 8 bytes each."""

    old: NDArray[np.uint64]  # sorted
    new: set[int]


def unseen(seen: Seen, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which of some documents were never seen; afterwards they have been."""
    place = np.searchsorted(seen.old, hashes)
    known = np.zeros(len(hashes), bool)
    inside = place < len(seen.old)
    known[inside] = seen.old[place[inside]] == hashes[inside]
    for number in np.flatnonzero(~known):
        value = int(hashes[number])
        known[number] = value in seen.new
        seen.new.add(value)
    if len(seen.new) >= SEEN:
        seen.old = np.union1d(seen.old, np.fromiter(seen.new, np.uint64, len(seen.new)))
        seen.new.clear()
    return ~known


def histogram(lengths: NDArray[Any]) -> NDArray[np.int64]:
    """[BINS] how many lengths of 1 or more lie between 2^b and 2^(b + 1)."""
    return np.bincount(np.frexp(lengths.astype(np.float64))[1] - 1, minlength=BINS) if len(lengths) else np.zeros(BINS, np.int64)


def write_block(
    folder: Path, number: int, cuts: Iterator[tuple[float, int, Cut]], held_out: float, vocabulary: int, seen: Seen | None
) -> Iterator[tuple[int, float]]:
    """Write one block of `cuts`, yielding (documents read, share of the source read) as it goes; no file if there are none.

    seen: the documents that are duplicates, or None where those are wanted.
    """
    index = {part: Index() for part in PARTS}
    counts = {part: np.zeros(vocabulary, np.int64) for part in PARTS}
    hashes: list[NDArray[np.uint64]] = []
    lengths = {'documents': np.zeros(BINS, np.int64), 'sentences': np.zeros(BINS, np.int64)}
    read, duplicates, smallest, pieces = 0, 0, 1.0, 0
    writers: dict[str, Any] = {}
    with ExitStack() as stack:

        def write(part: str, record: bytes) -> None:
            if part not in writers:
                # Ids do not compress much, and reading them at random is the hot path.
                writers[part] = ArrayRecordWriter(str(folder / shard_name(part, number)), 'group_size:1,uncompressed')
                stack.callback(writers[part].close)
            writers[part].write(record)

        for fraction, documents, cut in cuts:
            read += documents
            draws = shares(cut.hashes)
            fresh = np.ones(len(draws), bool) if seen is None else unseen(seen, cut.hashes)
            duplicates += int((~fresh).sum())
            smallest = min(smallest, float(draws.min(initial=1.0)))
            hashes.append(cut.hashes[fresh])
            sizes = sums(cut.lengths, cut.sentences)  # pieces of each section
            edges = np.concatenate([[0], np.cumsum(sizes)])
            document = np.repeat(np.arange(len(draws)), cut.sections)  # of each section
            for part in PARTS:
                mine = fresh & ((draws < held_out) == (part == 'held_out'))
                if not mine.any():
                    continue
                sections = mine[document]
                sentences = np.repeat(sections, cut.sentences)
                for place in np.flatnonzero(sections):
                    write(part, cut.ids[edges[place] : edges[place + 1]].tobytes())
                counts[part] += np.bincount(cut.ids[np.repeat(sections, sizes)], minlength=vocabulary)
                index[part].lengths.append(cut.lengths[sentences])
                index[part].sentences.append(cut.sentences[sections])
                index[part].sections.append(cut.sections[mine])
                lengths['documents'] += histogram(sums(sizes, cut.sections)[mine])
                lengths['sentences'] += histogram(cut.lengths[sentences])
                pieces += int(sizes[sections].sum())
            yield read, fraction
            if pieces >= SHARD:
                break
    if not read:
        return
    arrays: dict[str, NDArray[Any]] = {
        f'{part}.{name}': joined(getattr(index[part], name)) for part in PARTS for name in ('lengths', 'sentences', 'sections')
    }
    arrays |= {f'{part}.counts': counts[part] for part in PARTS}
    arrays |= {f'{name}.histogram': array for name, array in lengths.items()}
    np.savez(folder / f'block-{number:05}.npz', hashes=np.concatenate(hashes), allow_pickle=False, **arrays)
    facts = {
        'read': read,
        'duplicates': duplicates,
        'smallest': smallest,
        'shards': {shard_name(part, number): (folder / shard_name(part, number)).stat().st_size for part in writers},
        'records': {part: len(arrays[f'{part}.sentences']) for part in PARTS},
    }
    path = folder / f'block-{number:05}.json'
    path.with_suffix('.part').write_text(json.dumps(facts), encoding='utf-8')
    os.replace(path.with_suffix('.part'), path)


def shard_name(part: str, number: int) -> str:
    """The file of a part that block `number` wrote."""
    return f'{part}-{number:05}.arrayrecord'


def sums(values: NDArray[Any], counts: NDArray[np.int32]) -> NDArray[np.int64]:
    """The sums of runs of values, one of `counts` after another; no count is 0."""
    return np.add.reduceat(values, np.cumsum(counts) - counts, dtype=np.int64) if len(counts) else np.zeros(0, np.int64)


def joined(arrays: list[NDArray[np.int32]]) -> NDArray[np.int32]:
    """The arrays end to end."""
    return np.concatenate([np.zeros(0, np.int32), *arrays])


def whole_blocks(folder: Path) -> list[dict[str, Any]]:
    """The facts of the blocks that an earlier process finished; what it left beyond them is removed."""
    found: list[dict[str, Any]] = []
    while (folder / f'block-{len(found):05}.json').is_file():
        facts = json.loads((folder / f'block-{len(found):05}.json').read_text('utf-8'))
        if any(not (folder / name).is_file() or (folder / name).stat().st_size != size for name, size in facts['shards'].items()):
            break
        if not (folder / f'block-{len(found):05}.npz').is_file():
            break
        found.append(facts)
    kept = {f'block-{number:05}.{suffix}' for number in range(len(found)) for suffix in ('json', 'npz')}
    kept |= {name for facts in found for name in facts['shards']}
    for path in folder.iterdir():
        if path.name not in kept:
            path.unlink()
    return found


def load_block(folder: Path, number: int) -> dict[str, NDArray[Any]]:
    """The arrays of a block."""
    with np.load(folder / f'block-{number:05}.npz') as arrays:
        return dict(arrays)
