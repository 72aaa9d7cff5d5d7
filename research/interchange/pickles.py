"""Reads files of torch.save without torch and without running their code: only tensors are rebuilt, everything else is refused."""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from research.errors import UserError

# Storage of torch -> the numpy type of its items. A bfloat16 is the upper half of a float32.
STORAGES = {
    'DoubleStorage': '<f8',
    'FloatStorage': '<f4',
    'HalfStorage': '<f2',
    'BFloat16Storage': 'bfloat16',
    'LongStorage': '<i8',
    'IntStorage': '<i4',
    'ShortStorage': '<i2',
    'CharStorage': '<i1',
    'ByteStorage': '<u1',
    'BoolStorage': '?',
}
LEGACY = 0x1950A86A20F9469CFC6C  # the first number in a file of torch < 1.6


@dataclass(frozen=True)
class Storage:
    """A sequence of items of one type in a file."""

    dtype: str
    load: Callable[[], bytes]

    def items(self) -> np.ndarray:
        """All items, as an array with one axis."""
        if self.dtype == 'bfloat16':
            return (np.frombuffer(self.load(), '<u2').astype(np.uint32) << 16).view(np.float32)
        return np.frombuffer(self.load(), self.dtype)


@dataclass(frozen=True)
class Stored:
    """A tensor in a file: a view of a storage."""

    storage: Storage
    offset: int  # items
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # items

    def read(self) -> np.ndarray:
        """The tensor as an array.

        Raises UserError if it reaches beyond its storage.
        """
        items = self.storage.items()
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        if 0 in self.shape:
            return np.zeros(self.shape, items.dtype)
        if self.offset < 0 or any(stride < 0 for stride in self.strides) or last >= len(items):
            raise UserError(f'a tensor of shape {self.shape} reaches beyond its storage of {len(items)} items')
        strides = [stride * items.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(items[self.offset :], self.shape, strides, writeable=False)


def rebuild_tensor(storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *rest: Any) -> Stored:
    """Replaces torch._utils._rebuild_tensor_v2."""
    return Stored(storage, offset, tuple(shape), tuple(strides))


def rebuild_parameter(stored: Stored, *rest: Any) -> Stored:
    """Replaces torch._utils._rebuild_parameter."""
    return stored


# All names that a pickle may use -> their replacements here.
ADMITTED: dict[tuple[str, str], Any] = {
    ('collections', 'OrderedDict'): OrderedDict,
    ('torch._utils', '_rebuild_tensor_v2'): rebuild_tensor,
    ('torch._utils', '_rebuild_parameter'): rebuild_parameter,
    ('torch', 'Size'): tuple,
} | {('torch', name): dtype for name, dtype in STORAGES.items()}


class Unpickler(pickle.Unpickler):
    """An unpickler that accepts only the names in ADMITTED."""

    def __init__(self, stream: Any, file: Path, storage: Callable[[str, str], Storage]) -> None:
        super().__init__(stream)
        self._file, self._storage = file, storage

    def find_class(self, module: str, name: str) -> Any:
        """The replacement of a global.

        Raises UserError if it is not in ADMITTED.
        """
        if (module, name) not in ADMITTED:
            raise UserError(
                f"'{self._file}' would run {module}.{name} when it is read, which is refused; "
                'save the model as safetensors, or give a file that holds only tensors'
            )
        return ADMITTED[module, name]

    def persistent_load(self, pid: Any) -> Storage:
        """The storage to which a tensor refers.

        Raises UserError for a reference to anything else.
        """
        kind, dtype, key, *_ = pid
        if kind != 'storage' or dtype not in STORAGES.values():
            raise UserError(f"'{self._file}' refers to {kind!r} of type {dtype!r}; only storages of numbers can be read")
        return self._storage(dtype, key)


def open_pickle(file: Path) -> Any:
    """The content of a file of torch.save, each tensor as a Stored that is not read yet.

    Raises UserError if the file is damaged or holds more than tensors.
    """
    try:
        if zipfile.is_zipfile(file):
            return open_zip(file)
        with file.open('rb') as stream:
            return open_legacy(file, stream)
    except (
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        EOFError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        IndexError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"'{file}' is truncated or no file of torch.save: {reason}") from None


def open_zip(file: Path) -> Any:
    """The content of a file of torch ≥ 1.6: a zip of a pickle and its storages."""
    with zipfile.ZipFile(file) as archive:
        pickled = next((name for name in archive.namelist() if name.endswith('/data.pkl')), None)
        if pickled is None:
            raise KeyError('it has no data.pkl')
        top = pickled.removesuffix('data.pkl')
        if f'{top}byteorder' in archive.namelist() and archive.read(f'{top}byteorder') != b'little':
            raise ValueError('its numbers are big-endian')

        def find_storage(dtype: str, key: str) -> Storage:
            archive.getinfo(f'{top}data/{key}')

            def load() -> bytes:
                try:
                    with zipfile.ZipFile(file) as again:
                        return again.read(f'{top}data/{key}')
                except zipfile.BadZipFile as error:
                    raise UserError(f"'{file}' is damaged: {error}") from None

            return Storage(dtype, load)

        with archive.open(pickled) as stream:
            return Unpickler(stream, file, find_storage).load()


def open_legacy(file: Path, stream: BinaryIO) -> Any:
    """The content of a file of torch < 1.6: five pickles, then each storage after its length, in the order that the fifth lists."""
    places: dict[str, tuple[int, int]] = {}  # key -> first byte, number of bytes
    types: dict[str, str] = {}

    def find_storage(dtype: str, key: str) -> Storage:
        types[key] = dtype

        def load() -> bytes:
            begin, size = places[key]
            with file.open('rb') as again:
                again.seek(begin)
                return again.read(size)

        return Storage(dtype, load)

    def read_pickle() -> Any:
        return Unpickler(stream, file, find_storage).load()

    if read_pickle() != LEGACY:
        raise ValueError('it begins with another number')
    _, _, state, keys = (read_pickle() for _ in range(4))  # the first two are the protocol and the machine
    end = file.stat().st_size
    for key in keys:
        items = int.from_bytes(stream.read(8), 'little')
        size = items * (2 if types[key] == 'bfloat16' else np.dtype(types[key]).itemsize)
        places[key] = stream.tell(), size
        if stream.tell() + size > end:
            raise EOFError(f'it ends at byte {end}, within a tensor')
        stream.seek(size, 1)
    return state
