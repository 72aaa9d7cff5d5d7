"""Weight files, whose tensors are read one at a time: safetensors and pytorch_model.bin, whole or in shards."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from research.errors import UserError
from research.interchange.pickles import Stored, open_pickle, widen
from research.records import parse_json, read_object


class Tensor(NamedTuple):
    """A tensor in a file, not read yet."""

    shape: tuple[int, ...]
    dtype: str  # in numpy's spelling; one that numpy does not have in that of safetensors
    read: Callable[[], np.ndarray]


# The possible weight files of a folder; the first that exists is read. An index names its shards.
FILES = ('model.safetensors', 'model.safetensors.index.json', 'pytorch_model.bin', 'pytorch_model.bin.index.json')
# The types of safetensors that numpy has.
DTYPES = {'F64': 'float64', 'F32': 'float32', 'F16': 'float16', 'BF16': 'bfloat16', 'BOOL': 'bool'}
DTYPES |= {f'{letter}{bits}': f'{name}{bits}' for letter, name in (('I', 'int'), ('U', 'uint')) for bits in (8, 16, 32, 64)}
TENSORS = 2**16  # of a file, at most
SHARED = 4  # times that tensors may read the bytes of a file, on average; tied weights are read twice


def find_weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights of the model in `folder`.

    Raises UserError if there are none, or a shard is missing.
    """
    found = find_first_file(folder)
    if found.suffix != '.json':
        return [found]
    names = sorted(set(read_index(found).values()))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise UserError(f"'{folder}' lacks {missing[0]}, one of {len(names)} shards that {found.name} names")
    return [folder / name for name in names]


def find_first_file(folder: Path) -> Path:
    """The first of FILES that is in `folder`. Raises UserError if there is none."""
    found = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if found is None:
        raise UserError(f"'{folder}' holds no weights: it has no {' or '.join(FILES[::2])}, whole or in shards")
    return found


def read_index(file: Path) -> dict[str, str]:
    """{name of a tensor: file name of its shard} of an index. Raises UserError if it names a file outside of its own folder."""
    index = read_object(file, f"'{file}'")
    named = index['weight_map'] if 'weight_map' in index else None
    if not isinstance(named, dict) or not named or not all(isinstance(name, str) for name in named.values()):
        raise UserError(f"'{file}' is no index of shards: it has no weight_map")
    suffix = Path(file.name.removesuffix('.index.json')).suffix
    for name in named.values():
        if Path(name).name != name or Path(name).suffix != suffix:
            raise UserError(f"'{file}' names the shard '{name}', which is no {suffix} file beside it")
    return named


def open_weights(folder: Path) -> dict[str, Tensor]:
    """{name in the files: tensor} of the model in `folder`. Of a tensor in several shards, the one that the index names.

    Raises UserError if a file cannot be read.
    """
    first = find_first_file(folder)
    opened = {file.name: open_file(file) for file in find_weight_files(folder)}
    if first.suffix != '.json':
        return opened[first.name]
    index = read_index(first)
    lost = next((name for name, shard in index.items() if name not in opened[shard]), None)
    if lost is not None:
        raise UserError(f"'{folder / index[lost]}' lacks the tensor {lost}, which {first.name} looks for there")
    return {name: opened[shard][name] for name, shard in index.items()}


def open_file(file: Path) -> dict[str, Tensor]:
    """The tensors of one file."""
    return open_safetensors(file) if file.suffix == '.safetensors' else open_bin(file)


def open_safetensors(file: Path) -> dict[str, Tensor]:
    """The tensors of one safetensors file."""
    try:
        with safe_open(file, framework='numpy') as opened:  # it validates the header, offsets and sizes included
            names = opened.offset_keys()
    except (SafetensorError, OSError) as error:
        raise UserError(f"'{file}' is truncated or no safetensors file: {error}") from None
    if len(names) > TENSORS:
        raise UserError(f"'{file}' has {len(names):,} tensors; at most {TENSORS:,} are read")
    with file.open('rb') as stream:
        size = int.from_bytes(stream.read(8), 'little')
        header = parse_json(stream.read(size).decode('utf-8'), f"'{file}'")
    found = {}
    for name in names:
        dtype, shape = header[name]['dtype'], tuple(header[name]['shape'])
        read = partial(read_array, file, 8 + size + header[name]['data_offsets'][0], dtype, shape)
        found[name] = Tensor(shape, DTYPES[dtype] if dtype in DTYPES else dtype, read)
    return found


def read_array(file: Path, begin: int, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """The array of a type of DTYPES whose bytes begin at `begin`; bfloat16 as float32."""
    kept = 'uint16' if dtype == 'BF16' else DTYPES[dtype]
    found = np.fromfile(file, np.dtype(kept).newbyteorder('<'), math.prod(shape), offset=begin).reshape(shape)
    return widen(found) if dtype == 'BF16' else found


def open_bin(file: Path) -> dict[str, Tensor]:
    """The tensors of one file written by torch.save."""
    state = open_pickle(file)
    if isinstance(state, dict) and 'state_dict' in state and isinstance(state['state_dict'], dict):
        state = state['state_dict']
    if not isinstance(state, dict) or not all(type(name) is str for name in state):
        raise UserError(f"'{file}' is no state dict: it holds more than named tensors")
    found, size = {}, 0
    for name, stored in state.items():
        if not isinstance(stored, Stored):
            raise UserError(f"'{file}' is no state dict: {name} is no tensor")
        found[name] = Tensor(stored.shape, stored.dtype, stored.read)
        size += math.prod(stored.shape) * stored.storage.type.itemsize
    if size > SHARED * file.stat().st_size:
        raise UserError(
            f"'{file}' has tensors of {size:,} bytes, over {SHARED} times as many as it holds: too many share their bytes"
        )
    return found
