"""Tokenizers from elsewhere: one way to read every file and folder, and what a hostile one is told."""

import json
import re
from pathlib import Path

import pytest

from research.data.added_tokens import describe_rules, list_markers
from research.data.tokenizer_files import read_tokenizer
from research.data.tokenizers import describe_unreachable, encode, load_tokenizer, save_tokenizer, vocabulary_of, with_mask
from research.data.words import is_wordwise
from research.errors import UserError
from research.interchange.folder_tokenizer import write_tokenizer
from tests.data.making import FLAGS, MARKERS, PIECES, rules, unigram, vocabulary, write

TEXT = '[E1] The king<new> [SEP].'
CUT = ['[E1]', 'the', 'king', '<new>', '[', '[UNK]', ']', '.']


# ---- Added tokens ---------------------------------------------------------------------------------------------------------------


def in_tokenizer_json(folder: Path) -> None:
    write(folder, rules(added_tokens=[{'id': len(PIECES) + i, **FLAGS, **token} for i, token in enumerate(MARKERS)]))


def in_added_tokens(folder: Path) -> None:
    vocabulary(folder)
    write(folder, {'<new>': len(PIECES) + 1, '[E1]': len(PIECES)}, 'added_tokens.json')
    write(folder, {'additional_special_tokens': ['[E1]']}, 'special_tokens_map.json')


def in_the_config(folder: Path) -> None:
    vocabulary(folder)
    decoder = {str(len(PIECES) + i): {**FLAGS, **token} for i, token in enumerate(MARKERS)}
    write(folder, {'added_tokens_decoder': {'4': {'content': '[MASK]', 'special': True}, **decoder}}, 'tokenizer_config.json')


def beside_a_tokenizer_json(folder: Path) -> None:
    write(folder, rules())
    config = {'additional_special_tokens': ['[E1]'], 'extra_special_tokens': {'one': {'content': '<new>', 'special': False}}}
    write(folder, config, 'tokenizer_config.json')


WAYS = [in_tokenizer_json, in_added_tokens, in_the_config, beside_a_tokenizer_json]


@pytest.mark.parametrize('way', WAYS)
def test_added_tokens_are_themselves_wherever_they_are_named(way, tmp_path):
    way(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.encode(TEXT).tokens == ['[CLS]', *CUT, '[SEP]']
    pieces = vocabulary_of(tokenizer)
    assert pieces.size == len(PIECES) + 2
    assert tokenizer.token_to_id('[E1]') == len(PIECES)
    assert [tokenizer.id_to_token(id) for id in encode(tokenizer, pieces, [TEXT])[0]] == CUT  # as in training
    assert not pieces.special[-2:].any()
    assert not is_wordwise(tokenizer)
    # A run keeps it, and it comes back the same; an export marks the special one as such.
    save_tokenizer(tokenizer, tmp_path / 'run' / 'tokenizer')
    again = load_tokenizer(tmp_path / 'run')
    assert vocabulary_of(again).fingerprint == pieces.fingerprint
    (tmp_path / 'export').mkdir()
    write_tokenizer(again, tmp_path / 'export', 16)
    exported = load_tokenizer(tmp_path / 'export')
    assert vocabulary_of(exported).fingerprint == pieces.fingerprint
    for each in (again, exported):
        assert each.encode(TEXT).tokens == ['[CLS]', *CUT, '[SEP]']
        assert list_markers(describe_rules(each)) == ['[E1]']
    written = json.loads((tmp_path / 'export' / 'tokenizer.json').read_text())['added_tokens']
    assert {token['content']: token['special'] for token in written}['[E1]']
    assert json.loads((tmp_path / 'export' / 'tokenizer_config.json').read_text())['additional_special_tokens'] == ['[E1]']


def test_markers_change_the_fingerprint_and_nothing_else_does(tmp_path):
    plain = vocabulary_of(load_tokenizer(write(tmp_path / 'plain', rules())))
    assert plain.fingerprint == vocabulary_of(load_tokenizer(vocabulary(tmp_path / 'text'))).fingerprint
    token = {'id': len(PIECES), **FLAGS, 'content': '[E1]'}
    fingerprints = {
        vocabulary_of(
            load_tokenizer(write(tmp_path / str(special), rules(added_tokens=[{**token, 'special': special}])))
        ).fingerprint
        for special in (True, False)
    }
    assert len(fingerprints | {plain.fingerprint}) == 3


def test_a_marker_begins_a_word(tmp_path):
    content = unigram(1)
    content['added_tokens'] = [{'id': 8, **FLAGS, 'content': '[E1]', 'special': True}]
    tokenizer = load_tokenizer(write(tmp_path, content))
    pieces = vocabulary_of(tokenizer)
    assert pieces.word_start.tolist() == [*[True] * 7, False, True]  # b alone continues one


def test_the_mask_of_a_prediction_takes_the_space_before_it(tmp_path):
    tokenizer = load_tokenizer(write(tmp_path, unigram(1)))
    reader, pieces = with_mask(tokenizer, vocabulary_of(tokenizer))
    ids = encode(reader, pieces, ['a [MASK] a', 'a[MASK][CLS]'])
    assert [reader.id_to_token(id) for id in ids[0]] == ['▁a', '[MASK]', '▁a']
    assert [reader.id_to_token(id) for id in ids[1]][:2] == ['▁a', '[MASK]']
    assert pieces.cls not in ids[1]
    assert describe_rules(reader)['model'] == describe_rules(tokenizer)['model']  # not a score is rounded
    assert pieces.mask not in encode(tokenizer, vocabulary_of(tokenizer), ['a [MASK] a'])[0]  # as in training


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('added_tokens.json', {'<new>': 99}, 'gives the added token "<new>" the id 99, but \'vocab.txt\' leads to 14'),
        ('added_tokens.json', {'<new>': -1}, "added_tokens.json' has the id -1; it must be 0 to 1,048,575"),
        ('added_tokens.json', {'<new>': 3_000_000_000}, "added_tokens.json' has the id 3000000000"),
        ('added_tokens.json', {f'<{i}>': i for i in range(100_001)}, 'adds 100,001 tokens to its vocabulary'),
        ('tokenizer_config.json', {'added_tokens_decoder': {'x': '[E1]'}}, 'added_tokens_decoder has the id "x"'),
        ('tokenizer_config.json', {'added_tokens_decoder': ['[E1]']}, 'added_tokens_decoder must be an object'),
        ('tokenizer_config.json', {'added_tokens_decoder': {'14': {'content': ''}}}, 'has the token {"content": ""}'),
        ('tokenizer_config.json', {'added_tokens_decoder': {'14': {'content': 'a', 'lstrip': 1}}}, 'lstrip must be true or false'),
        ('special_tokens_map.json', {'additional_special_tokens': 3}, 'has additional_special_tokens=3; it must be a list'),
        ('special_tokens_map.json', '[' * 100_000, 'special_tokens_map.json'),
    ],
)
def test_added_tokens_that_cannot_be_understood_are_refused(name, content, message, tmp_path):
    write(vocabulary(tmp_path), content, name)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        load_tokenizer(tmp_path)
    assert '\n' not in str(caught.value)


