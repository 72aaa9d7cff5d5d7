"""Studies as values: order, references, and what a table may name."""

import dataclasses
import time

import pytest

from experiments import albert_sentence_loss, albert_sharing, compare, distilbert_glue
from research.errors import UserError
from research.study.columns import COLUMNS, FORMATS, Column
from research.study.graph import order, siblings, with_starts
from research.study.study import Claim, Row, Study, Table


def small(runs, rows=(), columns=(), claims=(), score=''):
    return Study('small', runs, Table('Small', rows, columns, score), claims=claims)


def test_a_run_needs_its_start_its_teacher_and_the_run_of_its_tokenizer_each_once(experiment):
    runs = {name: experiment(name) for name in 'ab'}
    runs['x'] = experiment('x', start='@a', teacher='@b', tokenizer='@a')
    assert small(runs).needs == {'a': (), 'b': (), 'x': ('a', 'b')}
    assert siblings('runs/a', 'teacher') == ()
    assert with_starts({'a': (), 'b': ('a',), 'c': ('b',), 'd': ()}, ['c']) == ['a', 'b', 'c']


def test_order_keeps_the_given_one_where_it_can(experiment):
    given = {
        'a': experiment('a'),
        'a-task': experiment('a', start='@a'),
        'b': experiment('b'),
        'b-task': experiment('b', start='@b'),
    }
    assert order(small(given).needs) == ['a', 'a-task', 'b', 'b-task']


@pytest.mark.parametrize('field', ['start', 'teacher', 'tokenizer'])
def test_order_puts_each_run_after_what_it_starts_from(experiment, field):
    runs = {
        'last': experiment('x', **{field: '@middle'}),
        'other': experiment('x'),
        'middle': experiment('x', start='@first'),
    }
    assert order(small(runs | {'first': experiment('x')}).needs) == ['first', 'middle', 'last', 'other']


def test_a_long_chain_takes_linear_time():
    needs = {str(number): (str(number + 1),) for number in range(100_000)} | {'100000': ()}
    began = time.process_time()
    assert order(needs)[:2] == ['100000', '99999']
    assert time.process_time() - began < 5
    with pytest.raises(UserError, match=r'in a circle: 2 → 3 → 2$'):
        order({'1': ('2',), '2': ('3',), '3': ('2',)})


def test_order_refuses_an_unknown_run_with_the_nearest(experiment):
    with pytest.raises(UserError, match="run 'b' starts from '@techer'.*did you mean 'teacher'"):
        order(small({'teacher': experiment('a'), 'b': experiment('b', start='@techer')}).needs)


def test_order_names_the_circle_and_nothing_before_it(experiment):
    runs = {'d': experiment('d', start='@a'), 'a': experiment('a', start='@b'), 'b': experiment('b', teacher='@a')}
    with pytest.raises(UserError, match='in a circle: a → b → a$'):
        order(small(runs).needs)
    with pytest.raises(UserError, match='in a circle: a → a$'):
        order(small({'a': experiment('a', start='@a')}).needs)


@pytest.mark.parametrize('name', ['', 'a/b', '../a', '.hidden', '@a', '-a', 'study.json', 'a\nb', 'a\\b'])
def test_study_refuses_a_run_name_that_is_no_folder(experiment, name):
    with pytest.raises(UserError, match='a run cannot be named'):
        small({name: experiment('a')})


@pytest.mark.parametrize('name', ['a', 'layers=(0, 2),sharing=all', 'bert-4.1_x'])
def test_study_takes_the_names_that_sweeps_give(experiment, name):
    assert order(small({name: experiment('a')}).needs) == [name]


def test_study_refuses_rows_columns_and_claims_that_name_nothing(experiment):
    runs = {'teacher': experiment('a')}
    with pytest.raises(UserError, match="role 'pretrain' of row 'BERT'.*'techer'; did you mean 'teacher'"):
        small(runs, (Row('BERT', {'pretrain': ('techer',)}),))
    with pytest.raises(UserError, match="role .column 'MLM loss.*named 'pretrain'; did you mean 'pretraining'"):
        small(runs, (Row('BERT', {'pretraining': ('teacher',)}),), (COLUMNS['mlm'],))
    with pytest.raises(UserError, match=r"column \(score of the table\).*'MLM los'; did you mean 'MLM loss \(nats\)'"):
        small(runs, (Row('BERT', {'pretrain': ('teacher',)}),), (COLUMNS['mlm'],), score='MLM los')
    with pytest.raises(UserError, match="claim 'it learns'.*'techer'; did you mean 'teacher'"):
        small(runs, claims=(Claim('it learns', ('teacher', 'steps'), (('teacher', 'techer'), 'steps')),))


