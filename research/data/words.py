"""Texts cut word by word: each different word once, since most words of a text occurred before.

This is exact for tokenizers that normalise and split text as BERT's or ALBERT's do: they cut a word without regard to
its neighbours. A text with a character outside SAFE, where normalising might make spaces, is cut as a whole.
"""

import itertools
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models

from research.data.added_tokens import describe_rules
from research.data.tokenizer_files import as_bert
from research.data.tokenizers import as_albert

MOST = 2**18  # different words that are remembered
SAFE = re.compile('[ !-~À-ÖØ-öø-ÿ‐‑‒–—―‘’“”…£€\u2060\ufffc]*')


@dataclass(eq=False)
class Memory:
    """The words so far and their ids."""

    numbers: dict[str, int]  # of each word
    ids: NDArray[np.int32]  # of all words, one after another
    starts: NDArray[np.int64]  # [words + 1]


def memory() -> Memory:
    """A Memory of no word."""
    return Memory({}, np.zeros(0, np.int32), np.zeros(1, np.int64))


def is_wordwise(tokenizer: Tokenizer) -> bool:
    """Whether a tokenizer normalises and splits text as BERT's or ALBERT's does, and has only special pieces beside its model's."""
    added = describe_rules(tokenizer)['added_tokens']
    if not all(token['special'] for token in added):
        return False
    own = rules(tokenizer)
    known = [make(model, lowercase) for make, model in WORDWISE for lowercase in (True, False)]
    return any(own == rules(each) for each in known)


WORDWISE = ((as_bert, models.WordPiece({'[UNK]': 0}, unk_token='[UNK]')), (as_albert, models.Unigram()))


def rules(tokenizer: Tokenizer) -> list[Any]:
    """The rules by which a tokenizer normalises and splits a text."""
    found = describe_rules(tokenizer)
    return [found['normalizer'], found['pre_tokenizer']]


def encode(texts: list[str], tokenizer: Tokenizer, known: Memory | None) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(ids of all texts one after another, their numbers [len(texts)]); known: None for a tokenizer that is not wordwise.

    Texts have no white space but single spaces between words.
    """
    if known is None:
        return encode_whole(texts, tokenizer)
    safe = [SAFE.fullmatch(text) is not None for text in texts]
    split = [text.split(' ') if good else [] for text, good in zip(texts, safe, strict=True)]
    ids, lengths = encode_words(split, tokenizer, known)
    if all(safe):
        return ids, lengths
    odd = np.flatnonzero(~np.array(safe))
    odd_ids, odd_lengths = encode_whole([texts[number] for number in odd], tokenizer)
    places = np.cumsum(lengths)[odd]  # where the ids of each odd text are inserted
    lengths[odd] = odd_lengths
    return np.insert(ids, np.repeat(places, odd_lengths), odd_ids), lengths


def encode_whole(texts: list[str], tokenizer: Tokenizer) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """As `encode`: the tokenizer cuts each text as a whole."""
    encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    lengths = np.fromiter(map(len, encodings), np.int32, len(texts))
    return np.fromiter(itertools.chain.from_iterable(each.ids for each in encodings), np.int32, int(lengths.sum())), lengths


def encode_words(split: list[list[str]], tokenizer: Tokenizer, known: Memory) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """As `encode`, for texts that are lists of words."""
    words = list(itertools.chain.from_iterable(split))
    new = [word for word in dict.fromkeys(words) if word not in known.numbers]
    if new:
        if len(known.numbers) + len(new) > MOST:
            known.numbers, known.ids, known.starts = {}, known.ids[:0], known.starts[:1]
            new = list(dict.fromkeys(words))
        ids, lengths = encode_whole(new, tokenizer)
        known.numbers.update(zip(new, itertools.count(len(known.numbers))))
        known.ids = np.concatenate([known.ids, ids])
        known.starts = np.concatenate([known.starts, known.starts[-1] + np.cumsum(lengths)])
    numbers = np.fromiter(map(known.numbers.__getitem__, words), np.int64, len(words))
    begins, sizes = known.starts[numbers], known.starts[numbers + 1] - known.starts[numbers]
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    ids = known.ids[np.arange(total) + np.repeat(begins - (ends - sizes), sizes)]
    edges = np.concatenate([[0], np.cumsum([len(text) for text in split])]).astype(np.int64)
    before = np.concatenate([[0], ends])
    return ids, (before[edges[1:]] - before[edges[:-1]]).astype(np.int32)
