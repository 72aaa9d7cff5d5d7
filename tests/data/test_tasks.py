"""Supervised tasks: the embedded one and files of one's own."""

import ast
import gzip
import json
import re
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import pytest

from research.data import encoding, tasks
from research.data.masking import MASKING
from research.data.settings import Data
from research.data.tasks import classes, examples, selection
from research.errors import UserError
from research.evaluation.metrics import METRICS
from research.objectives.losses import Losses

ROOT = Path(__file__).parents[2]


def settings(path, **changes) -> Data:
    return Data(task='custom', train=str(path), **changes)


@pytest.fixture
def table(tmp_path):
    """A TSV file of 200 sentences, with a byte-order mark and bare quotes as in GLUE."""
    path = tmp_path / 'train.tsv'
    lines = [f'{number}\tsentence "{number}\tother {number}\t{"yes" if number % 4 else "no"}' for number in range(200)]
    path.write_text('\n'.join(['\ufeffid\tsentence\tsecond\tlabel', *lines]) + '\n', encoding='utf-8')
    return path


def test_packages(cache):
    data = Data(task='packages')
    splits = examples(data, cache)
    assert list(splits) == ['train', 'dev', 'test']
    assert len(classes(data)) >= 6
    assert max(Counter(x.label for x in splits['dev']).values()) < 0.2 * len(splits['dev'])


def test_dev_is_carved_by_text(table, cache):
    splits = examples(settings(table), cache)
    assert len(splits['train']) + len(splits['dev']) == 200
    assert 8 <= len(splits['dev']) <= 35
    assert splits['train'][0].text.startswith('sentence "')
    assert classes(settings(table)) == ('no', 'yes')
    again = table.with_name('shuffled.tsv')
    lines = table.read_text('utf-8').splitlines()
    again.write_text('\n'.join([lines[0], *lines[:0:-1]]), encoding='utf-8')
    assert {example.text for example in examples(settings(again), cache)['dev']} == {example.text for example in splits['dev']}


def test_pairs_and_files_for_every_split(table, tmp_path, cache):
    for name in ('dev', 'test'):
        with gzip.open(tmp_path / f'{name}.jsonl.gz', 'wt', encoding='utf-8') as file:
            file.write(json.dumps({'sentence': name, 'second': 'b', 'label': 'yes'}) + '\n')
    data = settings(table, pair='second', dev=str(tmp_path / 'dev.jsonl.gz'), test=str(tmp_path / 'test.jsonl.gz'))
    splits = examples(data, cache)
    assert [len(members) for members in splits.values()] == [200, 1, 1]
    assert (splits['train'][3].text, splits['train'][3].pair) == ('sentence "3', 'other 3')
    assert (splits['test'][0].text, splits['test'][0].pair) == ('test', 'b')


def test_labels_in_a_given_order(table):
    assert classes(settings(table, labels=('yes', 'no'))) == ('yes', 'no')


def test_labels_may_be_numbers_and_truth_values(tmp_path):
    path = tmp_path / 'a.jsonl'
    path.write_text('\n'.join(json.dumps({'sentence': str(label), 'label': label}) for label in (1, 0, True)))
    assert classes(settings(path)) == ('0', '1', 'True')


