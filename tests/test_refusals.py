"""Every key of the wire: an impossible value of it is refused by --dry, by --list and by a start, before anything is written."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import launch
from research.experiment import Experiment
from research.wire import keys, override

# An impossible value of every key, as a command line spells it. A new key fails until it has one, and a check.
IMPOSSIBLE = {
    'name': 'a/b',
    'seed': '-1',
    'model.vocabulary': '0',
    'model.layers': '0',
    'model.width': '-8',
    'model.heads': '0',
    'model.inner': '0',
    'model.embedding': '0',
    'model.projection': 'perhaps',
    'model.positions': '0',
    'model.position_kind': 'relative',
    'model.types': '-1',
    'model.pooler': 'perhaps',
    'model.norm': 'sandwich',
    'model.activation': 'swish',
    'model.sharing': 'al',
    'model.groups': '0',
    'model.table': '(-1,0),(0,0)',
    'model.dropout': '1.0',
    'model.attention_dropout': '-0.1',
    'model.head_dropout': 'nan',
    'model.span_dropout': '2',
    'model.epsilon': '0',
    'model.mlm_bias': 'ones',
    'model.deviation': '0',
    'model.dtype': 'float16',
    'model.attention': 'flash',
    'model.unroll': '-1',
    'model.remat': 'blocks',
    'data.source': 'jsnl:a',
    'data.field': '\n',
    'data.documents': 'lines',
    'data.folder': 'a\nb',
    'data.cleaners': 'ascii',
    'data.deduplicate': 'perhaps',
    'data.changed': 'refuze',
    'data.tokenizer': '',
    'data.lowercase': 'perhaps',
    'data.length': '7',
    'data.pairs': 'nps',
    'data.fill': 'piece',
    'data.pack': 'perhaps',
    'data.first_length': '4',
    'data.first_share': '1.0',
    'data.short': '-0.1',
    'data.held_out': '1.0',
    'data.held_out_masks': 'berts',
    'data.masking.policy': 'span',
    'data.masking.rate': '0',
    'data.masking.mask': '-0.1',
    'data.masking.random': '-0.1',
    'data.masking.predictions': '-1',
    'data.masking.rate_end': '1',
    'data.masking.mask_end': '-2',
    'data.masking.random_end': '0.5',
    'data.causal.share': '1.5',
    'data.causal.until': '-0.1',
    'data.masking.ngram': '0',
    'data.masking.smoothing': '-1',
    'data.task': 'package',
    'data.select': 'tset',
    'data.buckets': '32,16',
    'data.answers.stride': '0',
    'data.answers.question': '0',
    'data.answers.longest': '0',
    'data.answers.best': '0',
    'data.answers.starts': '0',
    'data.answers.ends': '0',
    'data.answers.threshold': 'inf',
    'data.train': 'a\nb',
    'data.dev': 'a\rb',
    'data.test': 'a\tb',
    'data.text': '',
    'data.pair': 'a\nb',
    'data.label': 'a\nb',
    'data.score': 'a\nb',
    'data.labels': 'a,b,a',
    'data.unlabelled': 'ignore',
    'data.dev_share': '1.0',
    'losses.mlm.weight': '-1',
    'losses.mlm.z': '-1',
    'losses.nsp.weight': 'nan',
    'losses.sop.weight': '-1',
    'losses.label.weight': '-1',
    'losses.regression.weight': '-1',
    'losses.choice.weight': '-1',
    'losses.span.weight': '-1',
    'losses.answer.weight': '-1',
    'losses.answer.none': '-0.5',
    'losses.soft.weight': '-1',
    'losses.soft.at': 'maskd',
    'losses.soft.temperature': '0',
    'losses.cosine.weight': '-1',
    'losses.cosine.at': 'label',
    'losses.mse.weight': '-1',
    'losses.mse.at': 'nowhere',
    'start': 'a\nb',
    'surgery.layers': '-1',
    'surgery.drop': 'la bel',
    'surgery.inherit': 'perhaps',
    'surgery.keep': '0',
    'surgery.sharing': 'al',
    'surgery.without': 'poler',
    'teacher': 'teacher',
    'optimizer.name': 'adam',
    'optimizer.lr': '-1',
    'optimizer.warmup': '-0.1',
    'optimizer.schedule': 'linear',
    'optimizer.power': '-1',
    'optimizer.decay_from_start': 'perhaps',
    'optimizer.decay': '-0.1',
    'optimizer.weight_decay': '-1',
    'optimizer.beta1': '1',
    'optimizer.beta2': '-0.1',
    'optimizer.epsilon': '0',
    'optimizer.momentum': '1',
    'optimizer.bias_correction': 'perhaps',
    'optimizer.clip': '-1',
    'optimizer.layer_decay': '0',
    'optimizer.frozen': 'layer 0',
    'optimizer.ema': '1',
    'run.steps': '-1',
    'run.epochs': '-1',
    'run.batch': '0',
    'run.accumulate': '0',
    'run.parallel': 'tpu',
    'run.model_devices': '0',
    'run.deterministic': 'perhaps',
    'run.log_every': '0',
    'run.evaluate_every': '-1',
    'run.evaluate_batches': '-1',
    'run.patience': '-1',
    'run.checkpoint_every': '-1',
    'run.keep': '0',
    'run.max_skipped': '-1',
    'run.spike': '-1',
    'run.profile': '-1',
    'run.gradient_norms': 'perhaps',
    'run.time_pass': 'perhaps',
    'machine.cache': '',
    'machine.prefetch': '-1',
    'machine.workers': '-1',
}

# Runs that together read every key, so that none is refused only because a change of it would do nothing.
RUNS = """
import dataclasses
from research.data.masking import Masking
from research.data.settings import Causal, Data
from research.experiment import Experiment, Run
from research.models.architecture import Architecture
from research.objectives.losses import Losses, Match, Mlm, Plain, Soft
from research.objectives.supervised import Answer
from research.optim import Optimizer
from research.study.study import Study, Table
from research.surgery import Surgery
from research.wire import to_wire

