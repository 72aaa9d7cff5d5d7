"""Every door, each kind of mistake: status 2, one line that says what is wrong, no traceback, and nothing left in any folder.

`--debug` adds the traceback and changes nothing else. That each line that makes a UserError is reached by some test is another law:
tests/reached.py, held by conftest.py over the whole suite.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

import launch
from research.data import __main__ as data
from research.glue import __main__ as glue
from research.interchange import __main__ as interchange
from research.predict import __main__ as predict
from research.study import __main__ as study

Files = Mapping[str, str | bytes]  # name -> content
NOTHING: Files = {}
DOORS: dict[str, Callable[[], int]] = {
    'launch': launch.entry,
    'data': data.entry,
    'glue': glue.entry,
    'interchange': interchange.entry,
    'predict': predict.entry,
    'study': study.entry,
}


class Mistake(NamedTuple):
    """A command line, what its one line must say, and the files that lie in its folder. '{run}' is the folder of a trained run."""

    door: str
    arguments: tuple[str, ...]
    says: str
    files: Files = NOTHING


def prepare(source: str, says: str, *more: str, files: Files = NOTHING) -> Mistake:
    """A mistake in a source of text."""
    return Mistake('data', ('prepare', '--config=configs/bert.py:tiny', f'--config.data.source={source}', *more), says, files)


def tune(says: str, *more: str, task: str = 'custom', files: Files = NOTHING) -> Mistake:
    """A mistake in the files of a task."""
    keys = ('--config.start={run}', f'--config.data.task={task}', '--config.data.length=32', '--config.run.steps=2')
    return Mistake('launch', ('--config=configs/finetune.py', *keys, *more), says, files)


def change(key: str, value: str, says: str, config: str = 'bert', *more: str) -> Mistake:
    """An impossible value of a key."""
    return Mistake('launch', (f'--config=configs/{config}.py', f'--config.{key}={value}', *more), says)


def ask(says: str, *more: str, kind: str = 'fill-mask', given: str | bytes = '{"text": "a [MASK]"}\n') -> Mistake:
    """A mistake in what a trained model is asked."""
    return Mistake('predict', ('{run}', f'--kind={kind}', '--input=in.jsonl', *more), says, {'in.jsonl': given})


def convert(says: str, files: Files) -> Mistake:
    """A mistake in a Hugging Face folder, `in`."""
    return Mistake('interchange', ('import', 'in', 'out'), says, {f'in/{name}': content for name, content in files.items()})


DEEP = '[' * 100_000
TABLE = 'sentence\tlabel\na b\tx\nc d\ty\n'
CUSTOM = ('--config.data.train=train.tsv', '--config.data.dev=train.tsv')
MODEL = json.dumps({'model_type': 'bert', 'hidden_size': 8, 'num_hidden_layers': 1, 'num_attention_heads': 2, 'vocab_size': 8})


def claim(left: str, right: str, says: str) -> Mistake:
    """A study of two runs with a claim about `left` and `right`, as Python."""
    text = f"""
from research.experiment import Experiment
from research.study.study import Claim, Study, Table
def get_study(size=''):
    runs = {{name: Experiment(name=name, seed=seed) for seed, name in enumerate('ab')}}
    return Study('s', runs, Table('T', (), ()), claims=(Claim('c', {left}, {right}),))
