"""Files of the task `custom` as pandas, spreadsheets and people write them."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from research.data import tasks
from research.data.settings import Data
from research.data.tasks import custom, files
from research.data.text_files import RECORD
from research.errors import UserError


def settings(path: Path, **changes: Any) -> Data:
    """Settings that read one file."""
    return Data(task='custom', train=str(path), **changes)


def texts(path: Path, **changes: Any) -> list[tuple[str, str]]:
    """(text, label) of each example of a file."""
    return [(x.text, x.label) for x in custom.read(path, settings(path, **changes), 'train').examples]


# ---- Quotes ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('content', 'expected'),
    [
        ('"he said ""great"" and left"\t1\n', ['he said "great" and left']),
        ('"a\nb"\t1\nc\t0\n', ['a\nb', 'c']),
        ('"a, b"\t1\nc\t0\n', ['a, b', 'c']),  # a spreadsheet quotes cells with commas
        ('"a\tb"\t1\n', ['a\tb']),
        ('"""quoted from the start"\t1\n', ['"quoted from the start']),
        ('"Great film."\t1\n', ['"Great film."']),  # nobody quotes this cell: they are the text's
        ('"Great, film."\t1\nso, so\t0\n', ['"Great, film."', 'so, so']),
        ('he said "great"\t1\n"x ""y"" z"\t0\n', ['he said "great"', '"x ""y"" z"']),
        ('"begins\t1\nends"\t0\n', ['"begins', 'ends"']),
        ('5" tall\t1\n', ['5" tall']),
        ('plain\t1\n', ['plain']),
    ],
)
def test_quotes_of_a_tsv_are_read_as_they_were_written(tmp_path: Path, content: str, expected: list[str]) -> None:
    path = tmp_path / 'a.tsv'
    path.write_text(f'sentence\tlabel\n{content}')
    assert [text for text, _ in texts(path)] == expected


def test_a_tsv_whose_header_is_quoted_is_quoted(tmp_path: Path) -> None:
    path = tmp_path / 'a.tsv'
    path.write_text('"sentence"\t"label"\n"a"\t"1"\n"b"\t"0"\n')
    assert texts(path) == [('a', '1'), ('b', '0')]


def test_a_ragged_tsv_with_quotes_is_refused_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / 'a.tsv'
    path.write_text('sentence\tlabel\n"a\t1\nb\n')
    with pytest.raises(UserError, match=r"a.tsv' line 3 has 1 columns"):
        texts(path)


def test_the_same_table_in_each_form(shared_data: Path) -> None:
    folder = shared_data / 'wild' / 'tsv_quoted'
    found = {name: texts(folder / name) for name in ('quotes.tsv', 'newline.tsv', 'quotes.csv', 'index.tsv')}
    assert ('he said "great" and left', '1') in found['quotes.csv'] and ('first line\nsecond line', '1') in found['quotes.csv']
    assert found['newline.tsv'] == found['quotes.csv'] == found['index.tsv']
    assert Counter('"' in text for text, _ in found['quotes.tsv']) == Counter('"' in text for text, _ in found['quotes.csv'])
    (line,) = custom.notices(settings(folder / 'newline.tsv'))
    assert line.startswith("train: '") and 'quotes its cells, as pandas and spreadsheets do' in line
    assert custom.notices(settings(folder / 'quotes.csv')) == []


def test_a_long_cell_is_read(shared_data: Path) -> None:
    found = texts(shared_data / 'wild' / 'csv_long_cell' / 'train.csv')
    assert max(len(text) for text, _ in found) > 131_072


