"""Reads a Hugging Face folder as a model of ours, with a report on every tensor."""

import atexit
import dataclasses
import math
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import unflatten_dict
from tokenizers import Tokenizer

from research import costs
from research.data.tokenizer_files import read_tokenizer
from research.data.tokenizers import load_tokenizer, save_tokenizer, vocabulary_of
from research.errors import UserError
from research.interchange import configuration, tensor_names
from research.interchange.tensor_names import Block, Slot
from research.interchange.weights import Tensor, open_weights
from research.models.architecture import Architecture
from research.models.encoder import make_sinusoids
from research.models.heads import HEADS, Heads, Model, Sizes, initialise
from research.surgery import Donor


@dataclasses.dataclass(frozen=True)
class Contents:
    """The content of a Hugging Face folder, before any tensor is read."""

    folder: Path
    config: dict[str, Any]
    architecture: Architecture
    heads: Heads
    labels: tuple[str, ...]  # names of the label head's classes; () if it has no label head
    blocks: list[Block]
    tensors: dict[str, Tensor]  # by the names in today's classes
    stored: dict[str, str]  # these names -> the names in the files
    random: dict[str, str]  # head -> why it is not loaded

    @property
    def kind(self) -> str:
        """The model type."""
        return self.config['model_type']


class ReportRow(NamedTuple):
    """A row of the report on an import: the tensors of a module, or one that has no parameter here."""

    status: str  # 'loaded', 'random' or 'ignored'
    what: str
    tensors: int
    parameters: int


def inspect(folder: Path) -> Contents:
    """The Contents of a Hugging Face folder: its config.json, and the names and shapes of its tensors.

    Raises UserError if something is missing or not supported.
    """
    config = configuration.read_config(folder)
    kind = config['model_type']
    tensors, stored = rename_tensors(kind, open_weights(folder))
    stems = tensor_names.STEMS[kind]
    has_pooler = 'encoder/pooler' in stems and f'{tensor_names.get_prefix(kind)}{stems["encoder/pooler"]}.weight' in tensors
    a = configuration.read_architecture(config, has_pooler)
    if a.position_kind == 'sinusoidal' and not is_sinusoidal(a, tensors):
        a = dataclasses.replace(a, position_kind='learned')
    validate_size(a, tensors)
    found, random = find_heads(kind, config, a, tensors)
    labels = ()
    if 'label' in dict(found):
        labels = configuration.read_labels(config) or tuple(f'LABEL_{i}' for i in range(dict(found)['label']))
        if 'problem_type' in config and config['problem_type'] == 'multi_label_classification':
            raise UserError(
                'config.json has problem_type="multi_label_classification", which is not supported: an input has one label'
            )
    return Contents(folder, config, a, found, labels, list_blocks(kind, config, a), tensors, stored, random)


def validate_size(a: Architecture, tensors: dict[str, Tensor]) -> None:
    """Raises UserError if config.json describes a model over a hundred times larger than the weights, before memory is used for it.

    `validate_tensors` finds smaller differences.
    """
    described = sum(costs.count_parameters(a).values())
    stored = sum(math.prod(tensor.shape) for tensor in tensors.values())
    if described > 100 * stored + 2**20:
        words = [f', {name} of shape {x.shape}' for name, x in tensors.items() if 'word_embeddings' in name]
        raise UserError(
            f'config.json describes {described:,} parameters (vocabulary {a.vocabulary:,}, width {a.width:,}, inner {a.inner:,}, '
            f'{a.positions:,} positions, {a.layers:,} layers), but the weights hold {stored:,}{"".join(words[:1])}'
        )


