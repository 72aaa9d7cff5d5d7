"""What a Hugging Face folder holds: its config.json, and the names and shapes of its tensors, before any tensor is read."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np

from research import costs
from research.errors import UserError
from research.interchange import configuration, tensor_names
from research.interchange.classes import CLASSES
from research.interchange.tensor_names import Block
from research.interchange.weights import Tensor, find_weight_files, open_weights
from research.models.architecture import Architecture
from research.models.encoder import make_sinusoids
from research.models.heads import HEADS, Heads, Model, Sizes, initialise
from research.models.rotary import make_table

FLOATS = ('float16', 'bfloat16', 'float32', 'float64')  # kinds of numbers that weights may be


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
    random: dict[str, str]  # head that is declared or incomplete -> what it lacks
    faults: dict[str, str]  # head whose tensors are all there -> why it cannot be read

    @property
    def kind(self) -> str:
        """The model type."""
        return self.config['model_type']


def inspect(folder: Path) -> Contents:
    """The Contents of a Hugging Face folder: its config.json, and the names and shapes of its tensors.

    Raises UserError if something is missing or not supported.
    """
    config = configuration.read_config(folder)
    kind = config['model_type']
    tensors, stored = rename_tensors(kind, open_weights(folder))
    stems = tensor_names.STEMS[kind]
    has_pooler = 'encoder/pooler' in stems and f'{tensor_names.PREFIXES[kind]}{stems["encoder/pooler"]}.weight' in tensors
    a = configuration.read_architecture(config, has_pooler)
    if a.position_kind == 'sinusoidal' and not is_sinusoidal(a, tensors):
        a = dataclasses.replace(a, position_kind='learned')
    validate_size(a, tensors, sum(file.stat().st_size for file in find_weight_files(folder)))
    if kind == 'roformer':
        validate_rotations(a, tensors)
    found, random = find_heads(kind, config, a, tensors)
    labels, faults = (), {}
    if 'label' in dict(found):
        number = dict(found)['label']
        fault = configuration.find_label_faults(config, number)
        labels = () if fault else configuration.read_labels(config) or tuple(f'LABEL_{i}' for i in range(number))
        faults = {'label': fault} if fault else {}
    found = tuple((head, classes) for head, classes in found if head not in faults)
    return Contents(folder, config, a, found, labels, list_blocks(kind, config, a), tensors, stored, random, faults)


def validate_size(a: Architecture, tensors: dict[str, Tensor], size: int) -> None:
    """Raises UserError if config.json describes a model over a hundred times larger than the weights, before memory is used for it.

    `validate_tensors` finds smaller differences. size: bytes of the weight files; tensors may share them.
    """
    described = sum(costs.count_parameters(a).values())
    computed = {'learned': 0, 'sinusoidal': a.embedding, 'rotary': a.width // a.heads}  # tables without parameters, as large as one
    described += a.positions * computed[a.position_kind]
    stored = min(sum(math.prod(tensor.shape) for tensor in tensors.values()), size)
    if described > 100 * stored + 2**20:
        words = [f', {name} of shape {x.shape}' for name, x in tensors.items() if 'word_embeddings' in name]
        raise UserError(
            f'config.json describes {described:,} parameters (vocabulary {a.vocabulary:,}, width {a.width:,}, inner {a.inner:,}, '
            f'{a.positions:,} positions, {a.layers:,} layers), but the weights hold {stored:,}{"".join(words[:1])}'
        )


def rename_tensors(kind: str, tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """({name in today's class: tensor}, {name in today's class: name in the files}).

    A wrapper put the same before all names; old files call the parameters of a LayerNorm gamma and beta; a model without heads has
    no prefix in its names. Raises UserError if two tensors get the same name.
    """
    modules = ('embeddings.', 'embeddings_project.', 'encoder.', 'transformer.', 'pooler.')
    wrapper = tensor_names.find_wrapper(tensors)
    found, stored = {}, {}
    for given, tensor in tensors.items():
        name = given.removeprefix(wrapper)
        for old, new in (('LayerNorm.gamma', 'LayerNorm.weight'), ('LayerNorm.beta', 'LayerNorm.bias')):
            name = name.removesuffix(old) + new if name.endswith(old) else name
        if name.startswith(modules):
            name = tensor_names.PREFIXES[kind] + name
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
    if name not in tensors:
        return True
    if tensors[name].shape != (a.positions, a.embedding) or tensors[name].dtype not in FLOATS:
        return False
    return bool(np.abs(tensors[name].read() - np.asarray(make_sinusoids(a.positions, a.embedding))).max() < 1e-6)


def validate_rotations(a: Architecture, tensors: dict[str, Tensor]) -> None:
    """Raises UserError if a RoFormer's file holds other angles than `rotary` computes. A file may lack them."""
    if (name := tensor_names.ROTATIONS) in tensors:
        shape, size = tensors[name].shape, a.width // a.heads
        if shape != (a.positions, size) or tensors[name].dtype not in FLOATS:
            raise UserError(f'{name} has shape {shape} in the weights, but config.json asks for {(a.positions, size)}')
        rounding = {'float16': 1e-3, 'bfloat16': 1e-2}
        given, dtype = tensors[name].read().astype(np.float32), tensors[name].dtype
        if not np.abs(given - make_table(a.positions, size)).max() < (rounding[dtype] if dtype in rounding else 1e-6):
            raise UserError(f'{name} holds other angles than those of Su et al. 2021, which are not supported')


def list_blocks(kind: str, config: dict[str, Any], a: Architecture) -> list[Block]:
    """The blocks of the file, in the order of our groups."""
    if kind != 'albert':
        return [Block(tensor_names.name_block(kind, layer), (layer, layer)) for layer in range(a.layers)]
    groups, inner = (configuration.read_value(config, name, 1) for name in ('num_hidden_groups', 'inner_group_num'))
    return [Block(tensor_names.name_block(kind, b // inner, b % inner), (b, b)) for b in range(groups * inner)]


def find_heads(kind: str, config: dict[str, Any], a: Architecture, tensors: dict[str, Tensor]) -> tuple[Heads, dict[str, str]]:
    """(the heads whose tensors are all there, {head that is declared or incomplete: what it lacks})."""
    classes = configuration.read_value(config, 'architectures', []) if 'architectures' in config and config['architectures'] else []
    declared = {head for heads, name in CLASSES[kind].items() if name in classes for head in heads}
    classifier = 'choice' if 'choice' in declared else 'label'
    if any(str(name).endswith('ForTokenClassification') for name in classes):
        classifier = ''
    sizes = Sizes(a, lambda: count_labels(tensors['classifier.bias']))
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


def count_labels(bias: Tensor) -> int:
    """The number of classes of a label head. Raises UserError if its bias is no vector, or empty."""
    if len(bias.shape) != 1 or not bias.shape[0]:
        raise UserError(f'classifier.bias has shape {bias.shape} in the weights; it must have one number for each label')
    return bias.shape[0]


def compute_shapes(a: Architecture, heads: Heads) -> Any:
    """The tree of the shapes of our parameters."""
    model = Model(a, heads)
    return jax.eval_shape(lambda key: initialise(model, key), jax.random.key(0))
