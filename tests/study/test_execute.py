"""Running a study: order, skipping, continuing, failing, blocking."""

import dataclasses
import json

import pytest

from research.errors import UserError
from research.study.execute import run_study
from research.study.ledger import run_state, states


def runner(study, finish, folder, broken=()):
    """(run, the names it was called with): a `run` that finishes at once, or raises for the names in `broken`."""
    called = []

    def run(experiment, workdir):
        name = workdir.name
        assert experiment == study.runs[name]
        called.append(name)
        if name in broken:
            (workdir / 'checkpoints').mkdir(parents=True, exist_ok=True)
            raise broken[name]
        finish(folder, study, name, 0.5)

    return run, called


def test_every_run_is_run_once_and_after_what_it_starts_from(study, finish, tmp_path, capsys):
    run, called = runner(study, finish, tmp_path)
    run_study(study, tmp_path, run)
    assert called == list(study.runs)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == '[1/9] teacher: starts'
    assert lines[1] == '[1/9] teacher: done in 0 s'
    assert len(lines) == 18


def test_the_same_call_again_keeps_what_is_done(study, finish, tmp_path, capsys):
    run, called = runner(study, finish, tmp_path)
    run_study(study, tmp_path, run)
    called.clear()
    run_study(study, tmp_path, run)
    assert called == []
    assert '[9/9] scratch-task-1: done before, kept' in capsys.readouterr().out


def test_a_half_written_result_is_continued(study, finish, finished, capsys):
    (finished / 'student' / 'result.json').write_text('{"steps": 15')
    run, called = runner(study, finish, finished)
    run_study(study, finished, run)
    assert called == ['student']
    assert '[2/9] student: continues' in capsys.readouterr().out
    assert run_state(finished / 'student').state == 'done'


def test_a_failure_blocks_what_starts_from_it_and_nothing_else(study, finish, tmp_path, capsys):
    run, called = runner(
        study, finish, tmp_path, {'student': UserError('no teacher logits'), 'scratch-task-0': ValueError('NaN\nmore')}
    )
    with pytest.raises(UserError) as caught:
        run_study(study, tmp_path, run)
    assert called == [
        'teacher',
        'student',
        'scratch',
        'teacher-task-0',
        'teacher-task-1',
        'scratch-task-0',
        'scratch-task-1',
    ]
    told = str(caught.value)
    assert '\n' not in told
    assert told.startswith('4 of 9 runs have no result (the same command tries them again): student failed: no teacher logits;')
    assert "student-task-0 blocked, because it starts from 'student', which has no result" in told
    assert 'scratch-task-0 failed: ValueError: NaN (all of it in' in told
    assert '[2/9] student: failed: no teacher logits' in capsys.readouterr().out
    found = states(study, tmp_path)
    assert (found['student'].state, found['student'].reason) == ('failed', 'no teacher logits')
    assert found['student-task-1'].state == 'blocked'
    assert 'Traceback' in json.loads((tmp_path / 'scratch-task-0' / 'failure.json').read_text())['traceback']


def test_a_failed_run_is_tried_again_and_its_attempts_are_counted(study, finish, tmp_path, capsys):
    broken = {'teacher': UserError('no memory')}
    run, called = runner(study, finish, tmp_path, broken)
    for attempts in (1, 2):
        with pytest.raises(UserError, match='9 of 9 runs'):
            run_study(study, tmp_path, run)
        assert run_state(tmp_path / 'teacher').attempts == attempts
    assert called == ['teacher', 'teacher']
    assert '[1/9] teacher: tries again after: no memory' in capsys.readouterr().out
    broken.clear()
    run_study(study, tmp_path, run)
    assert {state.state for state in states(study, tmp_path).values()} == {'done'}
    assert not (tmp_path / 'teacher' / 'failure.json').exists()


def test_an_interruption_ends_all_and_marks_nothing_as_failed(study, finish, tmp_path):
    run, called = runner(study, finish, tmp_path, {'student': KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        run_study(study, tmp_path, run)
    assert called == ['teacher', 'student']
    assert run_state(tmp_path / 'student').state == 'unfinished'


def test_a_run_that_leaves_no_result_has_failed(study, tmp_path):
    with pytest.raises(UserError, match='teacher failed: it ended without a result.json'):
        run_study(study, tmp_path, lambda experiment, workdir: None)


def test_the_folder_of_another_study_is_refused_before_anything_runs(study, finished):
    other = dataclasses.replace(study, runs={name: dataclasses.replace(x, seed=x.seed + 5) for name, x in study.runs.items()})
    run, called = runner(other, None, finished)
    with pytest.raises(UserError, match=r'teacher\.seed: 0 -> 5'):
        run_study(other, finished, run)
    assert called == []
