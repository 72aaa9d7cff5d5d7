"""A corpus on disk: the ids of every document, cut by one tokenizer, prepared once and reopened in an instant.

A folder `<cache>/corpus-<settings>-<fingerprint>` holds, for each part (train, held_out), the shards
`<part>-00000.arrayrecord` … with one record for each section (a document, or at most SECTION pieces of a long one) and
its index `<part>.{lengths,starts,document}.npy`; and `counts.npy`, how often each piece occurs in train, and
`facts.json`. Nothing in it depends on the length of sequences, on masks or on pairs.

A shard gives a section at a time, which takes a hundred microseconds for the 128 pieces that are wanted of it. So
`<part>.ids` holds all ids once more: two bytes a piece, and a batch is a single gather.
"""

import functools
import hashlib
import itertools
import json
import sys
import zlib
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader
from numpy.typing import NDArray
from tokenizers import Tokenizer

from research.data import blocks, cleaners, sources
from research.data.blocks import PARTS
from research.data.cache import fingerprint, prepared
from research.data.cutting import dtype_of, knife, share
from research.data.progress import progress
from research.data.settings import Data
from research.data.tokenizers import KINDS, load_tokenizer, save_tokenizer, train_tokenizer, vocabulary_of
from research.data.workers import cuts
from research.errors import UserError, choose

FORMAT = 4  # raise it when what is written below changes
SAMPLE = 50_000_000  # characters that a tokenizer is trained on, at most
CHANGED = ('prepare', 'refuse')  # what is done when files changed since they were prepared
INDEX = {'lengths': '<i4', 'starts': '<i8', 'document': '<i8'}
AT_ONCE = 1024  # sections copied at once


@dataclass(frozen=True, eq=False)
class Part:
    """The sections of one part of a corpus: R of them, with S sentences in all. The arrays are mapped from disk."""

    ids: NDArray[Any]  # [P] of all sections, end to end
    lengths: NDArray[np.int32]  # [S] pieces of each sentence
    starts: NDArray[np.int64]  # [R + 1] index of each section's first sentence
    document: NDArray[np.int64]  # [R] the document that a section belongs to, rising


@dataclass(frozen=True, eq=False)
class Corpus:
    """A prepared corpus."""

    folder: Path
    weight: float  # its share of the mixture
    facts: dict[str, Any]  # documents, tokens, sentences, unknown_rate, unigram_entropy, fingerprint …
    counts: NDArray[np.int64]  # [V] occurrences of each piece in train
    train: Part
    held_out: Part


# ---- Tokenizers ---------------------------------------------------------------------------------------------------------------


def tokenizer_of(data: Data, size: int) -> Tokenizer:
    """The tokenizer that `data` names: loaded, or trained (once) on a sample of the documents that are not held out."""
    if data.tokenizer not in KINDS:
        return load_tokenizer(data.tokenizer, data.lowercase)
    check(data)
    stamps = [[weight, sources.stamp(source, data)] for weight, source in sources.mixture(data.source)]
    settings = fingerprint([FORMAT, *origins(data), data.tokenizer, size, data.lowercase, *wishes(data)])
    folder = place(data, 'tokenizer', settings, fingerprint([FORMAT, stamps, data.tokenizer, size, data.lowercase, *wishes(data)]))

    def write(unfinished: Path) -> None:
        save_tokenizer(train_tokenizer(data.tokenizer, sample(data), size, data.lowercase), unfinished)

    return load_tokenizer(prepared(folder, write))


def sample(data: Data) -> list[str]:
    """Paragraphs of at most SAMPLE characters of the documents that are not held out, in their order.

    Each source gives its share of them. Of one that has more, documents are drawn by their hashes, so that the sample
    is spread over the whole source and is always the same.
    """
    texts: list[str] = []
    for weight, source in sources.mixture(data.source):
        room = int(SAMPLE * weight)
        kept: list[tuple[int, list[str]]] = []
        size, ceiling = 0, 2**32
        for _, found in sources.read(source, data):
            rank = int.from_bytes(hashlib.blake2b('\n'.join(found).encode(), digest_size=4).digest(), 'big')
            if rank >= ceiling:
                continue
            paragraphs = cleaners.clean(found, data.cleaners)
            if paragraphs and share(paragraphs) >= data.held_out:
                kept.append((rank, paragraphs))
                size += sum(map(len, paragraphs))
            while size > 2 * room and ceiling > 1:
                ceiling //= 2
                kept = [each for each in kept if each[0] < ceiling]
                size = sum(len(paragraph) for _, paragraphs in kept for paragraph in paragraphs)
        texts += within(kept, room)
    return [text.replace(cleaners.UNTOLD, ' ') for text in texts]


def within(documents: list[tuple[int, list[str]]], room: int) -> list[str]:
    """Paragraphs of at most `room` characters, of the (rank, document) of least rank, in the order of the documents."""
    taken: dict[int, list[str]] = {}
    for number in sorted(range(len(documents)), key=lambda number: documents[number][0]):
        taken[number] = []
        for paragraph in documents[number][1]:
            taken[number].append(paragraph[:room])
            room -= len(taken[number][-1])
        if room <= 0:
            break
    return [paragraph for number in sorted(taken) for paragraph in taken[number] if paragraph]