@pytest.mark.parametrize('name', ['a.csv', 'a.tsv', 'a.jsonl'])
def test_a_cell_beyond_any_use_is_refused_before_it_is_cut_into_pieces(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    long = 'ab ' * (RECORD // 3 + 1)
    rows = {'a.csv': f'sentence,label\nb,y\n"{long}",x\n', 'a.tsv': f'sentence\tlabel\nb\ty\n{long}\tx\n'}
    lines = [json.dumps({'sentence': text, 'label': label}) + '\n' for text, label in (('b', 'y'), (long, 'x'))]
    path.write_text(rows[name] if name in rows else ''.join(lines))
    with pytest.raises(UserError, match=r'more than 2,097,152 characters|field larger than'):
        tasks.examples(settings(path, dev=str(path), labels=('x', 'y')), '')


# ---- Labels ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('value', ['', ' ', '-', 'nan', 'NaN', '<NA>', 'null', '#N/A'])
def test_a_missing_label_is_no_class(tmp_path: Path, value: str) -> None:
    path = tmp_path / 'a.csv'
    path.write_text(f'sentence,label\na,yes\nb,no\nc,{value}\n')
    with pytest.raises(UserError, match=r"line 4: column 'label' holds no label but .*: give --config.data.unlabelled=skip"):
        texts(path)
    assert texts(path, unlabelled='skip') == [('a', 'yes'), ('b', 'no')]
    assert custom.notices(settings(path, unlabelled='skip')) == ['train: 1 rows without a label are skipped (data.unlabelled=skip)']
    if value.strip():
        assert texts(path, labels=('no', value, 'yes'))[2] == ('c', value)


def test_missing_labels_of_json_and_scores(tmp_path: Path) -> None:
    path = tmp_path / 'a.jsonl'
    path.write_text('{"sentence": "a", "label": null}\n{"sentence": "b", "label": NaN}\n{"sentence": "c", "label": 1.0}\n')
    assert texts(path, unlabelled='skip') == [('c', '1')]
    table = tmp_path / 'a.csv'
    table.write_text('sentence,score\na,\nb,0.5\nc,nan\nd,-\n')
    data = settings(table, score='score', unlabelled='skip')
    assert [(x.text, x.score) for x in custom.read(table, data, 'train').examples] == [('b', 0.5)]
    assert custom.notices(data) == ['train: 3 rows without a label are skipped (data.unlabelled=skip)']
    table.write_text('sentence,score\na,-\n')
    with pytest.raises(UserError, match=r"a.csv' has no labelled examples"):
        custom.read(table, data, 'train')


@pytest.mark.parametrize('value', ['none', 'NA', 'None', '-1', '0', '1.5.2'])
def test_what_only_looks_missing_is_a_class(tmp_path: Path, value: str) -> None:
    path = tmp_path / 'a.csv'
    path.write_text(f'sentence,label\na,yes\nb,{value}\n')
    assert texts(path) == [('a', 'yes'), ('b', value)]


def test_a_whole_number_with_a_fraction_of_nothing_is_that_number(tmp_path: Path) -> None:
    train, test = tmp_path / 'a.csv', tmp_path / 'test.csv'
    train.write_text('sentence,label\na,1.0\nb,0.0\nc,-2.0\n')
    test.write_text('sentence,label\na,1\nb,0\n')
    data = settings(train, dev=str(train), test=str(test))
    found = tasks.examples(data, '')
    assert tasks.classes(data) == ('-2', '0', '1') and [x.label for x in found['test']] == ['1', '0']
    assert "train: 3 labels are written as '1.0' and read as '1'" in custom.notices(data)
    assert tasks.classes(settings(train, labels=('0.0', '1.0', '-2.0'))) == ('0.0', '1.0', '-2.0')
    assert texts(train, labels=('0.0', '1.0', '-2.0'))[0] == ('a', '1.0')


@pytest.mark.parametrize('value', ['0.37', '.5', '-1.25', '1.5e-3'])
def test_a_score_is_no_class_by_accident(tmp_path: Path, value: str) -> None:
    path = tmp_path / 'a.csv'
    path.write_text(f'sentence,label\na,1\nb,{value}\n')
    with pytest.raises(UserError, match=r'line 3: .* a number: to predict numbers, name the column in data.score'):
        texts(path)
    assert texts(path, labels=('1', value)) == [('a', '1'), ('b', value)]


@pytest.mark.parametrize('twin', ['cafe\u0301', 'caf\u00e9\u200b', 'ca\u00adf\u00e9'])
def test_labels_that_look_the_same_are_refused(tmp_path: Path, twin: str) -> None:
    path = tmp_path / 'a.csv'
    path.write_text(f'sentence,label\na,caf\u00e9\nb,{twin}\n')
    with pytest.raises(UserError, match='has two labels that look the same, .*caf'):
        tasks.classes(settings(path))
    assert tasks.classes(settings(path, labels=('caf\u00e9', twin))) == ('caf\u00e9', twin)


def test_labels_that_differ_in_case_are_two_and_the_log_says_so(tmp_path: Path) -> None:
    path = tmp_path / 'a.csv'
    path.write_text('sentence,label\na,Yes\nb,yes\nc,no\n')
    assert tasks.classes(settings(path)) == ('Yes', 'no', 'yes')
    assert custom.notices(settings(path)) == ['labels that differ in case only: Yes, yes']


def test_a_label_that_no_file_can_hold_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'a.jsonl'
    path.write_text('{"sentence": "a", "label": "\\ud800"}\n{"sentence": "b", "label": "x"}\n')
    with pytest.raises(UserError, match='line 1 holds half of a surrogate pair'):
        tasks.examples(settings(path, dev=str(path)), '')


@pytest.mark.parametrize('value', [[1], {'a': 1}])
def test_a_list_is_no_label(tmp_path: Path, value: Any) -> None:
    path = tmp_path / 'a.jsonl'
    path.write_text(json.dumps({'sentence': 'a', 'label': value}))
    with pytest.raises(UserError, match='holds no label but'):
        texts(path)


def test_the_labels_from_the_wild(shared_data: Path) -> None:
    folder = shared_data / 'wild' / 'labels'
    for name in ('nan.csv', 'blank.csv'):
        with pytest.raises(UserError, match=f"{name}' line 13: column 'label' holds no label"):
            tasks.classes(settings(folder / name))
        assert tasks.classes(settings(folder / name, unlabelled='skip')) == ('0', '1')
    assert tasks.classes(settings(folder / 'floats.csv')) == ('0', '1')
    assert tasks.classes(settings(folder / 'cr.tsv')) == ('0', '1')


def test_unlabelled_rows_from_the_wild_are_skipped_and_counted(shared_data: Path) -> None:
    folder = shared_data / 'wild' / 'unlabelled_rows'
    columns = {'text': 'sentence1', 'pair': 'sentence2', 'label': 'gold_label'}
    data = settings(folder / 'train.jsonl', dev=str(folder / 'dev.jsonl'), unlabelled='skip', **columns)
    assert custom.notices(data) == [
        'train: 10 rows without a label are skipped (data.unlabelled=skip)',
        'dev: 3 rows without a label are skipped (data.unlabelled=skip)',
    ]
    assert tasks.classes(data) == ('contradiction', 'entailment', 'neutral')
    assert {split: len(members) for split, members in tasks.examples(data, '').items()} == {'train': 390, 'dev': 117}
    with pytest.raises(UserError, match=r"train.jsonl' line 8: column 'gold_label' holds no label but '-'"):
        tasks.examples(settings(folder / 'train.jsonl', **columns), '')
    clean = settings(folder / 'train_clean.jsonl', dev=str(folder / 'dev_clean.jsonl'), unlabelled='skip', **columns)
    assert custom.notices(clean) == [] and len(tasks.examples(clean, '')['train']) == 400


def test_the_readers_know_the_end_of_a_name() -> None:
    assert files.kind_of(Path('a.b.tsv.gz')) == '.tsv' and files.kind_of(Path('a')) == ''


def test_two_texts_together_are_bounded_too(tmp_path: Path) -> None:
    path = tmp_path / 'a.csv'
    half = 'a' * (RECORD // 2 + 1)
    path.write_text(f'sentence,other,label\n"{half}\n","{half}",x\nb,c,y\n')
    with pytest.raises(UserError, match=r"a.csv' line 2: an example has more than 2,097,152 characters: cut its texts"):
        tasks.examples(settings(path, dev=str(path), pair='other'), '')
