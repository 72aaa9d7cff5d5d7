"""Runs: what a folder holds, what is refused before it begins, what continues, and what test is read for."""

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import jax
import numpy as np
import pytest

from research import costs, parallel, wire
from research.checkpoint import Checkpoints
from research.data.frequencies import find_shares
from research.errors import UserError
from research.evaluation.floors import is_floor
from research.evaluation.gains import read_held_out
from research.experiment import Experiment
from research.models.heads import Model, find_log_shares
from research.runs import ending, measuring, opening, sources, training
from research.runs import environment as environments
from research.runs import folder as run_folder
from research.runs import run as runs
from research.runs import validation as run_validation
from research.surgery import Donor
from research.train import initial_state
from research.wire import override

Tiny = Callable[..., Experiment]


def test_a_run_folder_holds_what_a_report_needs(teacher: Path, tiny: Tiny) -> None:
    x = wire.from_wire(json.loads((teacher / 'experiment.json').read_text()))
    assert x == tiny('bert')
    result = json.loads((teacher / 'result.json').read_text())
    fields = (
        'name steps metrics selected parameters flops_per_token flops_per_step checkpoint_bytes train_seconds wall_seconds '
        'tokens_per_second peak_memory_bytes latency_seconds smoothness unigram_entropy labels baseline reported score collapsed '
        'fingerprint contextless'
    )
    assert set(result) == set(fields.split())
    heads = (('mlm', 512), ('pair', 2))
    assert result['name'] == 'bert-base' and result['steps'] == 2 and result['selected'] is None and result['labels'] is None
    assert result['parameters'] == costs.summarize_parameters(x.model, heads)
    assert result['checkpoint_bytes'] == 4 * result['parameters']['total']
    assert result['flops_per_token'] * 32 == costs.count_forward_flops(x.model, 32)
    assert result['flops_per_step'] == 8 * 3 * costs.count_forward_flops(x.model, 32, 5)
    for name in ('train_seconds', 'tokens_per_second', 'peak_memory_bytes', 'latency_seconds', 'unigram_entropy'):
        assert result[name] > 0
    assert result['wall_seconds'] > result['train_seconds']
    assert [len(result['smoothness'][key]) for key in ('l2', 'degrees')] == [2, 2]
    environment = json.loads((teacher / 'environment.json').read_text())
    assert environment['steps'] == 2
    assert environment['devices']['count'] == 8 and environment['versions']['jax'] and environment['data']['fingerprint']
    assert (teacher / 'tokenizer' / 'tokenizer.json').is_file()
    assert list((teacher / 'tensorboard').iterdir())
    text = (teacher / 'log.txt').read_text()
    assert 'start: all parameters are random' in text and 'unigram entropy' in text
    assert text.count('this model has learnt nothing of context yet') == 2  # at step 2, and on all held-out rows


def test_all_held_out_rows_are_measured_at_the_end(teacher: Path) -> None:
    result, found = run_folder.read_result(teacher), read_held_out(teacher)
    facts = run_folder.read_environment(teacher)
    assert result is not None and found is not None and facts is not None
    assert found.document.tolist() == list(range(facts.data['held_out_documents']))
    assert {f'dev/{name}': value for name, value in found.describe().items()}.items() <= result.metrics.items()
    assert result.contextless == facts.data['contextless'] < facts.data['unigram_entropy']
    sample = [line for line in run_folder.read_metrics(teacher) if 'dev/gain' in line][-1]
    assert sample['dev/gain_error'] > result.metrics['dev/gain_error']  # of one batch


@pytest.mark.parametrize(('metrics', 'line'), [({'dev/gain': 0.049}, True), ({'dev/gain': 0.05}, False), ({'dev/mlm': 6.0}, False)])
def test_a_plateau_is_said_with_what_helps(metrics: dict[str, float], line: bool) -> None:
    said = measuring.explain_plateau(metrics)
    assert bool(said) == line and ('0.05 nats' in said and 'data.causal.share' in said and 'configs/bert.py:budget' in said) == line


