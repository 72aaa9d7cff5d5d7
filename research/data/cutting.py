"""Documents cut into the ids of their sentences, which any number of processes can do."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from research.data import cleaners, words
from research.data.tokenizers import Vocabulary, vocabulary_of

SECTION = 16_384  # pieces of a record at most, so that a sequence is read without its whole book
LONG = 20_000  # characters of a sentence at most; a longer one is cut where white space allows
AT_ONCE = 2**18  # characters of one call of the tokenizer, whose result takes a hundred times their memory

# Where a sentence may end: a stop, perhaps a closing quote or bracket, white space, and then a possible beginning of a
# sentence.
END = re.compile(r'[.!?…]["\'”’)\]]*\s+(?=["\'“‘(\[]?[A-Z0-9À-Þ])')
ABBREVIATED = re.compile(
    r'(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|Mt|Sr|Jr|Capt|Col|Gen|Rev|vs|etc|cf|al|Fig|Eq|Sec|Ref|No|Vol|pp|e\.g|i\.e)|\b[A-Z])\.\s+$'
)


# Invisible characters: Unicode's control characters (Cc) except white space, and its formats (Cf: soft hyphens, joiners, marks
# of direction and of byte order).
UNSEEN = re.compile(
    '[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f'
    '\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f'
    '\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f]+'
)


@dataclass(frozen=True, eq=False)
class Knife:
    """What documents are cut with: a tokenizer, after cleaners."""

    tokenizer: Tokenizer
    pieces: Vocabulary
    cleaners: tuple[str, ...]
    known: words.Memory | None  # the words so far, for a tokenizer that cuts text word by word


@dataclass(frozen=True, eq=False)
class Cut:
    """D documents, cut into R sections of S sentences in all, of P pieces; those without pieces are left out."""

    hashes: NDArray[np.uint64]  # [D] of each document's words
    ids: NDArray[Any]  # [P]
    lengths: NDArray[np.int32]  # [S] pieces of each sentence, none 0
    sentences: NDArray[np.int32]  # [R] sentences of each section
    sections: NDArray[np.int32]  # [D] sections of each document


def make_knife(tokenizer: Tokenizer, names: tuple[str, ...]) -> Knife:
    """The Knife of a tokenizer and the names of cleaners."""
    return Knife(tokenizer, vocabulary_of(tokenizer), names, words.memory() if words.is_wordwise(tokenizer) else None)


def dtype_of(pieces: Vocabulary) -> str:
    """The type of ids on disk."""
    return 'uint16' if pieces.size <= 2**16 else 'int32'


def digest(paragraphs: Iterable[str]) -> int:
    """A number in [0, 2^64) by the words of a document, whatever their case, composition and division into paragraphs."""
    return int.from_bytes(hashlib.sha256(normalize(' '.join(paragraphs)).encode()).digest()[:8], 'big')


def normalize(text: str) -> str:
    """A cleaned text without differences of case, of composed characters, and of invisible ones."""
    text = unicodedata.normalize('NFKC', text).casefold()
    if not text.isprintable() or '  ' in text:
        text = ' '.join(UNSEEN.sub('', text).split())
    return text.strip()


def shares(digests: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Numbers in [0, 1), evenly spread, of digests [D]: those below `held_out` are evaluated on."""
    return (digests >> np.uint64(16)) / 2**48


def share(document: list[str]) -> float:
    """The number in [0, 1) of one document."""
    return float(shares(np.array([digest(document)], np.uint64))[0])


def cut(documents: list[list[str]], knife: Knife) -> Cut:
    """The Cut of documents that are not cleaned yet."""
    cleaned = [cleaners.clean(paragraphs, knife.cleaners) for paragraphs in documents]
    split = [[sentence for paragraph in document for sentence in sentences(paragraph)] for document in cleaned]
    ids, lengths = encode([sentence for document in split for sentence in document], knife)
    ends = np.cumsum([len(document) for document in split])
    hashes, sections, all_lengths, all_sentences = [], [], [], []
    for document, own in zip(cleaned, np.split(lengths, ends[:-1]), strict=True):
        if own.any():
            whole, counts = arrange_sections(own)
            hashes.append(digest(document))
            sections.append(len(counts))
            all_lengths.append(whole)
            all_sentences.extend(counts)
    return Cut(
        np.array(hashes, np.uint64),
        ids,
        np.concatenate([np.zeros(0, np.int32), *all_lengths]),
        np.array(all_sentences, np.int32),
        np.array(sections, np.int32),
    )


def encode(texts: list[str], knife: Knife) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """(ids of all texts one after another, their numbers [len(texts)]); '[SEP]' in a text is unknown."""
    ids, lengths = [np.zeros(0, dtype_of(knife.pieces))], [np.zeros(0, np.int32)]
    for some in batches(texts):
        found, sizes = words.encode(some, knife.tokenizer, knife.known)
        ids.append(found.astype(ids[0].dtype))
        lengths.append(sizes)
    flat = np.concatenate(ids)
    flat[knife.pieces.special[flat]] = knife.pieces.unknown
    return flat, np.concatenate(lengths)


def batches(texts: list[str]) -> Iterator[list[str]]:
    """The texts in runs of AT_ONCE characters, or a little more."""
    begin, size = 0, 0
    for number, text in enumerate(texts, start=1):
        size += len(text)
        if size >= AT_ONCE:
            yield texts[begin:number]
            begin, size = number, 0
    if begin < len(texts):
        yield texts[begin:]


def arrange_sections(lengths: NDArray[np.int32]) -> tuple[NDArray[np.int32], list[int]]:
    """(lengths of a document's sentences, sentences of each of its sections), from lengths that may be 0 or too large.

    A section is filled with whole sentences up to SECTION pieces; a sentence of more than that is cut.
    """
    lengths = lengths[lengths > 0]
    if lengths.sum() <= SECTION:
        return lengths, [len(lengths)]
    counts, size = [0], 0
    short: list[int] = []
    for length in lengths.tolist():
        for piece in [SECTION] * (length // SECTION) + [length % SECTION] * (length % SECTION > 0):
            if size + piece > SECTION:
                counts.append(0)
                size = 0
            short.append(piece)
            counts[-1] += 1
            size += piece
    return np.array(short, np.int32), counts


def sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph, by a rule on stops, capitals and common abbreviations; none empty, none longer than LONG."""
    result, start = [], 0
    for match in END.finditer(paragraph):
        if not ABBREVIATED.search(paragraph, max(start, match.start() - 8), match.end()):
            result.append(paragraph[start : match.end()].strip())
            start = match.end()
    result.append(paragraph[start:].strip())
    return [part for sentence in result if sentence for part in (split_long(sentence) if len(sentence) > LONG else [sentence])]


def split_long(sentence: str) -> Iterator[str]:
    """Parts of a sentence of at most LONG characters, cut at the last white space where there is one."""
    begin = 0
    while begin < len(sentence):
        end = begin + LONG
        if end < len(sentence):
            space = sentence.rfind(' ', begin, end)
            end = end if space <= begin else space
        part = sentence[begin:end].strip()
        if part:
            yield part
        begin = end
