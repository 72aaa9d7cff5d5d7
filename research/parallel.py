"""How all devices take part in a step: PARALLEL. The only file that names devices."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from research.errors import UserError, choose

AXIS = 'data'
Devices = list[Any]


class Plan(NamedTuple):
    """One way to be parallel. States stay whole for the caller in both ways; only batches are divided."""

    devices: int
    compile: Callable[..., Callable]  # (function(first, frozen, batch, axis), donate) -> compiled function(first, frozen, batch)
    put_state: Callable[[Any], Any]  # a tree of host or device arrays -> the same on all devices
    put_batch: Callable[[Any], Any]  # the whole batch, made alike by every process -> the batch on all devices


def jit(devices: Devices) -> Plan:
    """One program over a mesh: the compiler divides the work by the batch axis."""
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

    return Plan(len(devices), compiled, lambda tree: jax.device_put(tree, whole), put_batch)


def pmap(devices: Devices) -> Plan:
    """One program a device: each sums over its own rows, and `psum` over the axis adds them up."""

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


PARALLEL: dict[str, Callable[[Devices], Plan]] = {'jit': jit, 'pmap': pmap}


def plan(name: str, batch: int, accumulate: int) -> Plan:
    """The Plan called `name` over all devices.

    Raises UserError when `accumulate` micro-batches on every device do not divide the `batch`.
    """
    devices = jax.devices()
    choose('run.parallel', name, PARALLEL)
    parts = len(devices) * accumulate
    if batch % parts:
        fit = max(batch // parts, 1) * parts
        raise UserError(
            f'run.batch={batch} is not divided by {len(devices)} device(s) × run.accumulate={accumulate}; '
            f'--config.run.batch={fit} would be'
        )
    return PARALLEL[name](devices)


def describe() -> dict[str, Any]:
    """What the devices are, for environment.json."""
    devices = jax.devices()
    return {
        'platform': devices[0].platform,
        'kind': devices[0].device_kind,
        'count': len(devices),
        'processes': jax.process_count(),
    }


def peak_memory() -> int | None:
    """The most bytes that were in use on the first device; None where the platform does not tell (a CPU)."""
    stats = jax.devices()[0].memory_stats()
    return None if stats is None else int(stats['peak_bytes_in_use'])


def use_simulated(count: int) -> None:
    """Splits the CPU into `count` devices; only before jax is first used."""
    jax.config.update('jax_num_cpu_devices', count)