def test_metrics_have_a_line_a_step(teacher: Path) -> None:
    lines = run_folder.read_metrics(teacher)
    assert [line['step'] for line in lines if 'train/loss' in line] == [1, 2]
    for line in lines[:2]:
        assert line['train/loss'] == pytest.approx(line['train/mlm'] + line['train/nsp'], rel=1e-5)
    assert [line['step'] for line in lines if 'dev/mlm' in line] == [2]
    assert [line['train/learning_rate'] for line in lines[:2]] == pytest.approx(
        [1e-4, 0.5e-4]
    )  # a warm-up of 1 % is no step of two
    # Fresh logits are small, so the loss begins near that of an even guess.
    assert lines[0]['train/mlm'] == pytest.approx(np.log(512), abs=0.2)


def test_a_finished_run_is_never_run_again(teacher: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in teacher.rglob('*')}
    monkeypatch.setattr(runs, 'load_data', lambda *_: pytest.fail('a finished run opened its data'))
    assert runs.run(tiny('bert'), teacher) == json.loads((teacher / 'result.json').read_text())
    assert {path: path.stat().st_mtime_ns for path in teacher.rglob('*')} == before


def test_a_finished_run_is_measured_again_where_only_its_result_is_gone(teacher: Path, tiny: Tiny, tmp_path: Path) -> None:
    shutil.copytree(teacher, tmp_path / 'bert')
    (tmp_path / 'bert' / 'result.json').unlink()
    before = json.loads((teacher / 'result.json').read_text())
    path = tmp_path / 'bert' / 'environment.json'
    first = json.loads(path.read_text()) | {'commit': 'of another day'}
    path.write_text(json.dumps(first))
    after = runs.run(tiny('bert'), tmp_path / 'bert')
    went_on = json.loads(path.read_text())
    assert {key: went_on[key] for key in first} == first and len(went_on['sessions']) == 1
    assert went_on['sessions'][0]['commit'] != 'of another day' and went_on['sessions'][0]['cores'] >= 1
    assert 'continues with changed commit' in (tmp_path / 'bert' / 'log.txt').read_text()
    assert after['metrics'] == before['metrics'] and after['steps'] == before['steps']
    assert run_folder.read_metrics(tmp_path / 'bert') == run_folder.read_metrics(teacher)


# ---- Dev selects, test is read once ----------------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def read(
    tiny: Tiny, examples: dict[str, Any], teacher: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[tuple[str, Any]], dict[str, Any]]:
    """A finished fine-tuning run whose dev accuracy is made to fall: (its folder, the splits that it measured, its result)."""
    workdir = tmp_path_factory.mktemp('runs') / 'task'
    changes = {'start': str(teacher), 'run.steps': 3, 'run.evaluate_every': 1, 'run.keep': 1, 'run.time_pass': True}
    measured: list[tuple[str, Any]] = []
    original = training.measure_split

    def falling(parts: opening.Parts, params: Any, split: str, threshold: float | None = None, **rest: Any) -> Any:
        measured.append((split, np.asarray(params['label']['output']['bias'])))
        found = original(parts, params, split, threshold, **rest)
        if split == 'dev' and len(measured) <= 3:
            found.metrics['dev/accuracy'] = (0.5, 0.9, 0.7)[len(measured) - 1]
        return found

    first = jax.devices()[:1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, 'devices', lambda: first)
        for module in (training, ending):
            patch.setattr(module, 'measure_split', falling)
        result = runs.run(tiny('finetune', {**examples, **changes}), workdir)
    return workdir, measured, result


