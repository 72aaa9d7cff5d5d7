"""Start from a checkpoint: which weights a model takes from another, from which layers, and what stays random."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from research.errors import UserError, choose
from research.models import paths
from research.models.architecture import Architecture
from research.models.heads import Heads, Model
from research.models.sharing import SHARING, Layout, layout


@dataclasses.dataclass(frozen=True)
class Surgery:
    """How the weights of `start` become the model's."""

    # The start's layer for each layer; () = evenly spaced (12 -> 6: 0, 2, 4, 7, 9, 11). A shared block takes the mean of its own.
    layers: tuple[int, ...] = ()
    drop: tuple[str, ...] = ()  # parts that stay random, by the names of models/paths.py: label, pooler, word, layer_11 …
    inherit: bool = False  # the architecture is the start's; of model.* only rates and compute settings count
    keep: float = 1.0  # with inherit, the share of the start's layers that the model has
    sharing: str = ''  # with inherit, a row of SHARING (its groups or table are model.*'s); '' = the start's
    without: tuple[str, ...] = ()  # with inherit, parts of the start that the model does not have: rows of PARTS


@dataclasses.dataclass(frozen=True)
class Pooling:
    """How a sentence encoder makes one vector of a text; the default is that of any other model."""

    modes: tuple[str, ...] = ('mean',)  # rows of predict.kinds.POOLINGS, whose vectors are joined
    normalise: bool = False  # to a length of 1
    length: int = 0  # pieces of a text, special ones included, at most; 0 = as many as the model reads
    fault: str = ''  # why it cannot be computed; '' if it can


@dataclasses.dataclass(frozen=True)
class Donor:
    """A trained model: a start or a teacher."""

    label: str  # its name in messages
    architecture: Architecture
    heads: Heads
    params: Any  # numpy arrays
    tokenizer: Path | None  # the folder of its tokenizer
    labels: tuple[str, ...] = ()  # the names of its label head's classes
    faults: Mapping[str, str] = dataclasses.field(default_factory=dict)  # head that was left out -> why it cannot be read
    pooling: Pooling = Pooling()

    @property
    def model(self) -> Model:
        """Its flax module."""
        return Model(self.architecture, self.heads)


@dataclasses.dataclass(frozen=True)
class Transfer:
    """Where each parameter of a model came from; paths joined by '/'."""

    taken: tuple[str, ...]
    random: tuple[str, ...]  # not found in the start, or dropped
    ignored: tuple[str, ...]  # of the start, without a place in the model
    layers: tuple[int, ...]  # the start's layer for each layer
    random_layers: tuple[int, ...] = ()  # layers whose blocks were dropped

    def lines(self) -> list[str]:
        """The transfer as text for a log."""
        dropped = [f'layer_{layer}' for layer in self.random_layers]
        return [
            f"start: took {len(self.taken)} parameters, layers from the start's {list(self.layers)}",
            f'start: random: {", ".join((*self.random, *dropped)) or "nothing"}',
            f'start: ignored: {", ".join(self.ignored) or "nothing"}',
        ]


# Fields of an Architecture that change neither its parameters nor its function: they are the experiment's, never the start's.
OWN = (
    'dropout',
    'attention_dropout',
    'head_dropout',
    'span_dropout',
    'deviation',
    'mlm_bias',
    'dtype',
    'attention',
    'unroll',
    'remat',
)
# A part that a start may have and a model may do without -> the field of an Architecture that leaves it out.
PARTS: dict[str, dict[str, Any]] = {'types': {'types': 0}, 'pooler': {'pooler': False}}


def validate(x: Surgery, start: bool) -> None:
    """Raises UserError for surgery that no start allows; `start`: whether the experiment has one."""
    if not 0 < x.keep <= 1:
        raise UserError(f"surgery.keep={x.keep} must be a share of the start's layers: above 0, at most 1")
    if any(layer < 0 for layer in x.layers):
        raise UserError(f"surgery.layers={x.layers} must be numbers of the start's layers, from 0")
    if x.sharing and x.sharing not in SHARING:
        raise UserError(f"surgery.sharing='{x.sharing}' is no sharing strategy (there are: {', '.join(SHARING)})")
    for name in x.without:
        choose('surgery.without', name, PARTS)
    wrong = [name for name in x.drop if not name or any(not level.isidentifier() for level in name.split('/'))]
    if wrong:
        raise UserError(
            f"surgery.drop names '{wrong[0]}', which cannot be a part of a model: give such as label, pooler, word, layer_0"
        )
    if x.inherit and not start:
        raise UserError('surgery.inherit=true takes the architecture of the start: give --config.start=RUN')


def unused(x: Surgery, start: bool) -> dict[str, str]:
    """Each key of Surgery that is not read -> why; `start`: whether the experiment has one."""
    if not start:
        names = [field.name for field in dataclasses.fields(Surgery)]
        return {f'surgery.{name}': 'there is no start: give --config.start=RUN' for name in names}
    if not x.inherit:
        return {f'surgery.{name}': 'it is read with --config.surgery.inherit=true only' for name in ('keep', 'sharing', 'without')}
    return {}


