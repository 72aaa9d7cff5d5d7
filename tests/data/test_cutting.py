"""Documents become ids, sentence by sentence and section by section."""

import numpy as np
import pytest

from research.data import cutting
from research.data.cutting import Knife, arrange_sections, batches, cut, digest, make_knife, sentences, shares
from research.data.tokenizer_training import tokenizer_of


@pytest.fixture(scope='module')
def tool(story_data, cache) -> Knife:
    return make_knife(tokenizer_of(story_data, cache, 200), ())


def test_sentences():
    text = 'Mr. Fox ran, e.g. to J. Smith. "Why?" she asked! He paid 3.50 dollars… Then (at last) it ended.) And? no'
    expected = [
        'Mr. Fox ran, e.g. to J. Smith.',
        '"Why?" she asked!',
        'He paid 3.50 dollars…',
        'Then (at last) it ended.)',
        'And? no',
    ]
    assert sentences(text) == expected
    assert ' '.join(sentences(text)) == text
    assert sentences('') == []
    assert sentences('One. ') == ['One.']


def test_a_long_sentence_is_cut_at_white_space(monkeypatch):
    monkeypatch.setattr(cutting, 'LONG', 10)
    assert sentences('one two three four. Five') == ['one two', 'three', 'four.', 'Five']
    assert sentences('abcdefghijklmno') == ['abcdefghij', 'klmno']
    assert sentences('abcdefghij klmno') == ['abcdefghij', 'klmno']


def test_sections_are_full_but_for_the_last_and_hold_every_piece(monkeypatch):
    monkeypatch.setattr(cutting, 'SECTION', 7)
    lengths, counts = arrange_sections(np.array([3, 0, 3, 2, 16, 1], np.int32))
    assert lengths.tolist() == [3, 3, 2, 7, 7, 2, 1]
    assert counts == [2, 1, 1, 1, 2]
    lengths, counts = arrange_sections(np.array([0, 3, 4], np.int32))
    assert (lengths.tolist(), counts) == ([3, 4], [2])


def test_a_cut_says_where_its_documents_are(tool):
    documents = [['The old sailor  forgot', '', 'the map. Nobody knew.'], [' '], ['A letter.']]
    found = cut(documents, tool)
    assert found.sections.tolist() == [1, 1]
    assert found.sentences.tolist() == [3, 1]
    texts = ['The old sailor forgot', 'the map.', 'Nobody knew.', 'A letter.']
    ids = [tool.tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    assert found.lengths.tolist() == [len(each) for each in ids]
    assert found.ids.tolist() == sum(ids, [])
    assert found.hashes.tolist() == [digest(['The old sailor forgot', 'the map. Nobody knew.']), digest(['A letter.'])]


def test_nothing_is_cut_into_nothing(tool):
    found = cut([[' ']], tool)
    assert [len(array) for array in (found.hashes, found.ids, found.lengths, found.sentences, found.sections)] == [0] * 5


def test_batches_hold_all_texts_in_order(monkeypatch):
    monkeypatch.setattr(cutting, 'AT_ONCE', 5)
    assert list(batches(['abc', 'de', 'fghijklm', 'n', 'o'])) == [['abc', 'de'], ['fghijklm'], ['n', 'o']]
    assert list(batches([])) == []


def test_the_words_of_a_document_decide_its_share():
    assert digest(['a b', 'c']) == digest(['a b c']) != digest(['a b d'])
    # What a tokenizer makes the same ids of is the same text.
    for text in (
        'A Café',
        'a  café',
        'a cafe\u0301',
        'a\x00 café',
        'a\u2003ｃafé',
        'a \x07café\x7f',
        'a ca\u200bfé\x9d',
        'a ca\xadfé',
    ):
        assert digest([text]) == digest(['a café'])
    for unseen in '\u061c\u180e\u200b\u2066\u2069\ufeff\ufff9\U000e0041':
        assert digest([f'{unseen}a ca{unseen}fé']) == digest(['a café'])
    assert digest(['a café']) != digest(['a cafes'])
    drawn = shares(np.array([digest([str(number)]) for number in range(2000)], np.uint64))
    assert drawn.min() >= 0 and drawn.max() < 1
    assert np.histogram(drawn, 4, (0, 1))[0] == pytest.approx(500, rel=0.15)


def test_special_pieces_of_a_text_are_unknown(tool):
    found = cut([['the [MASK] map']], tool)
    assert not set(found.ids.tolist()) & {tool.pieces.mask, tool.pieces.cls, tool.pieces.sep, tool.pieces.pad}