NONE = Losses(mlm=Mlm(0.0))
TAUGHT = Losses(mlm=Mlm(1.0), soft=Soft(1.0), cosine=Match(1.0), mse=Match(1.0))
PAIRS = Data(pairs='sop', first_length=64, masking=Masking('ngram'))
RUNS = {
    'first': Experiment(model=Architecture(sharing='groups'), data=PAIRS),
    'second': Experiment(data=Data(masking=Masking('frequency'), causal=Causal(0.5)), start='/nowhere',
        surgery=Surgery(layers=(0,) * 12), optimizer=Optimizer(name='muon', schedule='wsd')),
    'third': Experiment(model=Architecture(layers=2, sharing='table', table=((0, 0), (1, 1))), teacher='/nowhere', losses=TAUGHT,
        run=Run(epochs=2.0)),
    'fourth': Experiment(
        data=Data(task='custom', train='a.tsv', tokenizer='start'), losses=dataclasses.replace(NONE, label=Plain(1.0)),
        start='/nowhere', surgery=Surgery(inherit=True), model=Architecture(),
    ),
    'fifth': Experiment(
        data=Data(task='squad2', folder='/nowhere', tokenizer='start'), losses=dataclasses.replace(NONE, answer=Answer(1.0)),
        start='/nowhere', model=Architecture(),
    ),
}
RUNS = {name: dataclasses.replace(x, name=name) for name, x in RUNS.items()}
"""
STUDY = "\n\ndef get_study():\n    return Study('all', RUNS, Table('', (), ()))\n"
SINGLE = '\n\nSIZES = tuple(RUNS)\n\n\ndef get_config(size):\n    return to_wire(RUNS[size])\n'


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(a config file of all RUNS as a study, one of each of them alone)."""
    folder = tmp_path_factory.mktemp('asked')
    (folder / 'study.py').write_text(RUNS + STUDY)
    (folder / 'single.py').write_text(RUNS + SINGLE)
    return folder / 'study.py', folder / 'single.py'


