"""Rows of tasks: windows whose answers are slices of the context, candidates, and batches of like length."""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from research.data import encoding
from research.data import feed as feeds
from research.data.buckets import POOL
from research.data.facts import SupervisedFacts
from research.data.pretraining import Batch
from research.data.settings import Answers, Data
from research.data.tokenizers import KINDS, as_albert, as_bert, finish_tokenizer, vocabulary_of
from research.data.windows import find_most_context, repair_answer, trim_offsets, windows
from research.errors import UserError
from research.evaluation.spans import find_answers
from research.machine import Machine

CONTEXT = 'The  Éire “tower”, built (in 1889) by ﬁve men: 300 m\u00a0high. It cost £4.50! '
SPECIAL = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']


def letters(kind: str) -> Tokenizer:
    """A tokenizer whose pieces are single characters, in BERT's way or in ALBERT's."""
    characters = sorted(set(map(chr, range(33, 127))) | set('é£“”ﬁf'))
    special = SPECIAL if kind == 'wordpiece' else ['<pad>', '<unk>', *SPECIAL[2:]]
    if kind == 'wordpiece':
        pieces = SPECIAL + characters + [f'##{c}' for c in characters]
        tokenizer = as_bert(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token='[UNK]'), True)
    else:
        scored = [*((name, 0.0) for name in special), ('▁', -1.0)]
        tokenizer = as_albert(models.Unigram(scored + [(c, -2.0) for c in characters], unk_id=1), True)
    tokenizer.add_special_tokens(special)
    return finish_tokenizer(tokenizer)


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return letters(request.param)


@pytest.mark.parametrize('answer', ['Éire', '“tower”', '1889', 'ﬁve men', '300 m\u00a0high', '£4.50', 'The'])
def test_an_answer_survives_normalisation_as_a_slice_of_the_context(tokenizer: Tokenizer, answer: str) -> None:
    start = CONTEXT.index(answer)
    (found,) = windows(tokenizer, vocabulary_of(tokenizer), [('who?', CONTEXT)], 200, Answers())
    (window,) = found
    place = window.place(start, answer)
    assert place is not None
    first, last = (window.offsets[at - window.first] for at in place)
    assert CONTEXT[first[0] : last[1]] == answer
    logits = np.zeros((200, 2), np.float32)
    logits[place[0], 0] = logits[place[1], 1] = 9
    best = find_answers(logits, window, 200, 3)[0]
    assert CONTEXT[best.start : best.end] == answer


def test_each_piece_of_a_context_has_one_window_with_the_most_context() -> None:
    """Google's example (run_squad.py, `_check_is_max_context`): 'bought' is in spans B and C, and C has more around it."""
    text = ['the', 'man', 'went', 'to', 'the', 'store', 'and', 'bought', 'a', 'gallon', 'of', 'milk']
    begins, sizes = [0, 3, 6], [5, 5, 6]
    own = find_most_context(begins, sizes)
    at = text.index('bought')
    assert not own[1][at - begins[1]] and own[2][at - begins[2]]
    assert (
        np.sum(
            [np.bincount(begin + np.flatnonzero(mine), minlength=12) for begin, mine in zip(begins, own, strict=True)], 0
        ).tolist()
        == [1] * 12
    )

    def official(span: int, position: int) -> bool:
        scores = [
            min(position - begin, begin + size - 1 - position) + 0.01 * size if begin <= position < begin + size else -1
            for begin, size in zip(begins, sizes, strict=True)
        ]
        return scores.index(max(scores)) == span

    for span, (begin, mine) in enumerate(zip(begins, own, strict=True)):
        assert mine.tolist() == [official(span, begin + place) for place in range(len(mine))]


