"""The ways to use several devices (PARALLEL) in one run. The only file that names devices."""

import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from research.errors import UserError, choose

AXIS = 'data'
# XLA's flags for the same bits in every process on a GPU: no atomic additions, and no kernel chosen by how long it took.
DETERMINISTIC = ('--xla_gpu_deterministic_ops=true', '--xla_gpu_autotune_level=0')
Devices = list[Any]


class Plan(NamedTuple):
    """A way to use several devices: each holds the whole state and a part of every batch."""

    devices: int
    compile: Callable[..., Callable]  # (function(first, frozen, batch, axis), donate) -> compiled function(first, frozen, batch)
    put_state: Callable[[Any], Any]  # a tree of host or device arrays -> the same tree on all devices
    put_batch: Callable[[Any], Any]  # the whole batch, identical in all processes -> the batch divided over the devices


def _replicate(tree: Any, whole: jax.NamedSharding) -> Any:
    """A tree that all processes hold, copied to every device of every process."""
    if jax.process_count() == 1:
        return jax.device_put(tree, whole)

    def put(x: Any) -> Any:
        if isinstance(x, jax.Array) and not x.is_fully_addressable:
            return x
        if jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put(jax.random.key_data(x)), impl=jax.random.key_impl(x))
        return jax.make_array_from_process_local_data(whole, np.asarray(x))

    return jax.tree.map(put, tree)


def jit(devices: Devices) -> Plan:
    """One program for all devices: the compiler divides the work along the batch axis."""
    mesh = jax.make_mesh((len(devices),), (AXIS,), axis_types=(jax.sharding.AxisType.Auto,), devices=devices)
    whole, divided = jax.NamedSharding(mesh, jax.P()), jax.NamedSharding(mesh, jax.P(AXIS))

    def compiled(function: Callable, donate: bool = False) -> Callable:
        return jax.jit(
            functools.partial(function, axis=None),
            in_shardings=(whole, whole, divided),
            out_shardings=whole,
            donate_argnums=(0,) if donate else (),
        )

    def put_batch(batch: Any) -> Any:
        return jax.tree.map(lambda x: jax.make_array_from_callback(x.shape, divided, lambda index: x[index]), batch)

    return Plan(len(devices), compiled, lambda tree: _replicate(tree, whole), put_batch)


def pmap(devices: Devices) -> Plan:
    """One program for each device: it sums over its own rows, and `psum` adds the sums of all devices."""

    def compiled(function: Callable, donate: bool = False) -> Callable:
        return jax.pmap(
            functools.partial(function, axis=AXIS),
            axis_name=AXIS,
            in_axes=(None, None, 0),
            out_axes=None,
            devices=devices,
            donate_argnums=(0,) if donate else (),
        )

    mine = [number for number, device in enumerate(devices) if device.process_index == jax.process_index()]

    def put_batch(batch: Any) -> Any:
        return jax.tree.map(lambda x: np.reshape(x, (len(devices), -1, *x.shape[1:]))[mine], batch)

    return Plan(len(devices), compiled, lambda tree: tree, put_batch)


class Way(NamedTuple):
    """A row of PARALLEL."""

    plan: Callable[[Devices], Plan]
    several_processes: bool = False  # whether it works over several processes


PARALLEL: dict[str, Way] = {'jit': Way(jit, several_processes=True), 'pmap': Way(pmap)}


def make_plan(name: str, batch: int, accumulate: int) -> Plan:
    """The Plan `name` of PARALLEL for all devices.

    Raises UserError if the `batch` cannot be split into `accumulate` equal micro-batches on every device.
    """
    devices = jax.devices()
    choose('run.parallel', name, PARALLEL)
    if jax.process_count() > 1 and not PARALLEL[name].several_processes:
        fit = next(other for other, row in PARALLEL.items() if row.several_processes)
        raise UserError(f"run.parallel='{name}' works in one process only, but this run has {jax.process_count()}; give '{fit}'")
    parts = len(devices) * accumulate
    if batch % parts:
        fit = max(batch // parts, 1) * parts
        raise UserError(
            f'run.batch={batch} is not a multiple of {len(devices)} device(s) × run.accumulate={accumulate}; '
            f'give --config.run.batch={fit}'
        )
    return PARALLEL[name].plan(devices)


def describe_devices() -> dict[str, Any]:
    """The platform, kind and number of the devices, for environment.json."""
    devices = jax.devices()
    return {
        'platform': devices[0].platform,
        'kind': devices[0].device_kind,
        'count': len(devices),
        'processes': jax.process_count(),
    }


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
