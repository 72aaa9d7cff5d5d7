"""Rules that place the arrays of a training state on a mesh of devices, by path and shape.

A mesh has two axes. Along DATA the rows of a batch are divided. Along MODEL the matrices that a row meets are split: heads of
attention, inner units of the feed-forward blocks, pieces of the vocabulary (Shoeybi et al. 2019, §3). If states are sharded, each
matrix is also divided along DATA and gathered for its use, and its gradient is scattered (ZeRO 3; Rajbhandari et al. 2020, §5).
"""

import functools
import math
from typing import Any, NamedTuple

import jax

from research.models import paths

DATA, MODEL = 'data', 'model'
# The parameters that are split along MODEL -> the axis, counted from the last: N, F or V.
SPLIT = {
    'attention/query/kernel': -2,
    'attention/query/bias': -2,
    'attention/key/kernel': -2,
    'attention/key/bias': -2,
    'attention/value/kernel': -2,
    'attention/value/bias': -2,
    'attention/output/kernel': -3,
    'feed_forward/inner/kernel': -1,
    'feed_forward/inner/bias': -1,
    'feed_forward/output/kernel': -2,
    'word': -2,
    'mlm/output/bias': -1,
}
SMALL = 2**16  # entries: a shorter bias or LayerNorm is whole on every device, since fetching its parts costs more than its bytes
LEAVES = ('kernel', 'bias', 'scale')  # how the paths of a head's parameters end


class Grid(NamedTuple):
    """The sizes of a mesh, and whether states are divided along DATA."""

    data: int = 1
    model: int = 1
    states: bool = False


def place(path: str, shape: tuple[int, ...], grid: Grid) -> jax.P:
    """How the array at `path` of a training state lies on a mesh; whole on every device if no rule fits its shape.

    path: of a parameter (models/paths.py), of its moments or of its average, with anything before it. A sharded array is divided
    along its longest axis that the devices divide; along the axis of groups or layers only if no other fits.
    """
    name, axes = find_parameter(path), list[Any]([None] * len(shape))
    if name is None:
        return jax.P()
    for ending, axis in SPLIT.items():
        if grid.model > 1 and paths.is_under(name, ending) and shape[axis] % grid.model == 0:
            axes[axis] = MODEL
    if grid.states and (paths.is_weight(name) or math.prod(shape) >= SMALL):
        both = [((DATA, MODEL), grid.data * grid.model)] if grid.model > 1 and MODEL not in axes else []
        for over, count in (*both, (DATA, grid.data)):
            left = [size // grid.model if axes[axis] else size for axis, size in enumerate(shape)]
            fitting = [axis for axis, size in enumerate(left) if count > 1 and size % count == 0]
            if fitting:
                stacked = paths.stack_of(name) is not None
                best = max(fitting, key=lambda axis: (axis > 0 or not stacked, axes[axis] is None, left[axis]))
                axes[best] = (MODEL, over) if axes[best] else over
                break
    while axes and axes[-1] is None:
        axes.pop()
    return jax.P(*axes)


def find_parameter(path: str) -> str | None:
    """The path of the parameter that an array of a training state belongs to; None if it belongs to none."""
    levels = path.split('/')
    if 'encoder' in levels:
        return '/'.join(levels[levels.index('encoder') :])
    return '/'.join(levels[-3:]) if len(levels) > 2 and levels[-1] in LEAVES else None


def count_bytes(path: str, shape: tuple[int, ...], grid: Grid, itemsize: int = 4) -> int:
    """The bytes of the array at `path` on one device."""
    sizes = {DATA: grid.data, MODEL: grid.model}
    parts = [each for axis in place(path, shape, grid) for each in (axis if isinstance(axis, tuple) else (axis,)) if each]
    return math.prod(shape) * itemsize // math.prod(sizes[each] for each in parts)


# ---- Within a compiled program --------------------------------------------------------------------------------------------------


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _fetch(x: jax.Array, whole: jax.P, part: jax.P) -> jax.Array:
    """`x`, whole along DATA. Its gradient is divided again at once: no device holds the sum over all devices of a whole one."""
    return jax.lax.with_sharding_constraint(x, whole)


def _fetch_forward(x: jax.Array, whole: jax.P, part: jax.P) -> tuple[jax.Array, None]:
    return _fetch(x, whole, part), None


def _fetch_backward(whole: jax.P, part: jax.P, _: None, gradient: jax.Array) -> tuple[jax.Array]:
    return (jax.lax.with_sharding_constraint(gradient, part),)


_fetch.defvjp(_fetch_forward, _fetch_backward)


def gather(tree: Any, prefix: str = '', sliced: bool = False) -> Any:
    """A tree of parameters, each whole along DATA, if the program being traced shards its states; else the tree as it is.

    prefix: the path of the tree. sliced: whether the arrays are one group of their stacks. Without a prefix, what is stacked by
    layer stays divided, since each layer gathers its own.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if MODEL not in mesh.axis_names:  # no mesh of fsdp: none at all, or that of pmap
        return tree
    grid = Grid(mesh.shape[DATA], mesh.shape[MODEL], states=True)

    def one(keys: tuple[Any, ...], x: jax.Array) -> jax.Array:
        path = '/'.join(part for part in (prefix, paths.join(keys)) if part)
        if not prefix and paths.stack_of(path) is not None:
            return x
        shape = (1, *x.shape) if sliced else x.shape
        whole, part = (jax.P(*tuple(place(path, shape, each))[int(sliced) :]) for each in (grid._replace(states=False), grid))
        return x if whole == part else _fetch(x, whole, part)

    return jax.tree_util.tree_map_with_path(one, tree)