# ---- One way to read a folder ---------------------------------------------------------------------------------------------------


def test_a_folder_is_read_by_its_rules_wherever_it_is_named(tmp_path):
    folder = vocabulary(tmp_path)
    assert load_tokenizer(folder).encode('The').tokens[1] == 'the'
    assert load_tokenizer(folder, lowercase=False).encode('The').tokens[1] == 'The'
    write(folder, {'do_lower_case': False}, 'tokenizer_config.json')
    for place in (folder, folder / 'vocab.txt'):
        for lowercase in (True, False):
            assert load_tokenizer(place, lowercase).encode('The').tokens[1] == 'The'
    write(folder, {'do_lower_case': True}, 'tokenizer_config.json')
    assert load_tokenizer(folder, lowercase=False).encode('The').tokens[1] == 'the'


def test_capitals_that_no_text_reaches_are_noticed(tmp_path):
    def notice(lowercase: bool) -> str:
        tokenizer = load_tokenizer(vocabulary(tmp_path), lowercase)
        return describe_unreachable(tokenizer, vocabulary_of(tokenizer))

    assert notice(True).startswith('1 of 14 pieces have capitals (The) and are never used, since the text is lower-cased')
    assert notice(False) == ''
    hostile = load_tokenizer(vocabulary(tmp_path, [*PIECES, '\x1b[31mA' + 'a' * 99]))
    shown = describe_unreachable(hostile, vocabulary_of(hostile))
    assert shown.startswith('2 of 15') and '\x1b' not in shown and len(shown) < 300
    plain = load_tokenizer(write(tmp_path / 'plain', unigram(1)))
    assert describe_unreachable(plain, vocabulary_of(plain)) == ''


