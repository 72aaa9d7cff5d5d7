"""Writes a run as a Hugging Face folder."""

import dataclasses
from pathlib import Path

import numpy as np
from flax.traverse_util import unflatten_dict
from safetensors.numpy import save_file

from research.data.tokenizers import load_tokenizer, vocabulary_of
from research.errors import UserError
from research.files import open_part_folder
from research.interchange import configuration, tensor_names
from research.interchange.card import make_card
from research.interchange.classes import CLASSES
from research.interchange.contents import compute_shapes
from research.interchange.folder_tokenizer import write_tokenizer
from research.interchange.pooling import write_pooling
from research.interchange.tensor_names import Block
from research.models import architecture
from research.models.architecture import NORMS, Architecture
from research.models.encoder import has_projection, make_sinusoids
from research.models.heads import HEADS
from research.models.rotary import make_table
from research.models.sharing import layout
from research.records import write_record
from research.surgery import Donor, find_scale, rescale

Params = dict[tuple[str, ...], np.ndarray]  # path -> parameter


@dataclasses.dataclass(frozen=True)
class Export:
    """A model converted to the form of a Hugging Face class, which computes the same function."""

    kind: str  # the model type
    heads: tuple[str, ...]
    architecture: Architecture
    params: Params
    albert: tuple[int, int, int]  # the numbers of layers, groups and inner blocks
    blocks: list[Block]
    notes: tuple[str, ...]  # the differences from the model here

    @property
    def class_name(self) -> str:
        """The Hugging Face class that loads it."""
        return CLASSES[self.kind][self.heads]


def export_model(donor: Donor, run: Path, target: Path, heads: tuple[str, ...] | None, licence: str) -> Export:
    """Writes `donor`, the model of the folder `run`, with some of its heads (None = all) to the folder `target`.

    Raises UserError if no class computes the model, or `target` is in use.
    """
    exported = convert(donor, tuple(name for name, _ in donor.heads) if heads is None else heads)
    tensors = make_tensors(exported)
    with open_part_folder(target) as part:
        write_files(exported, tensors, donor, part)
        (part / 'README.md').write_text(make_card(exported.class_name, donor, run, exported.notes, licence), 'utf-8')
    return exported


def write_files(exported: Export, tensors: dict[str, np.ndarray], donor: Donor, part: Path) -> None:
    """Writes an export without its card into the folder `part`."""
    config = configuration.make_config(exported.kind, exported.architecture, exported.heads, exported.albert)
    tokenizer = None if donor.tokenizer is None else load_tokenizer(donor.tokenizer)
    if 'label' in exported.heads:
        labels = donor.labels or tuple(f'LABEL_{i}' for i in range(dict(donor.heads)['label']))
        config |= {'id2label': dict(enumerate(labels)), 'label2id': {label: i for i, label in enumerate(labels)}}
    if tokenizer is not None:
        write_tokenizer(tokenizer, part, exported.architecture.positions, exported.architecture.types > 0)
        config['pad_token_id'] = vocabulary_of(tokenizer).pad
    write_record(part / 'config.json', config)
    save_file(tensors, part / 'model.safetensors', metadata={'format': 'pt'})
    (part / 'model.safetensors').chmod(0o644)  # safetensors lets only the owner read the file
    write_pooling(donor.pooling, part, exported.architecture.width)