def test_the_best_on_dev_is_selected_and_test_is_read_once_by_it(
    read: tuple[Path, list[tuple[str, Any]], dict[str, Any]],
) -> None:
    workdir, measured, result = read
    assert result['selected'] == {'step': 2, 'by': 'dev/accuracy', 'how': 'selected on dev; test is reported'}
    assert [split for split, _ in measured].count('test') == 1
    split, bias = measured[-1]
    assert {split for split, _ in measured[3:]} == {'dev', 'test'}
    selected = Checkpoints(workdir / 'checkpoints', read_only=True)
    np.testing.assert_array_equal(bias, selected.params(2)['label']['output']['bias'])
    selected.close()
    np.testing.assert_array_equal(bias, measured[1][1])
    assert np.abs(bias - measured[2][1]).max() > 0
    assert {f'{split}/{name}' for split in ('dev', 'test') for name in ('label', 'accuracy', 'score')} == {
        name for name in result['metrics'] if not is_floor(name)
    }
    told = re.search(r'a pass over (\d+) rows of test, one at a time on one core: ([\d.]+) s', (workdir / 'log.txt').read_text())
    assert told and int(told[1]) == len((workdir / 'test' / 'predictions.jsonl').read_text().splitlines())
    assert result['pass_seconds'] == pytest.approx(float(told[2]), abs=0.006) and result['pass_seconds'] > 0


def test_the_best_of_dev_is_never_reported_as_test(read: tuple[Path, list[tuple[str, Any]], dict[str, Any]]) -> None:
    workdir, _, result = read
    assert result['metrics']['dev/accuracy'] != 0.9  # what selected is noise at its best: dev is measured anew
    assert not [name for line in run_folder.read_metrics(workdir) for name in line if name.startswith('test/')]
    assert 'test/accuracy' in (workdir / 'log.txt').read_text()


def test_the_result_of_a_task_tells_its_baseline(read: tuple[Path, list[tuple[str, Any]], dict[str, Any]]) -> None:
    _, _, result = read
    assert set(result['baseline']) == {'majority', 'random'} and 1 / 3 <= result['baseline']['majority']['test/accuracy'] <= 1
    assert result['reported'] == 'test' and result['score'] == result['metrics']['test/accuracy']
    assert set(result['collapsed']) == {'dev', 'test', 'reported'}
    assert result['labels'] == ['a', 'b', 'c'] and result['unigram_entropy'] is None
    assert result['parameters']['modules']['label'] == 33 * 3


def test_the_score_of_a_task_stands_beside_its_floors(read: tuple[Path, list[tuple[str, Any]], dict[str, Any]]) -> None:
    workdir, _, result = read
    found = {name: value for name, value in result['metrics'].items() if is_floor(name)}
    assert set(found) == {f'{split}/floor_{name}' for split in ('dev', 'test') for name in ('commonest', 'bag_of_words')}
    assert found['dev/floor_bag_of_words'] == 1.0 > found['dev/floor_commonest']  # the label follows from the words
    line = result['floors']['line']
    assert line.startswith(f'test/accuracy {result["score"]:.4f}; floors: commonest answer ') and result['floors']['missing'] == {}
    assert line.endswith('NOT ABOVE bag of words') == (found['test/floor_commonest'] < result['score'] < 1)
    assert line in (workdir / 'log.txt').read_text()


def test_every_evaluated_split_leaves_its_predictions(read: tuple[Path, list[tuple[str, Any]], dict[str, Any]]) -> None:
    workdir, _, result = read
    for split, size in (('dev', 20), ('test', 12)):
        lines = [json.loads(line) for line in (workdir / split / 'predictions.jsonl').read_text().splitlines()]
        assert [line['id'] for line in lines] == [str(i) for i in range(size)]
        right = sum(line['label'] == line['prediction'] for line in lines)
        assert right / size == pytest.approx(result['metrics'][f'{split}/accuracy'])
        assert all(line['prediction'] == max(line['probabilities'], key=line['probabilities'].get) for line in lines)


