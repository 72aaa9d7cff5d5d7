"""Files of torch.save: read without running their code."""

import io
import os
import pickle
import re
import resource
import time
import zipfile
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

from research.errors import UserError
from research.interchange import pickles
from research.interchange.pickles import LEGACY, STORAGES, open_pickle
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


# ---- Tensors --------------------------------------------------------------------------------------------------------------------


class Named:
    """Pickled as the name of a class or a function, whether it exists or not."""

    def __init__(self, module, name):
        self.module, self.name = module, name

    def __reduce__(self):
        raise AssertionError('written by Writer')


class Call:
    """Pickled as a call of a Named."""

    def __init__(self, module, name, *arguments):
        self.called, self.arguments = Named(module, name), arguments


class Writer(pickle._Pickler):
    """Writes what torch writes, without torch: names that do not exist here, calls of them, and references."""

    write: Any

    def persistent_id(self, obj):
        return obj[1] if isinstance(obj, list) and obj[:1] == ['reference'] else None

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Named):
            self.write(pickle.GLOBAL + f'{obj.module}\n{obj.name}\n'.encode())
        elif isinstance(obj, Call):
            self.save(obj.called)
            self.save(obj.arguments)
            self.write(pickle.REDUCE)
        else:
            vars(pickle._Pickler)['save'](self, obj, save_persistent_id)


def written(value, protocol=2):
    """The pickle of `value`."""
    stream = io.BytesIO()
    Writer(stream, protocol).dump(value)
    return stream.getvalue()


def tensor(offset=0, shape: Any = (2,), strides: Any = (1,), kind='FloatStorage', key: Any = '0', **more):
    """A tensor as torch pickles it."""
    reference = ('storage', Named('torch', kind), key, 'cpu', 4, *more.values())
    return Call(
        'torch._utils',
        '_rebuild_tensor_v2',
        ['reference', reference],
        offset,
        shape,
        strides,
        False,
        Call('collections', 'OrderedDict'),
    )


FOUR = np.arange(4, dtype='<f4').tobytes()


@pytest.mark.parametrize('protocol', [2, 4])
def test_views_of_a_storage_are_read(protocol, tmp_path):
    state = {
        'all': tensor(shape=(4,)),
        'turned': tensor(0, (2, 2), (1, 2)),
        'one': tensor(3, (), ()),
        'none': tensor(0, (0, 3), (3, 1)),
        'parameter': Call('torch._utils', '_rebuild_parameter', tensor(1, (3,), (1,)), True, Call('collections', 'OrderedDict')),
        'sized': tensor(0, Call('torch', 'Size', (2,)), (2,)),
    }
    as_zip(tmp_path, written(state, protocol), data__0=FOUR)
    found = {name: each.read().tolist() for name, each in open_weights(tmp_path).items()}
    assert found == {'all': [0, 1, 2, 3], 'turned': [[0, 2], [1, 3]], 'one': 3, 'none': [], 'parameter': [1, 2, 3], 'sized': [0, 2]}


def test_every_type_of_number_is_read(tmp_path):
    for kind, dtype in STORAGES.items():
        values = np.array([1, 0, 1, 1], '<f4' if dtype == 'bfloat16' else dtype)
        content = (values.view(np.uint32) >> 16).astype('<u2') if dtype == 'bfloat16' else values
        as_zip(tmp_path, written({'weight': tensor(shape=(4,), kind=kind)}), data__0=content.tobytes())
        (found,) = open_weights(tmp_path).values()
        assert (found.dtype, found.read().tolist()) == ('bfloat16' if dtype == 'bfloat16' else values.dtype.name, [1, 0, 1, 1])


