"""A Hugging Face folder as a model of ours, with an account of every tensor in it."""

import atexit
import dataclasses
import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import unflatten_dict
from tokenizers import Tokenizer

from research import costs
from research.data.tokenizers import load_tokenizer, save_tokenizer, vocabulary_of
from research.errors import UserError
from research.interchange import configuration, tensor_names
from research.interchange.folder_tokenizer import read_tokenizer
from research.interchange.tensor_names import Block, Slot
from research.interchange.weights import Tensor, open_weights
from research.models.architecture import Architecture
from research.models.encoder import sinusoids
from research.models.heads import HEADS, Heads, Model, Sizes, initialise
from research.surgery import Donor


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a Hugging Face folder holds, before any tensor is read."""

    folder: Path
    config: dict[str, Any]
    architecture: Architecture
    heads: Heads
    labels: tuple[str, ...]  # of the label head's classes; () without one
    blocks: list[Block]
    tensors: dict[str, Tensor]  # by the names of today's classes
    stored: dict[str, str]  # those names -> the names in the files
    random: dict[str, str]  # head -> why it is not loaded

    @property
    def kind(self) -> str:
        """The model type."""
        return self.config['model_type']


def inspect(folder: Path) -> Contents:
    """What the Hugging Face folder holds: its config.json, and the names and shapes of its tensors.

    Raises UserError for a folder that is no model of ours, naming what is missing or not supported.
    """
    config = configuration.read_config(folder)
    kind = config['model_type']
    tensors, stored = canonical(kind, open_weights(folder))
    stem = (
        tensor_names.prefix(kind) + tensor_names.STEMS[kind]['encoder/pooler']
        if 'encoder/pooler' in tensor_names.STEMS[kind]
        else None
    )
    pooler = stem is not None and f'{stem}.weight' in tensors
    a = configuration.architecture_of(config, pooler)
    if a.position_kind == 'sinusoidal' and not is_sinusoidal(a, tensors):
        a = dataclasses.replace(a, position_kind='learned')
    validate_size(a, tensors)
    found, random = heads_of(kind, config, a, tensors)
    labels = ()
    if 'label' in dict(found):
        labels = configuration.labels_of(config) or tuple(f'LABEL_{i}' for i in range(dict(found)['label']))
        if 'problem_type' in config and config['problem_type'] == 'multi_label_classification':
            raise UserError(
                'config.json has problem_type="multi_label_classification", which is not supported: one label an input is'
            )
    return Contents(folder, config, a, found, labels, blocks_of(kind, config, a), tensors, stored, random)


def validate_size(a: Architecture, tensors: dict[str, Tensor]) -> None:
    """Raises UserError for a config.json that describes a model hundreds of times as large as the weights, before it is built.

    What differs less is told by `validate`, tensor by tensor.
    """
    described = sum(costs.parameters(a).values())
    stored = sum(math.prod(tensor.shape) for tensor in tensors.values())
    if described > 100 * stored + 2**20:
        words = next((f', {name} of shape {x.shape}' for name, x in tensors.items() if 'word_embeddings' in name), '')
        raise UserError(
            f'config.json describes {described:,} parameters (vocabulary {a.vocabulary:,}, width {a.width:,}, inner {a.inner:,}, '
            f'{a.positions:,} positions, {a.layers:,} layers), but the weights hold {stored:,}{words}'
        )


def canonical(kind: str, tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by the names of today's classes, and the name that each has in the files.

    Old files say gamma and beta in a LayerNorm; a bare model's names lack its prefix. Raises UserError for two tensors of one name.
    """
    modules = ('embeddings.', 'encoder.', 'transformer.', 'pooler.')
    found, stored = {}, {}
    for given, tensor in tensors.items():
        name = given.removeprefix('module.')
        for old, new in (('LayerNorm.gamma', 'LayerNorm.weight'), ('LayerNorm.beta', 'LayerNorm.bias')):
            name = name.removesuffix(old) + new if name.endswith(old) else name
        if name.startswith(modules):
            name = tensor_names.prefix(kind) + name
        if name in found:
            raise UserError(f'the weights hold {name} twice, as {stored[name]} and as {given}')
        found[name], stored[name] = tensor, given
    decoder, bias = tensor_names.TIED[kind]
    if bias not in found and f'{decoder}.bias' in found:  # tied, and saved under the other name
        found[bias], stored[bias] = found.pop(f'{decoder}.bias'), stored.pop(f'{decoder}.bias')
    return found, stored


