"""Numbers repeat: two processes give the same bits, and `verify` and `replay` find what a folder's weights and data do not give."""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from research.checkpoint import Checkpoints, read_params
from research.checkpoint_files import SUMS, hash_files, list_steps
from research.evaluation.gains import read_held_out, write_held_out
from research.experiment import Experiment
from research.interchange import __main__ as interchange
from research.records import write_record
from research.runs import reopening, sources
from research.runs.definition import read_definition
from research.runs.environment import describe_environment
from research.runs.folder import read_environment, read_metrics
from research.runs.opening import first_state
from research.study import __main__ as command
from research.wire import to_wire
from tests.faults.forks import MEASURED, TIMED

Tiny = Callable[..., Experiment]
NAMES = ('plain', 'task', 'taught', 'judged')  # pretraining by pmap, a task, distillation in micro-batches, an evaluation alone
LENGTH = {'run.steps': 6, 'run.log_every': 2, 'run.checkpoint_every': 2, 'run.evaluate_every': 3}


@pytest.fixture(scope='module')
def data(examples: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The small task in files of this module's own, which its tests change."""
    folder = tmp_path_factory.mktemp('mine')
    copies = {key: shutil.copy(examples[key], folder) for key in ('data.train', 'data.dev', 'data.test')}
    return examples | {key: str(path) for key, path in copies.items()}


@pytest.fixture(scope='module')
def stories(text: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The small text in a file and a cache of this module's own."""
    folder = tmp_path_factory.mktemp('stories')
    shutil.copy(text['data.source'].removeprefix('text:'), folder / 'stories.txt')
    return text | {'data.source': f'text:{folder}/stories.txt', 'machine.cache': str(folder / 'cache')}


@pytest.fixture(scope='module')
def twice(
    tiny: Tiny, data: dict[str, Any], stories: dict[str, Any], root: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Two folders with the runs of NAMES, made by the same experiments in two processes."""
    runs = {
        'plain': tiny('bert', {**stories, **LENGTH, 'run.parallel': 'pmap'}),
        'task': tiny('finetune', {**stories, **data, **LENGTH, 'start': '@plain', 'data.tokenizer': 'start'}),
        'taught': tiny('distilbert', {**stories, **LENGTH, 'teacher': '@plain', 'run.batch': 16, 'run.accumulate': 2}),
        'judged': tiny('finetune', {**stories, **data, 'start': '@task', 'data.tokenizer': 'start', 'run.steps': 0}),
    }
    folders = (tmp_path_factory.mktemp('one'), tmp_path_factory.mktemp('two'))
    for folder in folders:
        for name, x in runs.items():
            write_record(folder / f'{name}.json', to_wire(dataclasses.replace(x, name=name)).to_dict())
    line = [sys.executable, '-m', 'tests.faults.repeating']
    # The first keeps what it has compiled, for the tests below; the second compiles by itself.
    kept = {'JAX_COMPILATION_CACHE_DIR': str(root / '.jax_cache'), 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.2'}
    started = [
        subprocess.Popen(
            [*line, str(folder), *NAMES],
            cwd=root,
            env={**os.environ, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for folder, more in zip(folders, (kept, {}), strict=True)
    ]
    for process in started:
        said = process.communicate()[0]
        assert process.returncode == 0, said
    return folders


@pytest.fixture
def run(twice: tuple[Path, Path], tmp_path: Path) -> Callable[[str], Path]:
    """run(name) -> a copy of a finished run of NAMES beside its siblings."""
    for path in twice[0].iterdir():
        if path.is_dir() and path.name in NAMES:
            shutil.copytree(path, tmp_path / path.name)
    return lambda name: tmp_path / name


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """say(arguments …) -> (exit status, what `python -m research.study` says). The run's folder stays as it is, to the byte."""

    def say(*arguments: object) -> tuple[int, str]:
        folder = Path(str(arguments[1]))
        before, _ = hash_folder(folder), capsys.readouterr()
        status = command.main([str(each) for each in arguments])
        assert hash_folder(folder) == before, 'the folder was written to'
        said = capsys.readouterr()
        return status, said.out + (said.err if status == 2 else '')

    return say


def hash_folder(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ''
        for path in [*folder.rglob('*'), *folder.parent.glob('.*')]
    }


def flip(folder: Path, step: int, mask: int, where: tuple[str, ...] = ('encoder', 'word'), score: float | None = None) -> None:
    """Flips bits of the largest weight of a block in a checkpoint, and writes that anew as training does."""
    x = read_definition(folder)
    with reopening.reading(folder, step) as checkpoints:
        heads = sources.find_heads(checkpoints.params(step))
    opened = reopening.reopen(folder, x, read_environment(folder) or pytest.fail('no environment'), heads)
    plan, model = opened.bench.plan, opened.bench.model
    like, _ = first_state(model, dataclasses.replace(x, start=''), None, opened.bench.feed)
    checkpoints = Checkpoints(folder / 'checkpoints', keep=9)
    state = checkpoints.restore(step, plan.put_state(like))
    block = state.params
    for name in where[:-1]:
        block = block[name]
    weights = np.array(block[where[-1]])
    bits = weights.reshape(-1).view(np.uint32)
    largest = np.abs(weights).argmax()
    bits[largest] = bits[largest] | mask if mask == 0x7F800000 else bits[largest] ^ mask
    block[where[-1]] = jax.device_put(weights, block[where[-1]].sharding)
    checkpoints.close()
    for later in [each for each in list_steps(folder / 'checkpoints') if each >= step]:  # Orbax saves no step before another
        shutil.rmtree(folder / 'checkpoints' / str(later))
    checkpoints = Checkpoints(folder / 'checkpoints', keep=9)
    checkpoints.save(state, score)
    checkpoints.close()


# ---- The same command twice -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', NAMES)
def test_two_processes_give_the_same_bits(twice: tuple[Path, Path], name: str) -> None:
    one, two = (folder / name for folder in twice)
    if name != 'judged':
        (step, params), (again, other) = (read_params(folder / 'checkpoints', name) for folder in (one, two))
        assert step == again
        jax.tree.map(np.testing.assert_array_equal, params, other)
    lines = [[{key: line[key] for key in line if key not in TIMED} for line in read_metrics(folder)] for folder in (one, two)]
    assert lines[0] == lines[1] and (len(lines[0]) >= 5 or name == 'judged')
    results = [json.loads((folder / 'result.json').read_text()) for folder in (one, two)]
    assert {key for key in results[0] if results[0][key] != results[1][key]} <= set(MEASURED)
    assert results[0]['metrics'] and results[0]['fingerprint']
    files = [sorted(path.relative_to(folder) for path in folder.glob('*/predictions*')) for folder in (one, two)]
    assert files[0] == files[1] and bool(files[0]) == (name in ('task', 'judged'))
    for file in files[0]:
        assert (one / file).read_bytes() == (two / file).read_bytes()


# ---- What is as it was recorded -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', NAMES)
def test_a_run_verifies_in_all_bits(run: Callable, say: Callable, name: str) -> None:
    status, said = say('verify', run(name))
    assert status == 0 and said.splitlines()[-1].startswith(f'{run(name)}: equal: ') and said.endswith('all bits\n'), said


@pytest.mark.parametrize(
    ('name', 'step', 'begin', 'lines'),
    [
        ('plain', 2, 'the first state', ['step 2: loss equal (']),
        ('plain', 5, 'the checkpoint of step 4', ['step 5: loss ', 'step 6: loss equal (']),
        ('task', 6, 'the checkpoint of step 4', ['step 6: loss equal (']),
        ('task', 1, 'the first state', ['step 1: loss ', 'step 2: loss equal (']),
        ('taught', 4, 'the first state', ['step 4: loss equal (']),
    ],
)
def test_a_step_replays_in_all_bits(run: Callable, say: Callable, name: str, step: int, begin: str, lines: list[str]) -> None:
    status, said = say('replay', run(name), f'--step={step}')
    assert status == 0 and f'from {begin}\n' in said and said.endswith('all bits\n'), said
    for begins in lines:
        assert any(line.startswith(begins) for line in said.splitlines()), said
    if len(lines) == 2:
        nearest = f'{step - 1} and {step + 1}' if step > 1 else '2'
        assert f'(not logged; the nearest that are: {nearest})' in said


def test_a_cache_that_was_removed_is_prepared_again(run: Callable, say: Callable) -> None:
    cache = Path(read_definition(run('plain')).machine.cache)
    shutil.rmtree(cache)
    assert say('verify', run('plain'))[0] == 0
    assert any(cache.iterdir())


def test_an_import_is_compared_by_its_parameters(run: Callable, say: Callable, tmp_path: Path) -> None:
    interchange.main(['export', str(run('plain')), str(tmp_path / 'out')])
    interchange.main(['import', str(tmp_path / 'out'), str(tmp_path / 'imported')])
    status, said = say('verify', tmp_path / 'imported')
    assert status == 0 and 'was imported: it has parameters, and no metrics' in said
    result = json.loads((tmp_path / 'imported' / 'result.json').read_text())
    (tmp_path / 'imported' / 'result.json').write_text(json.dumps(result | {'fingerprint': '0' * 16}))
    status, said = say('verify', tmp_path / 'imported')
    assert status == 1 and "the parameters' fingerprint: stored '0000000000000000', found" in said
    status, said = say('replay', tmp_path / 'imported', '--step=1')
    assert status == 2 and 'has no logged step to replay' in said


# ---- A flipped weight -----------------------------------------------------------------------------------------------------------


def test_the_lowest_bit_of_one_weight_is_found(run: Callable, say: Callable) -> None:
    flip(run('taught'), 6, 1)
    status, said = say('verify', run('taught'))
    assert status == 1 and "the parameters' fingerprint: stored '" in said and 'different: ' in said, said
    status, said = say('replay', run('taught'), '--step=6')
    assert status == 1 and "step 6: the fingerprint of the checkpoint's parameters: stored '" in said, said


def test_a_weight_that_is_no_number_any_more_is_found(run: Callable, say: Callable) -> None:
    folder = run('task')
    step = json.loads((folder / 'result.json').read_text())['selected']['step']
    flip(folder, step, 0x7F800000, ('encoder', 'norm', 'scale'), score=0.5)
    status, said = say('verify', folder)
    assert status == 1 and "metrics: stored 'numbers', found 'the logits of " in said, said


def test_a_weight_flipped_before_a_step_changes_its_loss(run: Callable, say: Callable) -> None:
    flip(run('plain'), 4, 1 << 31)
    status, said = say('replay', run('plain'), '--step=6')
    assert (
        status == 1
        and 'step 6: train/loss: stored ' in said
        and any(line.startswith('step 6: loss ') and ', logged ' in line for line in said.splitlines())
    ), said


@pytest.mark.parametrize('summed', [False, True])  # whether the checksums are made to fit
@pytest.mark.parametrize('arguments', [('verify',), ('replay', '--step=6')])
def test_a_flipped_byte_on_disk_is_found(run: Callable, say: Callable, arguments: tuple[str, ...], summed: bool) -> None:
    for step in (4, 6):
        folder = run('taught') / 'checkpoints' / str(step)
        files = (folder / 'params').rglob('d/*')
        path = max((path for path in files if path.is_file()), key=lambda path: path.stat().st_size)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 16
        path.write_bytes(content)
        if summed:
            write_record(folder / SUMS, {'sha256': hash_files(folder)})
    verb, *rest = arguments
    status, said = say(verb, run('taught'), *rest)
    damaged = f'the checkpoint of step {4 if rest else 6} is damaged: params/'
    # With checksums that fit, the byte is a part that cannot be read, or another weight.
    words = (' cannot be read: ', "the parameters' fingerprint: stored ", ' stored ') if summed else (damaged,)
    assert status == 1 and 'different: ' in said and any(each in said for each in words), said


# ---- A changed datum ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('arguments', [('verify',), ('replay', '--step=6')])
@pytest.mark.parametrize(('name', 'split', 'old', 'new'), [('task', 'train', 'a', 'b'), ('judged', 'dev', 'b', 'c')])
def test_a_changed_label_is_found(
    run: Callable, say: Callable, data: dict[str, Any], name: str, split: str, old: str, new: str, arguments: tuple[str, ...]
) -> None:
    path = Path(data[f'data.{split}'])
    before = path.read_text()
    verb, *rest = arguments
    try:
        path.write_text(before.replace(f'\t{old}\n', f'\t{new}\n', 1))
        status, said = say(verb, run(name), *rest)
    finally:
        path.write_text(before)
    if name == 'judged' and verb == 'replay':
        assert status == 2 and 'has no logged step' in said
    else:
        assert status == 1 and "the data's fingerprint: stored '" in said, said


def test_labels_of_other_names_end_the_comparison(run: Callable, say: Callable, data: dict[str, Any]) -> None:
    path = Path(data['data.train'])
    before = path.read_text()
    try:
        path.write_text(before.replace('\ta\n', '\tnew\n', 1))
        for arguments in (['verify', run('task')], ['replay', run('task'), '--step=6']):
            status, said = say(*arguments)
            assert status == 1 and "the data's fingerprint: stored '" in said and 'metrics' not in said, said
    finally:
        path.write_text(before)


def test_labels_that_were_recorded_otherwise_are_found(run: Callable, say: Callable) -> None:
    path = run('task') / 'environment.json'
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {'data': record['data'] | {'labels': [*record['data']['labels'][1:], 'new']}}))
    status, said = say('verify', run('task'))
    assert status == 1 and "the labels.0: stored 'b', found 'a'" in said, said


def test_a_changed_byte_of_the_prepared_corpus_is_found(run: Callable, say: Callable) -> None:
    path = next(Path(read_definition(run('plain')).machine.cache).glob('corpus-*/held_out.ids'))
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    for arguments in (['verify', run('plain')], ['replay', run('plain'), '--step=6']):
        status, said = say(*arguments)
        assert status == 1 and 'has changed since it was written: it is damaged' in said, said
        assert said.endswith('different: it is damaged\n'), said
    shutil.rmtree(path.parent)


def test_a_changed_word_of_a_corpus_is_found(run: Callable, say: Callable) -> None:
    path = Path(read_definition(run('plain')).data.source.removeprefix('text:'))
    before = path.read_text()
    try:
        path.write_text(before.replace('sailor', 'tailor', 1))
        for arguments in (['verify', run('plain')], ['replay', run('plain'), '--step=6']):
            status, said = say(*arguments)
            assert status == 1 and "the data's fingerprint: stored '" in said, said
    finally:
        path.write_text(before)


# ---- A changed record -----------------------------------------------------------------------------------------------------------


def test_what_was_recorded_otherwise_is_named(run: Callable, say: Callable) -> None:
    folder = run('task')
    result = json.loads((folder / 'result.json').read_text())
    result['metrics']['dev/accuracy'] += 0.25
    (folder / 'result.json').write_text(json.dumps(result))
    lines = (folder / 'test' / 'predictions.jsonl').read_text().splitlines()
    first = json.loads(lines[0])
    other = next(name for name in 'abc' if name != first['prediction'])
    (folder / 'test' / 'predictions.jsonl').write_text('\n'.join([json.dumps(first | {'prediction': other}), *lines[1:]]) + '\n')
    (folder / 'dev' / 'predictions.jsonl').unlink()
    status, said = say('verify', folder)
    assert status == 1 and said.splitlines()[-1].startswith(f'{folder}: different: 3 of '), said
    assert f'metrics.dev/accuracy: stored {result["metrics"]["dev/accuracy"]}, found ' in said
    assert f"test/predictions.jsonl: 0.prediction: stored '{other}', found '{first['prediction']}'" in said
    assert "dev/predictions.jsonl: stored nothing, found 'a file'" in said


def test_sums_of_documents_are_compared_and_a_run_before_them_verifies(run: Callable, say: Callable) -> None:
    folder = run('plain')
    held_out = read_held_out(folder)
    assert held_out is not None
    write_held_out(folder, dataclasses.replace(held_out, loss=held_out.loss + 0.5 * (np.arange(len(held_out.loss)) == 0)))
    status, said = say('verify', folder)
    assert status == 1 and said.startswith('held_out.npz: loss.0: stored ') and 'different: 1 of ' in said, said
    # As this code wrote it before: the last evaluation while it trained, and nothing apart.
    result = json.loads((folder / 'result.json').read_text())
    del result['contextless']
    last = [line for line in read_metrics(folder) if 'dev/mlm' in line][-1]
    result['metrics'] = {name: last[name] for name in ('dev/mlm', 'dev/mlm_accuracy', 'dev/nsp', 'dev/nsp_accuracy')}
    (folder / 'result.json').write_text(json.dumps(result))
    (folder / 'held_out.npz').unlink()
    status, said = say('verify', folder)
    assert status == 0 and said.endswith('all bits\n'), said


@pytest.mark.parametrize(
    ('shift', 'status', 'verdict'), [(0.0, 0, 'all bits'), (1e-5, 0, 'within 0.001'), (0.1, 1, 'by more than')]
)
def test_another_machine_has_a_tolerance(run: Callable, say: Callable, shift: float, status: int, verdict: str) -> None:
    folder = run('taught')
    for name, change in (
        ('environment.json', lambda record: record | {'processor': 'another'}),
        ('result.json', lambda record: record | {'metrics': {key: value + shift for key, value in record['metrics'].items()}}),
    ):
        record = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(change(record)))
    found, said = say('verify', folder)
    last = said.splitlines()[-1]
    assert found == status and verdict in last and (not shift or last.endswith('; here differ the processor')), said


