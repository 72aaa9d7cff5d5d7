"""Reads files of torch.save without torch and without running their code: only tensors are rebuilt, everything else is refused."""

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from research.errors import UserError
from research.interchange.unpickling import Global, Machine, check_key

# Storage of torch -> the numpy type of its items.
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
PICKLED = 2**24  # bytes of the pickles of a file, at most: they hold names and shapes; a BERT-large has 100,000
DIMENSIONS = 16  # of a tensor, at most
DAMAGES = (
    zipfile.BadZipFile,
    EOFError,
    ValueError,
    TypeError,
    IndexError,
    OverflowError,
    struct.error,
    RecursionError,
    NotImplementedError,
)


@dataclass(frozen=True)
class Storage:
    """A sequence of items of one type in a file."""

    file: Path
    dtype: str  # a value of STORAGES
    begin: int  # its first byte in the file
    size: int  # bytes
    check: Callable[[], None]  # raises UserError if its bytes are damaged

    @property
    def type(self) -> np.dtype:
        """The numpy type of its items on disk."""
        return np.dtype('<u2' if self.dtype == 'bfloat16' else self.dtype)

    def count(self) -> int:
        """The number of its items."""
        return self.size // self.type.itemsize


@dataclass(frozen=True)
class Stored:
    """A tensor in a file: a view of a storage."""

    storage: Storage
    offset: int  # items
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # items

    @property
    def dtype(self) -> str:
        """The name of the type of its numbers, as numpy has it."""
        return self.storage.dtype if self.storage.dtype == 'bfloat16' else self.storage.type.name

    def read(self) -> np.ndarray:
        """The tensor as an array.

        Raises UserError if its bytes are damaged.
        """
        if 0 in self.shape:
            return np.zeros(self.shape, np.float32)
        kept = self.storage
        kept.check()
        # Mapped, not read: a view touches its own items alone. The pages are released with the array.
        items = np.memmap(kept.file, kept.type, 'r', kept.begin, (kept.count(),))
        strides = [stride * items.itemsize for stride in self.strides]
        found = np.lib.stride_tricks.as_strided(items[self.offset :], self.shape, strides, writeable=False)
        if kept.dtype == 'bfloat16':
            return widen(found)
        return np.array(found)


def widen(halves: np.ndarray) -> np.ndarray:
    """Numbers of bfloat16, given as uint16, in float32, whose upper half they are."""
    return (halves.astype(np.uint32) << 16).view(np.float32)


def rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> Stored:
    """Replaces torch._utils._rebuild_tensor_v2.

    Raises ValueError if the tensor reaches beyond its storage, or has more items than it.
    """
    sizes = (shape, strides)
    if not isinstance(storage, Storage) or not all(isinstance(each, tuple) and len(each) <= DIMENSIONS for each in sizes):
        raise TypeError('a tensor has no storage, or no shape')
    if not all(type(n) is int and 0 <= n < 2**48 for n in (offset, *shape, *strides)) or len(shape) != len(strides):
        raise ValueError('the shape of a tensor is impossible')
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if 0 not in shape and (last >= storage.count() or math.prod(shape) > storage.count()):
        raise ValueError(f'a tensor of shape {shape} reaches beyond its storage of {storage.count()} items')
    return Stored(storage, offset, shape, strides)


def rebuild_parameter(stored: Any, *rest: Any) -> Any:
    """Replaces torch._utils._rebuild_parameter."""
    return stored


def make_dict(*given: Any) -> dict[Any, Any]:
    """Replaces collections.OrderedDict. A pickle of Python 2 gives it a list of its items, which is emptied: it is read once."""
    (items,) = given or ([],)
    if not isinstance(items, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in items):
        raise TypeError('a dict is made of something else than pairs')
    found = {check_key(key): value for key, value in items}
    items.clear()
    return found


def make_size(sizes: Any = ()) -> tuple[Any, ...]:
    """Replaces torch.Size."""
    if not isinstance(sizes, tuple):
        raise TypeError('a size is no tuple')
    return sizes


# All that a pickle may call -> what is called instead; and all that it may name.
CALLS: dict[Global, Callable[..., Any]] = {
    Global('collections', 'OrderedDict'): make_dict,
    Global('torch._utils', '_rebuild_tensor_v2'): rebuild_tensor,
    Global('torch._utils', '_rebuild_parameter'): rebuild_parameter,
    Global('torch', 'Size'): make_size,
}
NAMES = {Global('torch', name): dtype for name, dtype in STORAGES.items()}


def open_pickle(file: Path) -> Any:
    """The content of a file of torch.save, each tensor as a Stored that is not read yet.

    Raises UserError if the file is damaged or holds more than tensors.
    """
    try:
        if zipfile.is_zipfile(file):
            return open_zip(file)
        with file.open('rb') as stream:
            return open_legacy(file, stream)
    except DAMAGES as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"'{file}' is truncated or no file of torch.save: {reason}") from None


