"""A corpus prepared: cut by all cores, block after block, then made one."""

import functools
import hashlib
import itertools
import json
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader
from numpy.typing import NDArray
from tokenizers import Tokenizer

from research.data import blocks, sources
from research.data.blocks import PARTS
from research.data.cache import prepared
from research.data.corpus import INDEX, Corpus, checksum, opened
from research.data.cutting import dtype_of, knife
from research.data.mixture import mixture
from research.data.places import place_of
from research.data.progress import progress
from research.data.settings import Data
from research.data.tokenizers import vocabulary_of
from research.data.validation import validate_corpus
from research.data.workers import cuts
from research.errors import UserError

AT_ONCE = 1024  # sections copied at once


def prepare(data: Data, tokenizer: Tokenizer) -> tuple[Corpus, ...]:
    """The corpora of the sources of `data.source` cut by `tokenizer`, from the cache when neither has changed.

    The documents are streamed: whatever their number, memory holds some hundreds of them and the index of one block.
    Which documents are held out is decided by their words alone, so that a text lies on one side in every source.
    Raises UserError if held_out leaves either part of a source without a document.
    """
    validate_corpus(data)
    wanted = [(weight, source, place_of(source, data, tokenizer)) for weight, source in mixture(data.source)]
    return tuple(
        opened(prepared(folder, functools.partial(write, source=source, data=data, tokenizer=tokenizer), continues=True), weight)
        for weight, source, folder in wanted
    )


def write(folder: Path, source: str, data: Data, tokenizer: Tokenizer) -> None:
    """Cut the documents of a source and fill `folder`, going on after the blocks that are there."""
    tool = knife(tokenizer, data.cleaners)
    if (folder / 'facts.json').is_file():  # a kill left it whole, but for what the blocks left
        clear(folder)
        return
    done = blocks.whole_blocks(folder)
    seen = None
    if data.deduplicate:
        seen = blocks.Seen(np.zeros(0, np.uint64), set())
        for number in range(len(done)):
            seen.old = np.union1d(seen.old, blocks.load_block(folder, number)['hashes'])
    before = sum(facts['read'] for facts in done)
    stream = cuts(itertools.islice(sources.read(source, data), before, None), tool)
    with progress(source) as report:
        for number in itertools.count(len(done)):
            read = 0
            for read, fraction in blocks.write_block(folder, number, stream, data.held_out, tool.vocabulary.size, seen):
                report(before + read, fraction)
            if not read:
                break
            before += read
    finish(folder, source, data, tokenizer)


