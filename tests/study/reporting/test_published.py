"""Published numbers: what has a difference and why not, whether orders agree; floors below a table; budgets that rows share."""

import dataclasses

import pytest

from research.study.columns import Column
from research.study.ledger import enter
from research.study.reporting.budgets import describe_budgets
from research.study.reporting.cells import Cell, gather, read_row_cell
from research.study.reporting.published import compare_order, find_differences, spell_metric, write_difference
from research.study.reporting.remarks import find_problems
from research.study.reporting.table import main_sheet, write_caption
from research.study.study import Row, Setting, Study, Table

ACCURACY = Column('Accuracy (%)', 'task', 'metrics:test/accuracy', 'percent', 'max')
SIZE = Column('Parameters (M)', 'pretrain', 'parameters:encoder', 'millions')
PIECES = 1000 * 32 * 128  # of the experiment's defaults


def differ(study, setting, column=ACCURACY):
    row = dataclasses.replace(study.table.rows[0], published={column.title: 90.0}, setting=setting)
    return find_differences(study, row, column)


def test_a_difference_needs_the_same_size_pieces_text_and_metric(study):
    assert differ(study, Setting(layers=12, width=768, pieces=PIECES * 1.04, data=('DOC',))) == {}
    assert differ(study, None) == {'setting': 'how the published number came about is not stated'}
    assert differ(study, Setting(layers=24, width=1024)) == {'size': 'layers 12, published 24, width 768, published 1,024'}
    assert differ(study, Setting(pieces=PIECES * 2)) == {'pieces': '4.1e+06 read, published 8.19e+06'}
    assert differ(study, Setting(data=('wikipedia', 'book'))) == {'text': 'data.source is docstrings, published wikipedia and book'}
    dev = dataclasses.replace(ACCURACY, published='dev/accuracy')
    assert differ(study, Setting(), dev) == {'metric': 'test/accuracy, published dev/accuracy'}
    assert differ(study, Setting(), dataclasses.replace(ACCURACY, published='test/accuracy')) == {}


def test_counts_compare_where_sizes_do(study):
    assert differ(study, Setting(layers=12, pieces=1.0, data=('wikipedia',)), SIZE) == {}
    assert 'size' in differ(study, Setting(layers=6), SIZE)


def test_a_mean_compares_where_its_columns_do(study):
    other = dataclasses.replace(ACCURACY, title='Other', published='dev/f1')
    mean = Column('Avg', '', '', 'percent', of=('Accuracy (%)', 'Other'))
    both = dataclasses.replace(study, table=dataclasses.replace(study.table, columns=(ACCURACY, other, mean), score='Avg'))
    assert differ(both, Setting(), mean) == {'metric': 'test/accuracy, published dev/f1'}


@pytest.mark.parametrize(
    ('task', 'wanted'),
    [('race', 'dev/accuracy'), ('imdb', 'test/accuracy'), ('mrpc', 'dev/score'), ('squad', 'dev/f1'), ('sst2', 'dev/accuracy')],
)
def test_the_score_of_a_task_is_its_reported_metric(experiment, task, wanted):
    x = experiment('x')
    x = dataclasses.replace(x, data=dataclasses.replace(x.data, task=task))
    assert spell_metric(x, dataclasses.replace(ACCURACY, key='score')) == wanted


def test_a_start_from_elsewhere_was_pretrained_on_what_nobody_knows(experiment):
    x = experiment('task', start='runs/bert')
    row = Row('bert', {'task': ('x',)}, {'Accuracy (%)': 90.0}, setting=Setting(layers=12, pieces=1e9))
    study = Study('s', {'x': x}, Table('T', (row,), (ACCURACY,)))
    assert find_differences(study, row, ACCURACY) == {'text': 'the study does not know what its start was pretrained on'}


def test_the_column_of_differences_says_why_it_has_none(study, finished):
    rows = [
        dataclasses.replace(row, published={'Accuracy (%)': 90.0}, setting=setting)
        for row, setting in zip(study.table.rows, (Setting(layers=12, statistic='median'), Setting(layers=24), None), strict=True)
    ]
    table = dataclasses.replace(study.table, rows=tuple(rows), columns=(ACCURACY,), score='', source='Paper')
    other = dataclasses.replace(study, table=table)
    evidence = gather(other, finished)
    cells = [[read_row_cell(other, row, ACCURACY, evidence)] for row in rows]
    assert [write_difference(other, row, ACCURACY, cell[0]) for row, cell in zip(rows, cells, strict=True)] == [
        '+2.0',
        '— (size)',
        '— (setting)',
    ]
    caption = write_caption(other, cells, evidence)
    assert 'No Δ of Accuracy (%) (size: layers 12, published 24).' in caption
    assert 'No Δ of Accuracy (%) (setting: how the published number came about is not stated).' in caption
    assert 'Published numbers are medians over runs.' in caption


