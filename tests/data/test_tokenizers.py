"""Tokenizers trained and loaded, and what is known of their pieces."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from research.data.sources import documents
from research.data.tokenizers import (
    KINDS,
    SPECIAL,
    SYMBOLS,
    encode,
    load_tokenizer,
    save_tokenizer,
    train_tokenizer,
    vocabulary_of,
    word_starts,
)
from research.errors import UserError


@pytest.fixture(scope='module')
def texts(stories):
    return [paragraph for document in documents(f'text:{stories}') for paragraph in document]


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('lowercase', [True, False])
def test_trained_tokenizer_reads_text(kind, lowercase, texts):
    tokenizer = train_tokenizer(kind, texts, 200, lowercase)
    pieces = vocabulary_of(tokenizer)
    assert pieces.size <= 200
    assert pieces.special.sum() == len(SPECIAL)
    text = 'The king forgot the map before breakfast.'
    encoding = tokenizer.encode(text)
    assert encoding.ids[0] == pieces.cls
    assert encoding.ids[-1] == pieces.sep
    assert pieces.unknown not in encoding.ids
    assert tokenizer.decode(encoding.ids) == (text.lower() if lowercase else text)
    assert tokenizer.encode(text, 'a map').type_ids[-3:] != [0, 0, 0]
    starts = pieces.word_start[tokenizer.encode(text, add_special_tokens=False).ids]
    assert starts.sum() == len(['The', 'king', 'forgot', 'the', 'map', 'before', 'breakfast', '.'])


def test_training_is_repeatable_across_processes(stories, texts):
    """The libraries' hash maps are seeded anew in each process."""
    script = (
        'import sys; from research.data.sources import documents; from research.data.tokenizers import *\n'
        'texts = [paragraph for document in documents(sys.argv[1]) for paragraph in document]\n'
        'for kind in KINDS:\n'
        '    print(vocabulary_of(train_tokenizer(kind, texts, 200, True)).fingerprint)'
    )
    command = [sys.executable, '-c', script, f'text:{stories}']
    other = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert other.stdout.split() == [vocabulary_of(train_tokenizer(kind, texts, 200, True)).fingerprint for kind in KINDS]


def test_unigram_has_the_settings_of_albert(texts):
    """Symbols stand alone, even where they always touch a word, and the rarest characters are no pieces."""
    many = [text.replace('.', '-like (etc.)') for text in texts] * 3
    tokenizer = train_tokenizer('unigram', [*many, 'a ☃'], 150, True)
    pieces = tokenizer.get_vocab()
    first = [tokenizer.id_to_token(id) for id in range(13)]
    assert first[:5] == ['<pad>', '<unk>', '[CLS]', '[SEP]', '[MASK]']
    assert set(first[5:]) == set(SYMBOLS)
    assert not [piece for piece in pieces if len(piece) > 1 and set(piece) & set(SYMBOLS) and piece not in SPECIAL['mask']]
    assert '☃' not in pieces
    assert '☃' in train_tokenizer('unigram', [*texts[:50], 'a ☃'], 150, True).get_vocab()  # a larger share of fewer characters
    assert tokenizer.encode('map-like (etc.)', add_special_tokens=False).tokens[-1] == ')'


@pytest.mark.parametrize('lowercase', [True, False])
@pytest.mark.parametrize('kind', KINDS)
def test_special_pieces_in_a_text_are_text(kind, lowercase, texts):
    tokenizer = train_tokenizer(kind, texts, 200, lowercase)
    pieces = vocabulary_of(tokenizer)
    (ids,) = encode(tokenizer, pieces, ['the [MASK] and [SEP] <pad> map'])
    assert not {pieces.mask, pieces.sep, pieces.pad, pieces.cls} & set(ids.tolist())
    assert ids.tolist()[0] == encode(tokenizer, pieces, ['the'])[0][0]


@pytest.mark.parametrize('kind', KINDS)
def test_saved_tokenizer_comes_back(kind, texts, tmp_path):
    tokenizer = train_tokenizer(kind, texts, 200, True)
    save_tokenizer(tokenizer, tmp_path / 'tokenizer')
    facts = json.loads((tmp_path / 'tokenizer' / 'facts.json').read_text())
    for path in (tmp_path, tmp_path / 'tokenizer', tmp_path / 'tokenizer' / 'tokenizer.json'):
        again = load_tokenizer(path)
        assert vocabulary_of(again).fingerprint == vocabulary_of(tokenizer).fingerprint == facts['fingerprint']
        assert again.encode('[SEP] the map').ids == tokenizer.encode('[SEP] the map').ids


