"""Start from a checkpoint: what of a donor's weights a model takes, from which layers, and what stays random."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from research.errors import UserError
from research.models.architecture import Architecture
from research.models.heads import Model
from research.models.sharing import layout


@dataclasses.dataclass(frozen=True)
class Surgery:
    """How the weights of `start` become the model's."""

    layers: tuple[
        int, ...
    ] = ()  # the donor's layer for each layer; () = evenly spaced (12 -> 6: 0, 2, 4, 7, 9, 11). A group takes the mean
    drop: tuple[str, ...] = ()  # paths that stay random, such as 'label' or 'encoder/position'
    inherit: bool = False  # the architecture is the donor's; of model.* only rates and compute settings count
    keep: float = 1.0  # with inherit, the share of the donor's layers that the model has
    sharing: str = ''  # with inherit, a row of SHARING (its groups or table are model.*'s); '' = the donor's


@dataclasses.dataclass(frozen=True)
class Donor:
    """A trained model to take weights from or to be taught by."""

    label: str  # what to call it in messages
    architecture: Architecture
    heads: tuple[tuple[str, int], ...]
    params: Any  # numpy arrays
    tokenizer: Path | None  # the folder of its tokenizer
    labels: tuple[str, ...] = ()  # the names of its label head's classes

    @property
    def model(self) -> Model:
        """Its flax module."""
        return Model(self.architecture, self.heads)


@dataclasses.dataclass(frozen=True)
class Account:
    """What became of every parameter; paths joined by '/'."""

    taken: tuple[str, ...]
    random: tuple[str, ...]  # of the model, not found in the donor or dropped
    ignored: tuple[str, ...]  # of the donor, without a place in the model
    layers: tuple[int, ...]  # the donor's layer for each layer

    def lines(self) -> list[str]:
        """The account as text for a log."""
        return [
            f"start: took {len(self.taken)} parameters, layers from the donor's {list(self.layers)}",
            f'start: random: {", ".join(self.random) or "nothing"}',
            f'start: ignored: {", ".join(self.ignored) or "nothing"}',
        ]


# Fields of an Architecture that do not change its parameters or its function: they are the experiment's, never the donor's.
OWN = ('dropout', 'attention_dropout', 'head_dropout', 'span_dropout', 'deviation', 'dtype', 'unroll', 'remat')


def inherit(surgery: Surgery, model: Architecture, donor: Architecture) -> Architecture:
    """The donor's architecture with this model's rates and compute settings, and the depth and sharing that `surgery` names.

    Raises UserError for another depth where the donor shares its layers by a table, which says nothing of other layers.
    """
    if not 0 < surgery.keep <= 1:
        raise UserError(f"surgery.keep={surgery.keep} must be a share of the donor's layers: above 0, 1 at most")
    found = dataclasses.replace(donor, **{field: getattr(model, field) for field in OWN})
    if surgery.sharing:
        found = dataclasses.replace(found, sharing=surgery.sharing, groups=model.groups, table=model.table)
    layers = max(1, round(surgery.keep * donor.layers))
    if layers != donor.layers and found.sharing == 'table':
        raise UserError(
            f'surgery.keep={surgery.keep}, but the start shares its layers by a table: give --config.surgery.sharing too'
        )
    return dataclasses.replace(found, layers=layers)


def donor_layers(surgery: Surgery, model: Architecture, donor: Architecture) -> tuple[int, ...]:
    """The donor's layer that each layer starts from.

    By default they are evenly spaced with both ends kept, which for 12 -> 6 gives the 0, 2, 4, 7, 9, 11 of DistilBERT's authors;
    a deeper model repeats each donor layer in place. Raises UserError for a list that does not fit.
    """
    chosen = surgery.layers
    if not chosen and model.layers > donor.layers:
        return tuple(layer * donor.layers // model.layers for layer in range(model.layers))
    if not chosen:
        return tuple(round(x) for x in np.linspace(0, donor.layers - 1, model.layers))
    outside = [layer for layer in chosen if not 0 <= layer < donor.layers]
    if outside:
        raise UserError(f'surgery.layers names layer {outside[0]}, but the donor has layers 0 to {donor.layers - 1}')
    one_block = set(layout(model)) == {(0, 0)}
    if len(chosen) != model.layers and not one_block:
        raise UserError(
            f'surgery.layers={chosen} names {len(chosen)} layers for the {model.layers} of the model: give one for each'
        )
    return chosen


def _regroup(stack: np.ndarray, have: list[int], want: list[int], layers: tuple[int, ...]) -> np.ndarray:
    """A stack of blocks for the groups `want` (of each layer): each the mean of the donor's blocks that its layers start from."""
    if len(set(want)) == 1:
        members = [layers]
    else:
        members = [[layer for layer, group in zip(layers, want, strict=True) if group == g] for g in range(max(want) + 1)]
    return np.stack([stack[sorted({have[layer] for layer in group})].mean(axis=0) for group in members])


def transplant(model: Model, params: Any, donor: Donor, surgery: Surgery) -> tuple[Any, Account]:
    """`params` with all that fits replaced by the donor's weights, and the account of it.

    Raises UserError for a parameter whose shapes do not fit, naming it, both shapes and the remedy.
    """
    layers = donor_layers(surgery, model.architecture, donor.architecture)
    have, want = layout(donor.architecture), layout(model.architecture)
    mine: dict[str, Any] = traverse_util.flatten_dict(params, sep='/')
    theirs = {path: np.asarray(x) for path, x in traverse_util.flatten_dict(donor.params, sep='/').items()}
    for name in surgery.drop:
        if not any(under(path, name) for path in mine):
            tops = sorted({'/'.join(path.split('/')[:2]) if path.startswith('encoder/') else path.split('/')[0] for path in mine})
            raise UserError(f"surgery.drop names '{name}', which the model does not have (it has: {', '.join(tops)})")
    found, taken, random = {}, [], []
    for path, x in mine.items():
        if path not in theirs or any(under(path, name) for name in surgery.drop):
            random.append(path)
            found[path] = x
            continue
        given = theirs[path]
        for part, stack in enumerate(('encoder/attention/', 'encoder/feed_forward/')):
            if path.startswith(stack):
                given = _regroup(given, [pair[part] for pair in have], [pair[part] for pair in want], layers)
        if path == 'encoder/position' and given.shape[0] > x.shape[0]:
            given = given[: x.shape[0]]  # a shorter model uses the first positions as they are
        if given.shape != x.shape:
            top = path.split('/')[0] if not path.startswith('encoder/') else '/'.join(path.split('/')[:2])
            raise UserError(
                f'start: {path} has shape {theirs[path].shape} in {donor.label} but {x.shape} here; '
                f'make the architectures agree, or leave it random with --config.surgery.drop={top}'
            )
        found[path] = jnp.asarray(given, x.dtype)
        taken.append(path)
    ignored = tuple(sorted(set(theirs) - set(mine)))
    tree = traverse_util.unflatten_dict(found, sep='/')
    return jax.tree.map(jnp.asarray, tree), Account(tuple(taken), tuple(random), ignored, layers)


def under(path: str, name: str) -> bool:
    """Whether the parameter at `path` is what `name` names, or a part of it; 'encoder/' may be left out."""
    return any(f'{path}/'.startswith(f'{top}{name}/') for top in ('', 'encoder/'))
