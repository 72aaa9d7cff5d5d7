"""Tokenizers that are read from and written to Hugging Face folders give the same ids as transformers."""

import json
import shutil

import pytest

from research.data.tokenizer_files import read_tokenizer
from research.data.tokenizers import finish_tokenizer, load_tokenizer, train_tokenizer
from research.interchange.folder_tokenizer import write_tokenizer
from research.interchange.reading import save_temporary_tokenizer
from tests.parity.peers import transformers

pytestmark = pytest.mark.filterwarnings('default')

# No text contains the name of a special piece: here that is plain text, in transformers the piece itself.
TEXTS = [
    '',
    ' ',
    'this is a test',
    'The Quick  Brown\tFox\njumped, over 3,000 lazy dogs!',
    'Crème brûlée à la façade — naïve Ångström ﬁnance ½ İstanbul ẞ',
    '東京は日本の首都です。 我爱北京 한국어 नमस्ते',
    'emoji 😀👩‍👩‍👧‍👦 🇫🇷 ok',
    "``quoted'' text and “curly” ‘ones’… it's 9,999 or 2010, or so",
    'a\u200bb\u00a0c\ufeffd\x00e\x07f ́combining e\u0301',
    'https://example.org/a_b?c=d#e user@host $3.50 #tag C++',
    'x' * 150 + ' y',
    ' '.join(f'word{i % 97} {i}' for i in range(5000)),
]
PAIRS = [('a first text', 'and a second one'), ('', 'b'), ('東京', 'é')]


def agree(folder):
    """Compares the folder's tokenizer, read here, with the one that transformers reads."""
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    kept = save_temporary_tokenizer(read_tokenizer(folder))
    assert kept is not None
    ours = load_tokenizer(kept)
    for text in TEXTS:
        assert ours.encode(text).ids == theirs(text)['input_ids'], text[:60]
    for a, b in PAIRS:
        assert ours.encode(a, b).ids == theirs(a, b)['input_ids']
        assert ours.encode(a, b).type_ids == theirs(a, b, return_token_type_ids=True)['token_type_ids']
    return ours


def agree_out(ours, folder, config):
    """Compares `ours` with its written form as transformers reads it."""
    folder.mkdir()
    (folder / 'config.json').write_text(json.dumps(config))
    write_tokenizer(ours, folder, 512, config['model_type'] != 'distilbert')
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        assert theirs(text)['input_ids'] == ours.encode(text).ids, text[:60]
    for a, b in PAIRS:
        assert theirs(a, b)['input_ids'] == ours.encode(a, b).ids
        assert theirs(a, b, return_token_type_ids=True)['token_type_ids'] == ours.encode(a, b).type_ids
    assert ('token_type_ids' in theirs('a', 'b')) == (config['model_type'] != 'distilbert')
    assert theirs.mask_token_id == ours.token_to_id('[MASK]')
    assert theirs.pad_token_id in (ours.token_to_id('[PAD]'), ours.token_to_id('<pad>'))
    assert theirs.model_max_length == 512
    assert theirs('a [MASK] b')['input_ids'].count(theirs.mask_token_id) == 1


@pytest.mark.parametrize('kind', ['bert', 'distilbert'])
@pytest.mark.parametrize(
    ('vocabulary', 'rules'),
    [
        ('uncased', None),
        ('uncased', {'do_lower_case': True}),
        ('uncased', {'do_lower_case': True, 'strip_accents': False}),
        ('cased', {'do_lower_case': False}),
        ('cased', {'do_lower_case': False, 'strip_accents': True, 'tokenize_chinese_chars': False}),
    ],
)
def test_vocab_txt(kind, vocabulary, rules, shared_data, tmp_path):
    shutil.copy(shared_data / 'vocab' / f'bert-base-{vocabulary}-vocab.txt', tmp_path / 'vocab.txt')
    (tmp_path / 'config.json').write_text(json.dumps({'model_type': kind}))
    if rules is not None:
        (tmp_path / 'tokenizer_config.json').write_text(json.dumps(rules))
    agree_out(agree(tmp_path), tmp_path / 'out', {'model_type': kind})


def test_tokenizer_json(shared_data, tmp_path):
    agree_out(agree(shared_data / 'bert_tiny'), tmp_path / 'out', {'model_type': 'bert'})


@pytest.mark.parametrize('rules', [None, {'do_lower_case': False}, {'keep_accents': True}])
def test_spiece_model(rules, shared_data, tmp_path):
    shutil.copy(next((shared_data / 'vocab').glob('albert*.model')), tmp_path / 'spiece.model')
    (tmp_path / 'config.json').write_text(json.dumps({'model_type': 'albert'}))
    if rules is not None:
        (tmp_path / 'tokenizer_config.json').write_text(json.dumps(rules))
    ours = agree(tmp_path)
    assert ours.encode('this is a test', add_special_tokens=False).ids == [48, 25, 21, 1289]
    agree_out(ours, tmp_path / 'out', {'model_type': 'albert'})


@pytest.mark.parametrize('kind', ['wordpiece', 'unigram'])
@pytest.mark.parametrize('lowercase', [True, False])
@pytest.mark.parametrize('model', ['bert', 'albert'])
def test_tokenizers_trained_here(kind, lowercase, model, tmp_path):
    ours = finish_tokenizer(train_tokenizer(kind, TEXTS[:-1] * 3, 300, lowercase))
    agree_out(ours, tmp_path / 'out', {'model_type': model})
