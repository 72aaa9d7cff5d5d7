"""Reads a Hugging Face folder as a model of ours, with a report on every tensor."""

import atexit
import math
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import unflatten_dict
from tokenizers import Tokenizer

from research.data.tokenizer_files import read_tokenizer
from research.data.tokenizers import load_tokenizer, save_tokenizer, vocabulary_of
from research.errors import UserError
from research.interchange import configuration, tensor_names
from research.interchange.contents import FLOATS, Contents, compute_shapes, inspect
from research.interchange.pooling import read_pooling
from research.interchange.tensor_names import Slot
from research.surgery import Donor


class ReportRow(NamedTuple):
    """A row of the report on an import: the tensors of a module, or one that has no parameter here."""

    status: str  # 'loaded', 'random' or 'ignored'
    what: str
    tensors: int
    parameters: int


def validate_tensors(p: Contents, slots: list[Slot], shapes: dict[tuple[str, ...], tuple[int, ...]]) -> None:
    """Raises UserError if a tensor is missing, or if its shape or the number of labels contradicts config.json."""
    missing = [slot.name for slot in slots if slot.name not in p.tensors]
    if missing:
        more = f' and {len(missing) - 1} more tensors' if len(missing) > 1 else ''
        there = next((name for name in p.stored.values() if name.endswith('weight')), next(iter(p.stored.values()), 'nothing'))
        raise UserError(
            f"'{p.folder}' lacks {missing[0]}{more} of the encoder that its config.json describes; its weights hold e.g. {there}"
        )
    for slot in slots:
        shape = shapes[slot.path] if slot.group is None else shapes[slot.path][1:]
        given, wanted = p.tensors[slot.name].shape, tensor_names.to_their_shape(slot.path, shape)
        if given != wanted:
            raise UserError(f'{p.stored[slot.name]} has shape {given} in the weights, but config.json asks for {wanted}')
    expected = configuration.read_labels(p.config) if p.labels else None
    if expected and len(expected) != dict(p.heads)['label']:
        raise UserError(
            f'{p.stored["classifier.weight"]} has shape {p.tensors["classifier.weight"].shape} in the weights, '
            f'but config.json has {len(expected)} labels'
        )


def read_parameters(p: Contents) -> tuple[Any, list[ReportRow]]:
    """(our parameters in float32, the report). Each tensor is read once.

    Raises UserError if a tensor is missing, does not fit or is not supported.
    """
    shapes = {path: x.shape for path, x in tensor_names.flatten(compute_shapes(p.architecture, p.heads)).items()}
    slots = list(tensor_names.list_slots(p.kind, p.blocks, unflatten_dict(shapes)))
    validate_tensors(p, slots, shapes)
    params = {path: np.empty(shape, np.float32) for path, shape in shapes.items()}
    loaded: dict[str, list[int]] = {}
    for slot in slots:
        place = params[slot.path] if slot.group is None else params[slot.path][slot.group]
        place[...] = tensor_names.to_ours(slot.path, place.shape, read_tensor(p, slot.name))
        module = '/'.join(slot.path[:2]) if slot.path[0] == 'encoder' else slot.path[0]
        counted = loaded.setdefault(module, [0, 0])
        counted[0] += 1
        counted[1] += place.size
    report = [ReportRow('loaded', module, n, size) for module, (n, size) in loaded.items()]
    report += [ReportRow('random', f'{head}: {reason}', 0, 0) for head, reason in p.random.items()]
    report += [ReportRow('ignored', f'{head}: {reason}', 0, 0) for head, reason in p.faults.items()]
    used = {slot.name for slot in slots}
    validate_tied(p, params)
    for name, tensor in p.tensors.items():
        if name not in used:
            report.append(ReportRow('ignored', f'{p.stored[name]}{explain_ignored(p, name)}', 1, math.prod(tensor.shape)))
    return unflatten_dict(params), report


def read_tensor(p: Contents, name: str) -> np.ndarray:
    """A tensor in float32.

    Raises UserError if it is of another kind of numbers than FLOATS, or one of them is not finite.
    """
    tensor = p.tensors[name]
    if tensor.dtype not in FLOATS:
        raise UserError(f'{p.stored[name]} holds {tensor.dtype} numbers, which are not supported (only {", ".join(FLOATS)})')
    given = tensor.read()
    with np.errstate(over='ignore'):
        found = given.astype(np.float32)
    wrong = np.count_nonzero(~np.isfinite(found))
    if wrong:
        value = given.ravel()[np.argmin(np.isfinite(found.ravel()))]
        raise UserError(
            f'{p.stored[name]} holds {value} in {wrong:,} of {found.size:,} places: the file is damaged, or the training diverged'
        )
    return found


def validate_tied(p: Contents, params: dict[tuple[str, ...], np.ndarray]) -> None:
    """Raises UserError if the MLM head has a decoder of its own instead of the word embeddings, which is not supported."""
    if 'mlm' not in dict(p.heads):
        return
    decoder, bias = tensor_names.TIED[p.kind]
    pairs = {f'{decoder}.weight': ('encoder', 'word'), f'{decoder}.bias': ('mlm', 'output', 'bias')}
    for name, path in pairs.items():
        if name in p.tensors and name != bias:
            given = p.tensors[name]
            if given.shape != params[path].shape or not np.array_equal(read_tensor(p, name), params[path]):
                raise UserError(
                    f'{p.stored[name]} differs from {"/".join(path)}, but must be equal: tie_word_embeddings=false is not supported'
                )
    tied = configuration.read_value(p.config, 'tie_word_embeddings', True)
    if not tied and f'{decoder}.weight' not in p.tensors:
        raise UserError(f'config.json has tie_word_embeddings=false, but the weights have no {decoder}.weight')


def explain_ignored(p: Contents, name: str) -> str:
    """' (REASON)' why a tensor is ignored; '' if none is known."""
    decoder, _ = tensor_names.TIED[p.kind]
    if name in (f'{decoder}.weight', f'{decoder}.bias') and 'mlm' in dict(p.heads):
        return ' (tied, and equal)'
    if name.removeprefix(tensor_names.PREFIXES[p.kind]) in tensor_names.BUFFERS:
        return ' (a constant)'
    if name.endswith('position_embeddings.weight') or name == tensor_names.ROTATIONS:
        return ' (sinusoids, computed)'
    return ''


def open_folder(folder: Path, label: str) -> tuple[Donor, list[ReportRow]]:
    """(the model in a Hugging Face folder with its parameters in host memory, the report on its tensors).

    `label` names the model in messages. Raises UserError if something is missing or not supported, or if the tokenizer has more
    pieces than the model.
    """
    p = inspect(folder)
    tokenizer = read_tokenizer(folder)
    if tokenizer is not None and (size := vocabulary_of(tokenizer).size) > p.architecture.vocabulary:
        raise UserError(
            f"the tokenizer of '{folder}' has {size} pieces, but config.json has vocab_size={p.architecture.vocabulary}"
        )
    params, report = read_parameters(p)
    pooling = read_pooling(folder, p.architecture.width, tokenizer)
    kept = save_temporary_tokenizer(tokenizer)
    return Donor(label, p.architecture, p.heads, params, kept, p.labels, p.faults, pooling), report


def save_temporary_tokenizer(tokenizer: Tokenizer | None) -> Path | None:
    """Saves the tokenizer in a temporary folder, which is removed when this process ends. None stays None."""
    if tokenizer is None:
        return None
    folder = Path(tempfile.mkdtemp(prefix='tokenizer-'))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tokenizer.save(str(folder / 'tokenizer.json'))
    save_tokenizer(load_tokenizer(folder), folder)
    return folder
