"""What comparisons resample: the sums of all examples give the number that the run reports."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from research.data.settings import Data
from research.data.tasks import TASKS
from research.evaluation import metrics
from research.evaluation.gains import HeldOut, write_held_out
from research.records import parse_record
from research.runs.folder import Result
from research.study.reporting.cells import Evidence
from research.study.reporting.items import make_runs, pair_items, read_items
from research.study.states import RunState


@pytest.fixture
def evidence(experiment, result_json, tmp_path):
    """evidence(task, lines, reported) -> the Evidence of a run of that task with these predictions."""

    def make(task, lines, reported='dev', folder: Path = tmp_path):
        x = experiment('x')
        x = dataclasses.replace(x, data=dataclasses.replace(x.data, task=task))
        (folder / reported).mkdir(parents=True, exist_ok=True)
        (folder / reported / 'predictions.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
        result = parse_record(Result, result_json | {'reported': reported})
        return Evidence(RunState('done'), result, None, x, folder)

    return make


def label(golds, given):
    return [{'id': str(n), 'label': gold, 'prediction': each} for n, (gold, each) in enumerate(zip(golds, given, strict=True))]


def total(items):
    return float(items.score(items.sums.sum(0)))


@pytest.mark.parametrize(
    ('task', 'key', 'names'),
    [
        ('mrpc', 'score', ('accuracy', 'f1')),
        ('mrpc', 'metrics:dev/f1', ('f1',)),
        ('cola', 'score', ('matthews',)),
        ('sst2', 'metrics:dev/accuracy', ('accuracy',)),
    ],
)
def test_sums_of_labels_give_the_official_metric(evidence, task, key, names):
    draw = np.random.default_rng(0)
    order = TASKS[task].labels(Data())
    gold = draw.integers(0, 2, 80)
    given = np.where(draw.random(80) < 0.7, gold, 1 - gold)
    found = read_items(evidence(task, label([order[n] for n in gold], [order[n] for n in given])), key)
    assert found is not None and len(found.ids) == 80
    assert total(found) == pytest.approx(metrics.measure(names, gold, given)['score'])


def test_sums_of_answers_give_the_official_metric(evidence):
    golds = {'a': ('the cat', 'cat'), 'b': (), 'c': ('a long answer',)}
    given = {'a': 'cat', 'b': '', 'c': 'long'}
    run = evidence('squad2', [{'id': id, 'answers': list(golds[id]), 'prediction': given[id]} for id in golds])
    wanted = metrics.score_squad2(golds, given, dict.fromkeys(golds, 0.0))
    for key, name in (('metrics:dev/exact', 'exact'), ('score', 'f1')):
        found = read_items(run, key)
        assert found is not None and total(found) == pytest.approx(wanted[name] / 100)


def test_ranks_have_no_sums_and_what_is_no_prediction_is_none(evidence):
    assert read_items(evidence('stsb', [{'id': '0', 'score': 1.0, 'prediction': 2.0}]), 'score') is None
    assert read_items(evidence('sst2', label('01', '01')), 'metrics:dev/f1') is not None
    for lines in ([], [{'id': 'x'}], [{'id': 1, 'label': [], 'prediction': {}}, {'id': '1'}], label('00', '00')[:1] * 2):
        assert read_items(evidence('sst2', lines), 'score') is None
    assert read_items(evidence('sst2', label('01', '01'), '..'), 'score') is None, 'no split leads out of the run'
    assert read_items(evidence('squad', [{'id': 'a', 'answers': [None], 'prediction': 3}]), 'score') is None


def test_only_the_same_examples_are_paired(evidence, tmp_path):
    one = read_items(evidence('sst2', label('0101', '0001')), 'score')
    other = read_items(evidence('sst2', label('0100', '0001'), folder=tmp_path / 'other'), 'score')
    assert pair_items([[one], [one]]) is not None
    assert pair_items([[one], [other]]) is None and pair_items([[one], [None]]) is None and pair_items([[], []]) is None


def test_documents_give_the_gain(evidence, experiment, tmp_path):
    found = HeldOut(np.array([3, 5]), np.array([10, 30]), np.array([50.0, 120.0]), np.array([60.0, 180.0]))
    write_held_out(tmp_path, found)
    run = Evidence(RunState('done'), None, None, experiment('x'), tmp_path)
    items = read_items(run, 'metrics:dev/gain')
    assert items is not None and total(items) == pytest.approx(1.75)
    assert read_items(run, 'metrics:dev/mlm') is None
    runs = make_runs([items, items, items], [7, 2, 7])
    assert runs.seed.tolist() == [1, 0, 1] and runs.sums.shape == (3, 2, 2)
