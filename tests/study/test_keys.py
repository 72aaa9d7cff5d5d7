"""Keys of results: refused where a column or a claim is made, not where a report is drawn."""

from pathlib import Path

import pytest

from research.errors import UserError
from research.experiment import Experiment
from research.records import read_record, write_record
from research.runs.folder import read_result
from research.study.columns import COLLAPSED, COLUMNS, SCORE, Column
from research.study.keys import NAMES, SPLITS, validate_key
from research.study.ledger import read_study
from research.study.study import Claim


@pytest.mark.parametrize(
    'key',
    [
        'steps',
        'score',
        'latency_seconds',
        'flops_per_token',
        'parameters:encoder',
        'parameters:modules:mlm',
        'metrics:dev/mlm',
        'metrics:dev/sop_accuracy',
        'metrics:dev_mismatched/accuracy',
        'metrics:test/accuracy_high',
        'metrics:selection/HasAns_f1',
        'baseline:majority:score',
        'baseline:random:dev/f1',
        'collapsed:reported',
        'collapsed:dev',
    ],
)
def test_a_key_that_leads_to_a_number_is_taken(key: str) -> None:
    validate_key(key, 'column')


@pytest.mark.parametrize(
    ('key', 'message'),
    [
        ('', "no level of key '' \\(column 'X'\\) named ''"),
        ('step', "no level of key 'step' .* named 'step'; did you mean 'steps'"),
        ('parameter:total', "named 'parameter'; did you mean 'parameters'"),
        ('parameters:totl', "named 'totl'; did you mean 'total'"),
        ('parameters', "key 'parameters' must lead to a number of result.json, but 'parameters' is not a number"),
        ('metrics', "'metrics' is not a number"),
        ('name', "'name' is not a number"),
        ('smoothness:l2', "'l2' is not a number"),
        ('steps:all', "key 'steps:all' goes on after 'steps', which has no levels"),
        ('metrics:dev/mlm_acuracy', "no metric of key 'metrics:dev/mlm_acuracy' .*; did you mean 'mlm_accuracy'"),
        ('metrics:devel/mlm', "no split of key 'metrics:devel/mlm' .*; did you mean 'dev'"),
        ('metrics:train/loss', "no split of key 'metrics:train/loss'"),
        ('metrics:mlm', "no split of key 'metrics:mlm'"),
        ('baseline:majority', "'majority' is not a number"),
        ('baseline:majority:scor', "no split of key 'baseline:majority:scor'"),
        ('collapsed:report', "did you mean 'reported'"),
    ],
)
def test_a_key_that_leads_to_none_is_refused_by_column_and_claim(key: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Column('X', 'run', key)
    for sides in (((('a'), key), ('a', 'steps')), (('a', 'steps'), ('a', key))):
        with pytest.raises(UserError, match="claim 'it learns'"):
            Claim('it learns', *sides)


def test_a_wrong_key_in_a_study_json_is_refused_when_it_is_read(finished: Path) -> None:
    stored = read_record(finished / 'study.json')
    assert stored is not None
    stored['table']['columns'][0]['key'] = 'parameters:encodr'
    write_record(finished / 'study.json', stored)
    with pytest.raises(UserError, match="did you mean 'encoder'"):
        read_study(finished)


def test_the_standard_columns_and_every_metric_of_a_run_have_keys(teacher: Path) -> None:
    result = read_result(teacher)
    assert result is not None and result.metrics
    for name in result.metrics:
        validate_key(f'metrics:{name}', 'a run')
    assert {column.key for column in (*COLUMNS.values(), SCORE, COLLAPSED)} >= {'score', 'collapsed:reported', 'metrics:dev/mlm'}
    assert {'dev', 'test', 'selection', 'dev_mismatched'} <= set(SPLITS) and 'train' not in SPLITS
    assert {'mlm', 'span', 'spearman', 'exact', 'best_f1', 'score'} <= set(NAMES) and 'cosine' not in NAMES
    assert Experiment().name