# ---- Order ----------------------------------------------------------------------------------------------------------------------


def rows_of(published, cells, column=ACCURACY):
    pairs = zip(published, cells, strict=True)
    return [(Row(f'r{n}', {}, {column.title: float(known)}), Cell(cell, {})) for n, (known, cell) in enumerate(pairs)]


def test_the_order_of_published_numbers_is_tested():
    cells = [(0.1, 0.11, 0.12), (0.2, 0.21, 0.22), (0.3, 0.31, 0.32), (0.4, 0.41, 0.42), (0.5, 0.51, 0.52)]
    found = compare_order(ACCURACY, rows_of((1, 2, 3, 4, 5), cells), False)
    assert found.startswith('Kendall’s τ-b = 1.00 (exact p = 0.017); 10 of 10 pairs of rows that are more than two standard errors')
    found = compare_order(ACCURACY, rows_of((2, 1, 3, 4, 5), cells), False)
    assert found.startswith('Kendall’s τ-b = 0.80') and found.endswith("not: 'r0' and 'r1'")
    noise = [(0.1, 0.5), (0.52, 0.1)]
    assert compare_order(ACCURACY, rows_of((1, 2), noise), False).startswith('not decided: none of 1 pairs')
    assert compare_order(ACCURACY, rows_of((1, 2), [(0.1,), (0.2,)]), False).startswith('not tested: with one seed')
    assert compare_order(SIZE, rows_of((1, 2), [(0.1,), (0.2,)], SIZE), True).startswith('Kendall’s τ-b = 1.00 (exact p = 1)')


# ---- Floors and budgets ---------------------------------------------------------------------------------------------------------


def test_floors_are_rows_and_what_is_not_above_one_is_marked(study, finished, finish):
    floors = {'test/floor_commonest': 0.523, 'test/floor_bag_of_words': 0.86}
    for name, score in (('teacher', 0.93), ('student', 0.89), ('scratch', 0.855)):
        for seed in (0, 1):
            finish(finished, study, f'{name}-task-{seed}', score, metrics={'test/accuracy': score, **floors})
    share = Column('Share', '', '', 'percent', of=('Accuracy (%)',))
    table = dataclasses.replace(study.table, columns=(ACCURACY, SIZE, share), score='')
    other = dataclasses.replace(study, table=table)
    evidence = gather(other, finished)
    cells = [[read_row_cell(other, row, column, evidence) for column in table.columns] for row in table.rows]
    sheet = main_sheet(other, cells, evidence)
    assert [[each.text for each in line] for line in sheet.lines[3:]] == [
        ['floor: commonest answer', '52.3', '', '52.3'],
        ['floor: bag of words', '86.0', '', '86.0'],
    ]
    assert [line[1].remark for line in sheet.lines[:3]] == [' (n=1 × 2)', ' (n=1 × 2)', ' (n=1 × 2) ‡']
    assert '‡: not above a floor; see below.' in write_caption(other, cells, evidence)
    problems = find_problems(other, cells, evidence)
    names = '`scratch-task-0`, `scratch-task-1`'
    assert f'{names} score no better than a bag of words: the order of words has given them nothing.' in problems
    assert not [line for line in problems if 'student' in line]


def test_a_floor_of_another_metric_is_none(study, finished, finish):
    finish(finished, study, 'teacher-task-0', 0.9, metrics={'test/f1': 0.9, 'test/floor_bag_of_words': 0.95}, baseline=None)
    column = dataclasses.replace(ACCURACY, key='metrics:test/f1')
    other = dataclasses.replace(study, table=dataclasses.replace(study.table, columns=(column,), score=''))
    evidence = gather(other, finished)
    cells = [[read_row_cell(other, row, column, evidence)] for row in other.table.rows]
    assert len(main_sheet(other, cells, evidence).lines) == 3


def test_a_caption_says_which_budgets_rows_share(study, finished, finish):
    finish(finished, study, 'student', 2.7, flops_per_step=9_000_000, latency_seconds=0.00235)
    finish(finished, study, 'scratch', 2.9, flops_per_step=7_050_000, latency_seconds=None)
    found = describe_budgets(study, gather(study, finished))
    assert found.startswith('Budgets: rows share tokens (6.14e+06), steps (1,500), training time (1 h 02 min), latency (2.35 ms);')
    assert 'differ in training FLOPs (1.05e+10 to 1.35e+10), parameters (2,300,000 to 4,400,000).' in found
    finish(finished, study, 'scratch', 2.9, steps=0, train_seconds=0.0, flops_per_step=0)
    again = describe_budgets(study, gather(study, finished))
    assert 'share tokens (6.14e+06), steps (1,500), training time (1 h 02 min)' in again, 'scratch trains nothing'
    enter(study, finished / 'none')
    assert describe_budgets(study, gather(study, finished / 'none')) == ''