# ---- Preparation --------------------------------------------------------------------------------------------------------------


def prepare(data: Data, tokenizer: Tokenizer) -> tuple[Corpus, ...]:
    """The corpora of the sources of `data.source` cut by `tokenizer`, from the cache when neither has changed.

    The documents are streamed: whatever their number, memory holds some hundreds of them and the index of one block.
    Which documents are held out is decided by their words alone, so that a text lies on one side in every source.
    Raises UserError if held_out leaves either part of a source without a document.
    """
    check(data)
    mixture = sources.mixture(data.source)
    wanted = [(weight, source, place_of(source, data, tokenizer)) for weight, source in mixture]
    return tuple(
        opened(prepared(folder, functools.partial(write, source=source, data=data, tokenizer=tokenizer), continues=True), weight)
        for weight, source, folder in wanted
    )


def check(data: Data) -> None:
    """Raises UserError for settings that no corpus can have."""
    choose('data.changed', data.changed, CHANGED)
    if not 0 <= data.held_out < 1:
        raise UserError(f'data.held_out={data.held_out} must be a share: 0 (no evaluation) or more, below 1')
    sources.check(data)


def wishes(data: Data) -> list[Any]:
    """The settings, the source aside, that decide what a corpus is."""
    return [data.field, data.documents, data.cleaners, data.deduplicate, data.held_out]


def origins(data: Data) -> list[Any]:
    """What a tokenizer is trained on."""
    return [[weight, sources.origin(source, data)] for weight, source in sources.mixture(data.source)]


def place_of(source: str, data: Data, tokenizer: Tokenizer) -> Path:
    """The folder of the corpus of one source."""
    pieces = vocabulary_of(tokenizer)
    # A tokenizer that is trained changes with the text: its name and what it is trained on belong to the settings, not its pieces.
    named = [data.tokenizer, data.lowercase, pieces.size, *origins(data)] if data.tokenizer in KINDS else [pieces.fingerprint]
    settings = fingerprint([FORMAT, sources.origin(source, data), named, *wishes(data)])
    content = fingerprint([FORMAT, sources.stamp(source, data), pieces.fingerprint, *wishes(data)])
    return place(data, 'corpus', settings, content)


def place(data: Data, kind: str, settings: str, content: str) -> Path:
    """The folder in the cache for what these settings make of this text; one that other settings made the same of will do.

    Says so when there is one of the same settings for another text, which is one that changed since; raises UserError
    instead where `data.changed` is to refuse.
    """
    folder = Path(data.cache) / f'{kind}-{settings[:8]}-{content}'
    same = sorted(folder.parent.glob(f'{kind}-*-{content}'))
    if same and folder not in same:  # a student's corpus, cut by the tokenizer that its teacher trained
        return same[0]
    others = sorted(each for each in folder.parent.glob(f'{kind}-{settings[:8]}-*') if each != folder)
    if others and not folder.is_dir():
        found = (
            f"the text of data.source='{data.source}' has changed since '{others[-1]}' was prepared "
            '(by the names, sizes and times of files, or the versions of packages)'
        )
        if data.changed == 'refuse':
            raise UserError(f'{found}, and data.changed=refuse; bring the text back, or give --config.data.changed=prepare')
        print(f'{found}; preparing it anew', file=sys.stderr, flush=True)
    return folder


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


def checksum(path: Path) -> int:
    """The CRC-32 of a file."""
    found = 0
    with open(path, 'rb') as file:
        while chunk := file.read(2**22):
            found = zlib.crc32(chunk, found)
    return found


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


# ---- Opening ------------------------------------------------------------------------------------------------------------------


def opened(folder: Path, weight: float) -> Corpus:
    """A prepared corpus. Raises UserError if a file of it is not what was written."""
    mend = f"; remove the folder '{folder}', and it is prepared anew"
    try:
        facts = json.loads((folder / 'facts.json').read_text('utf-8'))
        sizes, checksums = dict(facts['sizes']), dict(facts['checksums'])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"'{folder / 'facts.json'}' cannot be read{mend}") from error
    for name, size in sizes.items():
        found = (folder / name).stat().st_size if (folder / name).is_file() else 0
        if found != size:
            raise UserError(f"'{folder / name}' has {found:,} bytes and was written with {size:,}: it is damaged{mend}")
        if name in checksums and checksum(folder / name) != checksums[name]:
            raise UserError(f"'{folder / name}' is not what was written: it is damaged{mend}")
    return Corpus(folder, weight, facts, np.load(folder / 'counts.npy'), *(open_part(folder, part, facts) for part in PARTS))


def open_part(folder: Path, part: str, facts: dict[str, Any]) -> Part:
    """One part of a prepared corpus."""
    arrays = {name: np.load(folder / f'{part}.{name}.npy', mmap_mode='r') for name in INDEX}
    path = folder / f'{part}.ids'
    ids = np.memmap(path, facts['dtype'], mode='r') if path.stat().st_size else np.zeros(0, facts['dtype'])
    return Part(ids, **arrays)
