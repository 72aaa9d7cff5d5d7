"""How far runs are, the list of what would run, and the commands on a folder."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from research import costs
from research.chips import CHIPS
from research.data.settings import Data
from research.errors import UserError
from research.experiment import Experiment, Run
from research.objectives.losses import Losses, Soft
from research.optim import Optimizer
from research.records import write_record
from research.runs import lock
from research.runs import run as runs
from research.runs.folder import read_environment
from research.study import __main__ as command
from research.study.curves import read_ends
from research.study.execution import execute, queue, slurm
from research.study.execution.monitor import Monitor
from research.study.execution.progress import Progress, make_table, read_progress
from research.study.execution.settings import Execution
from research.study.ledger import enter
from research.study.planning import dry, listing, resolving
from research.study.states import RunState, record_failure, run_states
from research.study.study import Table
from research.study.terminal import format_duration
from research.surgery import Surgery
from research.wire import override


def test_progress_is_read_off_the_folder_while_it_is_written(study, finished: Path, tmp_path: Path) -> None:
    run = tmp_path / 'run'
    run.mkdir()
    assert read_progress(run) == Progress()
    shutil.copy(finished / 'teacher' / 'environment.json', run)
    lines = [{'step': step, 'wall': 2.0 * step, 'train/loss': 5.0, 'train/tokens_per_second': 900.0} for step in (10, 20)]
    text = ''.join(json.dumps(line) + '\n' for line in [*lines, {'step': 20, 'wall': 41.0, 'dev/mlm': 4.0}]) + '{"step": 3'
    (run / 'metrics.jsonl').write_text(text)
    assert read_progress(run) == Progress(20, 1500, 5.0, 900.0, 2960.0)
    assert [line['step'] for line in read_ends(run / 'metrics.jsonl', 'train/loss')] == [10, 20]
    assert read_ends(run / 'none.jsonl', 'train/loss') == []
    assert [format_duration(seconds) for seconds in (12.4, 200, 3725, 1e6)] == ['12 s', '3 min 20 s', '1 h 02 min', '12 days']


def test_status_shows_every_run_with_its_reason(study, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (finished / 'teacher' / 'result.json').unlink()
    record_failure(finished / 'teacher', 'no memory')
    (finished / 'scratch-task-1' / 'result.json').unlink()
    assert command.main(['status', str(finished)]) == 0
    out = capsys.readouterr().out
    assert 'distillation: 1 failed, 7 done, 1 interrupted' in out
    assert any('teacher' in line and 'failed' in line and 'no memory' in line for line in out.splitlines())
    assert make_table(study.name, finished, run_states(study.needs, finished)).row_count == 9


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['status', '/nowhere'], '/nowhere holds no study (it has no study.json)'),
        (['report', '/nowhere'], '/nowhere holds no study (it has no study.json)'),
        (['sttus', '.'], "invalid choice: 'sttus'"),
        (['run', 'FOLDER', 'techer'], "no run of FOLDER named 'techer'; did you mean 'teacher'?"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    finished: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([each.replace('FOLDER', str(finished)) for each in arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith('error: ') and err.count('\n') == 1 and message.replace('FOLDER', str(finished)) in err


def test_on_a_terminal_one_live_table_says_it_all(study, finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setattr('sys.stdout.isatty', lambda: True)
    monkeypatch.setenv('TERM', 'xterm')
    monitor = Monitor(study.name, finished, run_states(study.needs, finished))
    monitor.say_output('teacher: step 1/2')
    monitor.update(run_states(study.needs, finished))
    monitor.close()
    out = capsys.readouterr().out
    assert '9 done' in out and 'step 1/2' not in out and '[1/9]' not in out


@pytest.mark.parametrize('state', ['waiting', 'interrupted', 'failed', 'blocked', 'running', 'done'])
def test_a_run_of_any_state_may_be_said_to_start(study, tmp_path: Path, state: str, capsys: pytest.CaptureFixture[str]) -> None:
    Monitor(study.name, tmp_path, run_states(study.needs, tmp_path)).say_start('teacher', RunState(state, 'no memory'))
    told = {'interrupted': 'continues', 'failed': 'tries again after: no memory'}
    assert capsys.readouterr().out == f'[1/9] teacher: {told[state] if state in told else "starts"}\n'


# ---- The list --------------------------------------------------------------------------------------------------------------------


def test_the_list_shows_overrides_parameters_flops_and_times(
    study, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, 'measure_speed', lambda: 1e12)
    study = dataclasses.replace(
        study,
        runs={
            name: dataclasses.replace(x, optimizer=dataclasses.replace(x.optimizer, warmup=0.1)) for name, x in study.runs.items()
        },
    )
    listing.show(study, tmp_path, list(study.runs)[:3])
    out = capsys.readouterr().out
    assert 'distillation: 3 runs in ' in out and '109,482,240' in out
    assert 'data.tokenizer=@teacher' in out and 'for all of them one after the other; at ' in out
    assert 'of a matrix product on this machine' in out
    assert not list(tmp_path.iterdir())


def test_the_list_shows_times_and_memory_on_named_chips(
    study, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, 'measure_speed', lambda: pytest.fail('measured'))
    found, basis = listing.plan_runs(study, tmp_path, list(study.runs)[:2], CHIPS, 8)
    assert basis == 'the peaks of 8 chip(s)' and all(run.seconds is None and set(run.forecasts) == set(CHIPS) for run in found)
    step = found[0].forecasts['h100']
    assert step is not None and found[0].steps is not None
    listing.show(study, tmp_path, list(study.runs)[:2], 'h100,v5e', 8)
    out = capsys.readouterr().out
    assert f'{format_duration(found[0].steps * step.seconds)}, {step.bytes / 1e9:,.1f} GB' in out
    assert 'on 8 h100' in out and 'predicted, not measured' in out and 'Time' not in out
    small = CHIPS['h100']._replace(memory=1e9)
    assert listing.show_forecast(found[0], 'h100', small).endswith(' GB!')
    unknown = listing.PlannedRun('a', 'waiting', '', None, None, None, None, {'h100': None})
    assert listing.show_forecast(unknown, 'h100', small) == '?'
    said = listing.summarize_forecasts([unknown], {'h100': small}, 1)
    assert said.startswith('about 0 s on 1 h100 for all of them') and 'without 1 whose time is not known' in said
    done = dataclasses.replace(found[0], state='done')
    assert listing.show_forecast(done, 'h100', small).startswith('0 s, ')


def test_times_come_from_finished_runs_where_there_are_some(study, finished: Path) -> None:
    found, basis = listing.plan_runs(study, finished, ['teacher'])
    assert found[0].seconds == 0.0 and 'that finished runs of this study reached' in basis
    results = [json.loads((finished / name / 'result.json').read_text()) for name in study.runs]
    work, wall = sum(each['flops_per_step'] * each['steps'] for each in results), sum(each['wall_seconds'] for each in results)
    assert listing.read_speed(study, finished) == pytest.approx(work / wall)


def test_what_is_not_known_is_not_guessed(study, tmp_path: Path, finish, monkeypatch) -> None:
    monkeypatch.setattr(listing, 'measure_speed', lambda: 1e12)
    inherits = dataclasses.replace(study.runs['teacher'], start='/nowhere', surgery=Surgery(inherit=True))
    runs = {
        'unknown': inherits,
        'after': dataclasses.replace(inherits, start='@unknown'),
        'taught': dataclasses.replace(study.runs['teacher'], teacher='/nowhere', losses=Losses(soft=Soft(1.0))),
    }
    one = dataclasses.replace(study, runs=runs, table=Table('', (), ()), claims=())
    found = {line.name: line for line in listing.plan_runs(one, tmp_path, list(runs))[0]}
    assert [found[name].parameters for name in ('unknown', 'after')] == [None, None]
    assert found['taught'].parameters and found['taught'].step_flops is None and found['taught'].seconds is None
    finish(tmp_path, study, 'teacher', 2.5, steps=0)
    assert listing.read_speed(study, tmp_path) is None


def test_a_teacher_that_is_there_is_counted(study, finished: Path, monkeypatch) -> None:
    taught = dataclasses.replace(study.runs['student'], losses=Losses(soft=Soft(1.0)), data=Data(length=128))
    alone = dataclasses.replace(taught, losses=Losses())
    outside = dataclasses.replace(taught, teacher=str(finished / 'teacher'))
    runs = resolving.validate_runs(study, finished)
    found = [resolving.resolve(resolving.Complete(x, True), finished / 'student', runs) for x in (alone, taught, outside)]
    flops = [listing.count_step_flops(each) or 0 for each in found]
    assert flops[0] < flops[1] == flops[2]
    memory = [dry.describe(each)['memory_bytes'] for each in found]
    size = costs.summarize_parameters(study.runs['teacher'].model, (('mlm', study.runs['teacher'].model.vocabulary),))['total']
    assert [each['teacher'] for each in memory] == [0, 4 * size, 4 * size]
    assert memory[1]['total'] - memory[0]['total'] == 4 * size


def test_steps_that_follow_from_uncounted_text_are_not_guessed() -> None:
    assert listing.count_steps(Experiment(run=Run(epochs=2.0))) is None
    assert listing.count_steps(Experiment(run=Run(steps=7))) == 7
    unknown = listing.PlannedRun('a', 'waiting', '', None, None, None, None)
    assert listing.summarize([unknown], 'x').startswith('about 0 s for all of them')


def test_the_steps_of_a_task_are_those_of_its_run(tiny, teacher: Path, examples, tmp_path: Path) -> None:
    """Its epochs count what is left of train, from which the examples that select were carved; steps 0 stay 0."""
    changes = {**examples, 'data.test': '', 'data.dev_share': 0.3, 'start': str(teacher), 'run.epochs': 2.0, 'run.batch': 8}
    x = tiny('finetune', {**changes, 'data.length': 16})
    runs.run(x, tmp_path / 'run')
    environment = read_environment(tmp_path / 'run')
    counted = listing.count_steps(x)
    assert environment is not None and environment.steps == counted
    assert counted is not None and 0 < counted < 2 * 48 / 8
    assert listing.count_steps(override(x, {'run.steps': 0})) == 0
    assert listing.count_steps(override(x, {'data.train': '/nowhere.tsv'})) is None
    squad = Experiment(data=Data(task='squad', folder='/nowhere'), run=Run(epochs=2.0))
    assert listing.count_steps(squad) is None, 'a question is one row or more: its windows are not counted'


# ---- Nothing starts before every run is valid ------------------------------------------------------------------------------------


def test_a_study_with_an_impossible_run_is_refused_before_anything_is_written(study, tmp_path: Path) -> None:
    broken = dataclasses.replace(study.runs['scratch-task-1'], optimizer=Optimizer(name='adamm', warmup=0.1))
    one = dataclasses.replace(study, runs={**study.runs, 'scratch-task-1': broken})
    message = "^run 'scratch-task-1': no optimizer.*'adamm'; did you mean 'adam"
    for refuse in (
        lambda: execute.run_study(one, tmp_path, Execution(only='teacher')),
        lambda: dry.preview(one, tmp_path),
        lambda: listing.plan_runs(one, tmp_path, ['teacher']),
    ):
        with pytest.raises(UserError, match=message):
            refuse()
    assert not list(tmp_path.iterdir())


def test_what_follows_from_a_start_of_the_study_is_refused_too(study, tmp_path: Path) -> None:
    inherits = dataclasses.replace(study.runs['teacher-task-0'], surgery=Surgery(inherit=True))
    short = dataclasses.replace(study.runs['teacher'], model=dataclasses.replace(study.runs['teacher'].model, positions=128))
    long = dataclasses.replace(inherits, data=dataclasses.replace(inherits.data, length=256))

    def check(runs: dict[str, Experiment]) -> None:
        resolving.validate_runs(dataclasses.replace(study, runs=runs, table=Table('', (), ()), claims=()), tmp_path)

    check({'teacher': study.runs['teacher'], 'long': long})
    with pytest.raises(UserError, match="run 'long': data.length=256 is longer than model.positions=128"):
        check({'teacher': short, 'long': long})
    with pytest.raises(UserError, match="run 'alone': surgery.inherit=true takes the architecture of the start: give"):
        check({'alone': dataclasses.replace(inherits, start='')})
    unknown = dataclasses.replace(inherits, start='/nowhere')
    check({'longer': dataclasses.replace(unknown, data=dataclasses.replace(unknown.data, length=1024))})
    with pytest.raises(UserError, match="run 'unknown': run.keep=0 must be at least 1"):
        check({'unknown': dataclasses.replace(unknown, run=Run(keep=0))})
    with pytest.raises(UserError, match="run 'seed': seed=-1 must not be negative"):
        check({'good': inherits, 'teacher': short, 'seed': dataclasses.replace(inherits, seed=-1)})


# ---- Status without jax ----------------------------------------------------------------------------------------------------------


HEAVY = ('jax', 'flax', 'grain', 'orbax', 'optax', 'matplotlib', 'submitit', 'numpy', 'scipy', 'tokenizers', 'ml_collections')


def test_status_loads_nothing_heavy(finished: Path, root: Path) -> None:
    code = (
        'import sys; from research.study.__main__ import main; status = main(sys.argv[1:])\n'
        f'print("heavy:", [name for name in {HEAVY} if name in sys.modules]); sys.exit(status)'
    )
    command = [sys.executable, '-c', code, 'status', str(finished)]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout
    assert '9 done' in out and out.endswith('heavy: []\n')


def test_entry_runs_the_command_line_of_the_process(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments, status in ((['status', str(finished)], 0), (['status', '/nowhere'], 2)):
        monkeypatch.setattr(sys, 'argv', ['research-study', *arguments])
        assert command.entry() == status


# ---- What is known of Slurm without one ----------------------------------------------------------------------------------------


FAKE_SQUEUE = '#!/bin/sh\nprintf "5_0|PENDING|Dependency\\n6|RUNNING|None\\n"\n'


@pytest.fixture
def fake_slurm(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder first on PATH with a squeue that knows two jobs."""
    folder = tmp_path_factory.mktemp('bin')
    (folder / 'squeue').write_text(FAKE_SQUEUE)
    (folder / 'squeue').chmod(0o755)
    (folder / 'scontrol').write_text('#!/bin/sh\necho "slurm_load_jobs error:\n Invalid job id specified" >&2\nexit 1\n')
    (folder / 'scontrol').chmod(0o755)
    monkeypatch.setenv('PATH', f'{folder}{os.pathsep}{os.environ["PATH"]}')
    return folder


