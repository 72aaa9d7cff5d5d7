"""A corpus being written: block after block of documents, each whole on disk before the next begins.

A block N leaves, for each part that got documents, `<part>-N.arrayrecord` (a shard of the corpus), and `block-N.npz`
with the index and the counts; and last `block-N.json`, which marks it as whole. A killed preparation goes on after
the last whole block.
"""

import dataclasses
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from numpy.typing import NDArray

from research.data.cutting import Cut, shares
from research.records import read_as, write_record

SHARD = 2**25  # pieces of a block: 64 MB where ids are uint16
PARTS: tuple[str, ...] = ('train', 'held_out')
BINS = 32  # of histograms: bin b counts lengths from 2^b to below 2^(b + 1)
SEEN = 2**18  # hashes of documents held in a set, before they join the sorted array


@dataclass(eq=False)
class Seen:
    """Hashes of the documents so far, 8 bytes each."""

    old: NDArray[np.uint64]  # sorted
    new: set[int]


@dataclass(eq=False)
class Block:
    """What is known of one block of V pieces, part by part, while it is written."""

    counts: dict[str, NDArray[np.int64]]  # [V] occurrences of each piece
    lengths: dict[str, list[NDArray[np.int32]]] = field(default_factory=lambda: {part: [] for part in PARTS})  # of each sentence
    sentences: dict[str, list[NDArray[np.int32]]] = field(default_factory=lambda: {part: [] for part in PARTS})  # of each section
    sections: dict[str, list[NDArray[np.int32]]] = field(default_factory=lambda: {part: [] for part in PARTS})  # of each document
    documents_histogram: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    sentences_histogram: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    hashes: list[NDArray[np.uint64]] = field(default_factory=list)  # of the documents that are not duplicates
    read: int = 0  # documents
    duplicates: int = 0
    smallest: float = 1.0  # share of a document, which held_out must exceed to hold out one
    pieces: int = 0


@dataclass(frozen=True)
class BlockFacts:
    """What marks a block as whole: its block-N.json."""

    read: int  # documents
    duplicates: int
    smallest: float
    shards: dict[str, int]  # bytes of each
    records: dict[str, int]  # sections of each part


def find_unseen(seen: Seen, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which of some documents were not seen before; afterwards all of them count as seen."""
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
    """Writes one block of `cuts`, yielding (documents read, share of the source read) as it goes; no file if there are none.

    seen: the documents before it, to leave out duplicates; None keeps those.
    """
    block = Block({part: np.zeros(vocabulary, np.int64) for part in PARTS})
    writers: dict[str, Any] = {}
    with ExitStack() as stack:

        def write(part: str, record: bytes) -> None:
            if part not in writers:
                # Ids do not compress much, and training reads them at random.
                writers[part] = ArrayRecordWriter(str(folder / shard_name(part, number)), 'group_size:1,uncompressed')
                stack.callback(writers[part].close)
            writers[part].write(record)

        for fraction, documents, cut in cuts:
            block.read += documents
            for part, record in add_cut(block, cut, held_out, seen):
                write(part, record)
            yield block.read, fraction
            if block.pieces >= SHARD:
                break
    if block.read:
        save_block(folder, number, block, {part: folder / shard_name(part, number) for part in writers})


def add_cut(block: Block, cut: Cut, held_out: float, seen: Seen | None) -> Iterator[tuple[str, bytes]]:
    """Adds some documents to the block, yielding (part, ids as bytes) of each of their sections."""
    draws = shares(cut.hashes)
    fresh = np.ones(len(draws), bool) if seen is None else find_unseen(seen, cut.hashes)
    block.duplicates += int((~fresh).sum())
    block.smallest = min(block.smallest, float(draws.min(initial=1.0)))
    block.hashes.append(cut.hashes[fresh])
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
            yield part, cut.ids[edges[place] : edges[place + 1]].tobytes()
        block.counts[part] += np.bincount(cut.ids[np.repeat(sections, sizes)], minlength=len(block.counts[part]))
        block.lengths[part].append(cut.lengths[sentences])
        block.sentences[part].append(cut.sentences[sections])
        block.sections[part].append(cut.sections[mine])
        block.documents_histogram += histogram(sums(sizes, cut.sections)[mine])
        block.sentences_histogram += histogram(cut.lengths[sentences])
        block.pieces += int(sizes[sections].sum())


def save_block(folder: Path, number: int, block: Block, shards: dict[str, Path]) -> None:
    """Writes the arrays of a block, and last the file that marks it as whole; shards: of the parts that got documents."""
    arrays: dict[str, NDArray[Any]] = {}
    for part in PARTS:
        for name, lists in (('lengths', block.lengths), ('sentences', block.sentences), ('sections', block.sections)):
            arrays[f'{part}.{name}'] = np.concatenate([np.zeros(0, np.int32), *lists[part]])
        arrays[f'{part}.counts'] = block.counts[part]
    arrays |= {'documents.histogram': block.documents_histogram, 'sentences.histogram': block.sentences_histogram}
    np.savez(folder / f'block-{number:05}.npz', hashes=np.concatenate(block.hashes), allow_pickle=False, **arrays)
    facts = BlockFacts(
        read=block.read,
        duplicates=block.duplicates,
        smallest=block.smallest,
        shards={path.name: path.stat().st_size for path in shards.values()},
        records={part: len(arrays[f'{part}.sentences']) for part in PARTS},
    )
    write_record(folder / f'block-{number:05}.json', dataclasses.asdict(facts))


def shard_name(part: str, number: int) -> str:
    """The file of a part that block `number` writes."""
    return f'{part}-{number:05}.arrayrecord'


def sums(values: NDArray[Any], counts: NDArray[np.int32]) -> NDArray[np.int64]:
    """The sums of runs of values, one of `counts` after another; no count is 0."""
    return np.add.reduceat(values, np.cumsum(counts) - counts, dtype=np.int64) if len(counts) else np.zeros(0, np.int64)


def whole_blocks(folder: Path) -> list[BlockFacts]:
    """The facts of the whole blocks; files of others are removed."""
    found: list[BlockFacts] = []
    while (facts := read_as(BlockFacts, folder / f'block-{len(found):05}.json')) is not None:
        if any(not (folder / name).is_file() or (folder / name).stat().st_size != size for name, size in facts.shards.items()):
            break
        if not zipfile.is_zipfile(folder / f'block-{len(found):05}.npz'):  # it is missing, or a power loss cut it short
            break
        found.append(facts)
    kept = {f'block-{number:05}.{suffix}' for number in range(len(found)) for suffix in ('json', 'npz')}
    kept |= {name for facts in found for name in facts.shards}
    for path in folder.iterdir():
        if path.name not in kept:
            path.unlink()
    return found


def load_block(folder: Path, number: int) -> dict[str, NDArray[Any]]:
    """The arrays of a block."""
    with np.load(folder / f'block-{number:05}.npz') as arrays:
        return dict(arrays)