@pytest.mark.parametrize(
    ('value', 'message'),
    [
        (tensor(shape=(5,)), 'reaches beyond its storage of 4 items'),
        (tensor(2, (2, 2), (2, 1)), 'reaches beyond its storage of 4 items'),
        (tensor(shape=(10**9,), strides=(0,)), 'reaches beyond its storage of 4 items'),
        (tensor(-1, (1,)), 'the shape of a tensor is impossible'),
        (tensor(0, (2,), (-1,)), 'the shape of a tensor is impossible'),
        (tensor(0, (2,), ()), 'the shape of a tensor is impossible'),
        (tensor(0, (2.0,), (1.0,)), 'the shape of a tensor is impossible'),
        (tensor(0, (10**400,), (1,)), 'the shape of a tensor is impossible'),
        (tensor(0, [2], (1,)), 'a tensor has no storage, or no shape'),
        (tensor(0, (1,) * 17, (1,) * 17), 'a tensor has no storage, or no shape'),
        (Call('torch._utils', '_rebuild_tensor_v2', 3, 0, (2,), (1,)), 'a tensor has no storage, or no shape'),
        (tensor(key='7'), 'archive/data/7'),
        (tensor(key=7), 'a storage of a type that cannot be read'),
        (tensor(view=('0', 0, 4)), 'a part of another storage'),
        (['reference', ('module', 'x', '0', 'cpu', 1)], 'something else than a storage'),
        (['reference', 3], 'something else than a storage'),
        (tensor(kind='ComplexFloatStorage'), 'would run torch.ComplexFloatStorage'),
        (tensor(kind='QInt8Storage'), 'would run torch.QInt8Storage'),
        (Call('torch', 'Size', [1]), 'a size is no tuple'),
        (Call('collections', 'OrderedDict', 3), 'something else than pairs'),
        ({(1, 2): 3}, 'a key is no plain value'),
        ({1, 2}, 'would run __builtin__.set'),
    ],
)
def test_an_impossible_tensor_is_refused(value, message, tmp_path):
    file = as_zip(tmp_path, written({'weight': value}), data__0=FOUR)
    with pytest.raises(UserError, match=re.escape(message)) as raised:
        open_pickle(file)
    assert str(raised.value).startswith(f"'{file}' ") and '\n' not in str(raised.value)


def test_a_storage_that_is_a_byte_short_is_refused(tmp_path):
    with pytest.raises(UserError, match='reaches beyond its storage of 3 items'):
        open_pickle(as_zip(tmp_path, written({'weight': tensor(shape=(4,))}), data__0=FOUR[:-1]))


@pytest.mark.parametrize(
    ('state', 'message'),
    [
        ({'weight': 3}, 'is no state dict: weight is no tensor'),
        ({1: tensor()}, 'is no state dict: it holds more than named tensors'),
        ({'state_dict': {1: tensor()}}, 'is no state dict'),
    ],
)
def test_what_is_no_state_dict_is_refused(state, message, tmp_path):
    as_zip(tmp_path, written(state), data__0=FOUR)
    with pytest.raises(UserError, match=message):
        open_weights(tmp_path)


def test_tensors_that_share_their_bytes_too_often_are_refused(tmp_path):
    def save(count: int) -> None:
        state = {str(i): tensor(shape=(100_000,)) for i in range(count)}
        as_zip(tmp_path, written(state), data__0=bytes(400_000))

    save(4)  # the pickle makes the file a bit larger
    assert len(open_weights(tmp_path)) == 4
    save(5)
    with pytest.raises(UserError, match='has tensors of 2,000,000 bytes, over 4 times as many as it holds'):
        open_weights(tmp_path)


def test_the_checkpoint_of_a_trainer_is_its_state_dict(tmp_path):
    as_zip(tmp_path, written({'epoch': 3, 'state_dict': {'a': tensor()}, 'loss': 0.5}), data__0=FOUR)
    assert [each.read().tolist() for each in open_weights(tmp_path).values()] == [[0, 1]]


# ---- Hostile pickles ------------------------------------------------------------------------------------------------------------


def nested(opening, closing, depth=100_000):
    return b'\x80\x02' + opening * depth + closing * depth + b'.'