@pytest.mark.usefixtures('fake_slurm')
def test_the_queue_tells_what_folders_cannot(study, tmp_path: Path) -> None:
    enter(study, tmp_path)
    for name, job in (('teacher', '6'), ('student', '5_0'), ('scratch', '4')):
        write_record(queue.job_file(tmp_path, name), {'job': job, 'attempts': 0})
    stand = queue.current_states(study.needs, tmp_path)
    assert (stand['teacher'].state, stand['teacher'].reason) == ('running', 'Slurm job 6: running')
    assert (stand['student'].state, stand['student'].reason) == ('waiting', 'Slurm job 5_0: Dependency')
    slurm.close_ended_jobs(study.needs, tmp_path, queue.read_queue())
    assert not queue.job_file(tmp_path, 'scratch').exists() and queue.job_file(tmp_path, 'teacher').exists()
    assert run_states(study.needs, tmp_path)['scratch'].state == 'waiting', (
        'its start is not done: Slurm took it out, it did not fail'
    )


@pytest.mark.usefixtures('fake_slurm')
def test_a_job_that_ended_without_a_word_has_failed(study, finished: Path) -> None:
    (finished / 'teacher' / 'result.json').unlink()
    write_record(queue.job_file(finished, 'teacher'), {'job': '4', 'attempts': 0})
    slurm.close_ended_jobs(study.needs, finished, queue.read_queue())
    state = run_states(study.needs, finished)['teacher']
    assert (state.state, state.reason) == ('failed', 'Slurm job 4 ended without a result: Slurm has forgotten how')
    assert not queue.job_file(finished, 'teacher').exists()


