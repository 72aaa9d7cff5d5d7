"""Weight files, whose tensors are read one at a time: safetensors and pytorch_model.bin, whole or in shards."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from research.errors import UserError
from research.interchange.pickles import open_pickle


class Tensor(NamedTuple):
    """A tensor in a file, not read yet."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


# The possible weight files of a folder; the first that exists is read. An index names its shards.
FILES = ('model.safetensors', 'model.safetensors.index.json', 'pytorch_model.bin', 'pytorch_model.bin.index.json')


def find_weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights of the model in `folder`.

    Raises UserError if there are none, or a shard is missing.
    """
    found = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if found is None:
        raise UserError(f"'{folder}' holds no weights: it has no {' or '.join(FILES[::2])}, whole or in shards")
    if found.suffix != '.json':
        return [found]
    try:
        names = sorted({str(name) for name in json.loads(found.read_text('utf-8'))['weight_map'].values()})
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise UserError(f"'{found}' is no index of shards: it has no weight_map") from None
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise UserError(f"'{folder}' lacks {missing[0]}, one of {len(names)} shards that {found.name} names")
    return [folder / name for name in names]


def open_weights(folder: Path) -> dict[str, Tensor]:
    """{name in the files: tensor} of the model in `folder`.

    Raises UserError if a file cannot be read.
    """
    found: dict[str, Tensor] = {}
    for file in find_weight_files(folder):
        found |= open_safetensors(file) if file.suffix == '.safetensors' else open_bin(file)
    return found


def open_safetensors(file: Path) -> dict[str, Tensor]:
    """The tensors of one safetensors file."""
    try:
        with safe_open(file, framework='numpy') as opened:
            shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.offset_keys()}
    except (SafetensorError, OSError) as error:
        raise UserError(f"'{file}' is truncated or no safetensors file: {error}") from None

    def read(name: str) -> np.ndarray:
        # An open file is mapped into memory; opening it for each tensor releases the pages of the tensors before.
        with safe_open(file, framework='numpy') as opened:
            return opened.get_tensor(name)

    return {name: Tensor(shape, partial(read, name)) for name, shape in shapes.items()}


def open_bin(file: Path) -> dict[str, Tensor]:
    """The tensors of one file written by torch.save."""
    state: Any = open_pickle(file)
    if isinstance(state, dict) and isinstance(state.get('state_dict'), dict):
        state = state['state_dict']
    if not isinstance(state, dict) or not all(hasattr(stored, 'read') for stored in state.values()):
        raise UserError(f"'{file}' is no state dict: it holds more than named tensors")
    return {name: Tensor(stored.shape, stored.read) for name, stored in state.items()}