# ---- Mistakes -------------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_computed_is_one_line(run: Callable, say: Callable, tmp_path: Path) -> None:
    def refused(words: str, *arguments: object) -> None:
        status, said = say(*arguments)
        assert status == 2 and said.startswith('error: ') and words in said and said.count('\n') == 1, said

    (tmp_path / 'empty').mkdir()
    refused('is no run folder', 'verify', tmp_path / 'empty')
    refused('is no run folder', 'replay', tmp_path / 'empty', '--step=1')
    folder = run('plain')
    for step in (0, -1, 7):
        refused(f'--step={step}: give one from 1 to 6', 'replay', folder, f'--step={step}')
    refused('--step', 'replay', folder)
    shutil.rmtree(folder / 'checkpoints' / '6')
    refused('the checkpoint of step 6, which is gone (there are: 4)', 'verify', folder)
    (folder / 'result.json').unlink()
    refused(f'is not finished: it has no whole result.json; python launch.py --workdir={folder} goes on', 'verify', folder)
    shutil.rmtree(folder)
    refused('the first state is gone: ', 'replay', run('task'), '--step=2')
    oldest = list_steps(run('task') / 'checkpoints')[0]
    refused(f'steps after {oldest} can be replayed', 'replay', run('task'), '--step=2')
    refused("teacher='@plain'", 'replay', run('taught'), '--step=2')
    without = json.dumps(json.loads((run('judged') / 'environment.json').read_text()) | {'devices': {}})
    for content, says in (('{', 'is missing or half-written'), (without, ': devices lacks the platform or a count from 1 to')):
        (run('judged') / 'environment.json').write_text(content)
        refused(f'environment.json {says}'.replace(' :', ':'), 'verify', run('judged'))


