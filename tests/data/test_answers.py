"""Answers in every script: what is read back from the pieces of an answer is the answer, marks that no piece covers included."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers

from research.data.settings import Answers, Data
from research.data.tasks import squad
from research.data.tokenizers import SPECIAL, as_albert, as_bert, finish_tokenizer, vocabulary_of
from research.data.windows import Window, extend_offsets, windows
from research.evaluation.spans import find_answers
from research.predict.inputs import Input, Reader, read_question

LETTERS = st.characters(categories=('Lu', 'Ll', 'Lt', 'Lo', 'Nd'), max_codepoint=0x1FFFF)
MARKS = st.characters(categories=('Mn', 'Mc', 'Me')) | st.sampled_from(
    '\u200c\u200d\u200e\u200f\u00ad\u2060\ufe0f\u0307\u0301\u05b8\u0651'
)
WORDS = st.lists(st.tuples(LETTERS, st.text(MARKS, max_size=3)).map(''.join), min_size=1, max_size=4).map(''.join)
KINDS = ('bert', 'bert cased', 'albert')


def tokenizer_of(kind: str, text: str) -> Tokenizer:
    """A tokenizer whose pieces are the characters of a text, as it normalises them."""
    if kind == 'albert':
        empty = as_albert(models.Unigram(), True)
        scored = [(names[-1], 0.0) for names in SPECIAL.values()] + [('▁', -1.0)]
        known = sorted(set(empty.normalizer.normalize_str(text)) - {' ', '▁'})
        made = as_albert(models.Unigram(scored + [(character, -2.0) for character in known], unk_id=1), True)
        made.add_special_tokens([names[-1] for names in SPECIAL.values()])
        return finish_tokenizer(made)
    rules = normalizers.BertNormalizer(lowercase=kind == 'bert')
    known = sorted(set(rules.normalize_str(text)) - {' '})
    pieces = [names[0] for names in SPECIAL.values()] + [mark + character for character in known for mark in ('', '##')]
    made = as_bert(
        models.WordPiece({piece: id for id, piece in enumerate(dict.fromkeys(pieces))}, unk_token='[UNK]'), kind == 'bert'
    )
    made.add_special_tokens([names[0] for names in SPECIAL.values()])
    return finish_tokenizer(made)


def window_over(kind: str, context: str) -> Window:
    """The only window over a short context."""
    made = tokenizer_of(kind, context)
    ((window,),) = windows(made, vocabulary_of(made), [('who?', context)], 500, Answers())
    return window


def read_back(window: Window, context: str, start: int, answer: str) -> str | None:
    """The text of the best span where a model is sure of an answer's pieces; None if no piece covers the answer."""
    place = window.place(start, answer)
    if place is None:
        return None
    logits = np.zeros((500, 2), np.float32)
    logits[place[0], 0] = logits[place[1], 1] = 9
    best = find_answers(logits, window, 500, 1)[0]
    return context[best.start : best.end]


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize(
    'answer',
    [
        'Hue\u0302\u0301',  # NFD
        'Huế',  # NFC
        'مُحَمَّدٌ',
        'שָׁלוֹם\u05b0',
        'हिन्दी',
        'ประเทศไทย์',
        'किं\u200d',
        'می\u200cخواهم\u200c',
        'שלום\u200f',
        'love ❤\ufe0f',
        '1\ufe0f\u20e3',
        '👩\u200d🚀',
        '👍🏽',
        'co\u00adoperate\u00ad',
        'ẛ̣',
        '각',
        '각',
        'İstanbul',
    ],
)
def test_an_answer_is_read_back_whole(kind: str, answer: str) -> None:
    for context in (f'It is {answer} now.', f'It is {answer}', f'It is {answer}, they say'):
        assert read_back(window_over(kind, context), context, 6, answer) == answer


@pytest.mark.parametrize('kind', KINDS)
@settings(max_examples=60, deadline=None)
@given(words=st.lists(WORDS, min_size=3, max_size=3))
def test_a_word_of_any_script_is_read_back_whole(kind: str, words: list[str]) -> None:
    context = ' '.join(words)
    start = len(words[0]) + 1
    found = read_back(window_over(kind, context), context, start, words[1])
    assert found == words[1]


@pytest.mark.parametrize('kind', KINDS)
@settings(max_examples=60, deadline=None)
@given(context=st.text(st.characters(exclude_categories=('Cs',)), min_size=1, max_size=30), data=st.data())
def test_an_answer_in_any_text_loses_at_its_ends_only_what_no_piece_covers(kind: str, context: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(context) - 1))
    end = data.draw(st.integers(start + 1, len(context)))
    window = window_over(kind, context)
    place = window.place(start, context[start:end])
    if place is None:
        return
    mine = slice(place[0] - window.first, place[1] - window.first + 1)
    covered = {at for a, b in window.whole for at in range(a, b)}
    first, last = window.offsets[mine][0][0], window.offsets[mine][-1][1]
    assert covered & set(range(start, end)) <= set(range(first, last))
    assert all(a <= c and b <= d for (a, b), (c, d) in zip(window.offsets, window.offsets[1:], strict=False) if a < b and c < d)
    after = context[last : last + 1]
    assert not after or last in covered or unicodedata.category(after)[0] != 'M' or first == last


def test_what_opens_the_next_word_is_left_to_it() -> None:
    text = 'foo\u202bbar\u202c x\u0301y'
    assert extend_offsets(text, ((0, 3), (4, 7), (9, 10), (11, 12))) == ((0, 3), (4, 8), (9, 11), (11, 12))
    assert extend_offsets('a \u0301', ((0, 1), (1, 1))) == ((0, 1), (1, 1))


def test_predict_reads_answers_by_the_same_places() -> None:
    context = 'He lives in Cancu\u0301 now'
    made = tokenizer_of('bert', context)
    reader = Reader(made, vocabulary_of(made), 64, True, Data())
    ((one,),) = read_question(reader, [Input('here', {'question': 'who?', 'context': context})])
    assert context[12:18] in {context[a:b] for a, _ in one.offsets for _, b in one.offsets if a < b}


def test_the_two_normal_forms_of_a_file_have_the_same_places(shared_data: Path) -> None:
    read = {form: squad.from_folder('squad', shared_data / 'wild' / 'combining_marks' / form)['dev'] for form in ('NFC', 'NFD')}
    texts: dict[str, list[str]] = {}
    for form, members in read.items():
        texts[form] = []
        for example in members:
            start, answer = example.answers[0]
            found = read_back(window_over('bert', example.pair), example.pair, start, answer)
            assert found == answer
            texts[form].append(unicodedata.normalize('NFC', answer))
    assert texts['NFC'] == texts['NFD'] and texts['NFC']