def test_every_row_has_its_splits_and_labels(table, cache):
    for name in tasks.TASKS:
        if name not in ('packages', 'custom'):
            continue  # they have files of their own, in test_official_tasks.py
        data = Data(task=name, train=str(table))
        splits = examples(data, cache)
        assert {'train', 'dev'} <= set(splits)
        assert Counter(example.label in classes(data) for members in splits.values() for example in members)[False] == 0


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('a.tsv', b'', "a.tsv' has no examples"),
        ('a.tsv', b'sentence\tlabel\n', "a.tsv' has no examples"),
        ('a.tsv', b'sentence\tlabel\na\tx\nb\n', "a.tsv' line 3 has 1 columns, its header has 2: sentence, label"),
        ('a.tsv', b'sentence\tlabel\na\tb\tx\n', 'line 2 has 3 columns'),
        ('a.tsv', b'sentence\tlabel\na\t \n', "line 2: column 'label' holds no label but ' '"),
        ('a.tsv', b'sentence\tlabel\n \tx\n', "a.tsv' line 2: column 'sentence' holds an empty text"),
        (
            'a.tsv',
            b'sentance\tlabel\na\tx\n',
            "line 2 has no column 'sentence' .data.text.; did you mean 'sentance'.; it has sentance, label",
        ),
        ('a.tsv', b'sentence\tscore\na\tx\n', "line 2 has no column 'label' .data.label.; it has sentence, score"),
        ('a.tsv', b'sentence\tlabel\na\xff\tx\n', 'is not UTF-8 at byte 16'),
        ('a.tsv', b'sentence\tlabel\na\tx\nb\tx\n', "the task 'custom' needs two labels at least; it has x"),
        ('a.jsonl', b'{"sentence": "a", "label": "x"}\n{"sentence": "a"}\n', "a.jsonl' line 2 has no column 'label'"),
        ('a.jsonl', b'{"sentence": "a", "label": null}\n', "column 'label' holds no label but None"),
        ('a.jsonl', b'{"sentence": "a", "label": 0.5}\n', 'holds no label but 0.5'),
        ('a.jsonl', b'{"sentence": 1, "label": "x"}\n', "column 'sentence' is not a text but 1"),
        ('a.jsonl', b'{"sentence": \n', 'line 1 is not JSON'),
        ('a.csv', b'sentence,label,label\na,x,x\n', "a.csv' line 1 names the column 'label' twice"),
        ('a.csv', b'sentence,label\n"a, b",x\n"c\n', "a.csv' line 3 is not CSV"),
        ('a.csv', b'sentence,label\na,b,x\n', "a.csv' line 2 has 3 columns, its header has 2"),
        ('a.txt', b'sentence,label\n', "a.txt' is not a task file: its name must end in .tsv, .csv, .jsonl"),
    ],
)
def test_bad_files_are_told_in_one_line(tmp_path, name, content, message, cache):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        examples(settings(path, dev=str(path)), cache)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'train': ''}, 'the task custom needs data.train'),
        ({'train': '/nowhere/a.tsv'}, "'/nowhere/a.tsv' cannot be read: No such file"),
        ({'task': 'costum'}, "no data.task named 'costum'; did you mean 'custom'"),
        ({'dev_share': 1e-9}, 'leaves none for dev'),
        ({'dev_share': 1 - 1e-9}, 'leaves none for train'),
        ({'labels': ('yes', 'nope')}, r"train.tsv' line 2: unknown label 'no' \(there are: yes, nope\)"),
        ({'pair': 'third'}, "line 2 has no column 'third' .data.pair."),
    ],
)
def test_bad_settings(table, changes, message, cache):
    with pytest.raises(UserError, match=message):
        examples(replace(settings(table), **changes), cache)


def test_a_split_without_examples(monkeypatch, cache):
    monkeypatch.setitem(tasks.TASKS, 'hollow', tasks.Task('label', lambda data: ('a', 'b'), lambda data, cache: {'train': []}))
    with pytest.raises(UserError, match="the task 'hollow' has no train examples"):
        examples(Data(task='hollow'), cache)


def test_scores_in_place_of_labels(tmp_path, cache):
    path = tmp_path / 'a.csv'
    path.write_text('sentence,other,score\n"a, ""b""",c,0.5\n"d\ne",f,-2\n')
    data = settings(path, dev=str(path), pair='other', score='score')
    row = tasks.task(data)
    assert (row.kind, row.metrics, classes(data)) == ('score', ('pearson', 'spearman'), ('score',))
    assert [(x.text, x.pair, x.score) for x in examples(data, cache)['dev']] == [('a, "b"', 'c', 0.5), ('d\ne', 'f', -2.0)]
    for given in ('much', 'inf', 'nan'):
        path.write_text(f'sentence,score\na,{given}\n')
        with pytest.raises(UserError, match=f"a.csv' line 2: column 'score' holds '{given}', which is no number"):
            examples(settings(path, dev=str(path), score='score'), cache)


def test_a_train_file_of_one_label_is_refused(table, tmp_path, cache):
    path = tmp_path / 'one.tsv'
    path.write_text('sentence\tlabel\na\tyes\nb\tyes\n')
    with pytest.raises(UserError, match="the train split of 'custom' has one label only, 'yes'"):
        examples(settings(path, dev=str(table), labels=('yes', 'no')), cache)


def test_a_truth_value_is_no_score(tmp_path, cache):
    path = tmp_path / 'a.jsonl'
    path.write_text('{"sentence": "a", "score": true}\n')
    with pytest.raises(UserError, match="column 'score' holds True, which is no number"):
        examples(settings(path, dev=str(path), score='score'), cache)


