"""Preparing a corpus: all cores cut it, block after block, and the blocks are joined."""

import dataclasses
import functools
import hashlib
import itertools
import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader
from numpy.typing import NDArray
from tokenizers import Tokenizer

from research.data import blocks, sources
from research.data.blocks import PARTS
from research.data.cache import prepare_folder
from research.data.corpus import INDEX, Corpus, checksum, open_corpus
from research.data.cutting import dtype_of, make_knife
from research.data.facts import CorpusFacts
from research.data.mixture import mixture
from research.data.places import place_of
from research.data.progress import progress
from research.data.settings import Data
from research.data.tokenizers import Vocabulary, vocabulary_of
from research.data.validation import validate_corpus
from research.data.workers import cuts
from research.errors import UserError
from research.records import write_record

AT_ONCE = 1024  # sections copied at once


@dataclass(eq=False)
class Totals:
    """The sums over the blocks of a corpus, part by part."""

    fingerprint: str  # of the documents, the pieces and the share that is held out
    counts: dict[str, NDArray[np.int64]]  # [V] occurrences of each piece
    histograms: dict[str, NDArray[np.int64]]  # of the pieces of documents and of sentences
    sentences: dict[str, int]
    sections: dict[str, int]
    documents: dict[str, int]


def prepare(data: Data, cache: str, tokenizer: Tokenizer) -> tuple[Corpus, ...]:
    """The corpora of the sources of `data.source` cut by `tokenizer`, from the cache if neither has changed.

    The documents are streamed: for any number of them, memory holds some hundreds and the index of one block. Only the
    words of a document decide whether it is held out, so that a text is on the same side in every source.
    Raises UserError if held_out leaves either part of a source without a document.
    """
    validate_corpus(data)
    found = []
    for weight, source in mixture(data.source):
        fill = functools.partial(write, source=source, data=data, cache=cache, tokenizer=tokenizer)
        folder = prepare_folder(place_of(source, data, cache, tokenizer), fill, continues=True)
        found.append(open_corpus(folder, weight))
    return tuple(found)


def write(folder: Path, source: str, data: Data, cache: str, tokenizer: Tokenizer) -> None:
    """Cuts the documents of a source and fills `folder`, going on after the blocks that are there."""
    tool = make_knife(tokenizer, data.cleaners)
    if (folder / 'facts.json').is_file():  # an earlier process finished all but removing the blocks
        remove_blocks(folder)
        return
    done = blocks.whole_blocks(folder)
    seen = None
    if data.deduplicate:
        seen = blocks.Seen(np.zeros(0, np.uint64), set())
        for number in range(len(done)):
            seen.old = np.union1d(seen.old, blocks.load_block(folder, number)['hashes'])
    before = sum(facts.read for facts in done)
    stream = cuts(itertools.islice(sources.read(source, data, cache), before, None), tool)
    with progress(source) as report:
        for number in itertools.count(len(done)):
            read = 0
            for read, fraction in blocks.write_block(folder, number, stream, data.held_out, tool.pieces.size, seen):
                report(before + read, fraction)
            if not read:
                break
            before += read
    join_blocks(folder, source, data, vocabulary_of(tokenizer))


def join_blocks(folder: Path, source: str, data: Data, pieces: Vocabulary) -> None:
    """Makes one corpus of the blocks in `folder`: its facts.json is written last, and then the blocks are removed."""
    done = blocks.whole_blocks(folder)
    totals = add_up(folder, len(done), data, pieces)
    refuse_empty(source, data, totals.documents, min((facts.smallest for facts in done), default=1.0))
    records = {part: [facts.records[part] for facts in done] for part in PARTS}
    for part in PARTS:
        write_index(folder, part, len(done), totals.sentences[part], totals.sections[part])
    np.save(folder / 'counts.npy', totals.counts['train'])
    for part in PARTS:
        write_ids(folder, part, records[part])
    both = totals.counts['train'] + totals.counts['held_out']
    kept = [path for path in sorted(folder.iterdir()) if not path.name.startswith('block-')]
    facts = CorpusFacts(
        fingerprint=totals.fingerprint,
        source=source,
        dtype=dtype_of(pieces),
        documents=totals.documents['train'],
        tokens=int(totals.counts['train'].sum()),
        sentences=totals.sentences['train'],
        held_out_documents=totals.documents['held_out'],
        held_out_tokens=int(totals.counts['held_out'].sum()),
        duplicates=sum(facts.duplicates for facts in done),
        unknown_rate=float(both[pieces.unknown] / both.sum()),
        unigram_entropy=entropy(totals.counts['train'][~pieces.special]),
        lengths={name: np.trim_zeros(total, 'b').tolist() for name, total in totals.histograms.items()},
        records=records,
        sizes={path.name: path.stat().st_size for path in kept},
        checksums={path.name: checksum(path) for path in kept if path.suffix != '.arrayrecord'},  # which has its own
    )
    write_record(folder / 'facts.json', dataclasses.asdict(facts))
    remove_blocks(folder)