HOSTILE = {
    'a memo of two billion': b'\x80\x02]r\x00\x00\x00\x7f' + b'.',
    'bytes of 2^36': b'\x80\x04\x8e' + (2**36).to_bytes(8, 'little') + b'x.',
    'a text of 2^36': b'\x80\x04\x8d' + (2**36).to_bytes(8, 'little') + b'x.',
    'a frame of 2^60': b'\x80\x04\x95' + (2**60).to_bytes(8, 'little') + b'].',
    'a number of 2^31 bytes': b'\x80\x02\x8b' + (2**31 - 1).to_bytes(4, 'little') + b'1.',
    'a number of 5,000 digits': b'L' + b'9' * 5000 + b'L\n.',
    'nested lists': nested(b']', b'a'),
    'nested tuples': nested(b')', b'\x85'),
    'a nested key': b'\x80\x02})' + b'\x85' * 100_000 + b'Ns.',
    'endless operations': b'\x80\x02' + b'N0' * 2**20 + b'}.',
    'no operand': b'\x80\x02a.',
    'no mark': b'\x80\x02t.',
    'a memo that is empty': b'\x80\x02h\x05.',
    'a memo of nothing': b'\x80\x02q\x05.',
    'no end': b'\x80\x02}',
    'an unknown operation': b'\x80\x02\xff.',
    'an extension': b'\x80\x02\x82\x01.',
    'attributes of a function': b'\x80\x02ctorch._utils\n_rebuild_parameter\n}b.',
    'a call of a text': b'\x80\x02U\x01x)R.',
    'an instance': b'(icollections\nOrderedDict\n.',
    'a name that is a number': b'\x80\x04K\x01K\x02\x93.',
    'an odd dict': b'(Nd.',
    'a dict of lists': b'(]Nd.',
}


@pytest.mark.parametrize('name', HOSTILE)
@pytest.mark.parametrize('form', ['zip', 'legacy'])
def test_a_hostile_pickle_is_one_line_at_once(name, form, tmp_path):
    file = tmp_path / 'pytorch_model.bin'
    if form == 'zip':
        as_zip(tmp_path, HOSTILE[name])
    else:
        file.write_bytes(HOSTILE[name])
    begin, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError) as raised:
        open_weights(tmp_path)
    assert str(raised.value).startswith(f"'{file}' ") and '\n' not in str(raised.value)
    assert time.monotonic() - begin < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


def test_nothing_that_a_pickle_does_outlives_it(tmp_path):
    before = pickles.rebuild_parameter.__defaults__
    with pytest.raises(UserError):
        open_pickle(as_zip(tmp_path, b'\x80\x02ctorch._utils\n_rebuild_parameter\n}U\x0c__defaults__K\x01\x85sb.'))
    assert pickles.rebuild_parameter.__defaults__ == before


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'\x80\x02h\x07.', 'it uses value 7 before it is made'),
        (b'\x80\x02ctorch\nFloatStorage\n)R.', 'it calls what is no function'),
        (None, 'it has no archive/data/0'),
    ],
)
def test_what_a_pickle_lacks_is_named(content, message, tmp_path):
    with pytest.raises(UserError, match=f'{message}$'):
        open_pickle(as_zip(tmp_path, content or written({'weight': tensor()})))


def test_attributes_of_a_dict_are_left_out(tmp_path):
    ordered = OrderedDict(a=1)
    vars(ordered)['_metadata'] = OrderedDict(version=1)
    found = open_pickle(as_zip(tmp_path, pickle.dumps(ordered, 2)))
    assert found == {'a': 1} and not hasattr(found, '_metadata')


def test_a_dict_of_python_2_is_read(tmp_path):
    state = Call('collections', 'OrderedDict', [['a', tensor()], ['b', tensor(2)]])
    as_zip(tmp_path, written(state), data__0=FOUR)
    assert [each.read().tolist() for each in open_weights(tmp_path).values()] == [[0, 1], [2, 3]]