def test_a_test_file_may_lack_labels(table, tmp_path, cache):
    path = tmp_path / 'test.tsv'
    path.write_text('sentence\nwho knows\n')
    data = settings(table, dev=str(table), test=str(path))
    found = examples(data, cache)
    assert found['test'][0].label == ''
    assert tasks.reported(data, found) == 'dev'
    lines = tmp_path / 'test.jsonl'
    lines.write_text('{"sentence": "a"}\n{"sentence": "b", "label": "yes"}\n')
    with pytest.raises(UserError, match="line 2 has 'label', and the rows before it have none: give it to all of them, or to none"):
        examples(replace(data, test=str(lines)), cache)


@pytest.mark.parametrize(
    ('changes', 'selects', 'how'),
    [
        ({}, 'selection', 'selected on a part of train'),
        ({'select': 'dev'}, 'dev', 'selected on dev'),
        ({'select': 'last'}, '', 'the last checkpoint: nothing selects'),
        ({'dev': ''}, 'selection', 'selected on a part of train'),
        ({'test': 'same'}, 'dev', 'selected on dev; test is reported'),
    ],
)
def test_what_selects_is_not_what_is_reported(table, changes, selects, how, cache):
    changes = {name: str(table) if value == 'same' else value for name, value in changes.items()}
    data = replace(settings(table, dev=str(table)), **changes)
    found = examples(data, cache)
    splits, name, told = selection(data, found)
    assert (name, told) == (selects, how)
    if selects == 'selection':
        texts = {split: {x.text for x in members} for split, members in splits.items()}
        assert not texts['train'] & texts['selection']
        assert texts['train'] | texts['selection'] == {x.text for x in found['train']}
        assert splits['dev'] == found['dev']
        assert data.dev or not texts['selection'] & {x.text for x in splits['dev']}


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'select': 'tset'}, "no data.select named 'tset'"),
        ({'dev_share': 1e-9}, 'of 200 training examples leaves none for selection'),
    ],
)
def test_a_selection_that_cannot_be(table, changes, message, cache):
    data = replace(settings(table, dev=str(table)), **changes)
    with pytest.raises(UserError, match=message):
        selection(data, examples(data, cache))


def test_the_order_of_labels_is_ones_own(tmp_path):
    assert classes(Data(task='rte', labels=('not_entailment', 'entailment'))) == ('not_entailment', 'entailment')
    with pytest.raises(UserError, match="data.labels=yes, no: the labels of 'rte' are entailment, not_entailment"):
        classes(Data(task='rte', labels=('yes', 'no')))
    with pytest.raises(UserError, match="data.labels=B, A, C, D: 'race' has a choice, no labels to order; give none"):
        classes(Data(task='race', labels=('B', 'A', 'C', 'D')))


# ---- Rows ---------------------------------------------------------------------------------------------------------------------

CODE = [path for folder in ('research', 'configs', 'experiments') for path in (ROOT / folder).rglob('*.py')]


@pytest.mark.parametrize('name', tasks.TASKS)
def test_every_row_is_learnt_by_a_loss_and_reads_settings_that_there_are(name):
    row = tasks.TASKS[name]
    assert row.loss in {each.name for each in fields(Losses)} and row.kind in encoding.ENCODERS
    assert set(row.reads) <= {each.name for each in fields(Data)}
    assert row.reported in (*row.sizes, 'dev', 'test') and (row.kind == 'span' or not row.no_answer)
    assert row.selects in (*row.metrics, 'score') and set(row.metrics) <= {*METRICS, 'exact', 'f1'}
    assert all(each.title and each.key and each.what for each in row.printed)


def test_a_setting_adapts_the_row_of_custom():
    custom = Data(task='custom')
    plain, scored, tested = (tasks.task(data) for data in (custom, replace(custom, score='x'), replace(custom, test='x')))
    assert (plain.loss, scored.loss) == ('label', 'regression')
    assert (plain.reported, tested.reported) == ('dev', 'test')
    assert 'label' in plain.reads and 'label' not in scored.reads
    assert tasks.task(Data(task='sst2', score='x')) is tasks.TASKS['sst2']


def test_no_file_asks_for_a_task_or_a_policy_by_its_name():
    """Facts about a row live in the row."""
    found = []
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text('utf-8'))):
            if isinstance(node, ast.Compare):
                sides = [node.left, *node.comparators]
                constants = {each.value for side in sides for each in ast.walk(side) if isinstance(each, ast.Constant)}
                names = constants & {*tasks.TASKS, *MASKING}
                if names and any(re.search(r'task|policy|size|name', ast.unparse(side)) for side in sides):
                    found.append(f'{path}:{node.lineno}: {ast.unparse(node)}')
    assert found == []
