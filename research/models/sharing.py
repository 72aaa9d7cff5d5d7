"""Which layers share weights: a map from each layer to its attention group and its feed-forward group."""

from collections.abc import Callable

from research.errors import UserError, choose
from research.models.architecture import Architecture

Layout = tuple[tuple[int, int], ...]


def _table(layer: int, a: Architecture) -> tuple[int, int]:
    attention, feed_forward = a.table[layer]
    return attention, feed_forward


# (layer, architecture) -> (attention group, feed-forward group). Lan et al. 2020, §3.1 and Table 4; equal runs are
# ALBERT's `num_hidden_groups`; cycles are Universal-Transformer-like recurrence over a short stack.
SHARING: dict[str, Callable[[int, Architecture], tuple[int, int]]] = {
    'none': lambda layer, a: (layer, layer),
    'all': lambda layer, a: (0, 0),
    'attention': lambda layer, a: (0, layer),
    'ffn': lambda layer, a: (layer, 0),
    'groups': lambda layer, a: (layer * a.groups // a.layers, layer * a.groups // a.layers),
    'cycle': lambda layer, a: (layer % a.groups, layer % a.groups),
    'table': _table,
}


def layout(a: Architecture) -> Layout:
    """The (attention group, feed-forward group) of each layer; groups are numbered 0, 1, … without a gap.

    Raises UserError for an unknown strategy, for more groups than layers, and for a table that does not fit the depth.
    """
    rule = SHARING[choose('sharing strategy', a.sharing, SHARING)]
    if a.sharing in ('groups', 'cycle') and not 1 <= a.groups <= a.layers:
        raise UserError(f'model.groups={a.groups} with model.layers={a.layers}: there must be 1 to {a.layers} groups')
    if a.sharing == 'table' and (len(a.table) != a.layers or any(len(pair) != 2 for pair in a.table)):
        raise UserError(
            f'model.table={a.table!r} must hold one (attention group, feed-forward group) for each of the {a.layers} layers'
        )
    found = tuple(rule(layer, a) for layer in range(a.layers))
    for part, name in enumerate(('attention', 'feed-forward')):
        groups = {pair[part] for pair in found}
        if groups != set(range(len(groups))):
            raise UserError(
                f'the {name} groups of model.table are {sorted(groups)}; they must be 0 … {len(groups) - 1} without a gap'
            )
    return found


def group_counts(a: Architecture) -> tuple[int, int]:
    """The number of attention groups and of feed-forward groups."""
    found = layout(a)
    return len({pair[0] for pair in found}), len({pair[1] for pair in found})
