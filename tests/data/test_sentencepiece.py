"""Files of SentencePiece, whole and hostile."""

import re
import struct

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from research.data.sentencepiece import parse_fields, read_sentencepiece, validate_charsmap
from research.data.tokenizers import load_tokenizer
from research.errors import UserError
from tests.data.making import CHARSMAPS


def field(number: int, value: int | float | bytes) -> bytes:
    """One field of a protocol buffer; the key takes two bytes, as any may."""
    kind = 0 if isinstance(value, int) else 5 if isinstance(value, float) else 2
    key = number << 3 | kind
    start = bytes([key & 127 | 128, key >> 7])
    if isinstance(value, float):
        return start + struct.pack('<f', value)
    if isinstance(value, bytes):
        return start + bytes([len(value) & 127 | 128, len(value) >> 7]) + value
    number, digits = value % 2**64, []
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return start + bytes([*digits, number])


def spiece(unknown: int | bytes = 1, charsmap: int | bytes = b'', score: float = -1.0, controls: int = 0) -> bytes:
    """The bytes of a spiece.model."""
    pieces = [('<pad>', 3), ('<unk>', 2), ('[CLS]', 3), ('[SEP]', 3), ('[MASK]', 4), ('▁', 1), ('▁a', 1)]
    pieces += [(f'<{i}>', 3) for i in range(controls)]
    listed = (field(1, field(1, piece.encode()) + field(2, score) + field(3, kind)) for piece, kind in pieces)
    return b''.join(listed) + field(2, field(3, 1) + field(40, unknown)) + field(3, field(2, charsmap))


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'\xff' * 1_000_000, 'is truncated or no SentencePiece model'),
        (spiece(unknown=-1), 'none of them is the unknown one (id 18446744073709551615)'),
        (spiece(unknown=1000), 'has 7 pieces, and none of them is the unknown one (id 1000)'),
        (spiece(unknown=b'x'), 'none of them is the unknown one'),
        (spiece(score=float('nan')), 'has a piece whose score is not finite'),
        (spiece(charsmap=7), 'has a map of characters (precompiled_charsmap) that is broken'),
        *[(spiece(charsmap=each), 'has a map of characters (precompiled_charsmap) that is broken') for each in CHARSMAPS[1:]],
        (field(1, field(1, b'a')) * (2**19 + 1), 'has more than 524,288 pieces'),
        (bytes(3 * 2**23 + 1), 'is larger than 25,165,824 bytes, so it is no spiece.model'),
        (spiece(controls=100_001), 'has 100,005 control and user-defined pieces'),
    ],
)
def test_a_hostile_spiece_model_is_refused_in_one_line(content, message, tmp_path):
    (tmp_path / 'spiece.model').write_bytes(content)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        load_tokenizer(tmp_path)
    assert '\n' not in str(caught.value)


def test_a_spiece_model_is_a_tokenizer_of_data(tmp_path):
    (tmp_path / 'spiece.model').write_bytes(spiece())
    assert load_tokenizer(tmp_path).encode('A').tokens == ['[CLS]', '▁a', '[SEP]']
    assert load_tokenizer(tmp_path / 'spiece.model').encode('a').tokens == ['[CLS]', '▁a', '[SEP]']


def test_a_map_of_characters_that_is_whole_is_accepted_and_each_wrong_branch_is_found(shared_data):
    file = next((shared_data / 'vocab').glob('albert*.model'))
    charsmap = read_sentencepiece(file).charsmap
    tokenizer = Tokenizer(models.Unigram([('a', 0.0)], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    draw = np.random.default_rng(0)
    refused = 0
    text = ''.join(chr(each) for each in range(1, 0x3400))
    for _ in range(60):  # bits flipped in the trie, where the library would panic or go on
        broken = bytearray(charsmap)
        for place in draw.integers(4, int.from_bytes(charsmap[:4], 'little'), 200):
            broken[place] ^= 1 << int(draw.integers(8))
        try:
            validate_charsmap(bytes(broken), 'this')
        except UserError:
            refused += 1
            continue
        tokenizer.normalizer = normalizers.Precompiled(bytes(broken))
        tokenizer.encode(text)  # must not panic
    assert refused > 10


def chain(length: int, replacement: bytes = b'a') -> bytes:
    """A map of characters that replaces `length` times the byte 1."""
    step, units = 2, [2 << 10, 0]  # from node 2i to 2i + 1, whose offset leads to node 2i + 2
    for _ in range(length):
        step += 2
        units += [0, 1 | ((step ^ (step - 1)) << 10)]
    units[-1] |= 256  # it has a leaf: the unit at its node, the place of the replacement
    units += [1 << 31, *[0] * 256]
    units += [0] * (-len(units) % 256)
    return struct.pack(f'<I{len(units)}I', 4 * len(units), *units) + replacement + b'\0'


@pytest.mark.parametrize(
    ('charsmap', 'fault'),
    [(chain(3), ''), (chain(100), 'broken'), (chain(3, b'a' * 65), 'broken'), (chain(3, bytes(2**21)), 'broken')],
)
def test_a_map_of_characters_is_bounded(charsmap, fault):
    if not fault:
        validate_charsmap(charsmap, 'this')
        return
    with pytest.raises(UserError, match=fault):
        validate_charsmap(charsmap, 'this')


def test_a_number_of_a_protocol_buffer_has_ten_bytes_at_most():
    assert list(parse_fields(b'\x08' + b'\xff' * 9 + b'\x01')) == [(1, 2**64 - 1)]
    with pytest.raises(ValueError, match='too many bytes'):
        list(parse_fields(b'\x08' + b'\xff' * 10 + b'\x01'))