def is_sinusoidal(a: Architecture, tensors: dict[str, Tensor]) -> bool:
    """Whether the position table in the file, where there is one, is the fixed one."""
    name = 'distilbert.embeddings.position_embeddings.weight'
    if name not in tensors or tensors[name].shape != (a.positions, a.embedding):
        return True
    return bool(np.abs(tensors[name].read() - np.asarray(sinusoids(a.positions, a.embedding))).max() < 1e-6)


def blocks_of(kind: str, config: dict[str, Any], a: Architecture) -> list[Block]:
    """The blocks of the file, in our order."""
    if kind != 'albert':
        return [Block(tensor_names.block_stem(kind, layer), (layer, layer)) for layer in range(a.layers)]
    groups, inner = (configuration.value(config, name, 1) for name in ('num_hidden_groups', 'inner_group_num'))
    return [Block(tensor_names.block_stem(kind, b // inner, b % inner), (b, b)) for b in range(groups * inner)]


def heads_of(kind: str, config: dict[str, Any], a: Architecture, tensors: dict[str, Tensor]) -> tuple[Heads, dict[str, str]]:
    """The heads whose tensors are all there, with their numbers of classes; and why others, that the class has, are not."""
    told = configuration.value(config, 'architectures', []) if 'architectures' in config and config['architectures'] else []
    declared = {head for heads, name in configuration.CLASSES[kind].items() if name in told for head in heads}
    classifier = 'choice' if 'choice' in declared else 'label'
    if any(str(name).endswith('ForTokenClassification') for name in told):
        classifier = ''
    sizes = Sizes(a, lambda: tensors['classifier.bias'].shape[0])
    found, random = [], {}
    for head in HEADS:
        mine = {module: stem for module, stem in tensor_names.STEMS[kind].items() if module.startswith(f'{head}/')}
        if not mine or (head in ('label', 'choice') and head != classifier):
            continue
        wanted = [f'{stem}.{leaf}' for module, stem in mine.items() for leaf in ('weight', 'bias')]
        if head == 'mlm':
            wanted.remove(f'{mine["mlm/output"]}.weight')  # tied to the words
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


def shapes_of(a: Architecture, heads: Heads) -> Any:
    """The tree of our parameters' shapes."""
    model = Model(a, heads)
    return jax.eval_shape(lambda key: initialise(model, key), jax.random.key(0))


def validate(p: Contents, slots: list[Slot], shapes: dict[tuple[str, ...], tuple[int, ...]]) -> None:
    """Raises UserError for a tensor of the encoder that is missing, and for one whose shape contradicts config.json."""
    missing = [slot.name for slot in slots if slot.name not in p.tensors]
    if missing:
        more = f' and {len(missing) - 1} more tensors' if len(missing) > 1 else ''
        raise UserError(f"'{p.folder}' lacks {missing[0]}{more} of the encoder that its config.json describes")
    for slot in slots:
        shape = shapes[slot.path] if slot.group is None else shapes[slot.path][1:]
        given, wanted = p.tensors[slot.name].shape, tensor_names.their_shape(slot.path, shape)
        if given != wanted:
            raise UserError(f'{p.stored[slot.name]} has shape {given} in the weights, but config.json asks for {wanted}')
    expected = configuration.labels_of(p.config)
    if p.labels and expected and len(expected) != dict(p.heads)['label']:
        raise UserError(
            f'{p.stored["classifier.weight"]} has shape {p.tensors["classifier.weight"].shape} in the weights, '
            f'but config.json has {len(expected)} labels'
        )


def read(p: Contents) -> tuple[Any, list[tuple[str, str, int, int]]]:
    """Our parameters, float32, and the account: (loaded or ignored or random, what, tensors, parameters) for each module.

    Each tensor is read once, into its place. Raises UserError where something of the encoder is missing or does not fit.
    """
    shapes = {path: x.shape for path, x in tensor_names.flat(shapes_of(p.architecture, p.heads)).items()}
    slots = list(tensor_names.slots(p.kind, p.blocks, unflatten_dict(shapes)))
    validate(p, slots, shapes)
    params = {path: np.empty(shape, np.float32) for path, shape in shapes.items()}
    loaded: dict[str, list[int]] = {}
    for slot in slots:
        place = params[slot.path] if slot.group is None else params[slot.path][slot.group]
        tensor = p.tensors[slot.name].read()
        if tensor.dtype.kind in 'biu':
            raise UserError(f'{p.stored[slot.name]} holds {tensor.dtype} numbers: quantised weights are not supported')
        place[...] = tensor_names.to_ours(slot.path, place.shape, tensor)
        counted = loaded.setdefault('/'.join(slot.path[:2]) if slot.path[0] == 'encoder' else slot.path[0], [0, 0])
        counted[0] += 1
        counted[1] += place.size
    account = [('loaded', module, n, size) for module, (n, size) in loaded.items()]
    account += [('random', f'{head}: {why}', 0, 0) for head, why in p.random.items()]
    used = {slot.name for slot in slots}
    validate_tied(p, params)
    for name, tensor in p.tensors.items():
        if name not in used:
            account.append(('ignored', f'{p.stored[name]}{why_ignored(p, name)}', 1, int(np.prod(tensor.shape))))
    return unflatten_dict(params), account


def validate_tied(p: Contents, params: dict[tuple[str, ...], np.ndarray]) -> None:
    """Raises UserError where the vocabulary's logits do not use the table of the words: no model of ours does that."""
    if 'mlm' not in dict(p.heads):
        return
    decoder, bias = tensor_names.TIED[p.kind]
    pairs = {f'{decoder}.weight': ('encoder', 'word'), f'{decoder}.bias': ('mlm', 'output', 'bias')}
    for name, path in pairs.items():
        if name in p.tensors and name != bias:
            given = p.tensors[name]
            if given.shape != params[path].shape or not np.array_equal(given.read().astype(np.float32), params[path]):
                raise UserError(
                    f'{p.stored[name]} differs from {"/".join(path)}, but the two are one here: '
                    'tie_word_embeddings=false is not supported'
                )
    tied = configuration.value(p.config, 'tie_word_embeddings', True)
    if not tied and f'{decoder}.weight' not in p.tensors:
        raise UserError(f'config.json has tie_word_embeddings=false, but the weights have no {decoder}.weight')


def why_ignored(p: Contents, name: str) -> str:
    """The clause that says why a tensor has no place."""
    decoder, _ = tensor_names.TIED[p.kind]
    if name in (f'{decoder}.weight', f'{decoder}.bias') and 'mlm' in dict(p.heads):
        return ' (tied, and equal)'
    if name.removeprefix(tensor_names.prefix(p.kind)) in tensor_names.BUFFERS:
        return ' (a constant)'
    if name.endswith('position_embeddings.weight'):
        return ' (sinusoids, computed)'
    return ''


def open_folder(folder: Path, label: str) -> tuple[Donor, list[tuple[str, str, int, int]]]:
    """The model in a Hugging Face folder, its parameters in host memory, and the account of its tensors.

    Raises UserError for a folder that is no model of ours, and for a tokenizer with more pieces than the model has.
    """
    p = inspect(folder)
    tokenizer = read_tokenizer(folder)
    if tokenizer is not None and (size := vocabulary_of(tokenizer).size) > p.architecture.vocabulary:
        raise UserError(f"the tokenizer of '{folder}' has {size} pieces, config.json only vocab_size={p.architecture.vocabulary}")
    params, account = read(p)
    return Donor(label, p.architecture, p.heads, params, keep_tokenizer(tokenizer), p.labels), account


def keep_tokenizer(tokenizer: Tokenizer | None) -> Path | None:
    """A folder with the tokenizer as a tokenizer.json that says all of its rules; it lasts as long as this process."""
    if tokenizer is None:
        return None
    folder = Path(tempfile.mkdtemp(prefix='tokenizer-'))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tokenizer.save(str(folder / 'tokenizer.json'))
    save_tokenizer(load_tokenizer(folder), folder)
    return folder