def add_up(folder: Path, count: int, data: Data, pieces: Vocabulary) -> Totals:
    """The Totals of `count` blocks."""
    content = hashlib.sha256(json.dumps([pieces.fingerprint, data.held_out]).encode())
    counts = {part: np.zeros(pieces.size, np.int64) for part in PARTS}
    histograms = {name: np.zeros(blocks.BINS, np.int64) for name in ('documents', 'sentences')}
    sizes = {name: dict.fromkeys(PARTS, 0) for name in ('lengths', 'sentences', 'sections')}
    for number in range(count):
        arrays = blocks.load_block(folder, number)
        content.update(arrays['hashes'].tobytes())
        for name, total in histograms.items():
            total += arrays[f'{name}.histogram']
        for part in PARTS:
            counts[part] += arrays[f'{part}.counts']
            for name, sums in sizes.items():
                sums[part] += len(arrays[f'{part}.{name}'])
    # `lengths` has an entry for each sentence, `sentences` for each section, `sections` for each document.
    return Totals(content.hexdigest()[:16], counts, histograms, sizes['lengths'], sizes['sentences'], sizes['sections'])


def remove_blocks(folder: Path) -> None:
    """Removes the files of the blocks of a corpus, except its shards."""
    for path in folder.glob('block-*'):
        path.unlink()


def write_ids(folder: Path, part: str, records: list[int]) -> None:
    """Writes the ids of all sections of a part end to end; records: how many each of its shards holds."""
    with open(folder / f'{part}.ids', 'wb') as file:
        for shard, count in enumerate(records):
            if not count:
                continue
            reader: Any = ArrayRecordReader(
                str(folder / blocks.shard_name(part, shard)), 'readahead_buffer_size:0,max_parallelism:0'
            )
            for begin in range(0, count, AT_ONCE):
                file.writelines(reader.read(list(range(begin, min(begin + AT_ONCE, count)))))
            reader.close()


def write_index(folder: Path, part: str, count: int, all_sentences: int, all_sections: int) -> None:
    """Writes the index of a part: those of `count` blocks end to end."""
    sentences, documents = 0, 0
    with ExitStack() as stack:

        def begin(name: str, size: int) -> IO[bytes]:
            file = stack.enter_context(open(folder / f'{part}.{name}.npy', 'wb'))
            np.lib.format.write_array_header_1_0(file, {'descr': INDEX[name], 'fortran_order': False, 'shape': (size,)})
            return file

        lengths = begin('lengths', all_sentences)
        starts = begin('starts', all_sections + 1)
        document = begin('document', all_sections)
        starts.write(np.zeros(1, INDEX['starts']).tobytes())
        for number in range(count):
            arrays = blocks.load_block(folder, number)
            sections = arrays[f'{part}.sections']
            lengths.write(arrays[f'{part}.lengths'].astype(INDEX['lengths']).tobytes())
            starts.write((sentences + np.cumsum(arrays[f'{part}.sentences'])).astype(INDEX['starts']).tobytes())
            document.write((documents + np.repeat(np.arange(len(sections)), sections)).astype(INDEX['document']).tobytes())
            sentences += len(arrays[f'{part}.lengths'])
            documents += len(sections)


def refuse_empty(source: str, data: Data, documents: dict[str, int], smallest: float) -> None:
    """Raises UserError if a part that must have documents has none."""
    total = sum(documents.values())
    if not total:
        raise UserError(f"data.source='{source}' holds no text")
    if total == 1 and data.held_out:
        raise sources.explain_single_document(source, data)
    if data.held_out and not documents['held_out']:
        raise UserError(
            f"data.held_out={data.held_out} holds out none of the {total} documents of '{source}' (by their hashes, "
            f'{smallest + 1e-3:.3f} would hold out one; 0 goes without evaluation)'
        )
    if not documents['train']:
        raise UserError(f"data.held_out={data.held_out} leaves none of the {total} documents of '{source}' to train on; lower it")


def entropy(counts: NDArray[np.int64]) -> float:
    """The entropy in nats of pieces by their counts: the loss of a model that knows only their frequencies."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
