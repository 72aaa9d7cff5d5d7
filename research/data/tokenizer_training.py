"""The tokenizer that settings name: loaded, or trained on a sample of the text."""

import hashlib
from pathlib import Path

from tokenizers import Tokenizer

from research.data import cleaners, mixture, sources
from research.data.cache import prepare_folder
from research.data.cutting import share
from research.data.places import FORMAT, corpus_settings, origins, place
from research.data.settings import Data
from research.data.tokenizers import KINDS, load_tokenizer, save_tokenizer, train_tokenizer
from research.data.validation import validate_corpus
from research.errors import UserError
from research.files import fingerprint

SAMPLE = 50_000_000  # characters that a tokenizer is trained on, at most


def tokenizer_of(data: Data, cache: str, size: int) -> Tokenizer:
    """The tokenizer that `data` names: loaded, or trained (once) on a sample of the documents that are not held out."""
    if data.tokenizer not in KINDS:
        return load_tokenizer(data.tokenizer, data.lowercase)
    validate_corpus(data)
    rules = [data.tokenizer, size, data.lowercase, *corpus_settings(data)]
    stamps = [[weight, sources.stamp(source, data)] for weight, source in mixture.mixture(data.source)]
    settings, content = fingerprint([FORMAT, *origins(data), *rules]), fingerprint([FORMAT, stamps, *rules])

    def write(unfinished: Path) -> None:
        save_tokenizer(train_tokenizer(data.tokenizer, sample(data, cache), size, data.lowercase), unfinished)

    return load_tokenizer(prepare_folder(place(data, cache, 'tokenizer', settings, content), write))


def sample(data: Data, cache: str) -> list[str]:
    """Paragraphs of at most SAMPLE characters of the documents that are not held out, in their order.

    Each source gives its share. Of a source that has more, documents are drawn by their hashes, so that the sample
    is spread over the whole source and always the same. Raises UserError if all documents are held out.
    """
    texts: list[str] = []
    held_out = 0
    for weight, source in mixture.mixture(data.source):
        room = int(SAMPLE * weight)
        kept: list[tuple[int, list[str]]] = []
        size, ceiling = 0, 2**32
        for _, found in sources.read(source, data, cache):
            rank = int.from_bytes(hashlib.blake2b('\n'.join(found).encode(), digest_size=4).digest(), 'big')
            if rank >= ceiling:
                continue
            paragraphs = cleaners.clean(found, data.cleaners)
            if paragraphs and share(paragraphs) >= data.held_out:
                kept.append((rank, paragraphs))
                size += sum(map(len, paragraphs))
            held_out += bool(paragraphs) and not texts and not kept
            while size > 2 * room and ceiling > 1:
                ceiling //= 2
                kept = [each for each in kept if each[0] < ceiling]
                size = sum(len(paragraph) for _, paragraphs in kept for paragraph in paragraphs)
        texts += take_paragraphs(kept, room)
    if not texts and held_out == 1:
        raise sources.explain_single_document(data.source, data)
    if not texts and held_out:
        raise UserError(f'data.held_out={data.held_out} leaves none of the {held_out} documents to train a tokenizer on; lower it')
    return [text.replace(cleaners.MISSING, ' ') for text in texts]


def take_paragraphs(documents: list[tuple[int, list[str]]], room: int) -> list[str]:
    """Paragraphs of at most `room` characters: of the (rank, document) of lowest rank, in the order of the documents."""
    taken: dict[int, list[str]] = {}
    for number in sorted(range(len(documents)), key=lambda number: documents[number][0]):
        taken[number] = []
        for paragraph in documents[number][1]:
            taken[number].append(paragraph[:room])
            room -= len(taken[number][-1])
        if room <= 0:
            break
    return [paragraph for number in sorted(taken) for paragraph in taken[number] if paragraph]
