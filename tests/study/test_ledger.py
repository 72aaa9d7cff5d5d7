"""States are read off folders, and a folder belongs to one study."""

import dataclasses
import json

import pytest

from research.errors import UserError
from research.records import write_record
from research.runs import lock
from research.runs.folder import read_result
from research.study.ledger import enter, read_own
from research.study.states import run_state, run_states


def changed(study, name, **fields):
    return dataclasses.replace(study, runs={**study.runs, name: dataclasses.replace(study.runs[name], **fields)})


def begin(folder, name):
    (folder / name).mkdir(parents=True)
    (folder / name / 'experiment.json').write_text('{}')


def test_the_state_of_a_run_is_what_its_folder_says(tmp_path, result_json):
    run = tmp_path / 'run'
    assert run_state(run).state == 'waiting'
    run.mkdir()
    assert run_state(run).state == 'waiting'
    begin(tmp_path, 'run2')
    assert run_state(tmp_path / 'run2').state == 'interrupted'
    write_record(run / 'failure.json', {'reason': 'no memory', 'attempts': 2, 'again': True, 'traceback': ''})
    assert (run_state(run).state, run_state(run).reason, run_state(run).attempts) == ('failed', 'no memory', 2)
    write_record(run / 'result.json', result_json)
    assert run_state(run).state == 'done'


def test_a_run_that_ends_while_it_is_looked_at_is_done_or_running_never_interrupted(tmp_path, monkeypatch, result_json):
    begin(tmp_path, 'run')
    monkeypatch.setattr(lock, 'read_holder', lambda run: write_record(run / 'result.json', result_json))
    assert run_state(tmp_path / 'run').state == 'done'


@pytest.mark.parametrize('text', ['', '{"steps": 15', '[]', 'null', '\x80', '{"steps": 1}'])
def test_a_half_written_result_is_no_result(tmp_path, text):
    (tmp_path / 'result.json').write_bytes(text.encode('latin-1'))
    assert read_result(tmp_path) is None
    assert run_state(tmp_path).state == 'interrupted'
    assert run_state(tmp_path).reason == 'its result.json is half-written or from another version of this code'


def test_states_block_what_starts_from_a_failure_but_not_what_is_done(study, finish, tmp_path):
    write_record(tmp_path / 'teacher' / 'failure.json', {'reason': 'diverged', 'attempts': 1, 'again': True, 'traceback': ''})
    finish(tmp_path, study, 'scratch', 2.9)
    found = run_states(study.needs, tmp_path)
    assert found['teacher'].state == 'failed'
    assert found['student'].state == 'blocked'
    assert found['student'].reason == "it starts from 'teacher', which is failed: diverged"
    assert found['student-task-0'].reason == "it starts from 'student', which is blocked"
    assert found['scratch'].state == 'done'
    assert found['scratch-task-0'].state == 'waiting'


def test_entering_twice_changes_nothing_and_leaves_only_study_json(study, tmp_path):
    enter(study, tmp_path)
    before = (tmp_path / 'study.json').read_text()
    enter(study, tmp_path)
    assert (tmp_path / 'study.json').read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ['study.json']
    stored = json.loads(before)
    assert stored['name'] == 'distillation'
    assert list(stored['runs']) == list(study.runs)
    assert len({run['hash'] for run in stored['runs'].values()}) == len(study.runs)


def test_check_refuses_a_study_of_another_name(study, tmp_path):
    enter(study, tmp_path)
    with pytest.raises(UserError, match="holds study 'distillation', not 'other'"):
        read_own(dataclasses.replace(study, name='other'), tmp_path)


@pytest.mark.parametrize('stored', [{}, {'name': 'distillation', 'runs': {'teacher': {}}}, {'name': 'distillation', 'runs': None}])
def test_check_refuses_the_study_json_of_another_version(study, tmp_path, stored):
    write_record(tmp_path / 'study.json', stored)
    with pytest.raises(UserError, match='from another version of this code .*: delete it to have it written anew'):
        enter(study, tmp_path)


def test_check_names_the_keys_in_which_a_begun_run_differs(study, tmp_path):
    enter(study, tmp_path)
    begin(tmp_path, 'teacher')
    other = changed(study, 'teacher', seed=7, optimizer=dataclasses.replace(study.runs['teacher'].optimizer, lr=0.5))
    with pytest.raises(
        UserError, match=r'teacher\.seed: 0 -> 7; teacher\.optimizer\.lr: .* -> 0\.5 .*delete .*teacher to run anew'
    ):
        read_own(other, tmp_path)


def test_check_names_at_most_a_few_differences(study, tmp_path):
    enter(study, tmp_path)
    begin(tmp_path, 'teacher')
    model = dataclasses.replace(study.runs['teacher'].model, layers=1, width=8, heads=1, inner=9, embedding=7, vocabulary=99)
    with pytest.raises(UserError, match='; and 1 more'):
        read_own(changed(study, 'teacher', model=model), tmp_path)


def test_a_run_that_never_began_may_change_and_is_stored_anew(study, tmp_path):
    enter(study, tmp_path)
    write_record(tmp_path / 'teacher' / 'failure.json', {'reason': 'impossible', 'attempts': 1, 'again': True, 'traceback': ''})
    enter(changed(study, 'teacher', seed=7), tmp_path)
    assert json.loads((tmp_path / 'study.json').read_text())['runs']['teacher']['experiment']['seed'] == 7


def test_a_run_is_refused_when_what_it_started_from_was_deleted_and_changed(study, tmp_path):
    enter(study, tmp_path)
    begin(tmp_path, 'student')
    with pytest.raises(UserError, match="student starts from 'teacher' .*delete .*student to run anew"):
        enter(changed(study, 'teacher', seed=7), tmp_path)


def test_a_study_may_grow_and_shrink_and_what_it_left_out_keeps_its_definition(study, tmp_path):
    enter(study, tmp_path)
    begin(tmp_path, 'scratch-task-1')
    runs = {name: x for name, x in study.runs.items() if not name.startswith('scratch')}
    rows = study.table.rows[:2]
    table = dataclasses.replace(study.table, rows=rows)
    enter(dataclasses.replace(study, runs=runs, table=table, claims=()), tmp_path)
    assert set(json.loads((tmp_path / 'study.json').read_text())['runs']) == set(study.runs)
    with pytest.raises(UserError, match='scratch-task-1.seed: 1 -> 9'):
        enter(changed(study, 'scratch-task-1', seed=9), tmp_path)


def test_a_field_that_experiments_gained_since_is_no_difference(study, tmp_path):
    enter(study, tmp_path)
    begin(tmp_path, 'teacher')
    stored = json.loads((tmp_path / 'study.json').read_text())
    del stored['runs']['teacher']['experiment']['teacher']
    stored['runs']['teacher']['hash'] = 'older'
    write_record(tmp_path / 'study.json', stored)
    assert read_own(study, tmp_path) == stored


def test_a_field_that_experiments_lost_since_is_told(study, tmp_path):
    enter(study, tmp_path)
    stored = json.loads((tmp_path / 'study.json').read_text())
    stored['runs']['teacher'] = {'hash': 'older', 'experiment': {'sed': 0}}
    write_record(tmp_path / 'study.json', stored)
    with pytest.raises(UserError, match="run 'teacher' in .*study.json is from another version of this code: .*'sed'"):
        read_own(study, tmp_path)


def test_a_broken_study_json_is_told(study, tmp_path):
    (tmp_path / 'study.json').write_text('{"name": "dist')
    with pytest.raises(UserError, match='is no JSON object: delete it'):
        read_own(study, tmp_path)