def test_one_experiment_twice_in_a_cell_is_no_second_seed(experiment):
    row = (Row('BERT', {'task': ('a', 'b')}),)
    with pytest.raises(UserError, match="runs 'a' and 'b' of row 'BERT' are one experiment, seed 0"):
        small({'a': experiment('a'), 'b': experiment('b')}, row)
    small({'a': experiment('a'), 'b': dataclasses.replace(experiment('b'), seed=1)}, row)


def test_column_refuses_an_unknown_format_and_direction():
    with pytest.raises(UserError, match="'percents'; did you mean 'percent'"):
        Column('Score', 'task', 'steps', 'percents')
    with pytest.raises(UserError, match="'maximum'"):
        Column('Score', 'task', 'steps', 'percent', 'maximum')


def test_a_mean_of_columns_has_no_key_and_is_of_no_other_mean(experiment):
    with pytest.raises(UserError, match="column 'Mean' is the mean of others .*leave out its role and its key"):
        Column('Mean', 'task', 'steps', of=('MLM loss (nats)',))
    rows, mlm = (Row('BERT', {'pretrain': ('teacher',)}),), COLUMNS['mlm']
    small({'teacher': experiment('a')}, rows, (mlm, Column('Mean', '', '', of=(mlm.title,))))
    for of in (('Mean',), (mlm.title, 'Mean')):
        with pytest.raises(UserError, match="column 'All' is the mean of 'Mean', which is a mean itself"):
            small({'teacher': experiment('a')}, rows, (mlm, Column('Mean', '', '', of=(mlm.title,)), Column('All', '', '', of=of)))


def test_every_standard_column_has_a_format_a_direction_and_says_what_it_is():
    for column in COLUMNS.values():
        assert column.format in FORMATS
        assert column.better or column.title == 'Memory (MB)', 'of a CPU the whole process: no model is the better for it'
        assert column.note
    assert dataclasses.replace(COLUMNS['mlm'], title='Loss').key == 'metrics:dev/mlm'


def test_the_papers_second_step_is_a_student_taught_squad_from_its_own_pretraining():
    study = distilbert_glue.get_study('paper')
    taught, alone = (study.runs[f'distilbert-squad{kind}-s2'] for kind in ('-taught', ''))
    assert study.needs['distilbert-squad-taught-s2'] == ('distilbert-s2', 'bert-squad-s2')
    assert (taught.losses.span.weight, taught.losses.soft.weight, taught.losses.soft.at) == (0.5, 0.5, 'span')
    assert dataclasses.replace(taught, name=alone.name, losses=alone.losses, teacher='') == alone
    assert study.table.rows[-1].published['Avg'] == 68.7 and not study.table.rows[-1].runs


def test_probes_move_no_layer_and_answer_one_kind_of_pairs():
    study = albert_sentence_loss.get_study('small')
    for pairs in ('nsp', 'sop'):
        x = study.runs[f'none-{pairs}-probe']
        assert x.start == '@none' and x.data.pairs == pairs and not x.losses.mlm.weight
        assert x.optimizer.frozen == ('embeddings', 'layer_0', 'layer_1', 'layer_2', 'layer_3')
        assert x.surgery.drop == ('pair', 'encoder/pooler')
    printed = [row for row in study.table.rows if row.published]
    assert len(printed) == 3 and all(row.published.keys() >= {'NSP accuracy (%)', 'SOP accuracy (%)'} for row in printed)


def test_a_published_average_stands_beside_that_of_the_same_tasks_alone():
    for size in ('small', 'paper'):
        study = albert_sharing.get_study(size)
        rows = study.table.rows[:-1]
        assert all(('Avg' in row.published) == (size == 'paper') and 'SST-2' in row.published for row in rows)
        avg = next(column for column in study.table.columns if column.title == 'Avg')
        assert len(set(avg.of)) == (2 if size == 'small' else 7)
    assert not any(row.published for row in compare.get_study('tiny').table.rows)
    assert all('Parameters (M)' in row.published for row in compare.get_study('paper').table.rows[:-1])
