"""A run as a Hugging Face folder."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
from flax.traverse_util import unflatten_dict
from safetensors.numpy import save_file

from research.data.tokenizers import load_tokenizer, vocabulary_of
from research.errors import UserError
from research.interchange import configuration, tensor_names
from research.interchange.card import card
from research.interchange.configuration import CLASSES
from research.interchange.folder_tokenizer import write_tokenizer
from research.interchange.tensor_names import Block
from research.models.architecture import Architecture
from research.models.encoder import projected, sinusoids
from research.models.heads import HEADS
from research.models.sharing import layout
from research.surgery import Donor


@dataclasses.dataclass(frozen=True)
class Form:
    """How a model of ours is said in Hugging Face's classes."""

    kind: str  # the model type
    heads: tuple[str, ...]
    architecture: Architecture
    params: dict[tuple[str, ...], np.ndarray]
    albert: tuple[int, int, int]  # layers, groups and inner blocks
    blocks: list[Block]
    notes: tuple[str, ...]  # what is said otherwise than here, the function being the same

    @property
    def class_name(self) -> str:
        """The class that loads it."""
        return CLASSES[self.kind][self.heads]


def export(donor: Donor, run: Path, target: Path, heads: tuple[str, ...] | None, licence: str) -> Form:
    """Writes `donor`, the model of the folder `run`, to `target` with some of its heads (None = all); returns how it is said there.

    Raises UserError for a model that no class computes, and for a `target` that is in use.
    """
    form = as_form(donor, tuple(name for name, _ in donor.heads) if heads is None else heads)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"'{target}' is in use: give another folder, or remove it")
    part = target.with_name(target.name + '.part')
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    config = configuration.config_of(form.kind, form.architecture, form.heads, form.albert)
    tokenizer = None if donor.tokenizer is None else load_tokenizer(donor.tokenizer)
    if 'label' in form.heads:
        labels = donor.labels or tuple(f'LABEL_{i}' for i in range(dict(donor.heads)['label']))
        config |= {'id2label': dict(enumerate(labels)), 'label2id': {label: i for i, label in enumerate(labels)}}
    if tokenizer is not None:
        write_tokenizer(tokenizer, part, form.architecture.positions, form.architecture.types > 0)
        config['pad_token_id'] = vocabulary_of(tokenizer).pad
    (part / 'config.json').write_text(json.dumps(config, indent=2) + '\n', 'utf-8')
    save_file(tensors(form), part / 'model.safetensors', metadata={'format': 'pt'})
    (part / 'model.safetensors').chmod(0o644)  # the library leaves it to its owner alone
    (part / 'README.md').write_text(card(form.class_name, donor, run, form.notes, licence), 'utf-8')
    if target.exists():
        target.rmdir()
    part.rename(target)
    return form


def as_form(donor: Donor, heads: tuple[str, ...]) -> Form:
    """The Form of a model with the heads asked for.

    Raises UserError for heads that the model lacks, or that no class has together.
    """
    a, notes = donor.architecture, []
    has = tuple(name for name, _ in donor.heads)
    for head in heads:
        if head not in has:
            raise UserError(f'{donor.label} has no {head} head (it has: {", ".join(has) or "none"})')
    order = layout(a)
    alone = order == tuple((layer, layer) for layer in range(a.layers))
    bare = a.types == 0 and not a.pooler and not projected(a)
    kind = 'bert' if alone and not projected(a) else 'albert'
    if alone and bare and a.epsilon == 1e-12:
        kind = 'distilbert'
    if heads not in CLASSES[kind]:
        told = ', '.join(' + '.join(each) or 'none' for each in CLASSES[kind])
        raise UserError(f'no {kind} class has the heads {" + ".join(heads)}; choose with --heads (there are: {told})')
    needy = [head for head in heads if HEADS[head].reads_pooled]
    if needy and not a.pooler and kind != 'distilbert':
        raise UserError(
            f'the {needy[0]} head reads the first position without a pooler, which no {kind} class does; export other --heads, '
            'or train it with --config.model.pooler=true'
        )
    params = {path: x for path, x in tensor_names.flat(donor.params).items() if path[0] in ('encoder', *heads)}
    if a.pooler and heads and not needy:
        params = {path: x for path, x in params.items() if path[:2] != ('encoder', 'pooler')}
        a = dataclasses.replace(a, pooler=False)
        notes.append(f'the pooler is left out: {CLASSES[kind][heads]} has none, and no head reads it')
    if kind != 'distilbert' and not heads and not a.pooler:
        notes.append(f'there is no pooler: load it with {CLASSES[kind][heads]}.from_pretrained(…, add_pooling_layer=False)')
    if alone and kind == 'albert' and not a.projection:
        notes.append(f'BERT has no embeddings of another size: an ALBERT with {a.layers} groups, one a layer, computes the same')
    a, params, more = completed(kind, a, params)
    albert, blocks, shared = arrange(kind, order)
    return Form(kind, heads, a, params, albert, blocks, (*notes, *more, *shared))


