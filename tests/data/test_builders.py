"""TFDS datasets, read without TensorFlow."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from research.data import builders, preparation, text_files, tokenizer_training
from research.data.settings import Data
from research.data.sources import documents, stamp
from research.data.tasks import prepared
from research.errors import UserError

TEXTS = [f'Document number {number}.\nIt has a second paragraph é.' for number in range(300)]


class Notes(tfds.core.GeneratorBasedBuilder):
    """A dataset of notes."""

    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
        features = tfds.features.FeaturesDict({'body': tfds.features.Text(), 'stars': np.int32})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {'train': self._generate_examples()}

    def _generate_examples(self):
        return ((number, {'body': text, 'stars': 3}) for number, text in enumerate(TEXTS))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """The data_dir of a small prepared dataset, `notes/1.0.0`."""
    place = tmp_path_factory.mktemp('tfds')
    Notes(data_dir=place, file_format='array_record').download_and_prepare()
    return place


def test_a_prepared_folder(folder, tmp_path):
    source, data = f'tfds:{folder}/notes/1.0.0', Data(field='body', tokenizer='wordpiece')
    # TFDS shuffles what it prepares.
    assert sorted(documents(source, data)) == sorted(text.split('\n') for text in TEXTS)
    data, cache = replace(data, source=source), str(tmp_path)
    (prepared,) = preparation.prepare(data, cache, tokenizer_training.tokenizer_of(data, cache, 100))
    assert prepared.facts.documents + prepared.facts.held_out_documents == 300
    assert 'tensorflow' not in sys.modules


def test_a_name_in_a_data_dir(folder):
    assert len(list(documents('tfds:notes', Data(field='body', folder=str(folder))))) == 300
    assert stamp('tfds:notes', Data(field='body', folder=str(folder))) == stamp(
        'tfds:notes', Data(field='body', folder=str(folder))
    )


@pytest.mark.parametrize(
    ('field', 'message'),
    [
        ('text', r"notes example 1 has no field 'text' \(data.field\); it has body, stars"),
        ('stars', "example 1: field 'stars' is not a text but int"),
    ],
)
def test_another_field(folder, field, message):
    with pytest.raises(UserError, match=message):
        list(documents('tfds:notes', Data(field=field, folder=str(folder))))


def evil(folder: Path, form: str) -> None:
    """Makes the description of a prepared dataset name a class of the module `evil_module`."""
    path = folder / ('dataset_info.json' if form == 'info' else 'features.json')
    content = json.loads(path.read_text())
    if form == 'top':
        content['pythonClassName'] = 'evil_module.Evil'
    elif form == 'inner':
        content['featuresDict']['features']['body']['pythonClassName'] = 'evil_module.Evil'
    elif form == 'legacy':
        content = {'type': 'evil_module.Evil', 'content': {}}
    elif form == 'string':
        inner = json.dumps({'body': {'type': 'evil_module.Evil', 'content': {}}})
        content = {'pythonClassName': content['pythonClassName'], 'jsonFeature': {'json': inner}}
    else:
        content['features'] = {'pythonClassName': 'evil_module.Evil', 'jsonFeature': {'json': '{}'}}
    path.write_text(json.dumps(content))


@pytest.mark.parametrize('form', ['top', 'inner', 'legacy', 'string', 'info'])
@pytest.mark.parametrize('named', [False, True])
def test_a_folder_that_names_a_class_from_elsewhere_never_runs_its_code(folder, tmp_path, monkeypatch, form, named):
    (tmp_path / 'evil_module.py').write_text(f'open({str(tmp_path / "ran")!r}, "w").close()\n')
    monkeypatch.syspath_prepend(tmp_path)
    shutil.copytree(folder / 'notes' / '1.0.0', tmp_path / 'notes' / '1.0.0')
    for path in (tmp_path / 'notes' / '1.0.0').glob('*.json'):
        path.write_text(path.read_text().replace('notes', 'other') if path.name == 'dataset_info.json' else path.read_text())
    (tmp_path / 'notes').rename(tmp_path / 'other')
    evil(tmp_path / 'other' / '1.0.0', form)
    source = 'tfds:other/1.0.0' if named else f'tfds:{tmp_path}/other/1.0.0'
    source = 'tfds:other' if named else source
    try:
        found = list(documents(source, Data(field='body', folder=str(tmp_path) if named else '')))
    except UserError as error:
        found = []
        assert "names the class 'evil_module.Evil'" in str(error) and '\n' not in str(error)
    assert not (tmp_path / 'ran').exists() and 'evil_module' not in sys.modules
    assert not found or form == 'info'


@pytest.mark.parametrize('harm', ['cut', 'gone', 'unreadable'])
def test_a_damaged_dataset(folder, tmp_path, harm):
    shutil.copytree(folder / 'notes' / '1.0.0', tmp_path / '1.0.0')
    (shard,) = (tmp_path / '1.0.0').glob('*train*')
    if harm == 'cut':
        shard.write_bytes(shard.read_bytes()[:-50])
    elif harm == 'gone':
        shard.unlink()
    else:
        (tmp_path / '1.0.0' / 'dataset_info.json').write_text('{')
    message = 'dataset_info.json. cannot be read: ' if harm == 'unreadable' else 'a shard in .* is missing or corrupt'
    with pytest.raises(UserError, match=message) as caught:
        list(documents(f'tfds:{tmp_path}/1.0.0', Data(field='body')))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('features', 'message'),
    [
        ({'featuresDict': {}}, 'No features set'),
        ('top', 'no attribute'),
    ],
)
def test_features_that_are_not_those_of_the_examples(folder, tmp_path, features, message):
    shutil.copytree(folder / 'notes' / '1.0.0', tmp_path / '1.0.0')
    path = tmp_path / '1.0.0' / 'features.json'
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content['featuresDict']['features']['body'] if features == 'top' else content | features))
    with pytest.raises(UserError, match=f'or is not what its features.json describes .*{message}') as caught:
        list(documents(f'tfds:{tmp_path}/1.0.0', Data(field='body')))
    assert '\n' not in str(caught.value)


def test_a_damaged_dataset_of_a_task(folder, tmp_path, monkeypatch):
    shutil.copytree(folder / 'notes', tmp_path / 'notes')
    (shard,) = (tmp_path / 'notes' / '1.0.0').glob('*train*')
    shard.write_bytes(shard.read_bytes()[:-50])
    real = builders.builder
    monkeypatch.setattr(builders, 'builder', lambda name, place: real(name, str(tmp_path)))
    with pytest.raises(UserError, match='a shard in .* is missing or corrupt, .*; or give the official files'):
        list(prepared.records('notes', 'train'))


def test_bytes_that_are_no_text():
    with pytest.raises(UserError, match="here: field 'a' is not UTF-8 at byte 1"):
        builders.text({'a': b'b\xff'}, 'a', 'here')


def test_a_long_document_is_refused(monkeypatch):
    monkeypatch.setattr(text_files, 'LONGEST', 10)
    with pytest.raises(UserError, match='here: the document has more than 10 characters'):
        builders.text({'a': b'b' * 11}, 'a', 'here')


def test_a_dataset_that_cannot_be_prepared_names_the_command(tmp_path, monkeypatch):
    def unreachable(self, **arguments):
        raise ConnectionError('no route to host')

    monkeypatch.setattr(tfds.core.DatasetBuilder, 'download_and_prepare', unreachable)
    monkeypatch.setattr(builders.socket, 'getaddrinfo', lambda host, port: [])
    with pytest.raises(UserError, match='could not be prepared here .ConnectionError: no route') as caught:
        list(documents('tfds:lm1b', Data(folder=str(tmp_path))))
    assert f'run: tfds build lm1b --file_format=array_record --data_dir={tmp_path}' in str(caught.value)
    assert '\n' not in str(caught.value)


def test_no_such_dataset(tmp_path):
    with pytest.raises(UserError, match="there is no TFDS dataset named 'lm1bb'; did you mean 'lm1b'"):
        list(documents('tfds:lm1bb', Data(folder=str(tmp_path))))
    with pytest.raises(UserError, match=r'tfds:lm1b/nonsense cannot be opened'):
        list(documents('tfds:lm1b/nonsense', Data(folder=str(tmp_path))))
    for name in ('huggingface:glue', 'huggingface:glue/cola', 'kaggle:titanic'):
        with pytest.raises(UserError, match=f"'tfds:{name}' is not read: only TFDS' own datasets are"):
            list(documents(f'tfds:{name}', Data(folder=str(tmp_path))))
    with pytest.raises(UserError, match='is not the folder of a prepared TFDS dataset'):
        list(documents(f'tfds:{tmp_path}', Data()))


def test_a_registered_name_that_hides_without_tensorflow(tmp_path):
    """Wikipedia is not found until its module is imported."""
    assert builders.builder('wikipedia/20230601.en', str(tmp_path)).info.full_name == 'wikipedia/20230601.en/1.0.0'
