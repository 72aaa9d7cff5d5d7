"""Names for parts of a model's parameters: one language for every key that names them.

A parameter's path joins the levels of its tree by '/': 'encoder/attention/query/kernel', 'label/output/bias'. A name is one of

- the first levels of a path: 'encoder', 'encoder/attention', 'mlm', 'label/output';
- the same without 'encoder/' in front: 'pooler', 'word', 'attention/query';
- 'embeddings': everything before the first layer;
- 'layer_0', 'layer_1', …: the attention block and the feed-forward block of one layer.

`optimizer.frozen`, `surgery.drop`, decay, trust ratios and interchange use these functions.
"""

from collections.abc import Iterable
from typing import Any

import jax

from research.errors import UserError, nearest
from research.models.sharing import Layout

# What stands before the first layer, below 'encoder'.
EMBEDDINGS = ('word', 'position', 'type', 'norm', 'projection')
# The kinds of blocks, stacked by group along their first axis, in the order of a Layout's pairs.
STACKS = ('attention', 'feed_forward')


def join(keys: tuple[Any, ...]) -> str:
    """The path of a leaf from the keys that jax.tree_util gives."""
    return jax.tree_util.keystr(keys, simple=True, separator='/')


def is_under(path: str, name: str) -> bool:
    """Whether `name` is the first levels of `path`; 'encoder/' may be left out of it."""
    return any(f'{path}/'.startswith(f'{front}{name}/') for front in ('', 'encoder/'))


def top(path: str) -> str:
    """The part of the model that a parameter belongs to: 'encoder/word', 'encoder/attention', 'label'."""
    levels = path.split('/')
    return '/'.join(levels[: 2 if levels[0] == 'encoder' else 1])


def is_embedding(path: str) -> bool:
    """Whether the parameter stands before the first layer."""
    return path.startswith('encoder/') and path.split('/')[1] in EMBEDDINGS


def stack_of(path: str) -> int | None:
    """The place in STACKS of the kind of block that a parameter is stacked in; None if it is not stacked."""
    levels = path.split('/')
    return STACKS.index(levels[1]) if levels[0] == 'encoder' and len(levels) > 2 and levels[1] in STACKS else None


def is_weight(path: str) -> bool:
    """Whether the parameter is neither a bias nor of a LayerNorm: those are neither decayed nor trust-scaled (Google's code)."""
    levels = path.split('/')
    return levels[-1] != 'bias' and not any(level.endswith('norm') for level in levels)


def layer_of(name: str) -> int | None:
    """The number of the layer that a name such as 'layer_3' names; None for any other name."""
    number = name.removeprefix('layer_')
    return int(number) if number != name and number.isdecimal() else None


def validate(key: str, names: Iterable[str], paths: Iterable[str], layout: Layout) -> None:
    """Raises UserError if one of `names`, the value of the config key `key`, names no part of the model.

    Also if it names a layer that shares a block with a layer that is not named: the block cannot be in both.
    paths: of all parameters.
    """
    paths, names = list(paths), tuple(names)
    tops = list(dict.fromkeys(map(top, paths)))
    named = {layer for name in names if (layer := layer_of(name)) is not None}
    for name in names:
        layer = layer_of(name)
        known = name == 'embeddings' or any(is_under(path, name) for path in paths) if layer is None else layer < len(layout)
        if not known:
            options = ('embeddings', *(f'layer_{number}' for number in range(len(layout))), 'encoder', *tops)
            shown = ', '.join(('embeddings', f'layer_0 to layer_{len(layout) - 1}', 'encoder', *tops))
            raise UserError(f"{key} names '{name}', which the model does not have{nearest(name, options)} (there are: {shown})")
    for place in range(len(STACKS)):
        for layer in sorted(named):
            sharing = [other for other, pair in enumerate(layout) if pair[place] == layout[layer][place]]
            missing = [other for other in sharing if other not in named]
            if missing and not _is_named(names, f'encoder/{STACKS[place]}/kernel'):
                raise UserError(f'{key} names layer_{layer}, which shares a block with layer_{missing[0]}: name both')


def _is_named(names: Iterable[str], path: str) -> bool:
    """Whether one of `names`, layers aside, names the whole parameter."""
    return any(is_under(path, name) or (name == 'embeddings' and is_embedding(path)) for name in names)


def select(names: Iterable[str], path: str, layout: Layout) -> tuple[bool, ...]:
    """Whether `names` name a parameter: of a stacked one whether they name each of its groups, of another a tuple of one."""
    names, place = tuple(names), stack_of(path)
    whole = _is_named(names, path)
    if place is None:
        return (whole,)
    named = {layer_of(name) for name in names}
    groups = range(1 + max(pair[place] for pair in layout))
    return tuple(whole or all(layer in named for layer, pair in enumerate(layout) if pair[place] == group) for group in groups)