def completed(
    kind: str, a: Architecture, params: dict[tuple[str, ...], np.ndarray]
) -> tuple[Architecture, dict[tuple[str, ...], np.ndarray], list[str]]:
    """The same function with all the parameters that the classes of `kind` have, and what was added."""
    params, notes = dict(params), []
    if a.position_kind == 'sinusoidal':
        params['encoder', 'position'] = np.asarray(sinusoids(a.positions, a.embedding))
        if kind != 'distilbert':
            a = dataclasses.replace(a, position_kind='learned')
            notes.append('the sinusoidal positions are a table of parameters')
    if kind != 'distilbert' and a.types == 0:
        params['encoder', 'type'] = np.zeros((2, a.embedding), np.float32)
        a = dataclasses.replace(a, types=2)
        notes.append('token types are added, all zero')
    if kind == 'albert' and not projected(a):
        params['encoder', 'projection', 'kernel'] = np.eye(a.width, dtype=np.float32)
        params['encoder', 'projection', 'bias'] = np.zeros(a.width, np.float32)
        a = dataclasses.replace(a, projection=True)
        notes.append('a projection from embeddings to layers is added, the identity')
    return a, params, notes


def arrange(kind: str, order: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int, int], list[Block], list[str]]:
    """(layers, groups, inner blocks) of an ALBERT that runs the blocks of `order` with the fewest copies, the blocks, and a note.

    The blocks of BERT and DistilBERT are one a layer.
    """
    depth = len(order)
    if kind != 'albert':
        return (depth, depth, 1), [Block(tensor_names.block_stem(kind, i), pair) for i, pair in enumerate(order)], []
    inners = [inner for inner in range(1, depth + 1) if depth % inner == 0]
    forms = [(depth // inner, groups, inner) for inner in inners for groups in range(1, depth // inner + 1)]
    for layers, groups, inner in sorted(forms, key=lambda form: (form[1] * form[2], form[2])):
        run = configuration.block_order(layers, groups, inner)
        pairs = dict(zip(run, order, strict=True))
        if len(pairs) == groups * inner and [pairs[block] for block in run] == list(order):
            break
    else:
        raise AssertionError('a group for each layer always fits')
    blocks = [Block(tensor_names.block_stem(kind, b // inner, b % inner), pairs[b]) for b in range(groups * inner)]
    copies = any(len(pairs) > len({pair[part] for pair in order}) for part in (0, 1))
    told = f'{groups} groups of {inner} inner blocks' if inner > 1 else f'{groups} groups'
    note = [f'no class shares weights in this way: an ALBERT with {told} computes the same, with copies of what is shared']
    return (layers, groups, inner), blocks, note if copies else []


def tensors(form: Form) -> dict[str, np.ndarray]:
    """Every tensor of the file by its name; tied ones once."""
    found = {}
    for slot in tensor_names.slots(form.kind, form.blocks, unflatten_dict(form.params)):
        param = form.params[slot.path]
        found[slot.name] = tensor_names.to_theirs(
            slot.path, np.asarray(param if slot.group is None else param[slot.group], np.float32)
        )
    return found