def finish(folder: Path, source: str, data: Data, tokenizer: Tokenizer) -> None:
    """Make one corpus of the blocks in `folder`."""
    pieces = vocabulary_of(tokenizer)
    done = blocks.whole_blocks(folder)
    records = {part: [facts['records'][part] for facts in done] for part in PARTS}
    content = hashlib.sha256(json.dumps([pieces.fingerprint, data.held_out]).encode())
    counts = {part: np.zeros(pieces.size, np.int64) for part in PARTS}
    histograms = {name: np.zeros(blocks.BINS, np.int64) for name in ('documents', 'sentences')}
    totals = dict.fromkeys((f'{part}.{name}' for part in PARTS for name in ('lengths', 'sentences', 'sections')), 0)
    for number in range(len(done)):
        arrays = blocks.load_block(folder, number)
        content.update(arrays['hashes'].tobytes())
        for part in PARTS:
            counts[part] += arrays[f'{part}.counts']
        for name, total in histograms.items():
            total += arrays[f'{name}.histogram']
        for name in totals:
            totals[name] += len(arrays[name])
    documents = {part: totals[f'{part}.sections'] for part in PARTS}
    complain(source, data, documents, min((facts['smallest'] for facts in done), default=1.0))

    for part in PARTS:
        write_index(folder, part, len(done), {name: totals[f'{part}.{name}'] for name in ('lengths', 'sentences')})
    np.save(folder / 'counts.npy', counts['train'])
    for part in PARTS:
        write_ids(folder, part, records[part])
    both = counts['train'] + counts['held_out']
    facts = {
        'fingerprint': content.hexdigest()[:16],
        'source': source,
        'dtype': dtype_of(pieces),
        'documents': documents['train'],
        'tokens': int(counts['train'].sum()),
        'sentences': totals['train.lengths'],
        'held_out_documents': documents['held_out'],
        'held_out_tokens': int(counts['held_out'].sum()),
        'duplicates': sum(facts['duplicates'] for facts in done),
        'unknown_rate': float(both[pieces.unknown] / both.sum()),
        'unigram_entropy': entropy(counts['train'][~pieces.special]),
        'lengths': {name: np.trim_zeros(total, 'b').tolist() for name, total in histograms.items()},
        'records': records,
    }
    kept = [path for path in sorted(folder.iterdir()) if not path.name.startswith('block-')]
    facts |= {
        'sizes': {path.name: path.stat().st_size for path in kept},
        'checksums': {path.name: checksum(path) for path in kept if path.suffix != '.arrayrecord'},  # which has its own
    }
    unfinished = folder / 'block-facts.part'
    unfinished.write_text(json.dumps(facts, indent=2) + '\n', encoding='utf-8')
    unfinished.replace(folder / 'facts.json')
    clear(folder)


def clear(folder: Path) -> None:
    """Remove what the blocks of a corpus left."""
    for path in folder.glob('block-*'):
        path.unlink()


def write_ids(folder: Path, part: str, records: list[int]) -> None:
    """Lay the ids of the sections of a part end to end; records: how many each of its shards holds."""
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


def write_index(folder: Path, part: str, count: int, totals: dict[str, int]) -> None:
    """Lay the index of `count` blocks end to end; totals: sentences ('lengths') and sections ('sentences') of all."""
    sentences, documents = 0, 0
    with ExitStack() as stack:

        def begin(name: str, size: int) -> IO[bytes]:
            file = stack.enter_context(open(folder / f'{part}.{name}.npy', 'wb'))
            np.lib.format.write_array_header_1_0(file, {'descr': INDEX[name], 'fortran_order': False, 'shape': (size,)})
            return file

        lengths = begin('lengths', totals['lengths'])
        starts = begin('starts', totals['sentences'] + 1)
        document = begin('document', totals['sentences'])
        starts.write(np.zeros(1, INDEX['starts']).tobytes())
        for number in range(count):
            arrays = blocks.load_block(folder, number)
            sections = arrays[f'{part}.sections']
            lengths.write(arrays[f'{part}.lengths'].astype(INDEX['lengths']).tobytes())
            starts.write((sentences + np.cumsum(arrays[f'{part}.sentences'])).astype(INDEX['starts']).tobytes())
            document.write((documents + np.repeat(np.arange(len(sections)), sections)).astype(INDEX['document']).tobytes())
            sentences += len(arrays[f'{part}.lengths'])
            documents += len(sections)


def complain(source: str, data: Data, documents: dict[str, int], smallest: float) -> None:
    """Raise a UserError if a part that is wanted has no document."""
    total = sum(documents.values())
    if not total:
        raise UserError(f"data.source='{source}' holds no text")
    if data.held_out and not documents['held_out']:
        raise UserError(
            f"data.held_out={data.held_out} holds out none of the {total} documents of '{source}' (by their hashes, "
            f'{smallest + 1e-3:.3f} would hold out one; 0 goes without evaluation)'
        )
    if not documents['train']:
        raise UserError(f"data.held_out={data.held_out} leaves none of the {total} documents of '{source}' to train on; lower it")


def entropy(counts: NDArray[np.int64]) -> float:
    """The entropy in nats of pieces drawn as often as they were counted: the loss of a model that knows their frequencies alone."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
