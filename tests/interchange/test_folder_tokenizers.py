"""The tokenizers of Hugging Face folders. `make parity` compares their ids with those of transformers."""

import json
import re
import shutil
import struct

import pytest

from research.data.sentencepiece import read_sentencepiece
from research.data.tokenizer_files import read_tokenizer
from research.data.tokenizers import load_tokenizer, train_tokenizer
from research.errors import UserError
from research.interchange.folder_tokenizer import write_tokenizer
from research.interchange.reading import save_temporary_tokenizer

TEXT = "The old Sailor  lost É, 東 in ``a'' GARDEN"


def kept(folder):
    """The folder's tokenizer as a run keeps it."""
    found = save_temporary_tokenizer(read_tokenizer(folder))
    assert found is not None
    return load_tokenizer(found)


def field(number, value):
    """One field of a protocol buffer."""
    if isinstance(value, int):
        return bytes([number << 3]) + bytes([value])
    if isinstance(value, float):
        return bytes([number << 3 | 5]) + struct.pack('<f', value)
    size = len(value)
    length = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])
    return bytes([number << 3 | 2]) + length + value


PIECES = [('<pad>', 0.0, 3), ('<unk>', 0.0, 2), ('[CLS]', 0.0, 3), ('[SEP]', 0.0, 3), ('[MASK]', 0.0, 4)]
PIECES += [
    (piece, -float(i + 1), 1)
    for i, piece in enumerate(['▁the', '▁old', '▁', 'e', '▁E', 'é', '▁"', 'a', '"', 'garden', 'sailor', ','])
]


def spiece(pieces=PIECES, model=1):
    """The bytes of a spiece.model."""
    content = b''.join(field(1, field(1, piece.encode()) + field(2, score) + field(3, kind)) for piece, score, kind in pieces)
    # The unknown piece is field 40 of the trainer's, whose key takes two bytes.
    return (
        content
        + field(2, field(3, model) + bytes([40 << 3 & 127 | 128, 40 >> 4, 1]))
        + field(3, field(1, b'nmt_nfkc') + field(2, b''))
    )


def test_vocab_txt_follows_its_config(model):
    folder = model()
    lower = '[CLS] the old sailor lost e , 東 in [UNK] [UNK] a [UNK] [UNK] garden [SEP]'
    assert ' '.join(kept(folder).encode(TEXT).tokens) == lower
    (folder / 'tokenizer_config.json').write_text(json.dumps({'do_lower_case': False, 'strip_accents': None}))
    assert kept(folder).encode('The old Sailor é').tokens == ['[CLS]', '[UNK]', 'old', '[UNK]', 'é', '[SEP]']
    (folder / 'tokenizer_config.json').write_text(json.dumps({'do_lower_case': True, 'strip_accents': False}))
    assert kept(folder).encode('É').tokens == ['[CLS]', 'é', '[SEP]']


def test_a_config_overrules_a_tokenizer_json(model):
    folder = model()
    kept(folder).save(str(folder / 'tokenizer.json'))
    assert kept(folder).encode('The').tokens == ['[CLS]', 'the', '[SEP]']
    (folder / 'tokenizer_config.json').write_text(json.dumps({'do_lower_case': False}))
    assert kept(folder).encode('The').tokens == ['[CLS]', '[UNK]', '[SEP]']


def test_spiece_model_follows_its_config(tmp_path):
    (tmp_path / 'spiece.model').write_bytes(spiece())
    assert read_sentencepiece(tmp_path / 'spiece.model') == (PIECES, 1, 1, b'')
    assert kept(tmp_path).encode("The OLD ``é''").tokens == ['[CLS]', '▁the', '▁old', '▁"', 'e', '"', '[SEP]']
    (tmp_path / 'tokenizer_config.json').write_text(json.dumps({'keep_accents': True}))
    assert kept(tmp_path).encode('é').tokens == ['[CLS]', '▁', 'é', '[SEP]']
    (tmp_path / 'tokenizer_config.json').write_text(json.dumps({'do_lower_case': False}))
    assert kept(tmp_path).encode('E').tokens == ['[CLS]', '▁E', '[SEP]']


def test_alberts_vocabulary(shared_data, tmp_path):
    shutil.copy(next((shared_data / 'vocab').glob('albert*.model')), tmp_path / 'spiece.model')
    tokenizer = kept(tmp_path)
    assert tokenizer.encode('this is a test').ids == [2, 48, 25, 21, 1289, 3]
    assert tokenizer.encode('a', 'b').type_ids == [0, 0, 0, 1, 1]


def test_a_spiece_model_that_cannot_be_read_is_refused(tmp_path):
    file = tmp_path / 'spiece.model'
    whole = spiece()
    for content, message in (
        (whole[:9], 'is truncated or no SentencePiece model'),
        (b'\xff' * 40, 'is truncated or no SentencePiece model'),
        (b'', 'it has no pieces'),
        (spiece(model=2), 'is no unigram model'),
        (spiece(pieces=PIECES[3:]), 'lacks [PAD] or <pad>'),
    ):
        file.write_bytes(content)
        with pytest.raises(UserError, match=re.escape(message)):
            read_tokenizer(tmp_path)


def test_a_folder_without_a_tokenizer_has_none(tmp_path):
    assert read_tokenizer(tmp_path) is None
    assert save_temporary_tokenizer(None) is None


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('{', 'is not JSON'),
        ('[]', 'is not a JSON object'),
        ('{"do_lower_case": "no"}', 'do_lower_case="no"; it must be true or false'),
    ],
)
def test_a_tokenizer_config_that_cannot_be_read_is_refused(content, message, model):
    folder = model()
    (folder / 'tokenizer_config.json').write_text(content)
    with pytest.raises(UserError, match=re.escape(message)):
        read_tokenizer(folder)


def test_a_run_keeps_the_added_tokens_beside_vocab_txt(model):
    folder = model()
    size = len((folder / 'vocab.txt').read_text().splitlines())
    (folder / 'added_tokens.json').write_text(json.dumps({'<new>': size}))
    assert kept(folder).encode('the<new>').tokens == ['[CLS]', 'the', '<new>', '[SEP]']


@pytest.mark.parametrize(('kind', 'class_name'), [('wordpiece', 'BertTokenizer'), ('unigram', 'PreTrainedTokenizerFast')])
def test_what_is_written_is_read_again(kind, class_name, tmp_path):
    tokenizer = train_tokenizer(kind, [TEXT] * 4, 64, False)
    write_tokenizer(tokenizer, tmp_path, 77)
    config = json.loads((tmp_path / 'tokenizer_config.json').read_text())
    assert (config['tokenizer_class'], config['model_max_length'], config['mask_token']) == (class_name, 77, '[MASK]')
    assert kept(tmp_path).encode(TEXT).ids == tokenizer.encode(TEXT).ids