def test_slurms_own_words_are_told(fake_slurm: Path) -> None:
    with pytest.raises(UserError, match='^scontrol says: slurm_load_jobs error: Invalid job id specified$'):
        queue.ask_slurm('scontrol', 'show', 'job', '4')
    with pytest.raises(UserError, match="Slurm's sbotch is not on this machine: give --executor=local"):
        queue.ask_slurm('sbotch')


def test_runs_that_wait_for_the_same_runs_are_submitted_together(study, tmp_path: Path) -> None:
    enter(study, tmp_path)
    names = list(study.runs)
    found = slurm.group_ready(study.needs, tmp_path, run_states(study.needs, tmp_path), names, dict.fromkeys(names, 1), set(), {})
    assert found == [
        (['teacher'], ()),
        (['student', 'scratch', 'teacher-task-0', 'teacher-task-1'], ('teacher',)),
        (['student-task-0', 'student-task-1'], ('student',)),
        (['scratch-task-0', 'scratch-task-1'], ('scratch',)),
    ]


@pytest.mark.usefixtures('fake_slurm')
def test_a_second_launcher_looks_at_the_queue_only_after_the_first_has_submitted(study, tmp_path: Path, monkeypatch) -> None:
    enter(study, tmp_path)
    asked, held = [], []
    monkeypatch.setattr(slurm, 'COMMANDS', ())
    monkeypatch.setattr(slurm, 'POLL', 0.01)

    def submit(*_: object) -> None:
        held.append(lock.read_holder(tmp_path / '.submission'))
        record_failure(tmp_path / 'teacher', 'no memory')

    def queue() -> dict[str, tuple[str, str]]:
        asked.append(lock.read_holder(tmp_path / '.submission'))
        return {}

    monkeypatch.setattr(slurm, 'read_queue', queue)
    monkeypatch.setattr(slurm, 'submit', submit)
    slurm.execute(study, tmp_path, ['teacher'], Execution(executor='slurm', retries=0))
    assert asked[0] is None and None not in asked[1:] and len(held) == 1 and held[0] is not None