def inherit(surgery: Surgery, model: Architecture, start: Architecture) -> Architecture:
    """The start's architecture with this model's rates and compute settings, and the depth, sharing and parts of `surgery`.

    Raises UserError for another depth if the start shares its layers by a table, which fits one depth only.
    """
    validate(surgery, start=True)
    found = dataclasses.replace(start, **{field: getattr(model, field) for field in OWN})
    for name in surgery.without:
        found = dataclasses.replace(found, **PARTS[name])
    if surgery.sharing:
        found = dataclasses.replace(found, sharing=surgery.sharing, groups=model.groups, table=model.table)
    layers = max(1, round(surgery.keep * start.layers))
    if layers != start.layers and not SHARING[found.sharing].any_depth:
        raise UserError(
            f'surgery.keep={surgery.keep}, but the start shares its layers by a table: give --config.surgery.sharing too'
        )
    return dataclasses.replace(found, layers=layers)


def choose_layers(surgery: Surgery, model: Architecture, start: Architecture) -> tuple[int, ...]:
    """The start's layer that each layer takes its weights from.

    By default they are evenly spaced and keep both ends, which for 12 -> 6 gives the 0, 2, 4, 7, 9, 11 of DistilBERT's authors;
    a deeper model repeats each layer in place. Raises UserError for a list that does not fit.
    """
    chosen = surgery.layers
    if not chosen and model.layers > start.layers:
        return tuple(layer * start.layers // model.layers for layer in range(model.layers))
    if not chosen:
        return tuple(round(x) for x in np.linspace(0, start.layers - 1, model.layers))
    outside = [layer for layer in chosen if not 0 <= layer < start.layers]
    if outside:
        raise UserError(f'surgery.layers names layer {outside[0]}, but the start has layers 0 to {start.layers - 1}')
    one_block = set(layout(model)) == {(0, 0)}
    if len(chosen) != model.layers and not one_block:
        raise UserError(
            f'surgery.layers={chosen} names {len(chosen)} layers for the {model.layers} of the model: give one for each'
        )
    return chosen


def _regroup(stack: np.ndarray, have: list[int], want: list[int], layers: tuple[int, ...]) -> np.ndarray:
    """A stack of blocks for the groups `want` (of each layer): each the mean of the start's blocks that its layers come from."""
    if len(set(want)) == 1:
        members = [layers]
    else:
        members = [[layer for layer, group in zip(layers, want, strict=True) if group == g] for g in range(max(want) + 1)]
    return np.stack([stack[sorted({have[layer] for layer in group})].mean(axis=0) for group in members])


def transplant(model: Model, params: Any, start: Donor, surgery: Surgery) -> tuple[Any, Transfer]:
    """`params` with everything that fits replaced by the start's weights, and the report of it.

    Raises UserError for a parameter whose shapes do not fit, naming it, both shapes and the remedy.
    """
    layers = choose_layers(surgery, model.architecture, start.architecture)
    have, want = layout(start.architecture), layout(model.architecture)
    mine: dict[str, Any] = traverse_util.flatten_dict(params, sep='/')
    theirs = {path: np.asarray(x) for path, x in traverse_util.flatten_dict(start.params, sep='/').items()}
    paths.validate('surgery.drop', surgery.drop, mine, want)
    found, taken, random = dict(mine), [], []
    for path, x in mine.items():
        dropped = paths.select(surgery.drop, path, want)
        if path not in theirs or all(dropped):
            random.append(path)
            continue
        given = _fit(path, theirs[path], x.shape, have, want, layers)
        if given.shape != x.shape:
            raise UserError(
                f'start: {path} has shape {theirs[path].shape} in {start.label} but {x.shape} here; '
                f'make the architectures agree, or leave it random with --config.surgery.drop={paths.top(path)}'
            )
        if any(dropped):  # of some groups
            given = np.where(np.array(dropped).reshape(-1, *(1,) * (given.ndim - 1)), np.asarray(x), given)
        found[path] = jnp.asarray(given, x.dtype)
        taken.append(path)
    ignored = tuple(sorted(set(theirs) - set(mine)))
    named = [layer for name in surgery.drop if (layer := paths.layer_of(name)) is not None]
    tree = traverse_util.unflatten_dict(found, sep='/')
    return jax.tree.map(jnp.asarray, tree), Transfer(tuple(taken), tuple(random), ignored, layers, tuple(sorted(named)))


def _fit(path: str, given: np.ndarray, shape: tuple[int, ...], have: Layout, want: Layout, layers: tuple[int, ...]) -> np.ndarray:
    """A parameter of the start for the groups and the positions of the model."""
    place = paths.stack_of(path)
    if place is not None:
        return _regroup(given, [pair[place] for pair in have], [pair[place] for pair in want], layers)
    if path == 'encoder/position' and given.shape[0] > shape[0]:
        return given[: shape[0]]  # a shorter model uses the first positions as they are
    return given
