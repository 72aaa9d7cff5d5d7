"""Running a study on this machine: order, skipping, continuing, crashing, retrying, blocking, two launchers, a killed launcher.

The processes of the runs are light ones (FAKE), which leave what a run would; that real ones do is tested by test_cluster.py and
the laws.
"""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from research.errors import UserError
from research.records import write_record
from research.runs import lock
from research.study.execution import attempt, execute, local
from research.study.execution.execute import EXECUTORS, prepare, run_study, select
from research.study.execution.settings import Cluster, Execution, count_minutes, validate_execution
from research.study.ledger import read_study
from research.study.states import record_failure, run_state, run_states
from research.study.study import Study, Table

FAKE = """
import json, os, signal, sys, threading, time
from pathlib import Path
from research.runs import lock
from research.records import read_record, write_record

folder, name = Path(sys.argv[1]), sys.argv[2]
assert sys.argv[3].startswith('--cores=') and sys.argv[4] == '--tied'

def watch():
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGKILL)

threading.Thread(target=watch, daemon=True).start()
plan = read_record(folder / 'plan.json') or {}
todo = plan[name].pop(0) if plan.get(name) else 'done'
write_record(folder / 'plan.json', plan)
try:
    with lock.hold(folder / name):
        if read_record(folder / name / 'result.json'):
            sys.exit(0)
        with (folder / 'began.txt').open('a') as file:
            file.write(f'{name} {sys.argv[3]}\\n')
        (folder / name / 'checkpoints').mkdir(parents=True, exist_ok=True)
        print(f'{name}: step 1/2')
        sys.stdout.flush()
        if todo == 'kill':
            os.kill(os.getpid(), signal.SIGKILL)
        if todo == 'status':
            os._exit(7)
        if todo == 'mistake':
            before = read_record(folder / name / 'failure.json') or {'attempts': 0}
            failure = {'reason': 'no memory', 'attempts': before['attempts'] + 1, 'again': False, 'traceback': ''}
            write_record(folder / name / 'failure.json', failure)
            sys.exit(1)
        time.sleep(float(todo) if todo != 'done' else 0)
        write_record(folder / name / 'result.json', read_record(Path(__file__).with_name('result.json')))
except lock.HeldError:
    sys.exit(4)
"""


@pytest.fixture
def fake(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, result_json: dict) -> Path:
    """The script that stands for `python -m research.study run`."""
    path = tmp_path_factory.mktemp('fake') / 'fake.py'
    path.write_text(FAKE)
    write_record(path.with_name('result.json'), result_json)
    monkeypatch.setattr(local, 'COMMAND', (sys.executable, str(path)))
    monkeypatch.setattr(local, 'TICK', 0.02)
    return path


def began(folder: Path) -> list[str]:
    """The runs that processes began, in order."""
    return [line.split()[0] for line in (folder / 'began.txt').read_text().splitlines()]


def planned(folder: Path, **plan: list[str]) -> None:
    """What the next processes of a run do, each in its turn."""
    write_record(folder / 'plan.json', {name.replace('_', '-'): list(todo) for name, todo in plan.items()})