# ---- On the command line --------------------------------------------------------------------------------------------------------


def test_a_deterministic_run_records_its_flags_and_verifies(stories: dict[str, Any], root: Path, tmp_path: Path) -> None:
    shape = {'vocabulary': 512, 'layers': 1, 'width': 32, 'heads': 2, 'inner': 48, 'embedding': 32, 'positions': 32}
    changes = {f'model.{key}': value for key, value in shape.items()} | stories
    changes |= {'data.length': 32, 'run.steps': 1, 'run.batch': 8, 'run.evaluate_batches': 1, 'run.deterministic': 'true'}
    flags = [f'--config.{key}={value}' for key, value in changes.items()]

    def call(*line: str) -> str:
        done = subprocess.run([sys.executable, *line], cwd=root, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    said = call('launch.py', '--config=configs/bert.py:tiny', f'--workdir={tmp_path}/run', *flags)
    assert 'run.deterministic changes and costs nothing on CPU' in said
    environment = read_environment(tmp_path / 'run')
    assert environment is not None and '--xla_gpu_deterministic_ops=true' in environment.variables['XLA_FLAGS']
    assert environment.devices['count'] == 1 != describe_environment({}).devices['count']
    assert call('-m', 'research.study', 'verify', f'{tmp_path}/run').endswith('all bits\n')
    assert 'step 1: loss equal (' in call('-m', 'research.study', 'replay', f'{tmp_path}/run', '--step=1')