def test_an_answer_may_begin_or_end_with_what_no_piece_holds(tokenizer: Tokenizer) -> None:
    (found,) = windows(tokenizer, vocabulary_of(tokenizer), [('who?', CONTEXT)], 200, Answers())
    at = CONTEXT.index(' 300')
    first, last = (found[0].offsets[at - found[0].first] for at in found[0].place(at, ' 300 ') or ())
    assert CONTEXT[first[0] : last[1]].strip() == '300'
    assert found[0].place(CONTEXT.index('  É'), '  ') is None
    first, second, *_ = next(windows(tokenizer, vocabulary_of(tokenizer), [('who?', 'a b c d e f g h')], 12, Answers(stride=2)))
    assert first.place(0, 'a b ') and not first.place(0, 'a b c d e f g h') and not second.place(0, 'a b')


def test_windows_overlap_and_hold_the_whole_context(tokenizer: Tokenizer) -> None:
    context = ' '.join(f'w{i}' for i in range(40))
    settings = Answers(stride=10, question=5)
    (found,) = windows(tokenizer, vocabulary_of(tokenizer), [('a long question', context)], 40, settings)
    assert len(found) > 5
    for window in found:
        assert len(window.question) == 5 and len(window.question) + len(window.part) + 3 <= 40
    whole = tokenizer.encode(context, add_special_tokens=False)
    assert {span for window in found for span in window.offsets} == set(trim_offsets(context, whole.offsets))
    inside = [window.place(context.index('w20'), 'w20') for window in found]
    assert any(inside) and not all(inside)


def test_an_answer_is_looked_for_where_its_offset_is_wrong() -> None:
    assert repair_answer('a b a b', (5, 'b')) == (6, 'b')
    assert repair_answer('a b a b', (1, 'b')) == (2, 'b')
    assert repair_answer('a b', (0, 'c')) is None and repair_answer('a b', (0, '')) is None


# ---- Rows -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def feed(tmp_path: Path) -> Callable[..., feeds.Feed]:
    letters('wordpiece').save(str(tmp_path / 'tokenizer.json'))

    def feed(data: Data, **more: Any) -> feeds.Feed:
        given: dict[str, Any] = {'batch': 4, 'seed': 0, 'vocabulary': 512} | more
        return feeds.load(replace(data, tokenizer=str(tmp_path / 'tokenizer.json')), Machine(prefetch=0), **given)

    return feed


@pytest.fixture
def varied(tmp_path: Path) -> Data:
    """A task of 300 texts of 1 to 30 letters."""
    lines = ['sentence\tlabel', *(f'{"x" * (1 + n % 30)}{n}\t{"ab"[n % 2]}' for n in range(300))]
    path = tmp_path / 'train.tsv'
    path.write_text('\n'.join(lines))
    return Data(task='custom', train=str(path), dev=str(path), length=64, buckets=(16, 32), select='last')


def notices(feed: feeds.Feed) -> list[str]:
    """What the feed of a task says of its examples."""
    assert isinstance(feed.facts, SupervisedFacts)
    return feed.facts.notices


def texts(batches: Iterable[Batch]) -> list[bytes]:
    """Every row of some batches, without its padding."""
    return [ids[mask > 0].tobytes() for batch in batches for ids, mask in zip(batch['ids'], batch['mask'], strict=True)]


def test_batches_hold_like_lengths_and_an_epoch_every_row(feed: Callable[..., feeds.Feed], varied: Data) -> None:
    found = feed(varied)
    steps = 300 // 4
    batches = [found.train[step] for step in range(2 * steps)]
    assert {batch['ids'].shape for batch in batches} == {(4, 16), (4, 32), (4, 64)} or {
        batch['ids'].shape for batch in batches
    } == {(4, 16), (4, 32)}
    fill = sum(batch['mask'].sum() for batch in batches) / sum(batch['mask'].size for batch in batches)
    assert fill > 0.6
    for epoch in (batches[:steps], batches[steps:]):
        assert set(Counter(texts(epoch)).values()) == {1}
    again = feed(varied)
    assert all((again.train[step]['ids'] == batches[step]['ids']).all() for step in (100, 3, 149))
    other = feed(varied, seed=1).train[0]['ids']
    assert other.shape != batches[0]['ids'].shape or (other != batches[0]['ids']).any()
    assert steps > POOL  # more than one pool an epoch


