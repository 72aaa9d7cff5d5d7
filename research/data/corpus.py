"""A corpus on disk: the ids of every document, cut by one tokenizer, prepared once and reopened in an instant.

A folder `<cache>/corpus-<fingerprint>` holds, for each part (train, held_out), `<part>.arrayrecord` with one record
for each section (a document, or at most SECTION pieces of a long one) and `<part>.npz` with the lengths of its
sentences; and `counts.npy`, how often each piece occurs in train, and `facts.json`.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from numpy.typing import NDArray
from tokenizers import Tokenizer

from research.data import sources
from research.data.cache import fingerprint, prepared
from research.data.settings import Data
from research.data.tokenizers import KINDS, Vocabulary, encode, load_tokenizer, save_tokenizer, train_tokenizer, vocabulary_of
from research.errors import UserError

FORMAT = 1  # raise it when what is written below changes
SECTION = 16_384  # pieces of a record at most, so that a sequence is read without its whole book
CHUNK = 256  # documents cut into pieces at once, by all cores
PARTS: tuple[str, ...] = ('train', 'held_out')


@dataclass(frozen=True, eq=False)
class Part:
    """The sections of one part of a corpus: R of them, with S sentences in all."""

    reader: Any  # ArrayRecordReader
    dtype: str
    lengths: NDArray[np.int64]  # [S] pieces of each sentence
    starts: NDArray[np.int64]  # [R + 1] index of each section's first sentence
    document: NDArray[np.int64]  # [R] the document that a section belongs to, rising

    def read(self, sections: NDArray[np.int64]) -> list[NDArray[Any]]:
        """The ids of some sections, in the order asked for."""
        return [np.frombuffer(record, self.dtype) for record in self.reader.read(sections.tolist())]


@dataclass(frozen=True, eq=False)
class Corpus:
    """A prepared corpus."""

    facts: dict[str, Any]  # documents, tokens, sentences, unknown_rate, unigram_entropy, fingerprint …
    counts: NDArray[np.int64]  # [V] occurrences of each piece in train
    train: Part
    held_out: Part


def share(document: list[str]) -> float:
    """A number in [0, 1) that the text of a document alone decides, evenly spread."""
    return int.from_bytes(hashlib.sha256('\n'.join(document).encode()).digest()[:6], 'big') / 2**48


def tokenizer_of(data: Data, size: int) -> Tokenizer:
    """The tokenizer that `data` names: loaded, or trained (once) on the documents of the source that are not held out."""
    if data.tokenizer not in KINDS:
        return load_tokenizer(data.tokenizer, data.lowercase)
    source = sources.stamp(data.source, data.field, data.cache)
    key = fingerprint([FORMAT, source, data.tokenizer, size, data.lowercase, data.held_out])

    def write(folder: Path) -> None:
        documents = sources.documents(data.source, data.field, data.cache)
        texts = (paragraph for document in documents if share(document) >= data.held_out for paragraph in document)
        save_tokenizer(train_tokenizer(data.tokenizer, texts, size, data.lowercase), folder)

    return load_tokenizer(prepared(Path(data.cache) / f'tokenizer-{key}', write))


def prepare(data: Data, tokenizer: Tokenizer) -> Corpus:
    """The corpus of `data.source` cut by `tokenizer`, from the cache when neither has changed.

    The documents are streamed: memory holds a few hundred of them and the lengths of all sentences.
    Raises UserError if held_out leaves either part without a document.
    """
    pieces = vocabulary_of(tokenizer)
    source = sources.stamp(data.source, data.field, data.cache)
    folder = Path(data.cache) / f'corpus-{fingerprint([FORMAT, source, pieces.fingerprint, data.held_out])}'
    prepared(folder, lambda unfinished: write(unfinished, data, tokenizer, pieces))
    facts = json.loads((folder / 'facts.json').read_text('utf-8'))
    return Corpus(facts, np.load(folder / 'counts.npy'), *(open_part(folder, part, facts['dtype']) for part in PARTS))


def open_part(folder: Path, name: str, dtype: str) -> Part:
    """One part of a prepared corpus."""
    with np.load(folder / f'{name}.npz') as index:
        arrays = {key: index[key].astype(np.int64) for key in ('lengths', 'starts', 'document')}
    # These options are those that array_record advises for random access.
    reader = ArrayRecordReader(str(folder / f'{name}.arrayrecord'), 'readahead_buffer_size:0,max_parallelism:0')
    return Part(reader, dtype, **arrays)


def write(folder: Path, data: Data, tokenizer: Tokenizer, pieces: Vocabulary) -> None:
    """Cut the documents of a source and fill `folder`."""
    dtype = 'uint16' if pieces.size <= 2**16 else 'int32'
    lengths: dict[str, list[NDArray[np.int32]]] = {part: [] for part in PARTS}
    starts = {part: [0] for part in PARTS}
    numbers: dict[str, list[int]] = {part: [] for part in PARTS}
    documents = dict.fromkeys(PARTS, 0)
    counts = {part: np.zeros(pieces.size, np.int64) for part in PARTS}
    content = hashlib.sha256(pieces.fingerprint.encode())
    smallest = 1.0

    with ExitStack() as stack:
        # Ids do not compress much, and reading them at random is the hot path.
        writers = {part: ArrayRecordWriter(str(folder / f'{part}.arrayrecord'), 'group_size:1,uncompressed') for part in PARTS}
        for writer in writers.values():
            stack.callback(writer.close)
        for document, cut in encoded(sources.documents(data.source, data.field, data.cache), tokenizer, pieces):
            draw = share(document)
            smallest = min(smallest, draw)
            part = 'held_out' if draw < data.held_out else 'train'
            for section in sections(cut):
                ids = np.concatenate(section)
                writers[part].write(ids.astype(dtype).tobytes())
                lengths[part].append(np.array([len(sentence) for sentence in section], np.int32))
                starts[part].append(starts[part][-1] + len(section))
                numbers[part].append(documents[part])
                counts[part] += np.bincount(ids, minlength=pieces.size)
            content.update(part.encode() + '\n'.join(document).encode() + b'\0')
            documents[part] += 1
    complain(data, documents, smallest)

    for part in PARTS:
        flat = np.concatenate([np.zeros(0, np.int32), *lengths[part]])
        np.savez(
            folder / f'{part}.npz',
            lengths=flat,
            starts=np.array(starts[part]),
            document=np.array(numbers[part], np.int32),
        )
    np.save(folder / 'counts.npy', counts['train'])
    both = counts['train'] + counts['held_out']
    facts = {
        'fingerprint': content.hexdigest()[:16],
        'source': data.source,
        'dtype': dtype,
        'documents': documents['train'],
        'tokens': int(counts['train'].sum()),
        'sentences': starts['train'][-1],
        'held_out_documents': documents['held_out'],
        'held_out_tokens': int(counts['held_out'].sum()),
        'unknown_rate': float(both[pieces.unknown] / both.sum()),
        'unigram_entropy': entropy(counts['train'][~pieces.special]),
    }
    (folder / 'facts.json').write_text(json.dumps(facts, indent=2) + '\n', encoding='utf-8')


def complain(data: Data, documents: dict[str, int], smallest: float) -> None:
    """Raise a UserError if a part that is wanted has no document."""
    total = sum(documents.values())
    if data.held_out and not documents['held_out']:
        raise UserError(
            f'data.held_out={data.held_out} holds out none of the {total} documents (by their hashes, {smallest + 1e-3:.3f} '
            'would hold out one; 0 goes without evaluation)'
        )
    if not documents['train']:
        raise UserError(f'data.held_out={data.held_out} leaves none of the {total} documents to train on; lower it')


def encoded(
    documents: Iterable[list[str]], tokenizer: Tokenizer, pieces: Vocabulary
) -> Iterator[tuple[list[str], list[NDArray[np.int32]]]]:
    """Each document with the ids of its sentences; a document without a piece is left out."""
    stream = iter(documents)
    while chunk := list(itertools.islice(stream, CHUNK)):
        split = [[sentence for paragraph in document for sentence in sources.sentences(paragraph)] for document in chunk]
        flat = [sentence for document in split for sentence in document]
        ids = iter(encode(tokenizer, pieces, flat))
        for document, texts in zip(chunk, split, strict=True):
            cut = list(itertools.islice(ids, len(texts)))
            if any(map(len, cut)):
                yield document, [sentence for sentence in cut if len(sentence)]


def sections(sentences: list[NDArray[np.int32]]) -> Iterator[list[NDArray[np.int32]]]:
    """A document's sentences in runs of at most SECTION pieces; a longer sentence is cut."""
    section, size = [], 0
    for sentence in sentences:
        for piece in np.split(sentence, range(SECTION, len(sentence), SECTION)):
            if size + len(piece) > SECTION:
                yield section
                section, size = [], 0
            section.append(piece)
            size += len(piece)
    yield section


def entropy(counts: NDArray[np.int64]) -> float:
    """The entropy in nats of pieces drawn as often as they were counted: the loss of a model that knows their frequencies alone."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