@pytest.mark.usefixtures('one_device')
def test_evaluation_alone_scores_what_the_run_did(
    read: tuple[Path, list[tuple[str, Any]], dict[str, Any]], tiny: Tiny, examples: dict[str, Any], tmp_path: Path
) -> None:
    workdir, _, result = read
    again = runs.run(tiny('finetune', {**examples, 'start': str(workdir), 'run.steps': 0, 'run.epochs': 3.0}), tmp_path / 'again')
    assert again['steps'] == 0 and again['metrics'] == result['metrics'] and again['selected'] is None
    other = {**examples, 'start': str(workdir), 'run.steps': 0, 'data.labels': ('c', 'b', 'a')}
    with pytest.raises(UserError, match='has a, b, c, but the task .custom. has c, b, a: give --config.data.labels=a,b,c'):
        runs.run(tiny('finetune', other), tmp_path / 'refused')
    with pytest.raises(
        UserError, match='run.steps=0, but the start lacks label/output/kernel, label/output/bias: train it on what'
    ):
        runs.run(tiny('finetune', {**other, 'surgery.drop': ('label',)}), tmp_path / 'refused')
    names = {'a': 'x', 'b': 'y', 'c': 'z'}
    for split in ('train', 'dev', 'test'):
        lines = Path(examples[f'data.{split}']).read_text().splitlines()
        text = '\n'.join([lines[0], *(f'{line[:-1]}{names[line[-1]]}' for line in lines[1:])])
        (tmp_path / f'{split}.tsv').write_text(text)
    files = {f'data.{split}': str(tmp_path / f'{split}.tsv') for split in ('train', 'dev', 'test')}
    with pytest.raises(UserError, match='has a, b, c, but .* has x, y, z: give a run of this task, or .*surgery.drop=label'):
        runs.run(tiny('finetune', {**examples, **files, 'start': str(workdir)}), tmp_path / 'refused')
    partly = {**examples, 'start': str(workdir), 'surgery.inherit': False, 'model.types': 0, 'model.positions': 32}
    with pytest.raises(UserError, match='the encoder would be random in encoder/projection'):
        runs.run(
            tiny('finetune', {**partly, 'model.embedding': 16, 'surgery.drop': ('word', 'position', 'norm')}), tmp_path / 'refused'
        )
    assert not (tmp_path / 'refused').exists()


@pytest.mark.usefixtures('one_device')
def test_a_run_stops_when_nothing_gets_better(tiny: Tiny, examples: dict[str, Any], teacher: Path, tmp_path: Path) -> None:
    changes = {'start': str(teacher), 'run.steps': 9, 'run.evaluate_every': 1, 'run.patience': 2, 'optimizer.lr': 0.0}
    result = runs.run(tiny('finetune', {**examples, **changes}), tmp_path / 'run')
    assert result['steps'] == 3
    assert 'stops at step 3: no better dev/accuracy in 2 evaluations' in (tmp_path / 'run' / 'log.txt').read_text()
    assert (
        measuring.is_exhausted(2, [0.5, 0.6, 0.6, 0.5])
        and not measuring.is_exhausted(2, [0.5, 0.6, 0.7])
        and not measuring.is_exhausted(0, [1, 0, 0])
    )