def test_every_key_has_an_impossible_value() -> None:
    assert set(IMPOSSIBLE) == set(keys(Experiment))
    assert set(keys(Experiment, compared=True)) == {
        key for key in IMPOSSIBLE if not key.startswith(('machine.', 'run.profile', 'run.model_devices'))
    }


@pytest.fixture
def refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """refuse(arguments) runs launch.py in an empty folder -> its one line of error; nothing may be written."""

    def refuse(*arguments: str) -> str:
        monkeypatch.chdir(tmp_path)
        status = launch.main(['launch.py', *arguments])
        out, err = capsys.readouterr()
        assert status == 2, (arguments, status, out, err)
        assert err.startswith('error: ') and err.count('\n') == 1 and not out, err
        assert not list(tmp_path.iterdir()), f'{arguments} wrote {list(tmp_path.iterdir())}'
        return err

    return refuse


@pytest.mark.parametrize('key', IMPOSSIBLE)
def test_an_impossible_value_is_refused_by_every_door(key: str, files: tuple[Path, Path], refuse) -> None:
    study, single = files
    given = f'--config.{key}={IMPOSSIBLE[key]}'
    for door in (('--dry',), ('--list',), ()):
        assert key in refuse(f'--config={study}', given, *door), f'a study, {door or "started"}'
    for door in (('--dry',), ()):
        told = [refuse(f'--config={single}:{name}', given, *door) for name in ('first', 'second', 'third', 'fourth', 'fifth')]
        assert all(key in line for line in told), f'an experiment, {door or "started"}: {told}'
        assert any('would change nothing' not in line for line in told), f'no run reads {key}: {told[0]}'


