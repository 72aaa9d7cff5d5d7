"""Sentence encoders: the files of sentence-transformers beside a model, read by `--kind=embed`, kept by import and export."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from research.command import run_command
from research.errors import UserError
from research.interchange import __main__ as interchange
from research.interchange import reading
from research.interchange.pooling import MODES, is_lowercase
from research.predict import __main__ as predict
from research.predict.kinds import POOLINGS
from research.records import write_record
from research.runs import sources
from research.runs.folder import read_environment
from research.surgery import Pooling

TEXT = 'the old king lost a map of the garden .'
STEPS = ('Transformer', 'Pooling', 'Normalize')
FOLDERS = {'Transformer': '', 'Pooling': '1_Pooling', 'Normalize': '2_Normalize'}


def encode(folder: Path, modes: dict[str, Any], steps: tuple[str, ...] = STEPS[:2], **settings: Any) -> Path:
    """`folder` as a sentence encoder."""
    named = [
        {'idx': i, 'path': FOLDERS[step] if step in FOLDERS else step, 'type': f'sentence_transformers.models.{step}'}
        for i, step in enumerate(steps)
    ]
    (folder / 'modules.json').write_text(json.dumps(named))
    (folder / '1_Pooling').mkdir(exist_ok=True)
    (folder / '1_Pooling' / 'config.json').write_text(json.dumps({'word_embedding_dimension': 8, **modes}))
    (folder / 'sentence_bert_config.json').write_text(json.dumps(settings))
    return folder


def ask(source: Path, kind: str, text: str = TEXT, status: int = 0) -> Any:
    """The one prediction for a text."""
    place = source.parent
    (place / 'in.jsonl').write_text(json.dumps({'text': text}) + '\n')
    output = place / ('out.npz' if kind == 'hidden' else 'out.jsonl')
    arguments = [str(source), f'--kind={kind}', f'--input={place / "in.jsonl"}', f'--output={output}']
    assert run_command(predict.main, arguments) == status
    if status:
        return None
    if kind == 'hidden':
        with np.load(output) as arrays:
            return arrays['0/hidden_1']
    return np.array(json.loads(output.read_text())['embedding'])


def expect(mode: str, x: np.ndarray) -> np.ndarray:
    """The vector of hidden states [T, D] by the rules of sentence-transformers, without padding."""
    places = np.arange(1, len(x) + 1)[:, None]
    return {
        'cls': x[0],
        'max': x.max(0),
        'mean': x.mean(0),
        'mean_sqrt_len': x.sum(0) / np.sqrt(len(x)),
        'weightedmean': (x * places).sum(0) / places.sum(),
        'lasttoken': x[-1],
    }[mode]


def test_every_mode_is_a_pooling() -> None:
    assert tuple(MODES.values()) == ('cls', 'max', 'mean', 'mean_sqrt_len', 'weightedmean', 'lasttoken')
    assert set(MODES.values()) == set(POOLINGS)


@pytest.mark.parametrize('key', MODES)
def test_a_text_becomes_the_vector_that_the_folder_names(key, model):
    folder = encode(model('BertModel'), {'pooling_mode_mean_tokens': False, key: True})
    np.testing.assert_allclose(ask(folder, 'embed'), expect(MODES[key], ask(folder, 'hidden')), rtol=0, atol=1e-6)


def test_several_modes_are_joined_and_the_whole_is_normalised(model):
    folder = encode(model('BertModel'), {'pooling_mode_lasttoken': True, 'pooling_mode_cls_token': True}, STEPS)
    hidden = ask(folder, 'hidden')
    joined = np.concatenate([expect(mode, hidden) for mode in ('cls', 'mean', 'lasttoken')])
    np.testing.assert_allclose(ask(folder, 'embed'), joined / np.linalg.norm(joined), rtol=0, atol=1e-6)


def test_a_maximum_length_is_that_of_embeddings_alone(model):
    folder = encode(model('BertModel'), {}, max_seq_length=5, do_lower_case=True)
    assert len(ask(folder, 'hidden')) == 12
    np.testing.assert_allclose(ask(folder, 'embed'), ask(folder, 'hidden', 'the old king').mean(0), rtol=0, atol=1e-6)


def test_a_folder_without_modules_has_its_pooling(model):
    folder = encode(model('BertModel'), {'pooling_mode_cls_token': True, 'pooling_mode_mean_tokens': False})
    (folder / 'modules.json').unlink()
    assert reading.open_folder(folder, 'model')[0].pooling == Pooling(('cls',))


def test_import_and_export_keep_it(model, tmp_path, capsys):
    folder = encode(
        model('BertPretraining'), {'pooling_mode_cls_token': True, 'pooling_mode_mean_tokens': False}, STEPS, max_seq_length=7
    )
    vector = ask(folder, 'embed')
    assert run_command(interchange.main, ['import', str(folder), str(tmp_path / 'run')]) == 0
    np.testing.assert_array_equal(ask(tmp_path / 'run', 'embed'), vector)
    assert run_command(interchange.main, ['export', str(tmp_path / 'run'), str(tmp_path / 'out')]) == 0
    assert 'note: no embeddings' not in capsys.readouterr().out
    assert json.loads((tmp_path / 'out' / 'modules.json').read_text())[1] == {
        'idx': 1,
        'name': '1',
        'path': '1_Pooling',
        'type': 'sentence_transformers.models.Pooling',
    }
    again, _ = reading.open_folder(tmp_path / 'out', 'out')
    assert again.pooling == Pooling(('cls',), True, 7)
    np.testing.assert_array_equal(ask(tmp_path / 'out', 'embed'), vector)


def test_a_model_that_is_no_sentence_encoder_has_no_files_of_one(model, tmp_path):
    assert run_command(interchange.main, ['import', str(model()), str(tmp_path / 'run')]) == 0
    environment = read_environment(tmp_path / 'run')
    assert environment is not None and 'pooling' not in environment.data
    assert run_command(interchange.main, ['export', str(tmp_path / 'run'), str(tmp_path / 'out')]) == 0
    assert not (tmp_path / 'out' / 'modules.json').exists()


@pytest.mark.parametrize(
    ('file', 'content', 'fault'),
    [
        (
            'modules.json',
            [{'type': 'x.Transformer', 'path': ''}, {'type': 'x.Dense', 'path': '2_Dense'}],
            'has the module Dense, which',
        ),
        (
            'modules.json',
            [{'type': 'x.Pooling', 'path': '1_Pooling'}],
            'has the modules Pooling; only Transformer',
        ),
        (
            'modules.json',
            [{'type': 'x.Pooling', 'path': '../1_Pooling'}],
            "names the folder '../1_Pooling', which is none",
        ),
        ('modules.json', [{'type': 3, 'path': ''}], 'is no list of modules, each with a type and a path'),
        ('modules.json', {}, 'is no list of modules'),
        (
            'config_sentence_transformers.json',
            {'default_prompt_name': 'query'},
            'set it to null, and put the prompt before',
        ),
        ('config_sentence_transformers.json', [], 'is not a JSON object'),
        ('sentence_bert_config.json', {'max_seq_length': '128'}, 'has max_seq_length="128"; it must be a number of pieces'),
        ('sentence_bert_config.json', {'max_seq_length': 1}, 'has max_seq_length=1; it must be'),
        ('1_Pooling/config.json', {'word_embedding_dimension': 16}, 'but config.json has a width of 8'),
        (
            '1_Pooling/config.json',
            {'pooling_mode_median': True},
            'has pooling_mode_median=true, which is not supported',
        ),
        ('1_Pooling/config.json', {'pooling_mode': 'cls'}, 'has pooling_mode="cls", which is not supported'),
        ('1_Pooling/config.json', {'pooling_mode_mean_tokens': False}, 'must turn at least one pooling mode on'),
        ('1_Pooling/config.json', {'pooling_mode_mean_tokens': 'yes'}, 'each by true or false'),
        ('1_Pooling/config.json', None, "1_Pooling/config.json' is missing, but modules.json names it"),
    ],
)
def test_what_is_not_supported_is_refused_by_embed_alone(file, content, fault, model, capsys, tmp_path):
    folder = encode(model('BertModel'), {})
    if content is None:
        shutil.rmtree(folder / '1_Pooling')
    else:
        (folder / file).write_text(json.dumps(content))
    ask(folder, 'embed', status=2)
    error = capsys.readouterr().err
    assert fault in error and error.count('\n') == 1
    assert len(ask(folder, 'hidden')) == 12
    assert run_command(interchange.main, ['import', str(folder), str(tmp_path / 'run')]) == 0
    assert 'note: no embeddings can be computed: ' in (told := capsys.readouterr().out) and fault in told
    ask(tmp_path / 'run', 'embed', status=2)
    assert fault in capsys.readouterr().err


def test_capitals_that_the_encoder_should_not_see_are_refused(model):
    folder = encode(model('BertModel'), {}, do_lower_case=True)
    assert not reading.open_folder(folder, 'model')[0].pooling.fault
    (folder / 'tokenizer_config.json').write_text('{"do_lower_case": false}')
    assert 'the tokenizer keeps capitals' in reading.open_folder(folder, 'model')[0].pooling.fault
    assert not is_lowercase(Tokenizer(models.WordPiece({'A': 0}, unk_token='A')))  # without a normaliser


@pytest.mark.parametrize('record', [3, [], {'modes': 'cls'}, {'modes': []}, {'modes': ['median']}, {'length': -1}, {'fault': 3}])
def test_a_damaged_record_of_a_run_is_refused(record, model, tmp_path):
    assert run_command(interchange.main, ['import', str(model()), str(tmp_path / 'run')]) == 0
    file = tmp_path / 'run' / 'environment.json'
    environment = json.loads(file.read_text())
    environment['data']['pooling'] = record
    write_record(file, environment)
    with pytest.raises(UserError, match='has a damaged record of pooling: import the model again'):
        sources.open_donor(str(tmp_path / 'run'), tmp_path / 'x', 'start')


def test_the_two_encoders_from_the_wild_differ(shared_data, tmp_path):
    for name in ('cls', 'mean'):
        shutil.copytree(shared_data / 'wild' / 'pooling' / name, tmp_path / name, copy_function=shutil.copyfile)
    cls, mean = (ask(tmp_path / name, 'embed', 'paris is the capital of france') for name in ('cls', 'mean'))
    assert np.linalg.norm(cls) == pytest.approx(1, abs=1e-6) == np.linalg.norm(mean)
    assert np.abs(cls - mean).max() > 0.01