def test_an_epoch_that_no_batch_divides_is_whole_too(feed: Callable[..., feeds.Feed], varied: Data) -> None:
    found = feed(varied, batch=7)
    rows = texts(found.train[step] for step in range(300))
    assert set(Counter(rows).values()) == {7}  # 300 steps of 7 rows are 7 epochs of 300


def test_evaluation_reads_each_row_once_shorter_ones_first(feed: Callable[..., feeds.Feed], varied: Data) -> None:
    found = feed(varied, batch=16).evaluation['dev']
    batches = list(found)
    rows = [row for batch in batches for row in batch['row'].tolist()]
    assert sorted(row for row in rows if row >= 0) == list(range(300)) and rows.count(-1) == 4
    assert sum(batch['weight'].sum() for batch in batches) == 300
    lengths = [batch['mask'].sum(1).max() for batch in batches]
    assert lengths == sorted(lengths)
    with pytest.raises(IndexError, match='batch 19 of 19'):
        found[19]


def test_buckets_that_do_not_increase(feed: Callable[..., feeds.Feed], varied: Data) -> None:
    with pytest.raises(UserError, match=r'data.buckets=\(32, 16\) must be increasing lengths'):
        feed(replace(varied, buckets=(32, 16)))


def test_answers_that_are_not_where_they_should_be_are_counted(feed: Callable[..., feeds.Feed], tmp_path: Path) -> None:
    def question(id: int, start: int, text: str) -> dict:
        return {'id': str(id), 'question': 'q', 'answers': [{'answer_start': start, 'text': text}]}

    questions = [question(0, 4, 'tower'), question(1, 0, 'tower'), question(2, 4, 'nowhere')]
    for split in ('train', 'dev'):
        paragraphs = [{'context': 'The tower.', 'qas': questions}]
        (tmp_path / f'{split}.json').write_text(json.dumps({'data': [{'paragraphs': paragraphs}]}))
    data = Data(task='squad', folder=str(tmp_path), length=32, select='last', buckets=())
    found = feed(data)
    told = notices(found)
    assert told[1].startswith(
        'train: 2 answers are not at their offset in the context: 1 moved to the nearest place with their text'
    )
    assert told[1].endswith('1 without such a place left out of training')
    assert 'dev: 2 answers are not at their offset' in told[-1] and 'kept' in told[-1]
    assert found.examples == 2 and len(found.encoded['dev'].members) == 3
    batch = found.train[0]
    assert set(batch['end'] - batch['start']) == {4} and set(batch['start']) == {6}
    doubtful = [question(0, 4, 'tower')]
    doubtful[0]['answers'].append({'answer_start': 1, 'text': 'tower'})
    long = [question(1, 0, 'The tower.')]
    paragraphs = [{'context': 'The tower.', 'qas': doubtful}, {'context': 'The tower.', 'qas': long}]
    (tmp_path / 'train.json').write_text(json.dumps({'data': [{'paragraphs': paragraphs}]}))
    told = notices(feed(replace(data, length=11, answers=Answers(stride=1))))
    assert any(
        each == 'train: 1 further right answers are not at their offset in the context; only their texts count' for each in told
    )
    assert any(each == "train: 1 answers fit into none of their windows, whose target is then 'no answer'" for each in told)
    (tmp_path / 'train.json').write_text(json.dumps({'data': [{'paragraphs': [{'context': 'The tower.', 'qas': questions[2:]}]}]}))
    with pytest.raises(UserError, match="no question's answer is in its context, so there is nothing to train on"):
        feed(data)


