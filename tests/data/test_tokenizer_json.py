"""A tokenizer.json that is hostile is refused in one line, before the library panics."""

import base64
import json
import re

import pytest

from research.data.tokenizer_files import read_tokenizer
from research.data.tokenizer_json import refuse_broken
from research.data.tokenizers import load_tokenizer
from research.errors import UserError
from tests.data.making import CHARSMAPS, FLAGS, MARKERS, rules, unigram, write

STEP = {'type': 'Replace', 'pattern': {'String': 'e'}, 'content': 'e' * 40}
PREPEND = {'type': 'Prepend', 'prepend': 'e' * 40}
CHARSMAP = {'type': 'Precompiled', 'precompiled_charsmap': base64.b64encode(b'\0\4\0\0' + bytes(1025)).decode()}


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('[' * 100_000, 'nests deeper than 100'),
        (json.dumps(rules()).replace('"##1": 9', '"##1": ' + '9' * 5000), 'is not JSON'),
        (rules(model={**rules()['model'], 'vocab': {'a': 3_000_000_000}}), 'has the id 3000000000; it must be 0 to 1,048,575'),
        (rules(added_tokens=[{'id': True, **FLAGS, **MARKERS[0]}]), 'has the id true; it must be'),
        (rules(added_tokens=[{'id': 3_000_000_000, **FLAGS, **MARKERS[0]}]), 'has the id 3000000000'),
        (rules(added_tokens=[{'id': 99, **FLAGS, **MARKERS[0]}]), 'gives the added token "[E1]" an id that leaves ids'),
        (rules(added_tokens=[{'id': 1, **FLAGS, **MARKERS[0]}] * 100_001), 'has too many pieces'),
        (json.dumps(rules())[:-1] + ', "model": {}}', 'an object has one name twice'),
        ('[]', 'it is not a JSON object'),
        (rules(model={**rules()['model'], 'vocab': None}), 'has the vocabulary null; it must be an object or a list of pieces'),
        (unigram(-1), 'has unk_id=-1, but 8 pieces'),
        (unigram(True), 'has unk_id=true, but 8 pieces'),
        (unigram(1000), 'has unk_id=1000, but 8 pieces'),
        (rules(model={**rules()['model'], 'unk_token': 'none'}), 'makes no tokenizer: WordPiece error: Missing [UNK] token'),
        *[
            (
                rules(normalizer={'type': 'Precompiled', 'precompiled_charsmap': base64.b64encode(each).decode()}),
                'map of characters',
            )
            for each in CHARSMAPS
        ],
        (
            rules(normalizer={'type': 'Precompiled', 'precompiled_charsmap': '?'}),
            'map of characters (precompiled_charsmap) that is',
        ),
        (rules(normalizer={'type': 'Precompiled', 'precompiled_charsmap': 3}), 'map of characters (precompiled_charsmap) that'),
        (rules(pre_tokenizer={'type': 'FixedLength', 'length': 0}), 'splits text into parts of length 0'),
        (rules(normalizer={'type': 'Sequence', 'normalizers': [STEP] * 2}), 'lengthens a text over 1,000 times'),
        (rules(normalizer={'type': 'Sequence', 'normalizers': [{'type': 'ByteLevel'}] * 2}), 'has several ByteLevel steps'),
        (rules(normalizer={'type': 'Sequence', 'normalizers': [PREPEND] * 2}), 'lengthens a text over 1,000 times'),
        (rules(normalizer={'type': 'Sequence', 'normalizers': [CHARSMAP] * 2}), 'lengthens a text over 1,000 times'),
        (rules(model={**rules()['model'], 'max_input_chars_per_word': 1001}), 'has max_input_chars_per_word=1001; it must be 0 to'),
        (rules(normalizer={'type': 'Replace', 'pattern': {'String': True}, 'content': 'a'}), 'is not a tokenizer.json'),
        (
            rules(model={**rules()['model'], 'continuing_subword_prefix': '#' * 17}),
            'has a continuing_subword_prefix of 17 characters; at most 16 are supported',
        ),
        (rules(normalizer={'type': 'Nothing'}), 'is not a tokenizer.json'),
    ],
)
def test_a_hostile_tokenizer_json_is_refused_in_one_line(content, message, tmp_path):
    write(tmp_path, content)
    for read in (load_tokenizer, read_tokenizer):
        with pytest.raises(UserError, match=re.escape(message)) as caught:
            read(tmp_path)
        assert '\n' not in str(caught.value)


def test_padding_and_truncation_are_dropped_before_a_text_is_read(tmp_path):
    padding = {'strategy': {'Fixed': 100_000_000}, 'direction': 'Right', 'pad_to_multiple_of': 100_000_000, 'pad_id': 0}
    padding |= {'pad_type_id': 0, 'pad_token': '[PAD]'}
    truncation = {'direction': 'Right', 'max_length': 3, 'strategy': 'LongestFirst', 'stride': 0}
    write(tmp_path, rules(padding=padding, truncation=truncation))
    assert (tokenizer := read_tokenizer(tmp_path)) and tokenizer.encode('the king e e e').tokens == ['the', 'king', 'e', 'e', 'e']


def test_a_panic_of_the_library_becomes_one_line():
    with pytest.raises(UserError, match='^this: no such thing$'), refuse_broken('this'):
        raise Exception('no such thing\nat all')
    with pytest.raises(UserError, match='^this: PanicException$'), refuse_broken('this'):
        raise type('PanicException', (BaseException,), {})
    for error in (KeyboardInterrupt, MemoryError, GeneratorExit, TypeError):
        with pytest.raises(error), refuse_broken('this'):
            raise error
