"""The ways to use several devices (PARALLEL) in one run. The only file that names devices."""

import contextlib
import functools
import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from research.errors import UserError, choose
from research.models import paths
from research.processes import localise, replicate
from research.sharding import DATA as AXIS
from research.sharding import MODEL, Grid, place

# XLA's flags for the same bits in every process on a GPU: no atomic additions, and no kernel chosen by how long it took.
DETERMINISTIC = ('--xla_gpu_deterministic_ops=true', '--xla_gpu_autotune_level=0')
Devices = list[Any]


class Plan(NamedTuple):
    """A way to use several devices: each holds a part of every batch, and the state or a part of it."""

    devices: int
    compile: Callable[..., Callable]  # (function(first, frozen, batch, axis), donate) -> compiled function(first, frozen, batch)
    put_state: Callable[[Any], Any]  # a tree of host or device arrays -> the same tree on all devices, each with its part
    rows: Callable[[int], NDArray[np.int64]]  # the size of a batch -> which of its rows this process makes, increasing
    put_batch: Callable[[Any], Any]  # these rows -> the batch of all processes, divided over the devices


def list_parts(divided: jax.NamedSharding) -> NDArray[np.int64]:
    """Which of the equal parts of a batch, one for each place on the axis AXIS of the mesh, the devices of this process hold.

    They need not follow one another: a mesh orders devices by their links, not by their processes.
    """
    places = divided.addressable_devices_indices_map((divided.mesh.shape[AXIS],)).values()
    return np.unique([0 if index is None else index[0].start or 0 for index in places])


def list_rows(divided: jax.NamedSharding, batch: int) -> NDArray[np.int64]:
    """The rows of a batch of this size that the devices of this process hold, increasing."""
    size = batch // divided.mesh.shape[AXIS]
    return (list_parts(divided)[:, None] * size + np.arange(size)).ravel()


def put_rows(divided: jax.NamedSharding, rows: Any) -> Any:
    """The batch, divided over the devices, whose rows `list_rows` each process gives."""
    parts = list_parts(divided)

    def put(x: Any) -> jax.Array:
        size = len(x) // len(parts)

        def cut(index: Any) -> Any:
            place = np.searchsorted(parts, (index[0].start or 0) // size)
            return x[place * size : (place + 1) * size]

        return jax.make_array_from_callback((size * divided.mesh.shape[AXIS], *x.shape[1:]), divided, cut)

    return jax.tree.map(put, rows)


def _make_shardings(mesh: jax.sharding.Mesh) -> tuple[jax.NamedSharding, jax.NamedSharding]:
    """(the whole on each device, an equal part of a batch on each)."""
    return jax.NamedSharding(mesh, jax.P()), jax.NamedSharding(mesh, jax.P(AXIS))


def _make_mesh(devices: Devices) -> jax.sharding.Mesh:
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(jax.sharding.AxisType.Auto,), devices=devices)


