"""The door: what a command line shows, runs and refuses."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import launch
from research.experiment import Experiment
from research.runs import run as runs
from research.study import config_files
from research.study.ledger import enter
from research.wire import to_wire

Command = Callable[..., tuple[int, str, str]]
CONFIGS = {path.stem: path for path in sorted((Path(__file__).parent.parent / 'configs').glob('*.py'))}


@pytest.fixture
def command(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """command(arguments) -> (exit status, stdout, stderr) of `python launch.py arguments` in the repository, in this process."""
    monkeypatch.chdir(root)

    def command(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = launch.main(['launch.py', *arguments])
        told = capsys.readouterr()
        return status, told.out, told.err

    return command


@pytest.mark.parametrize(
    ('recipe', 'size'), [(stem, size) for stem, path in CONFIGS.items() for size in config_files.module(str(path)).SIZES]
)
def test_dry_shows_a_config_as_json(command: Command, tmp_path: Path, recipe: str, size: str) -> None:
    begin = time.monotonic()
    status, out, err = command(f'--config=configs/{recipe}.py:{size}', f'--workdir={tmp_path}/run', '--dry')
    assert (status, err) == (0, '') and time.monotonic() - begin < 10
    shown = json.loads(out)
    assert shown['parameters']['total'] == sum(shown['parameters']['modules'].values()) > 1e5
    assert len(shown['layers']) == shown['experiment']['model']['layers']
    assert shown['flops']['per_step'] > shown['flops']['per_token'] > 1e6
    assert shown['memory_bytes']['total'] > 4 * shown['parameters']['total']
    assert not (tmp_path / 'run').exists()


def test_dry_shows_the_published_sizes(command: Command) -> None:
    for config, count in (('bert.py', 109_482_240), ('albert.py', 11_683_584), ('distilbert.py', 66_362_880)):
        assert json.loads(command(f'--config=configs/{config}:base', '--dry')[1])['parameters']['encoder'] == count


def test_dry_shows_every_run_of_a_study(command: Command, root: Path) -> None:
    for path in sorted((root / 'experiments').glob('*.py')):
        if 'def get_study' not in path.read_text():  # what some studies have in common
            continue
        module = config_files.module(str(path))
        size = 'tiny' if 'tiny' in module.SIZES else next(iter(module.SIZES))
        status, out, _ = command(f'--config=experiments/{path.name}:{size}', '--dry')
        assert status == 0
        study = module.get_study(size)
        assert set(json.loads(out)['runs']) == set(study.runs)


def test_dry_says_what_it_cannot_know(command: Command, tmp_path: Path) -> None:
    shown = json.loads(command('--config=configs/distilbert.py', f'--workdir={tmp_path}/run', '--dry', '--config.teacher=@bert')[1])
    assert shown['notes'] == ["teacher='@bert' is not there yet: FLOPs per step and memory leave it out"]
    shown = json.loads(
        command('--config=configs/finetune.py:custom', '--config.start=@bert', f'--workdir={tmp_path}/run', '--dry')[1]
    )
    assert shown['notes'][0].startswith("start='@bert' is not there yet: the model shown is the config's own")
    assert shown['notes'][1].startswith('the labels are not known yet (the task custom needs data.train')


def test_dry_says_where_a_recipe_deviates_from_its_paper_until_it_does_not(command: Command, tmp_path: Path) -> None:
    asked = ('--config=configs/albert.py:base', f'--workdir={tmp_path}/run', '--dry')
    shown = json.loads(command(*asked)[1])
    assert any(line.startswith('data.held_out=0.05: ') for line in shown['deviations'])
    assert shown['notes'] == [
        'data.masking.predictions=20 caps data.masking.rate=0.15: of a full sequence of 512 pieces 20 are predicted (3.9%), not 76'
    ]
    shown = json.loads(command(*asked, '--config.data.held_out=0', '--config.data.masking.predictions=0')[1])
    assert not any(line.startswith('data.held_out') for line in shown['deviations']) and shown['deviations'] and not shown['notes']
    runs = json.loads(command(*asked, '--sweep=data.held_out=0,0.05')[1])['runs']
    said = [any(line.startswith('data.held_out') for line in run['deviations']) for run in runs.values()]
    assert said == [False, True]


def test_dry_counts_a_teacher_and_inherits_a_start_that_are_there(command: Command, teacher: Path) -> None:
    folder = f'--workdir={teacher.parent}/student'
    fits = ('--config.losses.cosine.weight=0', '--config.data.length=32')
    status, out, err = command('--config=configs/distilbert.py', folder, '--dry', '--config.teacher=@bert', *fits)
    assert status == 0, err
    shown = json.loads(out)
    assert shown['notes'] == []
    asked = ('--config=configs/finetune.py', folder, '--dry', '--config.start=@bert')
    assert 'data.length=128 is longer than model.positions=32' in command(*asked)[2]
    shown = json.loads(command(*asked, '--config.data.length=32')[1])
    assert shown['experiment']['model']['width'] == 32 and shown['notes'] == []


def test_dry_predicts_a_run_on_named_chips(command: Command, tmp_path: Path) -> None:
    asked = ('--config=configs/bert.py:tiny', f'--workdir={tmp_path}/run', '--dry', '--config.model.vocabulary=2000')
    assert 'predictions' not in json.loads(command(*asked)[1])
    found = json.loads(command(*asked, '--chip=h100,v5e', '--devices=8', '--config.data.first_length=128')[1])['predictions']
    assert set(found) == {'h100', 'v5e'}
    for shown in found.values():
        assert shown['devices'] == 8 and shown['fits'] and shown['bound'] in shown['seconds_of']
        assert shown['memory_bytes']['total'] < shown['memory_bytes']['of']
        assert shown['hours'] == pytest.approx(1e6 * shown['seconds_per_step'] / 3600, rel=0.01)
    assert found['h100']['seconds_per_step'] < found['v5e']['seconds_per_step']
    shown = json.loads(command('--config=configs/distilbert.py', f'--workdir={tmp_path}/run', '--dry', '--chip=all')[1])
    assert shown['predictions'] == {}  # its teacher is not there


@pytest.mark.parametrize('arguments', [('--config.model.layers=3',), ('--config.model.layers', '3')])
def test_a_key_is_changed_with_or_without_an_equals_sign(command: Command, arguments: tuple[str, ...]) -> None:
    status, out, _ = command('--config=configs/bert.py:tiny', *arguments, '--dry')
    assert status == 0 and json.loads(out)['experiment']['model']['layers'] == 3


def test_sharing_is_shown_layer_by_layer(command: Command) -> None:
    asked = ('--config=configs/albert.py', '--config.model.sharing=cycle', '--config.model.groups=3', '--config.model.layers=4')
    shown = json.loads(command(*asked, '--dry')[1])
    assert [row['attention_group'] for row in shown['layers']] == [0, 1, 2, 0]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((), 'give --config=FILE[:size], such as --config=configs/bert.py:tiny, or the --workdir of what to continue'),
        (('--config=configs/bret.py',), "no config file 'configs/bret.py'; did you mean 'configs/bert.py'? (there are: configs/"),
        (('--config=configs',), "no config file 'configs'"),
        (('--config=README',), "no config file 'README'"),
        (('--config=Makefile',), 'Makefile is not a Python file'),
        (('--config=research/terms.py',), 'defines neither get_config nor get_study: it is no file of configs/ or experiments/'),
        (('--config=configs/bert.py:tinny',), "named 'tinny'; did you mean 'tiny'? (there are: base, large, tiny"),
        (('--config=experiments/quickstart.py:big',), "named 'big' (there are: small, medium, tiny"),
        (('--config=configs/bert.py', '--confg.seed=1'), "unknown argument '--confg.seed=1'"),
        (('--config=configs/bert.py', '--workdr=x'), "unknown argument '--workdr=x'; did you mean 'workdir'? (flags: --config"),
        (('--config=configs/bert.py', 'run'), "unknown argument 'run'"),
        (('--config=configs/bert.py', '--config.seed'), '--config.seed has no value: give --config.seed=VALUE'),
        (('--config=configs/bert.py', '--config.seed', '--dry'), '--config.seed has no value: give --config.seed=VALUE'),
        (('--config=configs/bert.py', '--dry=maybe'), 'dry'),
        (('--config=configs/bert.py', '--dry', '--chip=h10'), "no chip (--chip) named 'h10'; did you mean 'h100'?"),
        (('--config=configs/bert.py', '--chip=h100'), '--chip=h100 predicts and trains nothing: give --dry or --list'),
        (('--config=configs/bert.py', '--devices=8'), '--devices=8 is for predictions: give --dry, or --list and a --chip'),
        (('--config=configs/bert.py', '--dry', '--chip=h100', '--devices=0'), '--devices=0 must be at least 1'),
        (('--config=configs/bert.py', '--config.model.layrs=3'), "no config key 'model.layrs'; did you mean 'model.layers'?"),
        (('--config=configs/bert.py', '--config.model.layers=3.5'), "model.layers=3.5: '3.5' is no int"),
        (('--config=configs/bert.py', '--config.model.layers=x'), "model.layers=x: 'x' is no int"),
        (('--config=configs/bert.py', '--config.model.pooler=maybe'), 'model.pooler=maybe: give true or false'),
        (('--config=configs/bert.py', '--config.model.heads=7', '--dry'), 'model.width=768 is not a multiple of model.heads=7'),
        (('--config=configs/bert.py', '--config.losses.soft.weight=1', '--dry'), "loss 'soft' needs a teacher"),
        (
            ('--config=configs/bert.py', '--config.run.steps=5', '--config.optimizer.warmup=6', '--dry'),
            'optimizer.warmup=6.0 is longer than the 5 steps of the run',
        ),
        (('--config=configs/bert.py', '--config.run.epochs=inf', '--dry'), 'run.epochs=inf must be finite'),
        (('--config=configs/bert.py', '--config.run.steps=-5', '--dry'), 'run.steps=-5 must not be negative'),
        (
            ('--config=configs/bert.py', '--config.run.parallel=tpu', '--dry'),
            "(run.parallel) named 'tpu' (there are: jit, pmap, fsdp)",
        ),
        (('--config=configs/bert.py', '--config.data.pairs=nps', '--dry'), "no data.pairs named 'nps'; did you mean 'nsp'?"),
        (('--config=configs/bert.py', '--config.data.length=0', '--dry'), 'data.length=0 must lie between 8 and 65536 pieces'),
        (
            ('--config=configs/finetune.py', '--config.start=', '--dry'),
            'takes the architecture of the start: give --config.start=RUN',
        ),
        (('--config=configs/bert.py', '--sweep=layrs', '--dry'), "no sweep axis named 'layrs'; did you mean 'layers'?"),
        (('--config=configs/bert.py', '--sweep=model.layers=', '--dry'), "--sweep='model.layers=' has no values"),
        (
            ('--config=configs/bert.py', '--sweep=model.layrs=3', '--dry'),
            "no config key 'model.layrs'; did you mean 'model.layers'?",
        ),
        (('--config=configs/bert.py', '--sweep=layers,layers', '--dry'), "the sweep has two runs 'layers=3'"),
        (
            ('--config=configs/distilbert.py:half', '--config.teacher=x', '--sweep=layers'),
            "model.layers would change nothing: with surgery.inherit the architecture is the start's; give --config.surgery.keep=",
        ),
        (('--config=configs/finetune.py', '--config.model.width=64'), 'model.width would change nothing'),
        (('--config=experiments/glue.py', '--config.model.width=64'), 'model.width would change nothing'),
        (('--config=experiments/quickstart.py', '--sweep=layers'), 'is a study: it names its runs itself'),
        (('--workdir=/nowhere/at/all',), '/nowhere/at/all is no run folder: it has no experiment.json; give a --config'),
    ],
)
def test_a_mistake_on_the_command_line_is_told_in_one_line(command: Command, arguments: tuple[str, ...], message: str) -> None:
    status, out, err = command(*arguments)
    assert status == 2 and out == ''
    assert err.startswith('error: ') and message in err and err.count('\n') == 1, err


def test_a_mistake_is_told_within_seconds_by_a_process(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(root / 'launch.py'), f'--config={root}/configs/bert.py', '--config.model.layrs=3']
    begin = time.monotonic()
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert found.returncode == 2 and found.stdout == '' and time.monotonic() - begin < 15
    assert found.stderr == "error: no config key 'model.layrs'; did you mean 'model.layers'?\n"


def write(folder: Path, x: Experiment) -> Path:
    """A config file that yields one experiment."""
    path = folder / 'config.py'
    path.write_text(
        'import json\nfrom research.wire import from_wire, to_wire\n\n\n'
        f'def get_config():\n    return to_wire(from_wire(json.loads({json.dumps(to_wire(x).to_dict())!r})))\n'
    )
    return path


def test_a_run_is_run_and_continued_from_its_folder_alone(
    command: Command, tiny: Callable[..., Experiment], teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Experiment, Path]] = []
    monkeypatch.setattr(runs, 'run', lambda x, workdir, *more: asked.append((x, workdir)))
    assert command(f'--workdir={teacher}') == (0, '', '')
    assert asked == [(tiny('bert'), teacher)]
    assert command(f'--workdir={teacher}', '--config.seed=3')[0] == 0
    assert asked[1][0].seed == 3
    assert command('--config=configs/bert.py:mini')[0] == 0
    assert asked[2][1] == Path('runs/bert-mini')


def test_help_is_the_door_s_own_words_and_its_flags(command: Command) -> None:
    for asked in ('--help', '-h'):
        status, out, err = command('--config=configs/bert.py', asked)
        assert (status, err) == (0, '') and out.startswith('The one door: ') and '--workdir: folder' in out


def test_a_study_is_continued_from_its_folder_alone(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = config_files.module('experiments/masking.py').get_study('tiny')
    enter(study, tmp_path)
    asked = []
    monkeypatch.setattr('research.study.execution.execute.run_study', lambda *given: asked.append(given))
    monkeypatch.setattr('research.study.reporting.report.report', lambda folder: None)
    assert command(f'--workdir={tmp_path}') == (0, '', '')
    assert asked[0][0].table == study.table and asked[0][0].runs == study.runs and asked[0][1] == tmp_path
    status, _, err = command(f'--workdir={tmp_path}', '--sweep=seed=1,2')
    assert status == 2 and f'{study.name} is a study: it names its runs itself' in err


def test_a_size_of_a_file_without_sizes_is_refused(command: Command, tiny: Callable[..., Experiment], tmp_path: Path) -> None:
    status, _, err = command(f'--config={write(tmp_path, tiny("bert"))}:tiny', '--dry')
    assert status == 2 and "config.py has no SIZES: leave ':tiny' out" in err


def test_a_folder_whose_experiment_is_not_json_is_refused(command: Command, tmp_path: Path) -> None:
    (tmp_path / 'experiment.json').write_text('{')
    status, _, err = command(f'--workdir={tmp_path}')
    assert status == 2 and 'experiment.json is not JSON' in err


def test_a_folder_of_another_experiment_is_refused(command: Command, teacher: Path) -> None:
    status, _, err = command(f'--workdir={teacher}', '--config.model.dropout=0.3')
    assert status == 2 and 'holds another experiment; it differs in model.dropout: 0.1 -> 0.3' in err


def test_missing_data_are_told(command: Command, tmp_path: Path) -> None:
    status, _, err = command(
        '--config=configs/bert.py:tiny', f'--workdir={tmp_path}/run', '--config.data.source=text:/nowhere/*.txt'
    )
    assert status == 2 and err.startswith("error: no file matches '/nowhere/*.txt'") and not (tmp_path / 'run').exists()


@pytest.mark.usefixtures('one_device')
def test_a_loss_that_is_not_finite_ends_the_run_with_its_step_and_name(
    command: Command, tiny: Callable[..., Experiment], tmp_path: Path
) -> None:
    x = tiny('bert', {'optimizer.lr': 1e30, 'optimizer.warmup': 0.0, 'run.steps': 12})
    status, _, err = command(f'--config={write(tmp_path, x)}', f'--workdir={tmp_path}/run')
    assert status == 2 and err.count('\n') == 1
    assert err.startswith('error: step ') and ' is not finite; there is no checkpoint from before that in ' in err
    assert 'loss' in err.split(' is not finite')[0] and 'Try a lower --config.optimizer.lr' in err
    assert not (tmp_path / 'run' / 'result.json').exists()


def test_a_missing_permission_is_no_traceback(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(13, 'Permission denied', '/root/run')

    monkeypatch.setattr(runs, 'run', refuse)
    assert command('--config=configs/bert.py:tiny') == (2, '', 'error: Permission denied: /root/run\n')


def test_an_interruption_says_how_to_continue(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, 'run', interrupt)
    status, _, err = command('--config=configs/bert.py:tiny')
    assert status == 130 and 'interrupted' in err


# ---- Sweeps ----------------------------------------------------------------------------------------------------------------------


def names(command: Command, *arguments: str) -> list[str]:
    status, out, err = command(*arguments, '--dry')
    assert status == 0, err
    return list(json.loads(out)['runs'])


def test_a_sweep_by_name_takes_the_axis_of_the_config(command: Command) -> None:
    assert names(command, '--config=configs/bert.py', '--sweep=layers') == ['layers=3', 'layers=6', 'layers=12']


def test_a_sweep_by_value_takes_the_values(command: Command) -> None:
    _, out, _ = command('--config=configs/bert.py', '--sweep=optimizer.lr=1e-4,3e-4', '--dry')
    found = json.loads(out)
    assert found['study'] == 'bert-base-sweep'
    assert [run['experiment']['optimizer']['lr'] for run in found['runs'].values()] == [1e-4, 3e-4]


def test_axes_multiply(command: Command) -> None:
    found = names(command, '--config=configs/albert.py', '--sweep=embedding,sharing', '--sweep=seed=0,1')
    assert len(found) == 4 * 4 * 2 and len(set(found)) == 32
    assert found[0] == 'embedding=64,sharing=all,seed=0'


@pytest.mark.parametrize('recipe', CONFIGS)
def test_every_axis_of_a_config_has_a_run_for_each_of_its_points(command: Command, recipe: str) -> None:
    config = config_files.module(str(CONFIGS[recipe]))
    for axis in (name for name in vars(config) if name.startswith('sweep_')):
        points = list(getattr(config, axis)())
        assert len(names(command, f'--config=configs/{recipe}.py', f'--sweep={axis.removeprefix("sweep_")}')) == len(points)


def test_a_sweep_of_a_run_folder_multiplies_values(command: Command, teacher: Path) -> None:
    assert names(command, f'--workdir={teacher}', '--sweep=seed=1,2') == ['seed=1', 'seed=2']
    status, _, err = command(f'--workdir={teacher}', '--sweep=layers', '--dry')
    assert status == 2 and "no sweep axis named 'layers'" in err


def test_a_change_reaches_every_run_of_a_study(command: Command) -> None:
    shown = json.loads(command('--config=experiments/quickstart.py', '--config.seed=7', '--dry')[1])
    assert {run['experiment']['seed'] for run in shown['runs'].values()} == {7}


def test_a_study_is_refused_an_unknown_key(command: Command) -> None:
    status, _, err = command('--config=experiments/quickstart.py', '--config.sead=7')
    assert status == 2 and "no config key 'sead'; did you mean 'seed'?" in err


@pytest.mark.parametrize('arguments', [('--config=experiments/quickstart.py',), ('--config=configs/bert.py:tiny', '--dry')])
def test_processes_are_for_training_one_run(command: Command, arguments: tuple[str, ...]) -> None:
    status, _, told = command(*arguments, '--coordinator=localhost:1', '--processes=2', '--process=0')
    assert status == 2 and told.startswith('error: --coordinator, --processes and --process are for training one run')


def test_the_processes_of_a_run_reach_it(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(runs, 'run', lambda *arguments: given.append(arguments[2]))
    flags = ('--coordinator=node1:8476', '--processes=2', '--process=1')
    assert command('--config=configs/bert.py:tiny', *flags)[0] == 0 and given[0].coordinator == 'node1:8476'
    assert command('--config=configs/bert.py:tiny')[0] == 0 and given[1] is None
    assert command('--config=configs/bert.py:tiny', flags[0])[0] == 2