def test_a_choice_has_a_sequence_for_each_candidate_and_cuts_the_passage_first(
    feed: Callable[..., feeds.Feed], tmp_path: Path
) -> None:
    passage = {'article': 'x' * 90, 'questions': ['abc'], 'options': [['d', 'e', 'f', 'gh']], 'answers': ['D'], 'id': 'p'}
    for split in ('train', 'dev', 'test'):
        (tmp_path / f'{split}_high.jsonl').write_text(json.dumps(passage) + '\n')
    found = feed(Data(task='race', folder=str(tmp_path), length=32, select='last'), batch=2)
    batch = found.evaluation['test'][0]
    assert batch['ids'].shape == (2, 4, 32) and batch['label'].tolist() == [3, 3] and batch['weight'].tolist() == [1, 0]
    assert (batch['mask'][0].sum(1) == 32).all()
    assert batch['types'][0].sum(1).tolist() == [5, 5, 5, 6]  # the question, a candidate and [SEP] stay whole


def test_facts_of_a_task(feed: Callable[..., feeds.Feed], varied: Data) -> None:
    facts = feed(varied).facts
    assert isinstance(facts, SupervisedFacts) and facts.labels == ['a', 'b']
    assert json.loads(json.dumps(asdict(facts))) == asdict(facts)
    assert set(encoding.ENCODERS) == {'label', 'score', 'choice', 'span'}


# ---- What is cut off ------------------------------------------------------------------------------------------------------------


def test_the_log_counts_the_examples_that_lose_text(feed: Callable[..., feeds.Feed], varied: Data, tmp_path: Path) -> None:
    long = sum(1 + n % 30 + len(str(n)) > 14 for n in range(300))
    line = f'{long} of 300 examples lose pieces of their texts: they are longer than data.length=16 allows'
    assert [each for each in notices(feed(replace(varied, length=16))) if 'lose' in each] == [f'train: {line}', f'dev: {line}']
    assert not [each for each in notices(feed(varied)) if 'lose' in each]
    path = tmp_path / 'pairs.tsv'
    path.write_text('sentence\tsecond\tlabel\naaaa\tbbbb\tx\naaaa\tbbbbb\ty\naaaaaaaaaa\tb\tx\n')
    data = Data(task='custom', train=str(path), dev=str(path), pair='second', length=12, buckets=(), select='last')
    assert sum('1 of 3 examples lose' in each for each in notices(feed(data))) == 2
    assert sum('2 of 3 examples lose' in each for each in notices(feed(replace(data, length=11)))) == 2


def test_the_log_counts_questions_and_passages_that_are_cut(feed: Callable[..., feeds.Feed], tmp_path: Path) -> None:
    passage = {'article': 'a' * 9, 'questions': ['q'], 'options': [['w', 'x', 'y', 'z' * 9]], 'answers': ['A'], 'id': 'p'}
    for split in ('train', 'dev', 'test'):
        records = [passage, passage | {'options': [list('wxyz')], 'id': 'r'}]
        (tmp_path / f'{split}_high.jsonl').write_text(''.join(json.dumps(each) + '\n' for each in records))
    found = notices(feed(Data(task='race', folder=str(tmp_path), length=20, buckets=(), select='last')))
    what = (
        'pieces of their passage, question or candidates: they are longer than data.length=20 and data.answers.question=64 allows'
    )
    assert [each for each in found if 'lose' in each] == [
        f'{split}: 1 of 2 examples lose {what}' for split in ('train', 'dev', 'test')
    ]
    asked = [{'id': id, 'question': id * 9, 'answers': [{'text': 'b', 'answer_start': 1}]} for id in 'xy']
    asked[1]['question'] = 'short'
    for split in ('train', 'dev'):
        content = {'data': [{'paragraphs': [{'context': 'abc', 'qas': asked}]}]}
        (tmp_path / f'{split}.json').write_text(json.dumps(content))
    found = notices(feed(Data(task='squad', folder=str(tmp_path), length=64, answers=Answers(question=6), select='last')))
    assert sum('1 of 2 examples lose the end of the question' in each for each in found) == 2