def read_reference(reference: Any) -> tuple[str, str]:
    """(type, key) of the storage to which a tensor refers.

    Raises ValueError for a reference to anything else.
    """
    if not isinstance(reference, tuple) or len(reference) not in (5, 6) or reference[0] != 'storage':
        raise ValueError('it refers to something else than a storage of numbers')
    if reference[1] not in STORAGES.values() or type(reference[2]) is not str:
        raise ValueError('it refers to a storage of a type that cannot be read')
    if len(reference) == 6 and reference[5] is not None:
        raise ValueError('it refers to a part of another storage, as torch < 0.4 did')
    return reference[1], reference[2]


def open_zip(file: Path) -> Any:
    """The content of a file of torch ≥ 1.6: a zip of a pickle and its storages, none of them compressed."""
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
    pickled = next((name for name in entries if name.endswith('/data.pkl')), None)
    if pickled is None:
        raise EOFError('it has no data.pkl')
    top = pickled.removesuffix('data.pkl')
    end = file.stat().st_size

    def find(name: str) -> tuple[int, zipfile.ZipInfo]:
        """(first byte, entry) of an entry, which lies in the file as it is."""
        if name not in entries:
            raise EOFError(f'it has no {name}')
        entry = entries[name]
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 or entry.compress_size != entry.file_size:
            raise ValueError(f'{name} is compressed or encrypted, which torch.save never does')
        if not 0 <= entry.header_offset <= end:
            raise EOFError(f'{name} lies outside of it')
        with file.open('rb') as stream:
            stream.seek(entry.header_offset)
            header = stream.read(30)
        begin = entry.header_offset + 30 + int.from_bytes(header[26:28], 'little') + int.from_bytes(header[28:30], 'little')
        if header[:4] != b'PK\3\4' or begin + entry.file_size > end:
            raise EOFError(f'it ends within {name}')
        return begin, entry

    def read(name: str, most: int) -> bytes:
        begin, entry = find(name)
        if entry.file_size > most:
            raise ValueError(f'{name} has {entry.file_size:,} bytes; at most {most:,} are read')
        with file.open('rb') as stream:
            stream.seek(begin)
            return stream.read(entry.file_size)

    @cache
    def find_storage(dtype: str, key: str) -> Storage:
        begin, entry = find(f'{top}data/{key}')
        return Storage(file, dtype, begin, entry.file_size, cache(lambda: check_sum(file, begin, entry)))

    if f'{top}byteorder' in entries and read(f'{top}byteorder', 16) != b'little':
        raise ValueError('its numbers are big-endian')
    machine = Machine(file, CALLS, NAMES, lambda reference: find_storage(*read_reference(reference)))
    return machine.load(io.BytesIO(read(pickled, PICKLED)))


def check_sum(file: Path, begin: int, entry: zipfile.ZipInfo) -> None:
    """Raises UserError if the bytes of a zip's entry, which begin at `begin`, do not have its checksum."""
    found, left = 0, entry.file_size
    with file.open('rb') as stream:
        stream.seek(begin)
        while left and (chunk := stream.read(min(left, 2**20))):
            found, left = zlib.crc32(chunk, found), left - len(chunk)
    if found != entry.CRC:
        raise UserError(f"'{file}' is damaged: {entry.filename} has another checksum")


def open_legacy(file: Path, stream: BinaryIO) -> Any:
    """The content of a file of torch < 1.6: five pickles, then each storage after its length, in the order that the fifth lists."""
    end = file.stat().st_size
    types: dict[str, str] = {}
    places: dict[str, tuple[int, int]] = {}  # key -> first byte, number of bytes
    pickles = io.BytesIO(stream.read(PICKLED))

    def note_storage(reference: Any) -> Storage:
        """A storage whose place is not known yet."""
        dtype, key = read_reference(reference)
        if types.setdefault(key, dtype) != dtype:
            raise ValueError(f'the storage {key} has two types')
        return Storage(file, dtype, 0, 2**62, lambda: None)

    machine = Machine(file, CALLS, NAMES, note_storage)
    if machine.load(pickles) != LEGACY:
        raise ValueError('it begins with another number')
    machine.load(pickles)  # the protocol
    machine.load(pickles)  # the machine
    begin = pickles.tell()
    machine.load(pickles)  # the content, which is read again when the places of its storages are known
    keys = machine.load(pickles)
    if not isinstance(keys, list) or len(keys) != len(types) or set(map(check_key, keys)) != types.keys():
        raise ValueError('it lists other storages than its tensors have')
    at = pickles.tell()
    for key in keys:
        stream.seek(at)
        items = int.from_bytes(stream.read(8), 'little')
        size = items * Storage(file, types[key], 0, 0, lambda: None).type.itemsize
        places[key] = at + 8, size
        at += 8 + size
        if at > end:
            raise EOFError(f'it ends at byte {end}, within a tensor')
    machine.refer = lambda reference: Storage(file, types[reference[2]], *places[reference[2]], lambda: None)
    pickles.seek(begin)
    return machine.load(pickles)
