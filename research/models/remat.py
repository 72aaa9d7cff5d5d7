"""Rematerialisation: what the layers' backward pass computes anew instead of keeping it from the forward pass (POLICIES)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from research.models.architecture import Architecture
from research.models.layers import PRODUCT

# (the input of a layer, its weights and the number of its noise) -> (its output, its results on request)
Layer = Callable[[jax.Array, Any], tuple[jax.Array, Any]]


class Policy(NamedTuple):
    """A row of POLICIES."""

    wrap: Callable[[Layer], Layer]  # a layer -> one that keeps less
    by_groups: bool = False  # whether only the inputs of groups of layers are kept, not those of all


# A layer keeps, beside its input [B, T, D]: 'none' all that its backward pass reads; 'products' the results of its products with
# weights, so that attention, activations, LayerNorm and dropout are computed anew; 'block' nothing. 'everything' keeps the input of
# about every √L-th layer alone and computes each layer twice more (Chen et al. 2016, §4.1).
POLICIES: dict[str, Policy] = {
    'none': Policy(lambda layer: layer),
    'products': Policy(lambda layer: jax.checkpoint(layer, policy=jax.checkpoint_policies.save_only_these_names(PRODUCT))),
    'block': Policy(lambda layer: jax.checkpoint(layer)),
    'everything': Policy(lambda layer: jax.checkpoint(layer), by_groups=True),
}


def scan_layers(layer: Layer, x: jax.Array, scanned: Any, a: Architecture) -> tuple[jax.Array, Any]:
    """(the last layer's output, the results on request of all layers, stacked) of the layers of `a`, from `x` on.

    scanned: what each layer is given, stacked by layer.
    """
    policy = POLICIES[a.remat]
    body = policy.wrap(layer)

    def scan(body: Layer, x: jax.Array, scanned: Any, length: int) -> tuple[jax.Array, Any]:
        return jax.lax.scan(body, x, scanned, length=length, unroll=a.unroll if a.unroll else True)

    if not policy.by_groups:
        return scan(body, x, scanned, a.layers)
    size = group_size(a.layers)
    groups = jax.tree.map(lambda w: w.reshape(-1, size, *w.shape[1:]), scanned)
    group = jax.checkpoint(lambda x, scanned: scan(body, x, scanned, size))
    last, kept = scan(group, x, groups, a.layers // size)
    return last, jax.tree.map(lambda y: y.reshape(-1, *y.shape[2:]), kept)


def group_size(layers: int) -> int:
    """The number of layers in a group: the divisor of `layers` with which the fewest inputs are kept at once."""
    return min((size for size in range(1, layers + 1) if layers % size == 0), key=lambda size: layers // size + size)
