"""Folders of strangers: whatever is wrong with them is one line and status 2 by every door, and leaves nothing behind."""

import json
import pickle
import resource
import shutil
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import launch
from research.command import run_command
from research.interchange import __main__ as interchange
from research.predict import __main__ as predict


def configure(**fields: Any) -> Callable[[Path], None]:
    """Changes fields of config.json."""

    def change(folder: Path) -> None:
        config = json.loads((folder / 'config.json').read_text()) | fields
        (folder / 'config.json').write_text(json.dumps(config))

    return change


def write(name: str, content: str | bytes) -> Callable[[Path], None]:
    """Replaces a file."""

    def replace(folder: Path) -> None:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return replace


def weigh(change: Callable[[dict[str, np.ndarray]], Any]) -> Callable[[Path], None]:
    """Changes the tensors."""

    def edit(folder: Path) -> None:
        tensors = load_file(folder / 'model.safetensors')
        change(tensors)
        save_file(tensors, folder / 'model.safetensors')

    return edit


def double(tensors: dict[str, np.ndarray]) -> None:
    """Two models instead of one."""
    for name in list(tensors):
        tensors |= {f'a.{name}': tensors[name], f'b.{name}': tensors.pop(name)}


def move_config(folder: Path) -> None:
    """A checkpoint of TensorFlow instead."""
    (folder / 'config.json').rename(folder / 'bert_model.ckpt.index')


def pickled(content: bytes, zipped: bool = True) -> Callable[[Path], None]:
    """A pytorch_model.bin, with this pickle, instead of the weights."""

    def edit(folder: Path) -> None:
        (folder / 'model.safetensors').unlink()
        if zipped:
            with zipfile.ZipFile(folder / 'pytorch_model.bin', 'w') as archive:
                archive.writestr('archive/data.pkl', content)
        else:
            (folder / 'pytorch_model.bin').write_bytes(content)

    return edit


def shard(index: str) -> Callable[[Path], None]:
    """The weights as one shard, with this index."""

    def edit(folder: Path) -> None:
        (folder / 'model.safetensors').rename(folder / 'model-1.safetensors')
        (folder / 'model.safetensors.index.json').write_text(index)

    return edit


def head(text: bytes) -> bytes:
    """A safetensors file of this header alone."""
    return struct.pack('<Q', len(text)) + text


class Harmful:
    """Runs code where it is unpickled by Python."""

    def __reduce__(self) -> Any:
        return print, ('harm',)


DEEP = '[' * 100_000
# What a stranger made of a folder -> how. These are found by its config.json and the headers of its weights.
HEADERS: dict[str, Callable[[Path], None]] = {
    'no JSON': write('config.json', '{'),
    'a list': write('config.json', '[]'),
    'not UTF-8': write('config.json', b'{"model_type": "\xff"}'),
    'nested': write('config.json', '{"model_type": "bert", "x": ' + DEEP),
    'a number of 401 digits': write('config.json', '{"model_type": "bert", "layer_norm_eps": ' + '9' * 401 + '}'),
    'a number of 5,000 digits': write('config.json', '{"model_type": "bert", "hidden_size": ' + '9' * 5000 + '}'),
    'NaN': write('config.json', '{"model_type": "bert", "layer_norm_eps": NaN}'),
    'no model type': write('config.json', '{}'),
    'ESC in a model type': configure(model_type='\x1b[31mbert'),
    'a model type of text': configure(model_type=['bert']),
    'width 1,000,000,007': configure(hidden_size=10**9 + 7),
    'a prime width': configure(hidden_size=1_000_003),
    'a billion layers': configure(num_hidden_layers=10**9),
    'no layers': configure(num_hidden_layers=0),
    'a billion pieces': configure(vocab_size=10**9),
    'a billion heads': configure(num_attention_heads=10**9),
    'minus one position': configure(max_position_embeddings=-1),
    'many blocks': configure(model_type='albert', num_hidden_layers=1024, num_hidden_groups=1, inner_group_num=1024),
    'a scalar classifier': weigh(lambda tensors: tensors.update({'classifier.bias': np.array(1, np.float32)})),
    'no labels': weigh(lambda tensors: tensors.update({'classifier.bias': np.zeros(0, np.float32)})),
    'two models': weigh(double),
    'a header of 2^60': write('model.safetensors', struct.pack('<Q', 2**60) + b'{}'),
    'a header that is no JSON': write('model.safetensors', head(DEEP.encode())),
    'a tensor of 2^60': write(
        'model.safetensors', head(b'{"a":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,4]}}')
    ),
    'an empty file': write('model.safetensors', b''),
    'a shard elsewhere': shard('{"weight_map": {"a": "../model-1.safetensors"}}'),
    'an absolute shard': shard('{"weight_map": {"a": "/etc/passwd"}}'),
    'a shard that is nested': shard(DEEP),
    'ESC in a shard': shard('{"weight_map": {"a": "\\u001b[31m.safetensors"}}'),
    'a shard that is missing': shard('{"weight_map": {"a": "model-2.safetensors"}}'),
    'a tensor that is missing': shard('{"weight_map": {"\\u001b": "model-1.safetensors"}}'),
    'code': pickled(pickle.dumps({'a': Harmful()})),
    'old code': pickled(pickle.dumps(Harmful(), 0), zipped=False),
    '127 bytes': pickled(b'\x80\x02' + b'N0' * 58 + b']r\x00\x00\x00\x7f.', zipped=False),
    'the key 1': pickled(pickle.dumps({1: 2}, 2)),
    'nested lists': pickled(b'\x80\x02' + b']' * 100_000 + b'a' * 100_000 + b'.'),
    'bytes of 2^36': pickled(b'\x80\x04\x8e' + (2**36).to_bytes(8, 'little') + b'.', zipped=False),
    'no weights': lambda folder: (folder / 'model.safetensors').unlink(),
    'a checkpoint of TensorFlow': move_config,
}
# These are found when the tensors are read: `--dry` of a run does not.
TENSORS: dict[str, Callable[[Path], None]] = {
    'another width': configure(intermediate_size=20),
    'NaN': weigh(lambda tensors: tensors['bert.pooler.dense.bias'].fill(np.nan)),
    'infinity': weigh(lambda tensors: tensors['bert.pooler.dense.bias'].fill(np.inf)),
    'complex': weigh(lambda tensors: tensors.update({'bert.pooler.dense.bias': np.zeros(8, np.complex64)})),
    'quantised': weigh(lambda tensors: tensors.update({'bert.pooler.dense.bias': np.zeros(8, np.int8)})),
    'ESC in a name': weigh(lambda tensors: [tensors.update({f'{name}\x1b[31m': tensors.pop(name)}) for name in list(tensors)]),
    'markup in a name': weigh(lambda tensors: [tensors.update({f'{name}[/foo]': tensors.pop(name)}) for name in list(tensors)]),
    'id2label of texts': configure(id2label={'a': 'b'}),
    'labels without names': configure(id2label={'0': None, '1': 'a', '2': 'b'}),
}