def convert(donor: Donor, heads: tuple[str, ...]) -> Export:
    """The Export of a model with the requested heads.

    Raises UserError if the model lacks one of the heads, or no class has all of them.
    """
    validate_params(donor)
    a, order = donor.architecture, layout(donor.architecture)
    kind = choose_kind(a, order)
    validate_heads(donor, heads, kind)
    params = {path: x for path, x in tensor_names.flatten(donor.params).items() if path[0] in ('encoder', *heads)}
    notes, pools = [], 'encoder/pooler' in tensor_names.STEMS[kind]
    if a.pooler and (heads or not pools) and not any(HEADS[head].reads_pooled for head in heads):
        params = {path: x for path, x in params.items() if path[:2] != ('encoder', 'pooler')}
        a = dataclasses.replace(a, pooler=False)
        notes.append(f'the pooler is left out: {CLASSES[kind][heads]} has none, and no head reads it')
    if pools and not heads and not a.pooler:
        notes.append(f'there is no pooler: load it with {CLASSES[kind][heads]}.from_pretrained(…, add_pooling_layer=False)')
    if kind == 'albert' and is_unshared(order) and not a.projection:
        notes.append(f'BERT has no embeddings of another size: an ALBERT with {a.layers} groups, one a layer, computes the same')
    plain = dataclasses.replace(a, norm='post')
    if not NORMS[a.norm].before and (scale := find_scale(plain, a)) != 1:
        params = {path: rescale('/'.join(path), x, scale) for path, x in params.items()}
        notes.append(f'LayerNorm(α·x + f(x)) is written as LayerNorm(x + f(x) / α), with α = {1 / scale:.4f} (model.norm={a.norm})')
        a = plain
    a, params, additions = add_missing_parameters(kind, a, params)
    albert, blocks, copies = arrange_blocks(kind, order)
    return Export(kind, heads, a, params, albert, blocks, (*notes, *additions, *copies))


def validate_params(donor: Donor) -> None:
    """Raises UserError if a run's architecture is impossible, or its checkpoint holds other parameters than it has."""
    architecture.validate(donor.architecture)
    expected = tensor_names.flatten(compute_shapes(donor.architecture, donor.heads))
    found = tensor_names.flatten(donor.params)
    wrong = next((path for path in {**expected, **found} if path not in found or path not in expected), None)
    wrong = wrong or next((path for path in found if found[path].shape != expected[path].shape), None)
    if wrong:
        raise UserError(f'{donor.label}: the checkpoint does not fit the experiment.json beside it in {"/".join(wrong)}')


def is_unshared(order: tuple[tuple[int, int], ...]) -> bool:
    """Whether each layer has its own blocks."""
    return order == tuple((layer, layer) for layer in range(len(order)))


def choose_kind(a: Architecture, order: tuple[tuple[int, int], ...]) -> str:
    """The model type that computes an Architecture. Raises UserError if there is none."""
    before, rotary = NORMS[a.norm].before, a.position_kind == 'rotary'
    if before and rotary:
        raise UserError(
            f"no Hugging Face class has both model.norm='{a.norm}' and model.position_kind='rotary': MegatronBert's positions are "
            "a table, and RoFormer's LayerNorm comes after each block"
        )
    if before and has_projection(a):
        raise UserError(
            f"no Hugging Face class has both model.norm='{a.norm}' and a projection from embeddings to layers: MegatronBert's "
            f'embeddings are as wide as its layers, here {a.embedding} and {a.width}'
        )
    if rotary and a.projection and a.embedding == a.width:
        raise UserError(
            "no Hugging Face class has both model.position_kind='rotary' and model.projection=true with embeddings as wide as the "
            'layers: RoFormer projects those of another size only'
        )
    if before or rotary:
        return 'megatron-bert' if before else 'roformer'
    if not is_unshared(order) or has_projection(a):
        return 'albert'
    return 'distilbert' if a.types == 0 and not a.pooler and a.epsilon == 1e-12 else 'bert'


def validate_heads(donor: Donor, heads: tuple[str, ...], kind: str) -> None:
    """Raises UserError if the model lacks one of the heads, or no class of this `kind` has all of them."""
    present = tuple(name for name, _ in donor.heads)
    for head in heads:
        if head not in present:
            raise UserError(f'{donor.label} has no {head} head (it has: {", ".join(present) or "none"})')
    if heads not in CLASSES[kind]:
        possible = ', '.join(' + '.join(each) or 'none' for each in CLASSES[kind])
        raise UserError(f'no {kind} class has the heads {" + ".join(heads)}; choose with --heads (there are: {possible})')
    pooled = [head for head in heads if HEADS[head].reads_pooled]
    if pooled and not donor.architecture.pooler and kind != 'distilbert':
        raise UserError(
            f'the {pooled[0]} head reads the first position without a pooler, which no {kind} class does; export other --heads, '
            'or train it with --config.model.pooler=true'
        )