def rename_tensors(kind: str, tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """({name in today's class: tensor}, {name in today's class: name in the files}).

    Old files call the parameters of a LayerNorm gamma and beta; a model without heads has no prefix in its names. Raises UserError
    if two tensors get the same name.
    """
    modules = ('embeddings.', 'encoder.', 'transformer.', 'pooler.')
    found, stored = {}, {}
    for given, tensor in tensors.items():
        name = given.removeprefix('module.')
        for old, new in (('LayerNorm.gamma', 'LayerNorm.weight'), ('LayerNorm.beta', 'LayerNorm.bias')):
            name = name.removesuffix(old) + new if name.endswith(old) else name
        if name.startswith(modules):
            name = tensor_names.get_prefix(kind) + name
        if name in found:
            raise UserError(f'the weights hold {name} twice, as {stored[name]} and as {given}')
        found[name], stored[name] = tensor, given
    decoder, bias = tensor_names.TIED[kind]
    if bias not in found and f'{decoder}.bias' in found:  # tied, and saved under its other name
        found[bias], stored[bias] = found.pop(f'{decoder}.bias'), stored.pop(f'{decoder}.bias')
    return found, stored


def is_sinusoidal(a: Architecture, tensors: dict[str, Tensor]) -> bool:
    """Whether the position table in the file is the table of sinusoids, or missing."""
    name = 'distilbert.embeddings.position_embeddings.weight'
    if name not in tensors or tensors[name].shape != (a.positions, a.embedding):
        return True
    return bool(np.abs(tensors[name].read() - np.asarray(make_sinusoids(a.positions, a.embedding))).max() < 1e-6)


def list_blocks(kind: str, config: dict[str, Any], a: Architecture) -> list[Block]:
    """The blocks of the file, in the order of our groups."""
    if kind != 'albert':
        return [Block(tensor_names.name_block(kind, layer), (layer, layer)) for layer in range(a.layers)]
    groups, inner = (configuration.read_value(config, name, 1) for name in ('num_hidden_groups', 'inner_group_num'))
    return [Block(tensor_names.name_block(kind, b // inner, b % inner), (b, b)) for b in range(groups * inner)]


def find_heads(kind: str, config: dict[str, Any], a: Architecture, tensors: dict[str, Tensor]) -> tuple[Heads, dict[str, str]]:
    """(the heads whose tensors are all there, {head that is declared or incomplete: what it lacks})."""
    classes = configuration.read_value(config, 'architectures', []) if 'architectures' in config and config['architectures'] else []
    declared = {head for heads, name in configuration.CLASSES[kind].items() if name in classes for head in heads}
    classifier = 'choice' if 'choice' in declared else 'label'
    if any(str(name).endswith('ForTokenClassification') for name in classes):
        classifier = ''
    sizes = Sizes(a, lambda: tensors['classifier.bias'].shape[0])
    found, random = [], {}
    for head in HEADS:
        stems = {module: stem for module, stem in tensor_names.STEMS[kind].items() if module.startswith(f'{head}/')}
        if not stems or (head in ('label', 'choice') and head != classifier):
            continue
        wanted = [f'{stem}.{leaf}' for module, stem in stems.items() for leaf in ('weight', 'bias')]
        if head == 'mlm':
            wanted.remove(f'{stems["mlm/output"]}.weight')  # tied to the word embeddings
        missing = [name for name in wanted if name not in tensors]
        if missing and (head in declared or len(missing) < len(wanted)):
            random[head] = f'the file has no {missing[0]}'
        elif not missing:
            found.append((head, HEADS[head].classes(sizes)))
    if not a.pooler and kind != 'distilbert' and (needy := [head for head, _ in found if HEADS[head].reads_pooled]):
        raise UserError(
            f'the weights lack the pooler ({tensor_names.STEMS[kind]["encoder/pooler"]}.weight) that the {needy[0]} head reads'
        )
    return tuple(found), random


def compute_shapes(a: Architecture, heads: Heads) -> Any:
    """The tree of the shapes of our parameters."""
    model = Model(a, heads)
    return jax.eval_shape(lambda key: initialise(model, key), jax.random.key(0))


def validate_tensors(p: Contents, slots: list[Slot], shapes: dict[tuple[str, ...], tuple[int, ...]]) -> None:
    """Raises UserError if a tensor is missing, or if its shape or the number of labels contradicts config.json."""
    missing = [slot.name for slot in slots if slot.name not in p.tensors]
    if missing:
        more = f' and {len(missing) - 1} more tensors' if len(missing) > 1 else ''
        raise UserError(f"'{p.folder}' lacks {missing[0]}{more} of the encoder that its config.json describes")
    for slot in slots:
        shape = shapes[slot.path] if slot.group is None else shapes[slot.path][1:]
        given, wanted = p.tensors[slot.name].shape, tensor_names.to_their_shape(slot.path, shape)
        if given != wanted:
            raise UserError(f'{p.stored[slot.name]} has shape {given} in the weights, but config.json asks for {wanted}')
    expected = configuration.read_labels(p.config)
    if p.labels and expected and len(expected) != dict(p.heads)['label']:
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
        tensor = p.tensors[slot.name].read()
        if tensor.dtype.kind in 'biu':
            raise UserError(f'{p.stored[slot.name]} holds {tensor.dtype} numbers: quantised weights are not supported')
        place[...] = tensor_names.to_ours(slot.path, place.shape, tensor)
        module = '/'.join(slot.path[:2]) if slot.path[0] == 'encoder' else slot.path[0]
        counted = loaded.setdefault(module, [0, 0])
        counted[0] += 1
        counted[1] += place.size
    report = [ReportRow('loaded', module, n, size) for module, (n, size) in loaded.items()]
    report += [ReportRow('random', f'{head}: {reason}', 0, 0) for head, reason in p.random.items()]
    used = {slot.name for slot in slots}
    validate_tied(p, params)
    for name, tensor in p.tensors.items():
        if name not in used:
            report.append(ReportRow('ignored', f'{p.stored[name]}{explain_ignored(p, name)}', 1, math.prod(tensor.shape)))
    return unflatten_dict(params), report


def validate_tied(p: Contents, params: dict[tuple[str, ...], np.ndarray]) -> None:
    """Raises UserError if the MLM head has a decoder of its own instead of the word embeddings, which is not supported."""
    if 'mlm' not in dict(p.heads):
        return
    decoder, bias = tensor_names.TIED[p.kind]
    pairs = {f'{decoder}.weight': ('encoder', 'word'), f'{decoder}.bias': ('mlm', 'output', 'bias')}
    for name, path in pairs.items():
        if name in p.tensors and name != bias:
            given = p.tensors[name]
            if given.shape != params[path].shape or not np.array_equal(given.read().astype(np.float32), params[path]):
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
    if name.removeprefix(tensor_names.get_prefix(p.kind)) in tensor_names.BUFFERS:
        return ' (a constant)'
    if name.endswith('position_embeddings.weight'):
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
    return Donor(label, p.architecture, p.heads, params, save_temporary_tokenizer(tokenizer), p.labels), report


def save_temporary_tokenizer(tokenizer: Tokenizer | None) -> Path | None:
    """Saves the tokenizer in a temporary folder, which is removed when this process ends. None stays None."""
    if tokenizer is None:
        return None
    folder = Path(tempfile.mkdtemp(prefix='tokenizer-'))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tokenizer.save(str(folder / 'tokenizer.json'))
    save_tokenizer(load_tokenizer(folder), folder)
    return folder