@pytest.mark.usefixtures('fake')
def test_every_run_is_run_once_after_what_it_starts_from_and_kept_afterwards(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    how = Execution(jobs=1, only='student-task-1,scratch')
    run_study(study, tmp_path, how)
    assert began(tmp_path) == ['teacher', 'student', 'scratch', 'student-task-1']
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == '[1/9] teacher: starts'
    assert 'teacher: step 1/2' in lines and '[1/9] teacher: done in 0 s' in lines
    assert (tmp_path / '.output' / 'teacher.txt').read_text() == 'teacher: step 1/2\n'
    run_study(study, tmp_path, how)
    assert len(began(tmp_path)) == 4
    assert '[7/9] student-task-1: done before, kept' in capsys.readouterr().out


@pytest.mark.usefixtures('fake')
def test_a_crash_is_tried_again_and_a_mistake_is_not(study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planned(tmp_path, teacher=['kill'], student=['mistake'], scratch=['status', 'status', 'done'])
    how = Execution(jobs=1, retries=1, only='student-task-0,scratch')
    with pytest.raises(UserError) as caught:
        run_study(study, tmp_path, how)
    assert [began(tmp_path).count(name) for name in ('teacher', 'student', 'scratch', 'student-task-0')] == [2, 1, 2, 0]
    told, out = str(caught.value), capsys.readouterr().out
    assert '\n' not in told and told.startswith('3 of 4 runs have no result (the same command tries them again): ')
    assert 'student failed: no memory' in told and "student-task-0 blocked, because it starts from 'student'" in told
    assert 'scratch failed: ended with status 7; its output: ' in told
    assert '[1/9] teacher: tries again after: killed by SIGKILL (the system does that when memory runs out)' in out
    assert '[2/9] student: failed: no memory' in out
    stand = run_states(study.needs, tmp_path)
    assert (stand['teacher'].state, stand['teacher'].attempts) == ('done', 1)
    assert (stand['scratch'].state, stand['scratch'].attempts) == ('failed', 2)
    assert stand['student-task-1'].reason == "it starts from 'student', which is failed: no memory"
    run_study(study, tmp_path, how)
    assert run_states(study.needs, tmp_path)['student-task-0'].state == run_states(study.needs, tmp_path)['scratch'].state == 'done'


@pytest.mark.usefixtures('fake')
def test_as_many_run_at_once_as_there_are_jobs_each_on_its_own_cores(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: {0, 1, 2, 3})
    planned(tmp_path, teacher=['0'], student=['1'], scratch=['1'])
    run_study(study, tmp_path, Execution(jobs=2, only='student,scratch'))
    cores = dict(line.split() for line in (tmp_path / 'began.txt').read_text().splitlines())
    assert {cores['student'], cores['scratch']} == {'--cores=0,1', '--cores=2,3'}


@pytest.mark.usefixtures('fake')
def test_two_launchers_never_run_the_same_run_twice(study: Study, tmp_path: Path) -> None:
    planned(tmp_path, **dict.fromkeys((name.replace('-', '_') for name in study.runs), ['0.2']))
    how = Execution(jobs=2, only='student-task-*,scratch')
    both = [threading.Thread(target=run_study, args=(study, tmp_path, how)) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    chosen = select(study, how.only)
    assert sorted(began(tmp_path)) == sorted(chosen)
    assert {run_states(study.needs, tmp_path)[name].state for name in chosen} == {'done'}
    assert not list(tmp_path.rglob('failure.json'))


def test_a_killed_launcher_takes_its_runs_along_and_the_next_one_continues(study: Study, fake: Path, tmp_path: Path) -> None:
    planned(tmp_path, teacher=['600'])
    prepare(study, tmp_path, Execution())
    launcher = (
        'import sys; from pathlib import Path; from research.study.execution import local\n'
        'from research.study.execution.settings import Execution\n'
        'from research.study.execution.execute import run_study; from research.study.ledger import read_study\n'
        f'local.COMMAND = (sys.executable, {str(fake)!r})\n'
        f'folder = Path({str(tmp_path)!r}); run_study(read_study(folder), folder, Execution(jobs=1, only="teacher"))'
    )
    process = subprocess.Popen([sys.executable, '-c', launcher], cwd=Path(__file__).parents[3])
    while run_state(tmp_path / 'teacher').state != 'running' or not (tmp_path / 'teacher' / 'checkpoints').exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    until = time.monotonic() + 30
    while run_state(tmp_path / 'teacher').state == 'running':
        assert time.monotonic() < until, 'the run outlived its launcher'
        time.sleep(0.02)
    assert run_state(tmp_path / 'teacher').state == 'interrupted'
    run_study(study, tmp_path, Execution(jobs=1, only='teacher'))
    assert began(tmp_path).count('teacher') == 2 and run_state(tmp_path / 'teacher').state == 'done'


@pytest.mark.usefixtures('fake')
def test_only_selects_by_glob_and_takes_what_the_chosen_start_from(study: Study, tmp_path: Path) -> None:
    assert select(study, 'student-task-*') == ['teacher', 'student', 'student-task-0', 'student-task-1']
    assert select(study, 'scratch,teacher-task-1') == ['teacher', 'scratch', 'teacher-task-1']
    run_study(study, tmp_path, Execution(jobs=1, only='scratch'))
    assert began(tmp_path) == ['teacher', 'scratch']
    with pytest.raises(UserError, match=r"--only='scrach' matches no run; did you mean 'scratch'\? \(there are: teacher, "):
        select(study, 'scrach')


def test_the_name_of_a_sweeps_run_is_a_glob_with_its_commas(study: Study, experiment: Callable) -> None:
    runs = {'layers=1,seed=0': experiment('a'), 'layers=1,seed=1': experiment('b')}
    one = dataclasses.replace(study, runs=runs, table=Table('One', (), ()), claims=())
    assert select(one, 'layers=1,seed=1') == ['layers=1,seed=1']


def test_the_folder_of_another_study_is_refused_before_anything_runs(study: Study, finished: Path) -> None:
    other = dataclasses.replace(study, runs={name: dataclasses.replace(x, seed=x.seed + 5) for name, x in study.runs.items()})
    with pytest.raises(UserError, match=r'teacher\.seed: 0 -> 5'):
        run_study(other, finished, Execution())
    (finished / 'teacher' / 'experiment.json').touch()
    with pytest.raises(UserError, match='is the folder of a run, not of a study: choose another --workdir'):
        run_study(study, finished / 'teacher', Execution())


@pytest.mark.parametrize(
    ('how', 'message'),
    [
        (Execution(executor='slrm'), r"no executor named 'slrm'; did you mean 'slurm'\? \(there are: local, slurm\)"),
        (Execution(jobs=-1), '--jobs=-1: it must be at least 0'),
        (Execution(retries=-1), '--retries=-1: it must be at least 0'),
        (Execution(cluster=Cluster(nodes=0)), '--nodes=0: it must be at least 1'),
        (Execution(cluster=Cluster(time='soon')), r"--time=soon is not a time: give minutes \('90'\), 'H:MM:SS' or 'D-HH'"),
        (Execution(executor='slurm'), "executor 'slurm' needs sbatch, squeue, scontrol, srun, which this machine does not have"),
    ],
)
def test_how_a_study_cannot_be_executed_is_said(
    study: Study, tmp_path: Path, how: Execution, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('PATH', '')
    reported: list[Path] = []
    with pytest.raises(UserError, match=message):
        run_study(study, tmp_path, how, reported.append)
    assert not reported  # there is nothing yet to report
    assert set(EXECUTORS) == {'local', 'slurm'}
    assert not list(tmp_path.glob('*/'))


def test_times_are_read_as_sbatch_reads_them() -> None:
    found = {text: count_minutes(text) for text in ('90', '90:30', '2:00:00', '1-0', '1-12:30', '0-0:0:1')}
    assert found == {'90': 90, '90:30': 91, '2:00:00': 120, '1-0': 1440, '1-12:30': 2190, '0-0:0:1': 1}
    validate_execution(Execution(cluster=Cluster(time='1-0')))


# ---- What is not followed --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures('fake')
@pytest.mark.parametrize('name', ['study.json', 'teacher', '.locks', '.output', '.slurm', 'figures'])
def test_a_study_with_a_link_is_refused_before_anything_runs(study: Study, tmp_path: Path, name: str) -> None:
    target = tmp_path / 'target'
    target.mkdir()
    (tmp_path / 'study').mkdir()
    (tmp_path / 'study' / name).symlink_to(target)
    with pytest.raises(
        UserError, match=f'{name} is a symbolic link, and what is written there would go elsewhere: remove the link'
    ):
        run_study(study, tmp_path / 'study', Execution(only='teacher'))
    assert not list(target.iterdir())


@pytest.mark.usefixtures('fake')
@pytest.mark.parametrize('place', ['.locks/teacher', '.output/teacher.txt'])
def test_a_file_of_a_study_that_is_a_link_is_not_written_through(study: Study, tmp_path: Path, place: str) -> None:
    target = tmp_path / 'target'
    target.write_text('precious')
    folder = tmp_path / 'study'
    (folder / place).parent.mkdir(parents=True)
    (folder / place).symlink_to(target)
    with pytest.raises(UserError):
        run_study(study, folder, Execution(only='teacher', retries=0))
    assert target.read_text() == 'precious'


@pytest.mark.usefixtures('fake')
@pytest.mark.parametrize('moved', [True, False])
def test_a_study_that_is_moved_or_removed_while_it_runs_ends_in_one_line_and_is_not_begun_anew(
    study: Study, tmp_path: Path, moved: bool
) -> None:
    folder = tmp_path / 'study'
    folder.mkdir()
    planned(folder, teacher=['600'])
    caught: list[BaseException] = []

    def launch() -> None:
        try:
            run_study(study, folder, Execution(only='teacher'))
        except BaseException as error:
            caught.append(error)

    launcher = threading.Thread(target=launch)
    launcher.start()
    while run_state(folder / 'teacher').state != 'running' or not (folder / 'teacher' / 'checkpoints').exists():
        assert launcher.is_alive()
        time.sleep(0.02)
    if moved:
        folder.rename(tmp_path / 'elsewhere')
    else:
        shutil.rmtree(folder)
    launcher.join(30)
    assert not launcher.is_alive()
    assert str(caught[0]).startswith(f'{folder} was removed or moved while its study ran, so its runs were stopped')
    assert not folder.exists()
    if moved:
        assert run_state(tmp_path / 'elsewhere' / 'teacher').state == 'interrupted', 'its process was ended'
        run_study(study, tmp_path / 'elsewhere', Execution(only='teacher'))


def test_a_report_that_fails_apart_is_told_in_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f'^no report was written: {tmp_path} holds no study'):
        execute.report_apart(tmp_path)


# ---- One attempt -----------------------------------------------------------------------------------------------------------------


def test_an_attempt_writes_why_it_failed_and_counts(study: Study, finish: Callable, tmp_path: Path) -> None:
    def failing(error: Exception) -> Callable[..., None]:
        def fail(*_: object) -> None:
            raise error

        return fail

    state = run_state(tmp_path / 'teacher')
    for error, again in ((UserError('no teacher logits'), False), (ValueError('NaN\nmore'), True)):
        assert attempt.attempt(study, tmp_path, 'teacher', failing(error)) == attempt.FAILED
        state = run_state(tmp_path / 'teacher')
        assert (state.state, state.again) == ('failed', again)
    assert state.attempts == 2 and state.reason.startswith('ValueError: NaN (all of it in ')
    assert 'Traceback' in json.loads((tmp_path / 'teacher' / 'failure.json').read_text())['traceback']
    assert attempt.attempt(study, tmp_path, 'teacher', lambda *_: None) == attempt.FAILED
    assert run_state(tmp_path / 'teacher').reason == 'it ended without a result.json'
    assert attempt.attempt(study, tmp_path, 'teacher', lambda *_: finish(tmp_path, study, 'teacher', 2.5)) == 0
    assert (run_state(tmp_path / 'teacher').state, run_state(tmp_path / 'teacher').attempts) == ('done', 3)


def test_an_interruption_is_no_failure(study: Study, tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt.attempt(study, tmp_path, 'teacher', interrupt)
    assert not (tmp_path / 'teacher').exists()


def test_a_run_that_another_process_works_on_is_left_to_it(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lock, 'PATIENCE', 0.1)

    def hold(_: object, workdir: Path) -> None:
        with lock.hold(workdir):
            pass

    with lock.hold(tmp_path / 'teacher'):
        assert run_state(tmp_path / 'teacher').state == 'running'
        assert run_state(tmp_path / 'teacher').reason.startswith(f'process {os.getpid()} on ')
        assert attempt.attempt(study, tmp_path, 'teacher', hold) == attempt.HELD
    assert f'teacher is in use by process {os.getpid()} on ' in capsys.readouterr().err
    assert run_state(tmp_path / 'teacher').state == 'waiting'


def test_of_several_processes_the_first_alone_writes(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('SLURM_PROCID', '1')
    assert attempt.attempt(study, tmp_path, 'teacher', lambda *_: None) == 0
    assert not (tmp_path / 'teacher').exists()


def test_the_study_in_the_folder_is_the_one_that_was_entered(study: Study, tmp_path: Path) -> None:
    prepare(study, tmp_path, Execution())
    found = read_study(tmp_path)
    assert found == dataclasses.replace(study, runs={name: study.runs[name] for name in found.runs})
    fewer = dataclasses.replace(
        study,
        runs={name: x for name, x in study.runs.items() if name != 'scratch-task-1'},
        table=dataclasses.replace(
            study.table,
            rows=tuple(
                dataclasses.replace(
                    row, runs={role: tuple(n for n in names if n != 'scratch-task-1') for role, names in row.runs.items()}
                )
                for row in study.table.rows
            ),
        ),
    )
    prepare(fewer, tmp_path, Execution())
    assert 'scratch-task-1' not in read_study(tmp_path).runs


def test_a_folder_without_a_study_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'holds no study \(it has no study.json\): give the folder that launch.py names'):
        read_study(tmp_path)
    (tmp_path / 'study.json').write_text('{"half')
    with pytest.raises(UserError, match='its study.json is no JSON object'):
        read_study(tmp_path)
    (tmp_path / 'study.json').write_text('{"name": "old", "runs": {}}')
    with pytest.raises(UserError, match='is from another version of this code .*run the study again'):
        read_study(tmp_path)


def test_failures_are_counted_in_the_folder(tmp_path: Path) -> None:
    record_failure(tmp_path / 'run', 'first')
    record_failure(tmp_path / 'run', 'second', again=False)
    state = run_state(tmp_path / 'run')
    assert (state.reason, state.attempts, state.again) == ('second', 2, False)
    assert execute.split_globs('a,b') == ['a,b', 'a', 'b']