@pytest.mark.usefixtures('one_device')
def test_the_moving_average_is_what_a_run_leaves_and_a_kill_does_not_change_it(
    tiny: Tiny, examples: dict[str, Any], teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {'start': str(teacher), 'run.steps': 4, 'run.checkpoint_every': 2, 'optimizer.ema': 0.5, 'optimizer.lr': 1e-2}
    x = tiny('finetune', {**examples, **changes, 'data.select': 'last'})
    last, finish = [], ending.finish
    monkeypatch.setattr(runs, 'finish', lambda parts, state, known: last.append(state.params) or finish(parts, state, known))
    whole = runs.run(x, tmp_path / 'whole')
    shutil.copytree(tmp_path / 'whole', tmp_path / 'killed')
    (tmp_path / 'killed' / 'result.json').unlink()
    shutil.rmtree(tmp_path / 'killed' / 'checkpoints' / '4')
    assert runs.run(x, tmp_path / 'killed')['metrics'] == whole['metrics']
    kept = [sources.open_donor(str(tmp_path / name), tmp_path, 'start').params for name in ('whole', 'killed')]
    jax.tree.map(np.testing.assert_array_equal, kept[0], kept[1])
    assert np.abs(kept[0]['label']['output']['kernel'] - last[0]['label']['output']['kernel']).max() > 0


@pytest.mark.usefixtures('one_device')
def test_a_run_without_held_out_documents_ends_with_a_checkpoint(tiny: Tiny, tmp_path: Path) -> None:
    result = runs.run(tiny('bert', {'data.held_out': 0.0, 'losses.nsp.weight': 0.0, 'data.pairs': 'none'}), tmp_path / 'run')
    assert result['metrics'] == {}
    assert sources.open_donor(str(tmp_path / 'run'), tmp_path, 'start').label.endswith('(step 2)')


# ---- What is refused, and leaves nothing behind ----------------------------------------------------------------------------------


@pytest.fixture
def other_vocabulary(teacher: Path, tmp_path: Path) -> Path:
    """A copy of the teacher's folder whose tokenizer has one more piece."""
    folder = tmp_path / 'stranger'
    shutil.copytree(teacher, folder)
    path = folder / 'tokenizer' / 'tokenizer.json'
    rules = json.loads(path.read_text())
    rules['model']['vocab']['##qqq'] = max(rules['model']['vocab'].values()) + 1
    path.write_text(json.dumps(rules))
    return folder


def test_a_teacher_with_another_vocabulary_is_refused(tiny: Tiny, teacher: Path, other_vocabulary: Path, tmp_path: Path) -> None:
    asked = {'teacher': str(other_vocabulary), 'start': '', 'data.tokenizer': str(teacher)}
    with pytest.raises(UserError, match="has another vocabulary than this run's tokenizer; give --config.data.tokenizer=teacher"):
        runs.run(tiny('distilbert', asked), tmp_path / 'run')
    asked = {'teacher': str(teacher), 'start': str(other_vocabulary)}
    with pytest.raises(UserError, match='start=.*has another vocabulary.*give --config.data.tokenizer=start'):
        runs.run(tiny('distilbert', asked), tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('part', ['encoder', 'embeddings', 'encoder/word'])
def test_a_start_that_gives_no_words_may_have_another_vocabulary(
    tiny: Tiny, teacher: Path, other_vocabulary: Path, tmp_path: Path, part: str
) -> None:
    changes = {'start': str(other_vocabulary), 'data.tokenizer': str(teacher), 'surgery.drop': (part,)}
    runs.run(tiny('bert', changes), tmp_path / 'run')
    assert (tmp_path / 'run' / 'result.json').exists()


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'teacher': ''}, "loss 'soft' needs a teacher: give --config.teacher=RUN, or --config.losses.soft.weight=0"),
        ({'teacher': './TEACHERS'}, 'there is no folder TEACHERS; train it first, or give another'),
        ({'teacher': '@nobody'}, "'@nobody': there is no folder"),
        ({'run.batch': 12}, 'run.batch=12 is not a multiple of 8 device(s)'),
        ({'optimizer.warmup': 100.0}, 'optimizer.warmup=100.0 is longer than the 2 steps of the run'),
        (
            {'model.width': 64},
            "loss 'cosine' does not fit: it compares hidden states, but the teacher's are 32 wide and the student's 64",
        ),
        ({'model.inner': 64}, 'start: encoder/feed_forward/'),
        ({'model.positions': 64, 'data.length': 64}, 'data.length=64, but the teacher has 32 positions'),
        (
            {'losses.soft.weight': 0.0, 'losses.mlm.weight': 0.0, 'losses.mse.weight': 1.0, 'losses.mse.at': 'label'},
            "loss 'mse' cannot be computed from these data",
        ),
        ({'data.source': 'text:/nowhere/*.txt'}, "no file matches '/nowhere/*.txt'"),
        ({'data.source': 'txet:x'}, "no data.source named 'txet'; did you mean 'text'?"),
        ({'data.tokenizer': 'start', 'start': ''}, "data.tokenizer='start', but there is no start: give"),
        ({'data.tokenizer': '@nobody'}, 'does not exist'),
        ({'surgery.drop': ('labl',)}, "surgery.drop names 'labl', which the model does not have"),
    ],
)
def test_a_run_that_is_impossible_leaves_nothing_behind(
    tiny: Tiny, teacher: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        runs.run(tiny('distilbert', {'teacher': str(teacher), **changes}), tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_the_nearest_sibling_of_a_missing_source_is_named(tiny: Tiny, teacher: Path) -> None:
    with pytest.raises(UserError, match="no folder .*bret; did you mean 'bert'\\?"):
        runs.run(tiny('distilbert', {'teacher': '@bret'}), teacher.parent / 'run')


def test_a_source_that_is_neither_a_folder_nor_on_the_hub_is_told_as_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(source: str) -> Path:
        raise UserError(f"'{source}' could not be fetched")

    monkeypatch.setattr(sources, 'fetch', fetch)
    monkeypatch.setattr(sources, 'is_hub_id', lambda source: True)
    with pytest.raises(UserError, match="teacher='a/b': there is no folder a/b, and 'a/b' could not be fetched"):
        sources.read_experiment('a/b', tmp_path, 'teacher')


def test_a_source_that_is_no_run_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match='is no run folder: it has no experiment.json'):
        sources.read_experiment(str(tmp_path / 'empty'), tmp_path, 'teacher')
    (tmp_path / 'empty' / 'experiment.json').write_text('{')
    with pytest.raises(UserError, match='experiment.json is not JSON'):
        sources.read_experiment(str(tmp_path / 'empty'), tmp_path, 'teacher')
    (tmp_path / 'empty' / 'experiment.json').write_text('{}')
    with pytest.raises(UserError, match='holds no checkpoints: train it first'):
        sources.open_donor(str(tmp_path / 'empty'), tmp_path, 'teacher')


def test_nothing_is_inherited_from_nothing(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(UserError, match='takes the architecture of the start: give --config.start=RUN'):
        runs.run(tiny('finetune', {'start': ''}), tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_a_sibling_is_found_by_its_name(tmp_path: Path) -> None:
    assert sources.locate('@a', tmp_path / 'b') == tmp_path / 'a'
    assert sources.locate('x/y', tmp_path / 'b') == Path('x/y')


def test_an_inherited_architecture_is_the_donors(tiny: Tiny, teacher: Path, examples: dict[str, Any]) -> None:
    x = override(tiny('finetune', {**examples, 'start': '@bert'}), {'model.dropout': 0.25, 'model.layers': 7})
    found = sources.resolve(x, teacher.parent / 'task').model
    assert found.dropout == 0.25 and found.layers == 2 and found.width == 32


@pytest.mark.parametrize(('heads', 'message'), [((), 'has no label head'), ((('label', 2),), 'has 2 classes in its label head')])
def test_a_teacher_without_the_head_is_refused(
    tiny: Tiny, examples: dict[str, Any], teacher: Path, heads: Any, message: str
) -> None:
    x = tiny('finetune', {**examples, 'start': '', 'surgery.inherit': False, 'teacher': 'run', 'losses.soft.weight': 1.0})
    x = override(x, {'losses.soft.at': 'label', 'data.tokenizer': str(teacher)})
    feed = opening.load_data(x, teacher.parent / 'task', None, None, parallel.make_plan('jit', 8, 1))
    donor = Donor('run (step 1)', x.model, heads, {}, None)
    with pytest.raises(UserError, match=re.escape(f'but the teacher run (step 1) {message}')):
        run_validation.validate_sources(x, feed, None, donor)


def test_a_teacher_of_other_labels_is_refused_and_one_of_numbers_gives_a_warning(
    tiny: Tiny, examples: dict[str, Any], teacher: Path
) -> None:
    x = tiny('finetune', {**examples, 'start': '', 'surgery.inherit': False, 'teacher': 'run', 'losses.soft.weight': 1.0})
    x = override(x, {'losses.soft.at': 'label', 'data.tokenizer': str(teacher)})
    feed = opening.load_data(x, teacher.parent / 'task', None, None, parallel.make_plan('jit', 8, 1))
    donor = Donor('run (step 1)', x.model, (('label', 3),), {}, None, ('x', 'y', 'z'))
    with pytest.raises(UserError, match=r'has x, y, z, but .* has a, b, c: give a run of this task, or .*losses.soft.weight=0'):
        run_validation.validate_sources(x, feed, None, donor)
    with pytest.raises(UserError, match='has c, b, a, but .*: give --config.data.labels=c,b,a'):
        run_validation.validate_sources(x, feed, None, dataclasses.replace(donor, labels=('c', 'b', 'a')))
    unnamed = dataclasses.replace(donor, labels=('LABEL_0', 'LABEL_1', 'LABEL_2'))
    (line,) = run_validation.validate_sources(x, feed, None, unnamed)
    assert line.startswith(
        'the labels of run (step 1) have no names: they are read in the order a, b, c. If its authors used another'
    )
    assert run_validation.validate_sources(override(x, {'data.labels': ('c', 'b', 'a')}), feed, None, unnamed) == []
    assert run_validation.validate_sources(x, feed, None, dataclasses.replace(donor, labels=('a', 'b', 'c'))) == []


def test_labels_are_known_of_a_run_that_was_killed(tmp_path: Path) -> None:
    environment = environments.describe_environment({'labels': ['a', 'b']})
    run_folder.write_environment(tmp_path, environment)
    assert sources.labels_of(tmp_path) == ('a', 'b')
    run_folder.write_environment(tmp_path, dataclasses.replace(environment, data={}))
    assert sources.labels_of(tmp_path) == () == sources.labels_of(tmp_path / 'nowhere')
    for strange in (5, 'ab', {'a': 1}, ['a', 1]):
        run_folder.write_environment(tmp_path, dataclasses.replace(environment, data={'labels': strange}))
        with pytest.raises(UserError, match=r'environment\.json has a damaged record of labels: restore the run from a copy'):
            sources.labels_of(tmp_path)


# ---- Folders that are taken ------------------------------------------------------------------------------------------------------


def test_a_folder_of_another_experiment_names_the_keys_that_differ(teacher: Path, tiny: Tiny) -> None:
    x = override(tiny('bert'), {'model.dropout': 0.3, 'seed': 9})
    with pytest.raises(UserError, match=r'holds another experiment; it differs in seed: 0 -> 9; model.dropout: 0.1 -> 0.3'):
        runs.run(x, teacher)


def test_a_run_goes_on_with_another_cache_and_other_workers(tiny: Tiny, teacher: Path, tmp_path: Path) -> None:
    shutil.copytree(teacher, tmp_path / 'run')
    (tmp_path / 'run' / 'result.json').unlink()
    runs.run(tiny('bert', {'machine.cache': str(tmp_path / 'moved'), 'machine.prefetch': 2}), tmp_path / 'run')
    assert (tmp_path / 'moved').is_dir()
    assert json.loads((tmp_path / 'run' / 'result.json').read_text())['metrics'] == {
        name: pytest.approx(value) for name, value in json.loads((teacher / 'result.json').read_text())['metrics'].items()
    }


def test_a_folder_of_before_the_cache_was_of_the_machine_is_read(tiny: Tiny, teacher: Path, tmp_path: Path) -> None:
    shutil.copytree(teacher, tmp_path / 'run')
    path = tmp_path / 'run' / 'experiment.json'
    stored = json.loads(path.read_text())
    stored['data'] |= stored.pop('machine')
    path.write_text(json.dumps(stored))
    runs.run(tiny('bert'), tmp_path / 'run')  # done, and not another experiment


def test_a_folder_that_is_no_run_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / 'thesis.tex').write_text('precious')
    with pytest.raises(UserError, match='is in use, but is no run folder: it has no experiment.json; give another --workdir'):
        runs.run(tiny('bert'), tmp_path)
    with pytest.raises(UserError, match='is in use, but is no run folder'):
        runs.run(tiny('bert'), tmp_path / 'thesis.tex')
    assert (tmp_path / 'thesis.tex').read_text() == 'precious'


@pytest.mark.parametrize('content', ['{', '{"modle": {}}'])
def test_a_folder_whose_experiment_cannot_be_read_is_refused(tiny: Tiny, tmp_path: Path, content: str) -> None:
    (tmp_path / 'experiment.json').write_text(content)
    with pytest.raises(UserError, match='experiment.json is (not JSON|from another version) .*; give another --workdir'):
        runs.run(tiny('bert'), tmp_path)


def test_a_run_whose_data_have_changed_is_not_continued(tiny: Tiny, teacher: Path, tmp_path: Path) -> None:
    shutil.copytree(teacher, tmp_path / 'run')
    (tmp_path / 'run' / 'result.json').unlink()
    path = tmp_path / 'run' / 'environment.json'
    for data, words in (
        ({'fingerprint': 'other'}, 'the data have changed since .* began \\(other -> '),
        ({}, 'is half-written or'),
    ):
        path.write_text(json.dumps(json.loads(path.read_text()) | {'data': data}))
        with pytest.raises(UserError, match=f'{words}.*give another --workdir'):
            runs.run(tiny('bert'), tmp_path / 'run')


def test_a_kill_while_the_folder_begins_leaves_one_that_can_begin_again(tiny: Tiny, tmp_path: Path) -> None:
    x = tiny('bert')
    (tmp_path / 'experiment.json.part').write_text('{"na')
    run_validation.validate_folder(x, tmp_path)
    (tmp_path / 'failure.json').write_text('{}')
    run_validation.validate_folder(x, tmp_path)


def test_a_size_that_was_not_predicted_is_a_mistake_of_ours(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    x, nothing = tiny('bert'), cast(Any, None)
    monkeypatch.setattr(costs, 'summarize_parameters', lambda a, heads: {'total': 1})
    with pytest.raises(AssertionError, match=r'parameters, but 1 were predicted'):
        opening.first_state(Model(x.model, (('mlm', 512),)), x, None, nothing)


def test_a_fresh_mlm_head_begins_at_the_training_frequencies(tiny: Tiny) -> None:
    x = override(tiny('bert'), {'model.mlm_bias': 'frequencies', 'optimizer.ema': 0.9})
    feed: Any = SimpleNamespace(counts=np.arange(510), pieces=SimpleNamespace(special=np.arange(510) < 5))
    model = Model(x.model, (('mlm', 512),))
    state, notes = opening.first_state(model, x, None, feed)
    assert notes[-1] == "start: the MLM head's bias is the log of the training frequencies"
    expected = find_log_shares(find_shares(feed.counts, feed.pieces.special), 512)
    for params in (state.params, state.average):
        np.testing.assert_array_equal(params['mlm']['output']['bias'], expected)
    trained = Donor('a', x.model, model.heads, jax.device_get(initial_state(model, x.optimizer, 1).params), None)
    started, _ = opening.first_state(model, x, trained, feed)  # a head that the start has keeps its bias
    assert not started.params['mlm']['output']['bias'].any()
    dropped, _ = opening.first_state(model, override(x, {'surgery.drop': 'mlm'}), trained, feed)
    np.testing.assert_array_equal(dropped.params['mlm']['output']['bias'], expected)


def test_a_causal_start_is_no_plateau() -> None:
    said = measuring.explain_plateau({'dev/gain': -2.0}, unmasked=1200)
    assert 'masked ones begin in 1,200 steps' in said and 'learnt nothing' not in said
    assert 'learnt nothing' in measuring.explain_plateau({'dev/gain': -2.0}, unmasked=-3)


def test_the_seed_decides_the_first_parameters(tiny: Tiny) -> None:
    x = tiny('bert')
    model = Model(x.model, (('mlm', 512),))
    one, same, other = (initial_state(model, x.optimizer, seed).params['encoder']['word'] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0


def test_epochs_decide_the_steps_where_they_are_given(tiny: Tiny) -> None:
    class Feed:
        examples = 100

    feed: Any = Feed()
    x = tiny('bert')
    assert opening.number_of_steps(x, feed) == 2
    assert opening.number_of_steps(override(x, {'run.epochs': 2.5}), feed) == 32
    assert dataclasses.replace(x.run, epochs=0.01).epochs and opening.number_of_steps(override(x, {'run.epochs': 0.01}), feed) == 1
