"""Floors: what the commonest answer and a bag of words score, learnt from the examples of train, and why there is none."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from research.data import tasks
from research.data.settings import Data
from research.data.tasks.example import Example
from research.evaluation import floors
from research.evaluation.bag_of_words import LABELS, LEARN, learn
from research.evaluation.floors import FLOORS, TITLES, Floors, compute, describe, measure_floors
from research.runs.folder import Floor
from research.study.columns import Column
from research.study.reporting.cells import read_number

CUSTOM = tasks.TASKS['custom']


def write(path: Path, lines: list[str]) -> str:
    path.write_text('\n'.join(lines) + '\n')
    return str(path)


def custom(folder: Path, train: list[str], dev: list[str], columns: str = 'sentence\tlabel', **more: Any) -> Data:
    files = {name: write(folder / f'{name}.tsv', [columns, *rows]) for name, rows in (('train', train), ('dev', dev))}
    return Data(task='custom', **files, select='last', **more)


def test_every_kind_of_task_has_a_case_here() -> None:
    assert set(LEARN) == {'label', 'score', 'choice'} and {row.kind for row in tasks.TASKS.values()} <= {*LEARN, 'span'}
    assert set(FLOORS) == set(TITLES) and all(Column('X', 'run', f'metrics:dev/floor_{name}').key for name in FLOORS)


def test_labels_of_texts(tmp_path: Path) -> None:
    """The commonest label is train's, also where another is the commonest in dev."""
    train = [f'a {word} film\t{label}' for word, label in [('dull', 'n')] * 6 + [('fine', 'p')] * 4]
    data = custom(tmp_path, train, ['some fine play\tp', 'a fine evening\tp', 'a dull thing\tn', 'so dull\tn', 'fine\tp'])
    found = measure_floors(data, str(tmp_path / 'cache'))
    assert found == Floors({'dev/floor_commonest': 0.4, 'dev/floor_bag_of_words': 1.0}, {})


def test_labels_of_pairs_follow_from_the_words_that_both_hold(tmp_path: Path) -> None:
    words = ['king', 'map', 'clock', 'garden', 'letter', 'horse']
    rows = [(a, b) for a in words for b in words]
    lines = [f'the {a} here\tone {b} there\t{"same" if a == b else "other"}' for a, b in rows + [(a, a) for a in words] * 4]
    data = custom(tmp_path, lines, lines, 'sentence\tsecond\tlabel', pair='second')
    found = measure_floors(data, str(tmp_path / 'cache')).metrics
    assert found['dev/floor_commonest'] == pytest.approx(30 / 60) and found['dev/floor_bag_of_words'] == 1.0


def test_scores(tmp_path: Path) -> None:
    lines = [f'{"very " * i}good\t{i}.5' for i in range(5)] + ['bad\t-3', 'so bad\t-4']
    data = custom(tmp_path, lines, lines, 'sentence\tscore', score='score')
    found = measure_floors(data, str(tmp_path / 'cache')).metrics
    assert found['dev/floor_commonest'] == 0.0 and 0.8 < found['dev/floor_bag_of_words'] <= 1.0  # mean of both correlations


def test_choices_follow_from_the_words_of_the_context(tmp_path: Path) -> None:
    words = ['king', 'map', 'clock', 'garden']
    for split in ('train', 'dev'):
        passages = [
            {
                'article': f'There is a {words[right]} .',
                'questions': ['What is there?'],
                'options': [[f'a {word}' for word in words]],
                'answers': ['ABCD'[right]],
                'id': f'{number}{right}',
            }
            for number in range(3)
            for right in (0, 1, 2, 3, 3)
        ]
        (tmp_path / f'{split}_high.jsonl').write_text('\n'.join(map(json.dumps, passages)) + '\n')
        (tmp_path / f'{split}_middle.jsonl').write_text(json.dumps(passages[0]) + '\n')
    found = measure_floors(Data(task='race', folder=str(tmp_path), select='last'), str(tmp_path / 'cache')).metrics
    assert found == {'dev/floor_commonest': 6 / 16, 'dev/floor_bag_of_words': 1.0}


