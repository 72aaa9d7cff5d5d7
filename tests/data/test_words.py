"""Word by word, and yet the same ids."""

import random

import numpy as np
import pytest
from tokenizers import pre_tokenizers

from research.data import words
from research.data.cleaners import clean
from research.data.sources import documents
from research.data.tokenizer_training import tokenizer_of
from research.data.tokenizers import KINDS, load_tokenizer, train_tokenizer
from research.data.words import encode, encode_whole, is_wordwise, memory


def agree(texts, tokenizer, known) -> None:
    for found, expected in zip(encode(texts, tokenizer, known), encode_whole(texts, tokenizer), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('lowercase', [True, False])
@pytest.mark.parametrize('kind', KINDS)
def test_words_have_the_ids_of_their_text(kind, lowercase, stories, monkeypatch):
    """For texts of all sorts of characters, and when words are forgotten in between."""
    monkeypatch.setattr(words, 'MOST', 300)
    texts = [paragraph for document in documents(f'text:{stories}') for paragraph in document]
    tokenizer = train_tokenizer(kind, [*texts, "don't “stop” — ‘it’ é ﬁ ¨ ½ 中 Σ ''"], 300, lowercase)
    assert is_wordwise(tokenizer)
    draw = random.Random(0)
    alphabet = "aeTmpZ      ..,--()''``\"é“”‘’—–…£ﬁ¨½中Σς\u0301\u0308\u2060\u200b\ufffc\u0130[]<>~"
    known = memory()
    for _ in range(60):
        strange = [''.join(draw.choices(alphabet, k=draw.randint(0, 30))) for _ in range(20)]
        usual = [draw.choice(texts) for _ in range(20)]
        mixed = clean([*strange, *usual, '[SEP] <pad> the [MASK]'], ())
        draw.shuffle(mixed)
        agree(mixed, tokenizer, known)
    assert 0 < len(known.numbers) <= 300


def test_no_text_has_no_ids(story_data, cache):
    ids, lengths = encode([], tokenizer_of(story_data, cache, 200), memory())
    assert len(ids) == len(lengths) == 0


def test_another_tokenizer_is_not_wordwise(story_data, cache):
    tokenizer = tokenizer_of(story_data, cache, 200)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    assert not is_wordwise(tokenizer)
    agree(['the old map', 'é'], tokenizer, None)


def test_a_tokenizer_with_pieces_of_several_words_is_not_wordwise(story_data, cache):
    tokenizer = tokenizer_of(story_data, cache, 200)
    assert is_wordwise(tokenizer)
    tokenizer.add_tokens(['the map'])
    assert not is_wordwise(tokenizer)


def test_books_have_the_ids_that_the_library_gives(shared_data):
    tokenizer = load_tokenizer(shared_data / 'vocab' / 'bert-base-uncased-vocab.txt')
    assert is_wordwise(tokenizer) and is_wordwise(load_tokenizer(shared_data / 'bert_tiny'))
    stream = documents(f'jsonl:{shared_data}/books/books.jsonl.xz')
    known = memory()
    for _ in range(30):
        agree(next(stream), tokenizer, known)
