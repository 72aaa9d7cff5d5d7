"""Which layers share weights: a map from each layer to its attention group and its feed-forward group."""

from collections.abc import Callable
from typing import NamedTuple

from research.errors import UserError, choose, find_unused
from research.models.architecture import Architecture, refuse_size

Layout = tuple[tuple[int, int], ...]  # of each layer: (attention group, feed-forward group)


def _accept(a: Architecture) -> None:
    pass


def _validate_groups(a: Architecture) -> None:
    if not 1 <= a.groups <= a.layers:
        raise UserError(f'model.groups={a.groups} with model.layers={a.layers}: give 1 to {a.layers} groups')


def _validate_table(a: Architecture) -> None:
    if len(a.table) != a.layers or any(len(pair) != 2 for pair in a.table):
        shown = repr(a.table) if len(a.table) < 50 else f'({len(a.table)} pairs)'
        raise UserError(
            f'model.table={shown} must hold one (attention group, feed-forward group) for each of the {a.layers} layers'
        )


class Sharing(NamedTuple):
    """A row of SHARING."""

    groups: Callable[[int, Architecture], tuple[int, int]]  # (layer, architecture) -> (attention group, feed-forward group)
    options: tuple[str, ...] = ()  # the fields of Architecture that only this strategy reads
    validate: Callable[[Architecture], None] = _accept  # raises UserError for options that do not fit
    any_depth: bool = True  # whether the same options serve another number of layers


# Lan et al. 2020, §3.1 and Table 4. 'groups' are equal runs of layers, ALBERT's `num_hidden_groups`; 'cycle' repeats a short stack,
# as the Universal Transformer does.
SHARING: dict[str, Sharing] = {
    'none': Sharing(lambda layer, a: (layer, layer)),
    'all': Sharing(lambda layer, a: (0, 0)),
    'attention': Sharing(lambda layer, a: (0, layer)),
    'ffn': Sharing(lambda layer, a: (layer, 0)),
    'groups': Sharing(lambda layer, a: (layer * a.groups // a.layers, layer * a.groups // a.layers), ('groups',), _validate_groups),
    'cycle': Sharing(lambda layer, a: (layer % a.groups, layer % a.groups), ('groups',), _validate_groups),
    'table': Sharing(lambda layer, a: (a.table[layer][0], a.table[layer][1]), ('table',), _validate_table, any_depth=False),
}


def layout(a: Architecture) -> Layout:
    """The (attention group, feed-forward group) of each layer; groups are numbered 0, 1, … without a gap.

    Raises UserError for an unknown strategy, and for groups or a table that do not fit the depth.
    """
    row = SHARING[choose('sharing strategy (model.sharing)', a.sharing, SHARING)]
    refuse_size(a)
    row.validate(a)
    found = tuple(row.groups(layer, a) for layer in range(a.layers))
    for place, name in enumerate(('attention', 'feed-forward')):
        groups = {pair[place] for pair in found}
        if groups != set(range(len(groups))):
            raise UserError(
                f'the {name} groups of model.table are {sorted(groups)}; they must be 0 … {len(groups) - 1} without a gap'
            )
    return found


def count_groups(a: Architecture) -> tuple[int, int]:
    """The number of attention groups and of feed-forward groups."""
    found = layout(a)
    return len({pair[0] for pair in found}), len({pair[1] for pair in found})


def unused(a: Architecture) -> dict[str, str]:
    """Each key of Architecture that another sharing strategy reads and this one does not -> why a change of it does nothing."""
    return find_unused('model', 'sharing', a.sharing, {name: row.options for name, row in SHARING.items()})