# ---- Hostile zips ---------------------------------------------------------------------------------------------------------------


def test_compressed_entries_are_refused(tmp_path):
    file = tmp_path / 'pytorch_model.bin'
    for name in ('data.pkl', 'data/0', 'byteorder'):
        with zipfile.ZipFile(file, 'w', zipfile.ZIP_STORED) as archive:
            for entry, content in (('data.pkl', written({'weight': tensor()})), ('data/0', FOUR), ('byteorder', b'little')):
                archive.writestr(f'archive/{entry}', content, zipfile.ZIP_DEFLATED if entry == name else zipfile.ZIP_STORED)
        with pytest.raises(UserError, match=f'archive/{name} is compressed or encrypted'):
            open_pickle(file)


def test_a_pickle_that_inflates_to_gigabytes_is_refused_at_once(tmp_path):
    file = tmp_path / 'pytorch_model.bin'
    with (
        zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open('archive/data.pkl', 'w') as entry,
    ):
        for _ in range(64):
            entry.write(bytes(2**20))
    with pytest.raises(UserError, match='is compressed or encrypted'):
        open_pickle(file)


def test_a_large_pickle_is_refused(tmp_path):
    with pytest.raises(UserError, match=r'archive/data.pkl has 16,777,217 bytes; at most 16,777,216 are read'):
        open_pickle(as_zip(tmp_path, bytes(2**24 + 1)))


@pytest.mark.parametrize(
    ('central', 'at', 'value', 'message'),
    [
        (True, 6, 70, 'zip file version'),
        (True, 20, 10**6, 'is compressed or encrypted'),
        (True, 42, 2**31, 'is truncated or no file of torch.save'),
        (False, 26, 60_000, 'it ends within archive/data.pkl'),
        (False, 0, 7, 'it ends within archive/data.pkl'),
    ],
)
def test_a_damaged_directory_is_refused(central, at, value, message, tmp_path):
    file = as_zip(tmp_path, written({'weight': tensor()}), data__0=FOUR)
    content = bytearray(file.read_bytes())
    begin = content.index(b'PK\1\2' if central else b'PK\3\4') + at
    size = 4 if at in (20, 42, 0) else 2
    content[begin : begin + size] = value.to_bytes(size, 'little')
    file.write_bytes(content)
    with pytest.raises(UserError, match=message):
        open_pickle(file)


def test_a_legacy_file_whose_storages_do_not_fit_is_refused(tmp_path):
    file = tmp_path / 'pytorch_model.bin'
    begin = pickle.dumps(LEGACY, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
    state, four = written({'a': tensor(shape=(4,))}), (4).to_bytes(8, 'little') + FOUR
    file.write_bytes(begin + state + written(['0']) + four)
    assert open_weights(tmp_path)['a'].read().tolist() == [0, 1, 2, 3]
    twice = written({'a': tensor(), 'b': tensor(kind='LongStorage')})
    for content, message in (
        (state + written(['0']) + four[:-1], 'within a tensor'),
        (state + written(['0']) + (2**63).to_bytes(8, 'little') + FOUR, 'within a tensor'),
        (state + written(['0']) + (1).to_bytes(8, 'little') + FOUR, 'reaches beyond its storage of 1 items'),
        (state + written(['1']) + four, 'lists other storages'),
        (state + written(['0', '0']) + four, 'lists other storages'),
        (state + written(3) + four, 'lists other storages'),
        (state + written([[]]) + four, 'a key is no plain value'),
        (twice + written(['0']) + four, 'the storage 0 has two types'),
    ):
        file.write_bytes(begin + content)
        with pytest.raises(UserError, match=message):
            open_weights(tmp_path)
    file.write_bytes(pickle.dumps(7, 2))
    with pytest.raises(UserError, match='it begins with another number'):
        open_weights(tmp_path)