@pytest.mark.parametrize(
    ('config', 'content', 'message'),
    [
        ('tokenizer_config.json', {'word_tokenizer_type': 'mecab'}, 'tokenizer_config.json\' has word_tokenizer_type="mecab"'),
        ('config.json', {'subword_tokenizer_type': 'character'}, 'config.json\' has subword_tokenizer_type="character"'),
        (
            'tokenizer_config.json',
            {'tokenizer_class': 'BertJapaneseTokenizer'},
            'tokenizer_class="BertJapaneseTokenizer", a tokenizer',
        ),
        ('config.json', {'tokenizer_class': 'KoBertTokenizer'}, 'config.json\' has tokenizer_class="KoBertTokenizer"'),
        ('config.json', {'tokenizer_class': 'RobertaTokenizerFast'}, 'tokenizer_class="RobertaTokenizerFast"'),
        ('config.json', {'tokenizer_class': ['BertTokenizer']}, 'tokenizer_class=["BertTokenizer"]'),
    ],
)
def test_a_tokenizer_of_another_kind_is_refused_by_name(config, content, message, tmp_path):
    folder = write(vocabulary(tmp_path), content, config)
    for read in (load_tokenizer, read_tokenizer):
        with pytest.raises(UserError, match=re.escape(message)):
            read(folder)


@pytest.mark.parametrize('name', ['BertTokenizer', 'BertTokenizerFast', 'DistilBertTokenizer', 'ElectraTokenizerFast', None])
def test_a_tokenizer_of_berts_kind_is_read(name, tmp_path):
    folder = write(vocabulary(tmp_path), {'tokenizer_class': name, 'word_tokenizer_type': None}, 'tokenizer_config.json')
    write(folder, {'tokenizer_class': name and 'KoBertTokenizer'}, 'config.json')  # the other config comes first
    assert load_tokenizer(folder).encode('The').tokens == ['[CLS]', 'the', '[SEP]']


def test_a_whole_tokenizer_json_needs_no_class_that_is_known(tmp_path):
    for name in ('PreTrainedTokenizerFast', 'DebertaV2Tokenizer', 'TokenizersBackend'):
        folder = write(write(tmp_path, rules()), {'tokenizer_class': name}, 'tokenizer_config.json')
        assert load_tokenizer(folder).encode('The').tokens == ['[CLS]', 'the', '[SEP]']


def test_a_byte_order_mark_and_any_line_ends_are_no_part_of_a_piece(tmp_path):
    plain = vocabulary_of(load_tokenizer(vocabulary(tmp_path / 'plain')))
    for number, (start, end) in enumerate(((b'\xef\xbb\xbf', b'\n'), (b'', b'\r\n'), (b'', b'\r'))):
        folder = vocabulary(tmp_path / str(number), start=start)
        (folder / 'vocab.txt').write_bytes((folder / 'vocab.txt').read_bytes().replace(b'\n', end))
        assert vocabulary_of(load_tokenizer(folder)).fingerprint == plain.fingerprint


def test_a_unigram_model_without_an_unknown_piece_uses_the_one_that_is_there(tmp_path):
    for number, unknown in enumerate((None, 1)):
        tokenizer = load_tokenizer(write(tmp_path / str(number), unigram(unknown)))
        assert tokenizer.encode('a \U0001f600').ids == [2, 6, 5, 1, 3]


@pytest.mark.parametrize('content', ['[]', '{"version": NaN}', '"' + 'a' * (3 * 2**23 + 1) + '"'])
def test_configs_beside_a_vocabulary_are_read_as_carefully(content, tmp_path):
    for name in ('tokenizer_config.json', 'config.json'):
        write(vocabulary(tmp_path / name[:-5]), content, name)
        with pytest.raises(UserError, match=name):
            load_tokenizer(tmp_path / name[:-5])


def test_a_vocabulary_of_too_many_lines_is_refused(tmp_path):
    (tmp_path / 'vocab.txt').write_bytes(b'\n' * (2**20 + 1))
    with pytest.raises(UserError, match='has more than 1,048,576 lines'):
        load_tokenizer(tmp_path)


# ---- Files from the wild --------------------------------------------------------------------------------------------------------


def test_files_from_the_wild(shared_data):
    wild = shared_data / 'wild'
    text = json.loads((wild / 'entity_markers' / 'in.jsonl').read_text())['text']
    assert load_tokenizer(wild / 'entity_markers' / 'model').encode(text).tokens == ['[CLS]', *text.split(), '[SEP]']
    assert load_tokenizer(wild / 'cased' / 'with_config').encode('Paris is in France').tokens[1:-1] == [
        'Paris',
        'is',
        'in',
        'France',
    ]
    tokenizer = load_tokenizer(wild / 'unigram_without_unk' / 'null')
    assert tokenizer.encode('\U0001f600').ids[-2] == tokenizer.token_to_id('<unk>')
    assert load_tokenizer(wild / 'bom' / 'vocabulary').token_to_id('[PAD]') == 0
    with pytest.raises(UserError, match='has word_tokenizer_type="mecab"'):
        load_tokenizer(wild / 'japanese' / 'mecab')
