"""Texts made plain."""

import pytest

from research.data.cleaners import ASCII, CLEANERS, MISSING, ascii_punctuation, clean, is_title, wikitext
from research.data.settings import Data
from research.data.sources import documents
from research.data.validation import validate_corpus
from research.errors import UserError

# Each line begins and ends with a space, as WikiText's do.
ARTICLES = ''.join(
    f' {line} \n'
    for line in (
        '= One =',
        '',
        'The 1 @,@ 000 well @-@ known <unk> ( born 1 @.@ 5 ) ran , " it \'s said " .',
        'Second paragraph .',
        '',
        '= = Section = =',
        '',
        'More .',
        '',
        '= Two = Three =',
        '',
        '= = = Deep = = =',
        '',
        'Last .',
    )
)


def test_wikitext_documents_begin_at_titles(tmp_path):
    (tmp_path / 'a.txt').write_text(ARTICLES, encoding='utf-8')
    found = list(documents(f'text:{tmp_path}/a.txt', Data(cleaners=('wikitext',))))
    first = f'The 1,000 well-known {MISSING} (born 1.5) ran, " it\'s said ".'
    assert found == [[first, 'Second paragraph.', 'More.'], ['Last.']]
    assert len(list(documents(f'text:{tmp_path}/a.txt'))) == 7


@pytest.mark.parametrize(
    ('line', 'title'),
    [(' = Title = ', True), ('= A = B =', True), ('= X =', True), (' = = Section = = ', False), ('a = b', False), ('= = =', False)],
)
def test_titles(line, title):
    assert is_title(line) == title


def test_headings_are_left_out():
    assert wikitext(' = = = A = = = ') == wikitext(' = B = ') == ''
    assert wikitext('x = y') == 'x = y'


def test_punctuation_of_ascii():
    text = '“It’s—well…” Ali‘s 5–6 re\u00adad\u2060 «a» naïve'
    assert ascii_punctuation(text) == '"It\'s - well..." Ali\'s 5-6 read "a" naïve'
    assert all(value.isascii() for value in ASCII.values())
    assert all(not key.isascii() and len(key) == 1 for key in ASCII)


def test_cleaners_follow_one_another_and_white_space_is_single():
    paragraphs = ['A  <unk>\u00a0“b”', ' ', ' = Title = ']
    assert clean(paragraphs, ('wikitext', 'ascii_punctuation')) == [f'A {MISSING} "b"']
    assert clean(paragraphs, ()) == ['A <unk> “b”', '= Title =']


def test_no_such_cleaner():
    validate_corpus(Data(cleaners=tuple(CLEANERS)))
    with pytest.raises(UserError, match=r"no data.cleaners named 'wikitxt'; did you mean 'wikitext'"):
        validate_corpus(Data(cleaners=('wikitxt',)))