def add_missing_parameters(kind: str, a: Architecture, params: Params) -> tuple[Architecture, Params, list[str]]:
    """Adds the parameters that only the classes of `kind` have, with values that change no output; the last result are notes."""
    params, notes = dict(params), []
    if a.position_kind == 'sinusoidal':
        params['encoder', 'position'] = np.asarray(make_sinusoids(a.positions, a.embedding))
        if kind != 'distilbert':
            a = dataclasses.replace(a, position_kind='learned')
            notes.append('the sinusoidal positions are a table of parameters')
    if kind != 'distilbert' and a.types == 0:
        params['encoder', 'type'] = np.zeros((2, a.embedding), np.float32)
        a = dataclasses.replace(a, types=2)
        notes.append('token types are added, all zero')
    if kind == 'albert' and not has_projection(a):
        params['encoder', 'projection', 'kernel'] = np.eye(a.width, dtype=np.float32)
        params['encoder', 'projection', 'bias'] = np.zeros(a.width, np.float32)
        a = dataclasses.replace(a, projection=True)
        notes.append('a projection from embeddings to layers is added, the identity')
    return a, params, notes


def arrange_blocks(kind: str, order: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int, int], list[Block], list[str]]:
    """((layers, groups, inner blocks), the blocks, notes) of the ALBERT that runs the blocks of `order` with the fewest copies.

    The other kinds have one block for each layer.
    """
    depth = len(order)
    if kind != 'albert':
        note = f'{kind} shares no weights: each layer has copies of what is shared'
        blocks = [Block(tensor_names.name_block(kind, i), pair) for i, pair in enumerate(order)]
        return (depth, depth, 1), blocks, [] if is_unshared(order) else [note]
    layers, groups, inner = fit_albert(order)
    pairs = dict(zip(configuration.order_blocks(layers, groups, inner), order, strict=True))
    blocks = [Block(tensor_names.name_block(kind, b // inner, b % inner), pairs[b]) for b in range(groups * inner)]
    copies = any(len(pairs) > len({pair[part] for pair in order}) for part in (0, 1))
    size = f'{groups} groups of {inner} inner blocks' if inner > 1 else f'{groups} groups'
    note = f'no class shares weights in this way: an ALBERT with {size} computes the same, with copies of what is shared'
    return (layers, groups, inner), blocks, [note] if copies else []


def fit_albert(order: tuple[tuple[int, int], ...]) -> tuple[int, int, int]:
    """The (layers, groups, inner blocks) of the ALBERT with the fewest blocks that can run the blocks of `order`."""
    depth = len(order)
    inners = [inner for inner in range(1, depth + 1) if depth % inner == 0]
    sizes = [(depth // inner, groups, inner) for inner in inners for groups in range(1, depth // inner + 1)]
    for layers, groups, inner in sorted(sizes, key=lambda size: (size[1] * size[2], size[2])):
        blocks = configuration.order_blocks(layers, groups, inner)
        pairs = dict(zip(blocks, order, strict=True))
        if len(pairs) == groups * inner and [pairs[block] for block in blocks] == list(order):
            return layers, groups, inner
    raise AssertionError('one group for each layer always fits')


def make_tensors(exported: Export) -> dict[str, np.ndarray]:
    """{name: tensor} of the weights file; tied tensors only once."""
    found, a = {}, exported.architecture
    if exported.kind == 'roformer':
        found[tensor_names.ROTATIONS] = make_table(a.positions, a.width // a.heads)
    for slot in tensor_names.list_slots(exported.kind, exported.blocks, unflatten_dict(exported.params)):
        param = exported.params[slot.path]
        if slot.group is not None:
            param = param[slot.group]
        found[slot.name] = tensor_names.to_theirs(slot.path, np.asarray(param, np.float32))
        if not np.isfinite(found[slot.name]).all():
            raise UserError(f"{'/'.join(slot.path)} holds numbers that are not finite: the run's training diverged")
    return found