def jit(devices: Devices, model: int = 1) -> Plan:
    """One program for all devices: the compiler divides the work along the batch axis; `model` devices share a row's matrices."""
    if model > 1:
        return _share(devices, Grid(len(devices) // model, model))
    whole, divided = _make_shardings(_make_mesh(devices))

    def compiled(function: Callable, donate: bool = False) -> Callable:
        return jax.jit(
            functools.partial(function, axis=None),
            in_shardings=(whole, whole, divided),
            out_shardings=whole,
            donate_argnums=(0,) if donate else (),
        )

    return Plan(
        len(devices),
        compiled,
        functools.partial(replicate, whole=whole),
        functools.partial(list_rows, divided),
        functools.partial(put_rows, divided),
    )


def fsdp(devices: Devices, model: int = 1) -> Plan:
    """As `jit`, but each device holds a part of the parameters, gradients and optimizer states; each layer gathers its own."""
    return _share(devices, Grid(len(devices) // model, model, states=True))


def _share(devices: Devices, grid: Grid) -> Plan:
    """One program for a mesh of devices, on which every array of a state lies as `sharding.place` says."""
    automatic = (jax.sharding.AxisType.Auto,) * 2
    mesh = jax.make_mesh((grid.data, grid.model), (AXIS, MODEL), axis_types=automatic, devices=devices)
    divided = jax.NamedSharding(mesh, jax.P(AXIS))

    def shard(tree: Any) -> Any:
        """The sharding of each array of a state, or of a part of one."""
        return jax.tree_util.tree_map_with_path(
            lambda keys, x: jax.NamedSharding(mesh, place(paths.join(keys), x.shape, grid)), tree
        )

    def compiled(function: Callable, donate: bool = False) -> Callable:
        def whole(first: Any, frozen: Any, batch: Any) -> Any:
            within = jax.sharding.use_abstract_mesh(mesh.abstract_mesh) if grid.states else contextlib.nullcontext()
            with within:  # where `sharding.gather` finds the mesh
                found = function(first, frozen, batch, axis=None)
            return jax.lax.with_sharding_constraint(found, shard(found))

        return jax.jit(whole, donate_argnums=(0,) if donate else ())

    return Plan(
        len(devices),
        compiled,
        lambda tree: jax.device_put(tree, shard(tree)),
        functools.partial(list_rows, divided),
        functools.partial(put_rows, divided),
    )


def pmap(devices: Devices, model: int = 1) -> Plan:
    """One program for each device: it sums over its own rows, and `psum` adds the sums of all devices. `model` must be 1."""
    mesh = _make_mesh(devices)
    whole, divided = _make_shardings(mesh)
    mine = list_parts(divided)

    def compiled(function: Callable, donate: bool = False) -> Callable:
        mapped = jax.pmap(
            functools.partial(function, axis=AXIS),
            axis_name=AXIS,
            in_axes=(None, None, 0),
            out_axes=None,
            devices=list(mesh.devices.flat),
            donate_argnums=(0,) if donate else (),
        )
        if jax.process_count() == 1:
            return mapped
        # pmap reads and writes arrays of one process; what is saved must be one array of all processes.
        return lambda first, frozen, batch: replicate(mapped(*localise((first, frozen)), batch), whole)

    def put_batch(rows: Any) -> Any:
        return jax.tree.map(lambda x: np.reshape(x, (len(mine), -1, *x.shape[1:])), rows)

    def put_state(tree: Any) -> Any:
        return tree if jax.process_count() == 1 else replicate(tree, whole)

    return Plan(len(devices), compiled, put_state, functools.partial(list_rows, divided), put_batch)


class Way(NamedTuple):
    """A row of PARALLEL."""

    plan: Callable[..., Plan]  # (devices, how many of them share a row's matrices: 1 by default) -> Plan
    several_processes: bool = False  # whether it works over several processes
    splits_matrices: bool = False  # whether several devices can share a row's matrices
    states: bool = False  # whether each device holds only a part of the state


PARALLEL: dict[str, Way] = {
    'jit': Way(jit, several_processes=True, splits_matrices=True),
    'pmap': Way(pmap, several_processes=True),
    'fsdp': Way(fsdp, splits_matrices=True, states=True),
}


def make_plan(name: str, batch: int, accumulate: int, model_devices: int = 1) -> Plan:
    """The Plan `name` of PARALLEL for all devices, of which `model_devices` share the matrices that a row meets.

    Raises UserError if the devices do not fill that mesh, or if the `batch` cannot be split into `accumulate` equal micro-batches
    on every device.
    """
    devices = jax.devices()
    choose('run.parallel', name, PARALLEL)
    if jax.process_count() > 1 and not PARALLEL[name].several_processes:
        fit = next(other for other, row in PARALLEL.items() if row.several_processes)
        raise UserError(f"run.parallel='{name}' works in one process only, but this run has {jax.process_count()}; give '{fit}'")
    if jax.process_count() > 1 and model_devices > 1:
        raise UserError(f'run.model_devices={model_devices} works in one process only; give --config.run.model_devices=1')
    grid = make_grid(name, len(devices), model_devices)
    parts = grid.data * accumulate
    if batch % parts:
        below = batch // parts * parts
        fit = f'{below} or {below + parts}' if below else parts
        groups = f'{grid.data} device(s)' if model_devices == 1 else f'{grid.data} groups of run.model_devices={model_devices}'
        raise UserError(
            f'run.batch={batch} is not a multiple of {groups} × run.accumulate={accumulate}; give --config.run.batch={fit}'
        )
    return PARALLEL[name].plan(devices, model_devices)


def make_grid(name: str, devices: int, model_devices: int) -> Grid:
    """The mesh of the row `name` over so many devices. Raises UserError if they do not fill it."""
    if devices % model_devices:
        fits = [str(count) for count in range(1, devices + 1) if devices % count == 0]
        raise UserError(
            f'run.model_devices={model_devices} does not divide the {devices} device(s): give '
            f'--config.run.model_devices={" or ".join(fits)}'
        )
    return Grid(devices // model_devices, model_devices, PARALLEL[name].states)


def find_platform() -> str:
    """'cpu', 'tpu', 'cuda' (NVIDIA, of compute capability 8.0 or more) or 'gpu' (any other)."""
    device = jax.devices()[0]
    if device.platform != 'gpu' or not re.fullmatch(r'\d+\.\d+', str(device.compute_capability)):
        return device.platform
    return 'cuda' if float(device.compute_capability) >= 8 else 'gpu'


def describe_devices() -> dict[str, Any]:
    """The platform, kind and number of the devices, for environment.json."""
    devices = jax.devices()
    return {
        'platform': devices[0].platform,
        'kind': devices[0].device_kind,
        'count': len(devices),
        'processes': jax.process_count(),
    }


def find_processor() -> Any:
    """The CPU as a device of jax, whatever else this process computes on."""
    return jax.local_devices(backend='cpu')[0]


def read_peak_memory() -> int | None:
    """The largest number of bytes in use on the first device so far; None if the platform does not record it (CPU)."""
    stats = jax.local_devices()[0].memory_stats()
    return None if stats is None else int(stats['peak_bytes_in_use'])


def read_memory_limit() -> float | None:
    """The bytes of the first device that arrays may take; None if the platform does not record it (CPU)."""
    stats = jax.local_devices()[0].memory_stats()
    return None if stats is None or 'bytes_limit' not in stats else float(stats['bytes_limit'])


def simulate_devices(count: int) -> None:
    """Makes the CPU appear as `count` devices. Call it before jax is first used."""
    jax.config.update('jax_num_cpu_devices', count)


# ---- The same bits in every process ---------------------------------------------------------------------------------------------


def is_started() -> bool:
    """Whether jax has opened its devices, after which XLA reads no flag any more."""
    count = jax.config.values['jax_num_cpu_devices']
    try:
        jax.config.update('jax_num_cpu_devices', count + 1)
    except RuntimeError:
        return True
    jax.config.update('jax_num_cpu_devices', count)
    return False


def request_determinism() -> None:
    """Gives XLA_FLAGS the flags of DETERMINISTIC. Does nothing once jax has opened its devices, or if XLA_FLAGS names a file."""
    given = os.environ.get('XLA_FLAGS', '').split()
    if is_started() or (given and not given[0].startswith('-')):
        return
    ours = [flag.partition('=')[0] for flag in DETERMINISTIC]
    os.environ['XLA_FLAGS'] = ' '.join([*(flag for flag in given if flag.partition('=')[0] not in ours), *DETERMINISTIC])


def describe_determinism() -> str:
    """A line on what run.deterministic does on these devices and what it costs.

    Raises UserError on a GPU that jax has opened without the flags.
    """
    platform = jax.devices()[0].platform
    if platform != 'gpu':
        return f'run.deterministic changes and costs nothing on {platform.upper()}: a command gives the same bits there anyway'
    given = os.environ.get('XLA_FLAGS', '').split()
    last = {flag.partition('=')[0]: flag for flag in given}  # the value that XLA takes of several
    if not set(DETERMINISTIC) <= set(last.values()):
        raise UserError(
            'run.deterministic=true: jax has opened the GPU in this process already; start the run in a process of its own, or set '
            f"XLA_FLAGS='{' '.join(DETERMINISTIC)}' before"
        )
    return (
        f'run.deterministic: {" ".join(DETERMINISTIC)}. The price is slower steps: matrix products take a kernel that fits, '
        'not the fastest, and gradients of embeddings are summed in a fixed order. A short run without it shows how much'
    )