def list_files(folder: Path) -> list[str]:
    """All that lies in a folder, but for the lock of a run that did not begin."""
    return sorted(str(path) for path in folder.rglob('*') if '.locks' not in path.parts)


@pytest.fixture
def refuse(model: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """refuse(damage, doors): a damaged copy of a model is refused by each door with one clean line, soon and in little memory."""

    def refuse(damage: Callable[[Path], None], doors: dict[str, Callable[[list[str]], int]]) -> None:
        folder = model('BertLabel')
        damage(folder)
        (tmp_path / 'in.jsonl').write_text('{"text": "the old king"}\n')
        (tmp_path / 'train.tsv').write_text('sentence\tlabel\nthe king\tgood\nthe old\tbad\n')
        before = list_files(tmp_path)
        for name, door in doors.items():
            begin, peak = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            status = door([str(folder), str(tmp_path)])
            out, err = capsys.readouterr()
            assert (status, out) == (2, ''), (name, status, out, err)
            assert err.startswith('error: ') and err.count('\n') == 1 and '\x1b' not in err and len(err) < 5000, (name, err)
            assert list_files(tmp_path) == before, name
            assert time.monotonic() - begin < 10, name
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 2**20, name

    return refuse


def start(*flags: str) -> Callable[[list[str]], int]:
    """The door of a run that starts from the folder, with more flags."""

    def begin(given: list[str]) -> int:
        folder, place = given
        command = ['launch.py', '--config=configs/finetune.py:custom', f'--config.start={folder}', f'--workdir={place}/run']
        command += [f'--config.data.train={place}/train.tsv', '--config.data.length=16', f'--config.machine.cache={place}/cache']
        return launch.main([*command, *flags])

    return begin


IMPORT_AND_PREDICT: dict[str, Callable[[list[str]], int]] = {
    'import': lambda given: run_command(interchange.main, ['import', given[0], f'{given[1]}/imported']),
    'predict': lambda given: run_command(
        predict.main, [given[0], '--kind=classify', f'--input={given[1]}/in.jsonl', f'--output={given[1]}/out.jsonl']
    ),
}


@pytest.mark.parametrize('name', HEADERS)
def test_a_hostile_folder_is_refused_by_every_door(name: str, refuse: Callable[..., None]) -> None:
    refuse(HEADERS[name], {**IMPORT_AND_PREDICT, 'dry': start('--dry'), 'start': start()})


@pytest.mark.usefixtures('one_device')
@pytest.mark.parametrize('name', TENSORS)
def test_hostile_tensors_are_refused_where_they_are_read(name: str, refuse: Callable[..., None]) -> None:
    refuse(TENSORS[name], {**IMPORT_AND_PREDICT, 'start': start()})


def test_the_folder_is_possible_without_its_damage(model: Callable[..., Path], tmp_path: Path) -> None:
    folder = model('BertLabel')
    (tmp_path / 'in.jsonl').write_text('{"text": "the old king"}\n')
    (tmp_path / 'train.tsv').write_text('sentence\tlabel\nthe king\tgood\nthe old\tbad\n')
    for door in (*IMPORT_AND_PREDICT.values(), start('--dry')):
        assert door([str(folder), str(tmp_path)]) == 0
    shutil.rmtree(tmp_path / 'imported')
