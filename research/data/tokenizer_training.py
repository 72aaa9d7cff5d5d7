"""The tokenizer that settings name: loaded, or trained on a sample of the text."""

import hashlib
from pathlib import Path

from tokenizers import Tokenizer

from research.data import cleaners, mixture, sources
from research.data.cache import prepared
from research.data.cutting import share
from research.data.places import FORMAT, origins, place, wishes
from research.data.settings import Data
from research.data.tokenizers import KINDS, load_tokenizer, save_tokenizer, train_tokenizer
from research.data.validation import validate_corpus
from research.files import fingerprint

SAMPLE = 50_000_000  # characters that a tokenizer is trained on, at most


# ---- Tokenizers ---------------------------------------------------------------------------------------------------------------


def tokenizer_of(data: Data, size: int) -> Tokenizer:
    """The tokenizer that `data` names: loaded, or trained (once) on a sample of the documents that are not held out."""
    if data.tokenizer not in KINDS:
        return load_tokenizer(data.tokenizer, data.lowercase)
    validate_corpus(data)
    stamps = [[weight, sources.stamp(source, data)] for weight, source in mixture.mixture(data.source)]
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
    for weight, source in mixture.mixture(data.source):
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
