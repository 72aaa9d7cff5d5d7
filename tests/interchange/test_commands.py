"""Import and export as commands: their files, output and errors."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from research import experiment, wire
from research.command import run_command
from research.data.tokenizers import load_tokenizer
from research.errors import UserError
from research.escape import clean
from research.interchange import __main__ as interchange
from research.interchange import reading, writing
from research.interchange.tensor_names import flatten
from research.models.architecture import Architecture
from research.models.heads import Model, initialise
from research.records import to_json
from research.runs import run as runs
from research.runs import sources
from research.surgery import Donor


def donor_of(fields, heads, seed=0) -> Donor:
    """A tiny model of ours, its parameters random."""
    small = Architecture(vocabulary=32, layers=4, width=8, heads=2, inner=12, embedding=8, positions=16)
    a = dataclasses.replace(small, **fields)
    classes = {'mlm': 32, 'pair': 2, 'label': 3, 'span': 2, 'answer': 1, 'choice': 1}
    named = tuple((head, classes[head]) for head in heads)
    generator = np.random.default_rng(seed)
    params = initialise(Model(a, named), jax.random.key(seed))
    noisy = jax.tree.map(lambda x: np.asarray(x) + generator.normal(0, 0.3, x.shape).astype(np.float32), params)
    return Donor('mine', a, named, noisy, None)


def outputs(donor: Donor) -> dict[str, np.ndarray]:
    """{name: output} of the model on one batch; layers included."""
    network = Model(dataclasses.replace(donor.architecture, unroll=1), donor.heads)
    ids = np.random.default_rng(0).integers(5, 32, (3, 9)).astype(np.int32)
    mask = (np.arange(9)[None] < np.array([[9], [4], [1]])).astype(np.int32)
    types = (np.arange(9)[None] > 3) * mask if donor.architecture.types else mask * 0
    given = ids, types.astype(np.int32), mask

    def forward(params):
        out: Any = network.apply({'params': params}, *given, frozenset({'layers'}))
        return {'layers': out.layers} | {
            name: network.apply({'params': params}, name, out, method='logits') for name, _ in donor.heads
        }

    return {name: np.asarray(x) for name, x in jax.jit(forward)(donor.params).items()}


@pytest.mark.parametrize(
    ('fields', 'heads', 'kind', 'albert', 'note'),
    [
        ({'sharing': 'attention'}, ('mlm', 'pair'), 'albert', (4, 4, 1), 'with 4 groups computes the same, with copies'),
        ({'sharing': 'ffn'}, ('label',), 'albert', (4, 4, 1), 'with 4 groups computes the same, with copies'),
        ({'sharing': 'cycle', 'groups': 2}, ('mlm',), 'albert', (2, 1, 2), 'the identity'),
        ({'sharing': 'cycle', 'groups': 3}, ('mlm',), 'albert', (4, 4, 1), 'with 4 groups computes the same, with copies'),
        ({'sharing': 'groups', 'groups': 2, 'embedding': 6}, ('span',), 'albert', (4, 2, 1), 'the pooler is left out'),
        ({'sharing': 'table', 'table': ((0, 0), (1, 0), (0, 0), (1, 1))}, ('choice',), 'albert', (4, 4, 1), 'with copies'),
        ({'embedding': 6}, ('mlm', 'pair'), 'albert', (4, 4, 1), 'BERT has no embeddings of another size: an ALBERT with 4 groups'),
        ({'types': 0}, ('mlm', 'pair'), 'bert', None, 'token types are added, all zero'),
        ({'position_kind': 'sinusoidal'}, ('label',), 'bert', None, 'the sinusoidal positions are a table'),
        ({'pooler': False}, (), 'bert', None, 'BertModel.from_pretrained(…, add_pooling_layer=False)'),
        ({'types': 0, 'pooler': False, 'position_kind': 'sinusoidal'}, ('label',), 'distilbert', None, ''),
        ({'norm': 'pre'}, ('mlm', 'pair'), 'megatron-bert', None, ''),
        ({'norm': 'pre', 'sharing': 'all', 'pooler': False}, (), 'megatron-bert', None, 'megatron-bert shares no weights'),
        ({'norm': 'deepnorm', 'sharing': 'ffn'}, ('label',), 'albert', (4, 4, 1), 'with α = 1.6818 (model.norm=deepnorm)'),
        ({'norm': 'deepnorm', 'position_kind': 'rotary', 'embedding': 6}, ('mlm',), 'roformer', None, 'the pooler is left out'),
        ({'position_kind': 'rotary', 'types': 0}, (), 'roformer', None, 'the pooler is left out: RoFormerModel has none'),
    ],
)
def test_every_model_is_exported_to_a_class_that_computes_the_same(fields, heads, kind, albert, note, tmp_path):
    donor = donor_of(fields, heads)
    exported = writing.export_model(donor, tmp_path / 'run', tmp_path / 'out', None, 'mit')
    assert exported.kind == kind
    assert albert is None or exported.albert == albert
    assert any(note in each for each in exported.notes) or not note
    again, report = reading.open_folder(tmp_path / 'out', 'out')
    assert all(row.status == 'loaded' or 'sinusoids' in row.what for row in report)
    expected, found = outputs(donor), outputs(again)
    assert expected.keys() == found.keys()
    for name, x in expected.items():
        np.testing.assert_allclose(found[name], x, rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ('fields', 'heads', 'asked', 'message'),
    [
        ({}, ('mlm', 'label'), None, r'no bert class has the heads mlm \+ label; choose with --heads \(there are: none, mlm'),
        ({}, ('mlm',), ('label',), r'mine has no label head \(it has: mlm\)'),
        ({'pooler': False}, ('label',), None, 'the label head reads the first position without a pooler, which no bert class does'),
        (
            {'norm': 'pre', 'position_kind': 'rotary'},
            ('mlm',),
            None,
            "no Hugging Face class has both model.norm='pre' and model.pos",
        ),
        ({'norm': 'pre', 'embedding': 6}, ('mlm',), None, 'as wide as its layers, here 6 and 8'),
        ({'norm': 'pre', 'projection': True}, ('mlm',), None, 'a projection from embeddings to layers: MegatronBert'),
        ({'position_kind': 'rotary', 'projection': True}, ('mlm',), None, 'RoFormer projects those of another size only'),
        (
            {'position_kind': 'rotary'},
            ('label',),
            None,
            r'no roformer class has the heads label; choose with --heads \(there are: none, m',
        ),
    ],
)
def test_a_model_that_no_class_computes_is_refused(fields, heads, asked, message, tmp_path):
    with pytest.raises(UserError, match=message):
        writing.export_model(donor_of(fields, heads), tmp_path / 'run', tmp_path / 'out', asked, 'mit')
    assert not (tmp_path / 'out').exists()


def test_import_and_export_as_commands(model, tmp_path, capsys):
    folder = model('BertLabel')
    assert run_command(interchange.main, ['import', str(folder), str(tmp_path / 'run')]) == 0
    message = capsys.readouterr().out
    assert '│ loaded │ encoder/pooler' in message
    size = sum(x.size for x in load_file(folder / 'model.safetensors').values())
    assert message.splitlines()[-1].endswith(f'{size:,} parameters, heads: label')
    assert {path.name for path in (tmp_path / 'run').iterdir()} == {
        'experiment.json',
        'environment.json',
        'result.json',
        'tokenizer',
        'checkpoints',
    }
    donor = sources.open_donor(str(tmp_path / 'run'), tmp_path / 'x', 'start')
    direct, _ = reading.open_folder(folder, 'direct')
    assert donor.architecture == direct.architecture
    assert donor.labels == ('bad', 'fine', 'good')
    left, right = flatten(donor.params), flatten(direct.params)
    assert left.keys() == right.keys()
    assert all(left[path].tobytes() == right[path].tobytes() for path in left)
    assert runs.run(sources.read_experiment(str(tmp_path / 'run'), tmp_path / 'x', 'start'), tmp_path / 'run')['steps'] == 0

    assert run_command(interchange.main, ['export', str(tmp_path / 'run'), str(tmp_path / 'out'), '--licence=mit']) == 0
    assert 'BertForSequenceClassification (model type bert)' in capsys.readouterr().out
    config = json.loads((tmp_path / 'out' / 'config.json').read_text())
    assert config['id2label'] == {'0': 'bad', '1': 'fine', '2': 'good'}
    assert config['label2id'] == {'bad': 0, 'fine': 1, 'good': 2}
    again, _ = reading.open_folder(tmp_path / 'out', 'out')
    assert all(flatten(again.params)[path].tobytes() == right[path].tobytes() for path in right)
    assert again.tokenizer is not None
    assert donor.tokenizer is not None
    assert load_tokenizer(again.tokenizer).to_str() == load_tokenizer(donor.tokenizer).to_str()


def test_the_result_of_an_import_has_the_same_keys_as_that_of_a_run(teacher):
    imported = set(to_json(interchange.make_result(donor_of({}, ('mlm',)), 'mine')))
    assert imported | {'contextless'} == set(json.loads((teacher / 'result.json').read_text()))  # it has seen no text


def test_the_card_names_the_origin_of_a_model(teacher, tmp_path):
    assert run_command(interchange.main, ['export', str(teacher), str(tmp_path / 'out'), '--heads=mlm', '--licence=mit']) == 0
    text = (tmp_path / 'out' / 'README.md').read_text()
    environment, result = (json.loads((teacher / name).read_text()) for name in ('environment.json', 'result.json'))
    facts = json.loads((teacher / 'tokenizer' / 'facts.json').read_text())
    assert text.startswith('---\nlicense: mit\n')
    for message in (
        environment['data']['fingerprint'],
        facts['fingerprint'],
        f'{result["metrics"]["dev/mlm"]:.4f}',
        f'{result["parameters"]["encoder"]:,} in the encoder',
        'The pooler is left out',
        '| Command | `python ',
        '| layers | 2 |',
    ):
        assert message in text


def test_entry_runs_the_command_line_of_the_process(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr('sys.argv', ['research-interchange', 'export', str(tmp_path), str(tmp_path / 'out')])
    assert interchange.entry() == 2
    assert 'is no run folder: it has no experiment.json' in capsys.readouterr().err


def test_a_card_of_a_run_without_records(tmp_path):
    writing.export_model(donor_of({}, ('mlm',)), tmp_path / 'run', tmp_path / 'out', None, 'unknown')
    text = (tmp_path / 'out' / 'README.md').read_text()
    assert '| Data fingerprint | not recorded |' in text
    assert 'The run recorded none.' in text


def test_folders_in_use_are_left_alone(model, tmp_path, capsys):
    folder = model()
    (tmp_path / 'used').mkdir()
    (tmp_path / 'used' / 'file').write_text('')
    assert run_command(interchange.main, ['import', str(folder), str(tmp_path / 'used')]) == 2
    assert f'error: {tmp_path / "used"} exists already' in capsys.readouterr().err
    with pytest.raises(UserError, match='exists already: give another folder'):
        writing.export_model(donor_of({}, ('mlm',)), tmp_path / 'run', tmp_path / 'used', None, 'unknown')
    (tmp_path / 'empty').mkdir()
    assert run_command(interchange.main, ['import', str(folder), str(tmp_path / 'empty')]) == 0
    (tmp_path / 'empty too').mkdir()
    assert run_command(interchange.main, ['export', str(tmp_path / 'empty'), str(tmp_path / 'empty too')]) == 0


def test_what_lies_beside_a_target_is_left_alone(model, tmp_path, capsys, monkeypatch):
    folder = model()
    for name in ('mine.part', 'out.part', '.mine.12345678.part'):  # the user's own, and what an import left that was killed
        (tmp_path / name).mkdir()
        (tmp_path / name / 'kept').write_text(name)
    assert run_command(interchange.main, ['import', str(folder), str(tmp_path / 'mine')]) == 0
    assert run_command(interchange.main, ['export', str(tmp_path / 'mine'), str(tmp_path / 'out')]) == 0
    for name in ('mine.part', 'out.part', '.mine.12345678.part'):
        assert (tmp_path / name / 'kept').read_text() == name
    (tmp_path / 'here').mkdir()
    monkeypatch.chdir(tmp_path / 'here')
    capsys.readouterr()
    for arguments in (['import', str(folder), '.'], ['export', str(tmp_path / 'mine'), '.']):
        assert run_command(interchange.main, arguments) == 2
        assert capsys.readouterr().err.startswith('error: . is the current folder, which cannot be replaced')
    assert not list((tmp_path / 'here').iterdir())


@pytest.mark.parametrize('name', ['a [bold] b', '[', '[/foo]', 'a + b', '[red]x[/]', 'a\x1b[31mb'])
def test_names_are_printed_as_they_are(name, model, tmp_path, capsys, monkeypatch):
    folder = model()
    tensors = load_file(folder / 'model.safetensors') | {f'{name}\n': np.zeros(3, np.float32)}
    save_file(tensors, folder / 'model.safetensors')
    folder = folder.rename(tmp_path / f'hf {name.replace("/", "")}')
    run, out = tmp_path / f'run {name.replace("/", "").replace("[", "(")}', tmp_path / f'out {name.replace("/", "")}'
    assert run_command(interchange.main, ['import', str(folder), str(run)]) == 0
    printed = capsys.readouterr().out
    assert f'│ ignored │ {clean(name)}\\x0a ' in printed and '\x1b' not in printed
    assert f'{clean(str(folder))} -> {clean(str(run))}: ' in printed
    assert run_command(interchange.main, ['export', str(run), str(out), '--heads=none']) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f'{clean(str(run))} -> {clean(str(out))}: BertModel') and '\x1b' not in printed
    assert (out / 'config.json').is_file()


@pytest.mark.parametrize('name', ['a[b]', 'a*', 'a?'])
def test_a_run_is_not_written_where_it_could_not_be_read(name, model, tiny, tmp_path, capsys):
    assert run_command(interchange.main, ['import', str(model()), str(tmp_path / name)]) == 2
    assert 'checkpoints cannot be kept below a folder with [, * or ? in its name: give another' in capsys.readouterr().err
    with pytest.raises(UserError, match='checkpoints cannot be kept'):
        runs.run(tiny('bert'), tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} <= {'BertPretraining', '.locks'}


def test_a_report_of_many_tensors_is_cut(model, tmp_path, capsys):
    folder = model()
    more = {f'other.{i}': np.zeros(2, np.float32) for i in range(1000)}
    save_file(load_file(folder / 'model.safetensors') | more, folder / 'model.safetensors')
    assert run_command(interchange.main, ['import', str(folder), str(tmp_path / 'run')]) == 0
    printed = capsys.readouterr().out
    assert ' other.1' in printed and ' more ' in printed and len(printed.splitlines()) < 220


def test_a_run_whose_training_diverged_is_not_exported(model, tmp_path, capsys):
    donor = donor_of({}, ('mlm',))
    donor.params['encoder']['word'][3, 2] = np.nan
    with pytest.raises(UserError, match='encoder/word holds numbers that are not finite'):
        writing.export_model(donor, tmp_path / 'run', tmp_path / 'out', None, 'mit')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'damage',
    [
        lambda params: params['encoder'].pop('type'),
        lambda params: params['encoder'].update(other=np.zeros(3, np.float32)),
        lambda params: params['encoder'].update(word=np.zeros((3, 8), np.float32)),
    ],
)
def test_a_checkpoint_of_another_model_is_not_exported(damage, tmp_path):
    donor = donor_of({}, ('mlm',))
    damage(donor.params)
    with pytest.raises(UserError, match='mine: the checkpoint does not fit the experiment.json beside it in encoder/'):
        writing.export_model(donor, tmp_path / 'run', tmp_path / 'out', None, 'mit')


@pytest.mark.parametrize('result', ['{"name": "x"', '{"name": "x"}', '[]', '', '{"metrics": {"a": "b"}}'])
def test_a_half_written_result_leaves_nothing_half_exported(result, model, tmp_path):
    assert run_command(interchange.main, ['import', str(model()), str(tmp_path / 'run')]) == 0
    (tmp_path / 'run' / 'result.json').write_text(result)
    assert run_command(interchange.main, ['export', str(tmp_path / 'run'), str(tmp_path / 'out'), '--heads=mlm']) == 0
    assert 'The run recorded none.' in (tmp_path / 'out' / 'README.md').read_text()
    assert not list(tmp_path.glob('.*'))


def test_a_card_shows_what_files_hold_as_text(teacher, tmp_path):
    run = tmp_path / 'run'
    shutil.copytree(teacher, run)
    for file, change in (
        ('experiment.json', {'name': 'a\n# b <script> | [x](y)'}),
        ('environment.json', {'command': ['launch.py', '`|\n\x1b', '--api-key', 'hunter2'], 'commit': '<b>'}),
    ):
        record = json.loads((run / file).read_text()) | change
        (run / file).write_text(json.dumps(record))
    assert run_command(interchange.main, ['export', str(run), str(tmp_path / 'out'), '--heads=mlm']) == 0
    text = (tmp_path / 'out' / 'README.md').read_text()
    assert r'# a # b &lt;script> | \[x\](y)' in text
    assert '| Command | <code>python launch.py &#39;&#96;&#124; &#92;x1b&#39; --api-key &#39;&#8230;&#39;</code> |' in text
    assert '| Commit of the code | &lt;b> |' in text
    assert '<script>' not in text and '\x1b' not in text and 'hunter2' not in text


def test_mistakes_are_one_line_and_status_2(model, tmp_path, capsys):
    (folder := model()).joinpath('vocab.txt').unlink()
    assert run_command(interchange.main, ['import', str(folder), str(tmp_path / 'run')]) == 0
    assert 'note: the folder has no tokenizer' in capsys.readouterr().out
    for arguments, message in (
        (
            ['import', str(tmp_path / 'nowhere'), str(tmp_path / 'x')],
            "SOURCE='" + str(tmp_path / 'nowhere') + "': there is no folder",
        ),
        (['import', str(tmp_path), str(tmp_path / 'x')], 'has neither config.json nor experiment.json'),
        (['export', str(folder), str(tmp_path / 'x')], 'is no run folder: it has no experiment.json'),
        (['convert'], "invalid choice: 'convert'"),
        ([], 'the following arguments are required: command'),
        (['import', str(folder)], 'the following arguments are required: run'),
    ):
        assert run_command(interchange.main, arguments) == 2
        output = capsys.readouterr().err
        assert message in output
        assert output.startswith('error: ')
        assert output.count('\n') == 1


# ---- Sources ------------------------------------------------------------------------------------------------------------------


def test_a_folder_of_neither_kind_is_refused(tmp_path):
    with pytest.raises(UserError, match=r'is no run folder: it has no experiment.json \(nor the config.json'):
        sources.read_experiment(str(tmp_path), tmp_path / 'x', 'start')
    (tmp_path / 'experiment.json').write_text('{')
    with pytest.raises(UserError, match=r'experiment.json is not JSON'):
        sources.read_experiment(str(tmp_path), tmp_path / 'x', 'start')


def fine_tuning(tiny, folder: Path, examples, **changes) -> experiment.Experiment:
    """The fine-tuning recipe on a small task, started from `folder`."""
    given = {'start': str(folder), 'data.length': 16, 'surgery.inherit': True, **examples, **changes}
    return tiny('finetune', given)


@pytest.mark.usefixtures('one_device')
@pytest.mark.parametrize('name', ['BertPretraining', 'DistilBertMlm', 'AlbertPretraining'])
def test_a_run_starts_from_a_hugging_face_folder(name, model, tiny, examples, tmp_path):
    result = runs.run(fine_tuning(tiny, model(name), examples), tmp_path / 'run')
    assert set(result['metrics']) >= {'dev/label', 'test/accuracy'}
    log = (tmp_path / 'run' / 'log.txt').read_text()
    assert 'start: random: label/' in log
    assert load_tokenizer(tmp_path / 'run' / 'tokenizer').token_to_id('sailor') == 9


@pytest.mark.usefixtures('one_device')
def test_fine_tuning_with_another_tokenizer_is_refused(model, tiny, examples, tmp_path):
    folder = model()
    other = model('BertModel')
    (other / 'vocab.txt').write_text((other / 'vocab.txt').read_text().replace('sailor', 'pirate'))
    x = fine_tuning(tiny, folder, examples, **{'data.tokenizer': str(other / 'vocab.txt')})
    with pytest.raises(UserError, match="has another vocabulary than this run's tokenizer; give --config.data.tokenizer=start"):
        runs.run(x, tmp_path / 'run')
    dropped = wire.override(x, {'surgery.drop': ('word',)})
    assert runs.run(dropped, tmp_path / 'run')['steps'] > 0


@pytest.mark.usefixtures('one_device')
def test_a_hugging_face_folder_can_be_the_teacher(model, tiny, tmp_path):
    folder = model('BertPretraining')
    shape = {'vocabulary': 32, 'width': 8, 'embedding': 8, 'inner': 12, 'positions': 16}
    x = tiny('distilbert', {'teacher': str(folder), 'data.length': 16, **{f'model.{field}': size for field, size in shape.items()}})
    assert runs.run(x, tmp_path / 'run')['steps'] == 2


@pytest.mark.usefixtures('one_device')
def test_a_label_head_that_cannot_be_read_is_refused_where_it_is_read_alone(model, tiny, examples, tmp_path):
    folder = model('BertLabel', problem_type='multi_label_classification')
    x = fine_tuning(tiny, folder, examples)
    with pytest.raises(UserError, match='an input has one label; begin a new head with --config.surgery.drop=label'):
        runs.run(x, tmp_path / 'run')
    taught = wire.override(
        x, {'surgery.drop': ('label',), 'teacher': str(folder), 'losses.soft.weight': 1.0, 'losses.soft.at': 'label'}
    )
    with pytest.raises(UserError, match=r"loss 'soft' reads the label head of the teacher .*: config.json has problem_type="):
        runs.run(taught, tmp_path / 'run')
    assert runs.run(wire.override(x, {'surgery.drop': ('label',)}), tmp_path / 'run')['steps'] == 2


def test_a_padded_vocabulary_is_kept(model, tmp_path):
    folder = model(vocab_size=40)
    tensors = load_file(folder / 'model.safetensors')
    for name in ('bert.embeddings.word_embeddings.weight', 'cls.predictions.bias'):
        tensors[name] = np.concatenate([tensors[name], np.full_like(tensors[name][:8], 0.5)])
    save_file(tensors, folder / 'model.safetensors')
    assert run_command(interchange.main, ['import', str(folder), str(tmp_path / 'run')]) == 0
    assert run_command(interchange.main, ['export', str(tmp_path / 'run'), str(tmp_path / 'out')]) == 0
    again = load_file(tmp_path / 'out' / 'model.safetensors')
    np.testing.assert_array_equal(
        again['bert.embeddings.word_embeddings.weight'], tensors['bert.embeddings.word_embeddings.weight']
    )
    assert json.loads((tmp_path / 'out' / 'config.json').read_text())['vocab_size'] == 40
    donor = sources.open_donor(str(tmp_path / 'out'), tmp_path / 'x', 'start')
    assert donor.tokenizer is not None and load_tokenizer(donor.tokenizer).get_vocab_size() == 32