def test_the_runs_are_possible_without_it(files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each refusal above is of the one value: the same command without it is answered."""
    study, single = files
    assert launch.main(['launch.py', f'--config={study}', '--dry', f'--workdir={tmp_path}/all']) == 0
    shown = json.loads(capsys.readouterr().out)['runs']
    assert list(shown) == ['first', 'second', 'third', 'fourth', 'fifth']
    assert launch.main(['launch.py', f'--config={single}:first', '--dry', f'--workdir={tmp_path}/one']) == 0


def test_a_wrong_optimizer_in_one_of_many_runs_stops_all(tmp_path: Path, refuse) -> None:
    (tmp_path.parent / 'many.py').write_text(
        'import dataclasses\n' + RUNS + '\nfrom research.optim import Optimizer\n'
        "MANY = {f'run-{i}': dataclasses.replace(RUNS['first'], name=f'run-{i}', seed=i, "
        "optimizer=Optimizer(name='adan' if i == 207 else 'adamw')) for i in range(208)}\n\n\n"
        "def get_study():\n    return Study('many', MANY, Table('', (), ()))\n"
    )
    for door in ((), ('--executor=slurm',), ('--list',), ('--dry',)):
        assert "run 'run-207': no optimizer (optimizer.name) named 'adan'; did you mean 'adamw'?" in refuse(
            f'--config={tmp_path.parent}/many.py', *door
        )


@pytest.mark.parametrize(
    ('size', 'key', 'value', 'why'),
    [
        ('first', 'surgery.keep', '0.5', 'there is no start: give --config.start=RUN'),
        ('first', 'surgery.drop', 'label', 'there is no start'),
        ('second', 'surgery.keep', '0.5', 'it is read with --config.surgery.inherit=true only'),
        ('second', 'surgery.sharing', 'all', 'it is read with --config.surgery.inherit=true only'),
        ('second', 'surgery.without', 'pooler', 'it is read with --config.surgery.inherit=true only'),
        ('first', 'data.train', 'a.tsv', "it is for a task, but data.task=''"),
        ('fifth', 'data.train', 'a.tsv', "data.task='squad2' does not read it"),
        ('second', 'data.masking.ngram', '2', "only data.masking.policy='ngram' reads it, but it is 'frequency'"),
        ('first', 'data.masking.smoothing', '0.5', "only data.masking.policy='frequency' reads it"),
        ('fifth', 'data.masking.rate', '0.2', "it is for pretraining, but data.task='squad2'"),
        ('second', 'model.groups', '2', "model.sharing='none' does not read it"),
        ('first', 'losses.soft.temperature', '4', 'losses.soft.weight=0 turns this loss off'),
        ('first', 'teacher', '/nowhere', 'no loss reads it'),
        ('fourth', 'model.layers', '3', "with surgery.inherit the architecture is the start's"),
        ('fifth', 'run.evaluate_batches', '3', 'the splits of a task are evaluated whole'),
        ('first', 'losses.answer.none', '1', 'losses.answer.weight=0 turns this loss off'),
    ],
)
def test_a_key_that_would_change_nothing_is_refused_by_name(
    files: tuple[Path, Path], refuse, size: str, key: str, value: str, why: str
) -> None:
    line = refuse(f'--config={files[1]}:{size}', f'--config.{key}={value}')
    assert f'{key} would change nothing' in line and why in line


def test_beta_of_an_optimizer_without_moments_changes_nothing(files: tuple[Path, Path], refuse) -> None:
    told = refuse(f'--config={files[1]}:first', '--config.optimizer.name=sgd', '--config.optimizer.beta1=0.8')
    assert "optimizer.beta1 would change nothing: optimizer.name='sgd' does not read it" in told


def test_in_a_study_a_key_is_of_use_if_one_run_reads_it(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ['--config.data.masking.ngram=2', '--config.data.train=b.tsv']
    assert launch.main(['launch.py', f'--config={files[0]}', *given, '--dry', f'--workdir={tmp_path}/all']) == 0
    shown = json.loads(capsys.readouterr().out)['runs']
    assert shown['first']['experiment']['data']['masking']['ngram'] == 2


@pytest.mark.parametrize('old', ['data.cache', 'data.prefetch', 'data.workers'])
def test_a_renamed_key_is_refused_with_its_new_name(files: tuple[Path, Path], refuse, old: str) -> None:
    new = old.replace('data.', 'machine.')
    assert f"the config key '{old}' is called '{new}' now: give --config.{new}=" in refuse(
        f'--config={files[1]}:first', f'--config.{old}=1'
    )


@pytest.fixture
def preview(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """preview(arguments) -> what `launch.py --dry` shows in an empty folder."""

    def preview(*arguments: str) -> dict[str, Any]:
        monkeypatch.chdir(tmp_path)
        assert launch.main(['launch.py', *arguments, '--dry']) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    return preview


def test_turning_a_thing_off_is_never_refused(preview) -> None:
    random = ('--config.start=', '--config.surgery.inherit=false', '--config.data.tokenizer=wordpiece', '--config.data.pack=false')
    shown = preview('--config=configs/finetune.py:packages', *random)
    assert shown['experiment']['start'] == '' and not shown['experiment']['surgery']['inherit']


def test_the_options_of_an_inherited_sharing_strategy_are_read(preview, teacher: Path) -> None:
    start = (f'--config.start={teacher}', '--config.surgery.sharing=groups', '--config.model.groups=2', '--config.data.length=32')
    shown = preview('--config=configs/finetune.py:packages', *start)
    assert shown['experiment']['model']['sharing'] == 'groups' and shown['experiment']['model']['groups'] == 2


def test_a_sweep_over_the_machine_compares_its_runs(preview, refuse) -> None:
    asked = ('--config=configs/bert.py:tiny', '--sweep=machine.workers=0,2')
    assert {name: run['experiment']['machine']['workers'] for name, run in preview(*asked)['runs'].items()} == {
        'workers=0': 0,
        'workers=2': 2,
    }
    assert "run 'prefetch=-1': machine.prefetch=-1" in refuse('--config=configs/bert.py:tiny', '--sweep=machine.prefetch=8,-1')


def test_a_mistyped_row_is_named_before_its_options(refuse) -> None:
    asked = ('--config=configs/bert.py:tiny', '--config.optimizer.beta1=0.8', '--config.optimizer.name=adamx')
    assert "no optimizer (optimizer.name) named 'adamx'; did you mean 'adamw'?" in refuse(*asked)


def test_labels_that_a_task_does_not_have_are_refused_without_its_files(refuse) -> None:
    asked = ('--config=configs/finetune.py:sst2', '--config.data.labels=good,bad')
    for door in ('--dry', '--nodry'):
        assert "the labels of 'sst2' are negative, positive" in refuse(*asked, door)


def test_a_change_that_no_run_of_a_study_takes_is_refused(refuse) -> None:
    for study, given, why in (
        ('masking', '--config.run.patience=3', 'no run has a score while it trains'),
        ('from_scratch', '--config.teacher=/nowhere', 'no loss reads it'),  # the student's is a run of the study
    ):
        for door in ('--list', '--dry', '--nodry'):
            assert f'would change nothing: {why}' in refuse(f'--config=experiments/{study}.py', given, door)


def test_names_of_parts_may_be_spaced(preview) -> None:
    shown = preview('--config=configs/bert.py:tiny', '--config.optimizer.frozen=embeddings, layer_0')
    assert shown['experiment']['optimizer']['frozen'] == ['embeddings', 'layer_0']


def test_numbers_of_numpy_and_paths_are_values() -> None:
    changes = {
        'optimizer.lr': np.float64(0.25),
        'run.steps': np.int64(7),
        'data.folder': Path('/glue'),
        'model.pooler': np.bool_(False),
    }
    x = override(Experiment(), changes)
    assert (x.optimizer.lr, x.run.steps, x.data.folder, x.model.pooler) == (0.25, 7, '/glue', False)
    assert type(x.run.steps) is int and type(x.optimizer.lr) is float


@pytest.mark.parametrize(
    ('asked', 'message'),
    [
        (
            ('--config=configs/bert.py:tiny', '--config.optimizer.frozen=nonsense'),
            "names 'nonsense', which the model does not have",
        ),
        (('--config=configs/bert.py:tiny', '--config.optimizer.frozen=layer_5'), "names 'layer_5', which the model does not have"),
        (('--config=configs/bert.py:tiny', '--sweep=seed=0,1', '--config.optimizer.frozen=layer_9'), "names 'layer_9'"),
        (('--config=configs/bert.py:tiny', '--config.name=..'), "name='..' must be the name of a folder"),
        (('--config=configs/bert.py:tiny', '--config.data.tokenizer=teacher'), "data.tokenizer='teacher', but there is no teacher"),
        (
            ('--config=configs/distilbert.py', '--config.teacher=runs/a', '--config.data.causal.share=0.5'),
            'data.causal.share=0.5 predicts the piece that follows, but a teacher of masked pieces the one that is there',
        ),
        (('--config=launch.py',), 'launch.py is no file of configs/ or experiments/'),
        (('--config=',), 'give --config=FILE[:size]'),
    ],
)
def test_what_needs_no_data_is_refused_before_anything_starts(refuse, asked: tuple[str, ...], message: str) -> None:
    for door in ('--dry', '--nodry'):
        assert message in refuse(*asked, door)


def test_a_teacher_that_does_not_fit_is_refused_before_the_data_are_read(
    refuse, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = (f'--config.teacher={teacher}', '--config.losses.cosine.weight=1', '--config.data.source=text:/nowhere')
    why = "the teacher's are 32 wide and the student's 128"
    assert why in refuse('--config=configs/bert.py:tiny', *asked, '--dry')
    for door in ('--dry', '--list', '--nodry'):
        assert "run 'seed=0': loss 'cosine'" in refuse('--config=configs/bert.py:tiny', *asked, '--sweep=seed=0,1', door)
    assert launch.main(['launch.py', '--config=configs/bert.py:tiny', *asked, f'--workdir={tmp_path}/run']) == 2
    assert why in capsys.readouterr().err and not (tmp_path / 'run').exists()


def test_a_sweep_over_paths_has_names_of_folders(preview) -> None:
    shown = preview('--config=configs/bert.py:tiny', '--sweep=data.source=text:a/b.txt,text:c/d.txt')
    assert list(shown['runs']) == ['source=text:a_b.txt', 'source=text:c_d.txt']