def test_spans_have_the_floor_of_silence_or_none() -> None:
    asked = [Example('q', 'a tower', id=str(i), answers=() if i < 3 else ((2, 'tower'),)) for i in range(4)]
    two = compute(tasks.TASKS['squad2'], (), asked, {'dev': asked})
    assert two.metrics == {'dev/floor_commonest': 0.75} and 'is a place in a text' in two.missing['dev/floor_bag_of_words']
    one = compute(tasks.TASKS['squad'], (), asked[3:], {'dev': asked[3:]})
    assert one.metrics == {} and one.missing['dev/floor_commonest'].startswith('no floor for spans of SQuAD 1.1')
    assert all('compare with baseline:random' in why for why in one.missing.values())


@pytest.mark.parametrize(
    ('train', 'why'),
    [
        ([Example('one', label='x'), Example('two', label='x')], 'the training examples have one label only'),
        ([Example('!', label='x'), Example('?', label='y')], 'the training texts hold no words'),
        ([Example(f'a{i}', label=str(i)) for i in range(LABELS + 1)], f'the task has {LABELS + 1} labels, more than {LABELS}'),
    ],
)
def test_a_bag_of_words_that_cannot_be(train: list[Example], why: str) -> None:
    assert learn('label', tuple(dict.fromkeys(each.label for each in train)), train) == why


def test_without_training_examples_or_labels_there_is_none() -> None:
    found = compute(tasks.TASKS['sst2'], ('n', 'p'), [], {'dev': [Example('a', label='n')]})
    assert found == Floors({}, dict.fromkeys(('dev/floor_commonest', 'dev/floor_bag_of_words'), 'there are no training examples'))
    assert compute(tasks.TASKS['sst2'], ('n', 'p'), [Example('a', label='n')], {}) == Floors()


def test_floors_are_computed_once_for_the_same_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ['a dull film\tn', 'a fine film\tp', 'fine\tp']
    data = custom(tmp_path, lines, lines)
    first = measure_floors(data, str(tmp_path / 'cache'))
    (file,) = (tmp_path / 'cache' / 'floors').iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(floors, 'compute', lambda *_: pytest.fail('they are in the cache'))
        assert measure_floors(data, str(tmp_path / 'cache')) == first
    file.write_text('{"metrics": 3')  # half-written, or of another version
    assert measure_floors(data, str(tmp_path / 'cache')) == first
    other = measure_floors(custom(tmp_path, lines[:2], lines), str(tmp_path / 'cache'))
    assert other.metrics['dev/floor_commonest'] == pytest.approx(1 / 3) != first.metrics['dev/floor_commonest']
    assert len(list(file.parent.iterdir())) == 2
    (tmp_path / 'full').write_text('no folder can be made here')
    assert measure_floors(data, str(tmp_path / 'full')) == other


def test_a_score_that_is_not_above_a_floor_is_marked() -> None:
    found = Floors({'dev/floor_commonest': 0.5, 'dev/floor_bag_of_words': 0.8, 'test/floor_commonest': 0.1}, {})
    assert describe(found, 'dev/f1', 0.9) == 'dev/f1 0.9000; floors: commonest answer 0.5000, bag of words 0.8000'
    assert describe(found, 'dev/f1', 0.8).endswith('bag of words 0.8000; NOT ABOVE bag of words')
    assert describe(found, 'dev/f1', 0.3).endswith('; NOT ABOVE commonest answer and bag of words')
    lacking = Floors({'dev/floor_commonest': 0.5}, {'dev/floor_bag_of_words': 'no words'})
    assert describe(lacking, 'dev/f1', 0.6) == 'dev/f1 0.6000; floors: commonest answer 0.5000, bag of words: none (no words)'


def test_a_column_of_a_floor_that_is_missing_says_why() -> None:
    """The number of a run's result that is not there: the reason stands in the report."""
    floor = Floor('dev/f1 0.5', {'dev/floor_bag_of_words': 'no words'})
    evidence: Any = {'a': SimpleNamespace(result=SimpleNamespace(metrics={}, floors=floor), state=None)}
    assert read_number('a', 'metrics:dev/floor_bag_of_words', evidence) == (None, 'no words')
    assert read_number('a', 'metrics:dev/floor_commonest', evidence)[1] == "its result has no number 'metrics:dev/floor_commonest'"