def test_vocabulary_file(tmp_path):
    path = tmp_path / 'vocab.txt'
    path.write_text('[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nThe\nmap\n##s\n.\n', encoding='utf-8')
    pieces = vocabulary_of(load_tokenizer(path))
    assert (pieces.size, pieces.pad, pieces.unknown, pieces.cls, pieces.sep, pieces.mask) == (10, 0, 1, 2, 3, 4)
    np.testing.assert_array_equal(pieces.word_start, np.arange(10) != 8)
    np.testing.assert_array_equal(pieces.special, np.arange(10) < 5)
    assert load_tokenizer(tmp_path).encode('The maps.').ids == [2, 5, 7, 8, 9, 3]
    assert load_tokenizer(path, lowercase=False).encode('The maps.').ids == [2, 6, 7, 8, 9, 3]
    assert vocabulary_of(load_tokenizer(path, lowercase=False)).fingerprint != pieces.fingerprint


def test_word_starts_by_the_marks_of_each_kind():
    assert word_starts(['the', '##s', '.'], wordpiece=True) == [True, False, True]
    assert word_starts(['the', 's'], wordpiece=True) == [True, True]
    assert word_starts(['▁the', 's', '.', "'s"], wordpiece=False) == [True, False, True, False]
    assert word_starts(['Ġthe', 's', '.'], wordpiece=False) == [True, False, True]
    assert word_starts(['the', 's'], wordpiece=False) == [True, True]
    # A text of Markdown, whose marks become pieces.
    assert word_starts(['▁the', 'ing', '####'], wordpiece=False) == [True, False, True]


def test_a_unigram_tokenizer_of_marks_that_wordpiece_uses_keeps_its_words_whole():
    texts = [f'#### heading{i} ######## the walking{"s" * (i % 3)} sailor####' for i in range(200)]
    pieces = vocabulary_of(train_tokenizer('unigram', texts, 100, True))
    assert 0.1 < pieces.word_start.mean() < 0.9


def test_a_text_of_many_characters_gets_the_pieces_for_them():
    texts = [' '.join(chr(0x4E00 + (i * 7 + j) % 700) for j in range(200)) for i in range(60)]
    known = train_tokenizer('wordpiece', texts, 3000, True)
    assert known.encode(texts[0]).ids.count(1) == 0  # none unknown
    # One in 24,000 characters: among those that 0.99995 of the text does without.
    rare = train_tokenizer('wordpiece', [*texts, *texts, 'ᚠ'], 3000, True)
    assert len(vocabulary_of(known).word_start) == len(vocabulary_of(rare).word_start)
    assert rare.encode(f'{texts[0]} ᚠ').ids.count(1) == 1
    crowded = vocabulary_of(train_tokenizer('wordpiece', texts, 400, True))
    assert crowded.size <= 400
    with pytest.raises(UserError, match='a vocabulary of 200 pieces cannot hold all characters of the text .*model.vocabulary'):
        train_tokenizer('unigram', texts, 200, True)


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('vocab.txt', b'[PAD]\n[UNK]\n[CLS]\n[SEP]\nthe\n', r"vocab.txt' lacks \[MASK\]"),
        ('vocab.txt', b'a\n', r'lacks \[PAD\] or <pad>, \[UNK\] or <unk>, \[CLS\], \[SEP\], \[MASK\]'),
        ('vocab.txt', b'a\nb\na\n', "names the piece 'a' twice, in lines 1 and 3"),
        ('vocab.txt', b'a\n\xff\n', 'is not UTF-8 at byte 2; if it is WINDOWS-1252, convert it: iconv .*/vocab.txt > NEW'),
        ('tokenizer.json', b'{}', 'is not a tokenizer.json'),
    ],
)
def test_bad_vocabularies(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load_tokenizer(tmp_path)
    assert '\n' not in str(caught.value)


def test_no_tokenizer_there(tmp_path):
    with pytest.raises(UserError, match=r'holds no tokenizer.json, vocab.txt or spiece.model'):
        load_tokenizer(tmp_path)
    with pytest.raises(UserError, match="'wordpeice' does not exist; did you mean 'wordpiece'"):
        load_tokenizer('wordpeice')


def test_bad_training():
    with pytest.raises(UserError, match="no tokenizer to train named 'bpe'"):
        train_tokenizer('bpe', ['a'], 100, True)
    with pytest.raises(UserError, match='a vocabulary of 63 pieces is too small'):
        train_tokenizer('wordpiece', ['a'], 63, True)
    with pytest.raises(UserError, match='no text to train a tokenizer on'):
        train_tokenizer('wordpiece', ['', ''], 100, True)


def test_published_vocabularies():
    shared = Path(os.environ.get('RESEARCH_DATA', Path(__file__).parents[3] / 'shared' / 'data'))
    if not shared.is_dir():
        pytest.skip(f'no folder {shared} with published vocabularies')
    tokenizer = load_tokenizer(shared / 'vocab' / 'bert-base-uncased-vocab.txt')
    assert vocabulary_of(tokenizer).size == 30_522
    assert tokenizer.encode('hello world').ids == [101, 7592, 2088, 102]
    assert load_tokenizer(shared / 'bert_tiny').encode('Hello world').ids == [101, 7592, 2088, 102]