"""
    return Mistake('launch', ('--config=claims.py', '--list'), says, {'claims.py': text})


MISTAKES = {
    # What is asked of launch.py.
    'nothing is asked': Mistake('launch', (), 'give --config=FILE[:size]'),
    'an unknown flag': Mistake('launch', ('--workdr=x',), "unknown argument '--workdr=x'; did you mean 'workdir'?"),
    'a flag that is no number': Mistake('launch', ('--config=configs/bert.py', '--jobs=two'), 'jobs'),
    'a key without a value': Mistake('launch', ('--config=configs/bert.py', '--config.seed'), '--config.seed has no value'),
    'no such file': Mistake('launch', ('--config=configs/bret.py',), "no config file 'configs/bret.py'; did you mean"),
    'no such size': Mistake('launch', ('--config=configs/bert.py:tinny',), "named 'tinny'; did you mean 'tiny'?"),
    'a config that is no Python': Mistake('launch', ('--config=mine.py',), 'mine.py line 1: ', {'mine.py': 'def get_config(:\n'}),
    'a config that fails': Mistake(
        'launch', ('--config=mine.py',), 'mine.py line 2: ZeroDivisionError', {'mine.py': 'def get_config():\n    return 1 / 0\n'}
    ),
    'a config that defines nothing': Mistake('launch', ('--config=mine.py',), 'defines neither', {'mine.py': 'x = 1\n'}),
    'a config that is a folder': Mistake('launch', ('--config=configs',), "no config file 'configs'"),
    'a study that is no experiment': Mistake(
        'launch', ('--config=experiments/quickstart.py', '--sweep=layers'), 'is a study: it names its runs itself'
    ),
    'an experiment that is no study': Mistake('launch', ('--config=configs/bert.py', '--list'), 'are for studies'),
    'an unknown executor': Mistake(
        'launch', ('--config=experiments/quickstart.py', '--executor=slrum'), "named 'slrum'; did you mean 'slurm'?"
    ),
    'a time that is none': Mistake(
        'launch', ('--config=experiments/quickstart.py', '--executor=slurm', '--time=soon'), '--time=soon is not a time'
    ),
    'no such run': Mistake('launch', ('--config=experiments/quickstart.py', '--only=x', '--list'), "--only='x' matches no run"),
    'an empty axis': Mistake('launch', ('--config=configs/bert.py', '--sweep=model.layers='), 'has no values'),
    # Keys and their values; tests/test_refusals.py has one for every key.
    'no such key': change('model.layrs', '3', "no config key 'model.layrs'; did you mean 'model.layers'?"),
    'a value of another type': change('model.layers', 'x', "model.layers=x: 'x' is no int"),
    'a value that is too large to write': change('model.layers', '9' * 5000, 'model.layers=9'),
    'a section as a value': change('model', '3', "'model' is not one value"),
    'a value that fits no other': change('model.heads', '7', 'model.width=768 is not a multiple of model.heads=7'),
    'a batch that cannot be divided': change('run.accumulate', '3', 'cannot be divided by run.accumulate=3', 'bert', '--dry'),
    'nothing to evaluate': change(
        'run.steps', '0', 'run.steps=0 evaluates a trained model: give --config.start=RUN', 'bert', '--dry'
    ),
    'a loss without its teacher': change('losses.soft.weight', '1', "loss 'soft' needs a teacher"),
    'a key that changes nothing': change('data.masking.ngram', '2', 'data.masking.ngram would change nothing'),
    'a start that is not there': change('start', 'runs/nowhere', 'runs/nowhere', 'bert'),
    'a teacher that is not there': change('teacher', 'runs/nowhere', 'runs/nowhere', 'distilbert'),
    # Folders that are something else.
    'a workdir that is something else': Mistake(
        'launch', ('--config=configs/bert.py', '--workdir=mine'), 'mine is in use, but is no run folder', {'mine/notes.txt': 'mine'}
    ),
    'a workdir that is a file': Mistake('launch', ('--config=configs/bert.py', '--workdir=mine'), 'mine', {'mine': 'mine'}),
    'a workdir below a file': Mistake('launch', ('--config=configs/bert.py', '--workdir=mine/run'), 'mine', {'mine': 'mine'}),
    'nothing to continue': Mistake('launch', ('--workdir=runs/x',), 'runs/x is no run folder: it has no experiment.json'),
    'an experiment that is no JSON': Mistake('launch', ('--workdir=x',), 'x/experiment.json', {'x/experiment.json': '{"a": '}),
    'an experiment that nests too deep': Mistake('launch', ('--workdir=x',), 'x/experiment.json', {'x/experiment.json': DEEP}),
    'an experiment of another version': Mistake(
        'launch', ('--workdir=x',), 'from another version of this code', {'x/experiment.json': '{"layers": 3}'}
    ),
    # Sources of text.
    'no such kind of source': prepare('txt:a', "'txt'"),
    'no such text': prepare('text:*.txt', "no file matches '*.txt'"),
    'an empty text': prepare('text:a.txt', 'there is no text', files={'a.txt': ''}),
    'a text that is not UTF-8': prepare('text:a.txt', 'UTF-8', files={'a.txt': b'caf\xe9\n'}),
    'a truncated archive': prepare('text:a.txt.gz', 'a.txt.gz', files={'a.txt.gz': b'\x1f\x8b\x08'}),
    'lines that are no JSON': prepare('jsonl:a.jsonl', "'a.jsonl' line 1 is not JSON", files={'a.jsonl': '{"text": \n'}),
    'lines that are no objects': prepare('jsonl:a.jsonl', "'a.jsonl' line 1 is not a JSON object", files={'a.jsonl': '[1]\n'}),
    'lines that nest too deep': prepare('jsonl:a.jsonl', "'a.jsonl' line 1 is not JSON", files={'a.jsonl': DEEP}),
    'lines without the field': prepare(
        'jsonl:a.jsonl', "'a.jsonl' line 1 has no column 'text'", files={'a.jsonl': '{"txt": "a"}\n'}
    ),
    'no Parquet': prepare('parquet:a.parquet', "'a.parquet' is corrupt", files={'a.parquet': b'PAR1PAR1'}),
    'no TFDS folder': prepare('tfds:mine', "'mine' is not the folder of a prepared TFDS dataset", files={'mine/a.txt': 'a'}),
    'weights of some sources': prepare('0.5 text:a.txt + text:b.txt', 'only some of its sources a weight'),
    'a tokenizer that is none': prepare('docstrings', 'nowhere', '--config.data.tokenizer=nowhere'),
    'a tokenizer that is no JSON': prepare(
        'docstrings', 'tokenizer.json', '--config.data.tokenizer=mine', files={'mine/tokenizer.json': '{"model": '}
    ),
    'a task to prepare': Mistake('data', ('prepare', '--config=configs/finetune.py'), 'the config fine-tunes on a task'),
    'the tokenizer of no teacher': prepare('docstrings', 'there is no teacher', '--config.data.tokenizer=teacher'),
    'no command of data': Mistake('data', (), 'the following arguments are required: command'),
    'a cache that cannot be made': prepare(
        'text:a.txt', 'machine.cache', '--config.machine.cache=a.txt/cache', files={'a.txt': 'a b c'}
    ),
    # Files of tasks.
    'no training file': tune('the task custom needs data.train'),
    'a training file that is not there': tune('train.tsv', *CUSTOM),
    'a table of another kind': tune("'train.xls' is not a task file", '--config.data.train=train.xls', files={'train.xls': TABLE}),
    'no such column': tune("has no column 'text'", *CUSTOM, '--config.data.text=text', files={'train.tsv': TABLE}),
    'a column twice': tune("names the column 'label' twice", *CUSTOM, files={'train.tsv': 'sentence\tlabel\tlabel\na\tb\tc\n'}),
    'a row too short': tune('line 2 has 1 columns, its header has 2', *CUSTOM, files={'train.tsv': 'sentence\tlabel\na\n'}),
    'one label only': tune('two labels at least', *CUSTOM, files={'train.tsv': 'sentence\tlabel\na b\tx\nc d\tx\n'}),
    'an empty table': tune("'train.tsv' has no examples", *CUSTOM, files={'train.tsv': 'sentence\tlabel\n'}),
    'no such task': tune("named 'sst3'", task='sst3'),
    'a folder without the task': tune("data.folder='glue' has no SST-2/train.tsv", '--config.data.folder=glue', task='sst2'),
    'questions that are no JSON': tune(
        "'squad/train-v1.1.json' is not JSON",
        '--config=configs/finetune.py:squad',
        '--config.data.folder=squad',
        task='squad',
        files={'squad/train-v1.1.json': '{', 'squad/dev-v1.1.json': '{'},
    ),
    # What a trained model is asked.
    'no such kind': ask("no kind of prediction named 'fil-mask'; did you mean 'fill-mask'?", kind='fil-mask'),
    'a head that is not there': ask('needs the label head', kind='classify'),
    'arrays on the screen': ask('--kind=hidden writes arrays', kind='hidden'),
    'no such model': Mistake('predict', ('runs/nowhere', '--kind=embed'), 'runs/nowhere'),
    'no input': Mistake('predict', ('{run}', '--kind=embed', '--input=x'), '--input=x is not there'),
    'an output in no folder': ask('--output=a/b is in no folder', '--output=a/b'),
    'an input that is no JSON': ask("'in.jsonl' line 1 is not JSON", '--output=out.jsonl', given='a [MASK]\n'),
    'an input that is not UTF-8': ask('UTF-8', '--output=out.jsonl', given=b'{"text": "caf\xe9 [MASK]"}\n'),
    'a second input that is no JSON': ask('line 2 is not JSON', '--output=out.jsonl', given='{"text": "a [MASK]"}\n{'),
    'nothing to fill': ask('has no [MASK] for fill-mask to fill', '--output=out.jsonl', given='{"text": "a"}\n'),
    # Hugging Face folders.
    'nothing to import': Mistake('interchange', ('import', 'nowhere', 'out'), 'nowhere'),
    'nothing to export': Mistake('interchange', ('export', 'nowhere', 'out'), 'nowhere'),
    'a target that is there': Mistake('interchange', ('export', '{run}', 'out'), 'out', {'out/mine.txt': 'mine'}),
    'a model without weights': convert('in', {'config.json': MODEL}),
    'a model of another type': convert('gpt2', {'config.json': '{"model_type": "gpt2"}'}),
    'a config that is no JSON': convert('config.json', {'config.json': '{'}),
    'a config that nests too deep': convert('config.json', {'config.json': DEEP}),
    'weights that are none': convert('model.safetensors', {'config.json': MODEL, 'model.safetensors': b'\xff' * 16}),
    'a pickle that is none': convert('pytorch_model.bin', {'config.json': MODEL, 'pytorch_model.bin': b'\x80\x02.'}),
    # Studies and tables.
    'no study': Mistake('study', ('status', 'x'), 'x holds no study'),
    'no study to report': Mistake('study', ('report', 'x'), 'x'),
    'a claim whose sides share no seed': claim(
        "('a', 'metrics:dev/gain')", "('b', 'metrics:dev/gain')", "claim 'c': its sides share no seed (0 against 1)"
    ),
    'a claim about a number that is not there': claim(
        "('a', 'metrics:dev/gian')", "('a', 'metrics:dev/gain')", "metric of key 'metrics:dev/gian' (claim 'c')"
    ),
    'a claim about a floor of no task': claim(
        "('a', 'metrics:dev/floor_commonest')", "('a', 'metrics:dev/gain')", "run 'a' has no task, so that no floor can be computed"
    ),
    'a study that is no JSON': Mistake('study', ('status', 'x'), 'x', {'x/study.json': '{'}),
    'a study that nests too deep': Mistake('study', ('report', 'x'), 'x', {'x/study.json': DEEP}),
    'a study of another version': Mistake('study', ('report', 'x'), 'x', {'x/study.json': '{"name": "x"}'}),
    'a status of another version': Mistake(
        'study', ('status', 'x'), 'x/study.json is from another version of this code', {'x/study.json': '{"name": "x"}'}
    ),
    'a run of no study': Mistake('study', ('run', 'x', 'y'), 'x'),
    'no runs of tasks': Mistake('glue', ('table', '.'), 'holds no finished runs of tasks'),
    'nothing to submit': Mistake('glue', ('submit', 'out', 'x'), 'x'),
}


def tree(folder: Path) -> dict[str, bytes | str]:
    """Every file of a folder with its content, every link with its target.

    Lock files are left out: they are empty of meaning without their process, and one that is removed while another process opens it
    would let both in.
    """
    paths = [path for path in sorted(folder.rglob('*')) if path.parent.name != '.locks' and (path.is_symlink() or path.is_file())]
    return {str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_bytes() for path in paths}


def enter(door: str, arguments: list[str], patch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """(exit status, standard output, standard error) of a command line."""
    patch.setattr(sys, 'argv', [door, *arguments])
    captured.readouterr()
    status = DOORS[door]()
    said = captured.readouterr()
    return status, said.out, said.err


@pytest.mark.usefixtures('one_device')
@pytest.mark.parametrize('name', MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(
    name: str, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mistake = MISTAKES[name]
    for place, content in mistake.files.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.chdir(tmp_path)
    arguments = [argument.replace('{run}', str(teacher)) for argument in mistake.arguments]
    before, trained = tree(tmp_path), tree(teacher)

    status, out, err = enter(mistake.door, arguments, monkeypatch, capsys)
    last = err.splitlines()[-1]
    assert (status, out) == (2, ''), err
    assert last.startswith('error: ') and mistake.says in last and len(last) < 5000
    assert [line for line in err.splitlines()[:-1] if not is_progress(line)] == []
    assert tree(tmp_path) == before and tree(teacher) == trained

    status, out, err = enter(mistake.door, [*arguments, '--debug'], monkeypatch, capsys)
    assert (status, out, err.splitlines()[-1]) == (2, '', last)
    assert 'Traceback (most recent call last):' in err.splitlines()
    assert tree(tmp_path) == before


def is_progress(line: str) -> bool:
    """Whether a line on the standard error is a notice of what was done before the mistake was found."""
    return not line.startswith(('error', 'Traceback', ' '))
