"""Files of torch.save: read without running their code."""

import io
import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from research.errors import UserError
from research.interchange.pickles import Storage, Stored, Unpickler, open_pickle
from research.interchange.weights import open_weights


def calling(module, name):
    """A pickle of a dict whose value is `module.name('x')`, in the text protocol, which can name modules that do not exist here."""
    return f"(dS'weight'\nc{module}\n{name}\n(S'x'\ntRs.".encode()


def as_zip(folder, pickled, **entries):
    """A file of torch ≥ 1.6 with this pickle."""
    file = folder / 'pytorch_model.bin'
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('archive/data.pkl', pickled)
        for name, content in entries.items():
            archive.writestr(f'archive/{name.replace("__", "/")}', content)
    return file


@pytest.mark.parametrize(
    ('module', 'name'),
    [('os', 'system'), ('builtins', 'eval'), ('torch', 'load'), ('collections', 'deque'), ('torch.nn.modules.linear', 'Linear')],
)
def test_a_file_with_code_is_refused(module, name, tmp_path):
    message = f'would run {module}.{name} when it is read, which is refused'
    with pytest.raises(UserError, match=message):
        open_pickle(as_zip(tmp_path, calling(module, name)))
    (tmp_path / 'legacy').write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + calling(module, name))
    with pytest.raises(UserError, match=message):
        open_pickle(tmp_path / 'legacy')


def test_a_real_reduce_does_not_run(tmp_path):
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'made'),)

    with pytest.raises(UserError, match=r'would run posix\.mkdir'):
        open_pickle(as_zip(tmp_path, pickle.dumps(OrderedDict(weight=Harmful()))))
    assert not (tmp_path / 'made').exists()


@pytest.mark.parametrize('name', ['BertBin', 'BertLegacyBin'])
def test_truncated_files_are_refused(name, model):
    folder = model(name)
    file = folder / 'pytorch_model.bin'
    content = file.read_bytes()
    for size in (0, 1, 30, len(content) // 2, len(content) - 30):
        file.write_bytes(content[:size])
        with pytest.raises(UserError, match='is truncated or no file of torch.save'):
            open_pickle(file)


def test_a_damaged_storage_is_refused(model):
    folder = model('BertBin')
    file = folder / 'pytorch_model.bin'
    content = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        entry = next(entry for entry in archive.infolist() if entry.filename.endswith('data/0'))
    begin = entry.header_offset + 30 + int.from_bytes(content[entry.header_offset + 26 : entry.header_offset + 28], 'little')
    begin += int.from_bytes(content[entry.header_offset + 28 : entry.header_offset + 30], 'little')
    content[begin] ^= 255
    file.write_bytes(content)
    with pytest.raises(UserError, match='is damaged'):
        [tensor.read() for tensor in open_weights(folder).values()]


def test_a_file_without_tensors_by_name_is_refused(tmp_path):
    as_zip(tmp_path, pickle.dumps({'epoch': 3}))
    with pytest.raises(UserError, match='is no state dict'):
        open_weights(tmp_path)
    as_zip(tmp_path, pickle.dumps([1]))
    with pytest.raises(UserError, match='is no state dict'):
        open_weights(tmp_path)


def test_a_zip_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / 'x.bin', 'w') as archive:
        archive.writestr('a', 'b')
    with pytest.raises(UserError, match=r'it has no data\.pkl'):
        open_pickle(tmp_path / 'x.bin')
    with pytest.raises(UserError, match='big-endian'):
        open_pickle(as_zip(tmp_path, pickle.dumps({}), byteorder=b'big'))


def test_a_reference_to_anything_but_a_storage_is_refused(tmp_path):
    unpickler = Unpickler(io.BytesIO(), tmp_path / 'x', lambda dtype, key: Storage(dtype, bytes))
    with pytest.raises(UserError, match='only storages of numbers can be read'):
        unpickler.persistent_load(('module', 'x', '0', 'cpu', 1))


@pytest.mark.parametrize(('offset', 'shape', 'strides'), [(0, (5,), (1,)), (2, (2, 2), (2, 1)), (-1, (1,), (1,)), (0, (2,), (-1,))])
def test_a_tensor_beyond_its_storage_is_refused(offset, shape, strides):
    storage = Storage('<f4', lambda: np.arange(4, dtype='<f4').tobytes())
    with pytest.raises(UserError, match='reaches beyond its storage of 4 items'):
        Stored(storage, offset, shape, strides).read()


def test_views_and_small_floats_are_read():
    whole = Storage('<f4', lambda: np.arange(6, dtype='<f4').tobytes())
    np.testing.assert_array_equal(Stored(whole, 1, (2, 2), (1, 2)).read(), [[1, 3], [2, 4]])
    np.testing.assert_array_equal(Stored(whole, 0, (0, 3), (3, 1)).read(), np.zeros((0, 3)))
    halves = Storage('bfloat16', lambda: (np.array([1.5, -2.0], np.float32).view(np.uint32) >> 16).astype('<u2').tobytes())
    np.testing.assert_array_equal(Stored(halves, 0, (2,), (1,)).read(), [1.5, -2.0])
