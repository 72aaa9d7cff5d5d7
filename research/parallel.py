"""How all devices take part in a step: PARALLEL. The only file that names devices."""

import contextlib
import ctypes
import functools
import os
import subprocess
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from research.errors import UserError, choose

AXIS = 'data'
Devices = list[Any]


class Plan(NamedTuple):
    """One way to be parallel. States stay whole for the caller in both ways; only batches are divided."""

    devices: int
    compile: Callable[..., Callable]  # (function(first, frozen, batch, axis), donate) -> compiled function(first, frozen, batch)
    put_state: Callable[[Any], Any]  # a tree of host or device arrays -> the same on all devices
    put_batch: Callable[[Any], Any]  # the whole batch, made alike by every process -> the batch on all devices


def _replicate(tree: Any, whole: jax.NamedSharding) -> Any:
    """A tree that all processes hold, whole on all devices of all of them."""
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

    return Plan(len(devices), compiled, lambda tree: _replicate(tree, whole), put_batch)


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
    if jax.process_count() > 1 and name != 'jit':
        raise UserError(f"run.parallel='{name}' serves one process, and this run has {jax.process_count()}; give 'jit'")
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
    stats = jax.local_devices()[0].memory_stats()
    return None if stats is None else int(stats['peak_bytes_in_use'])


def use_simulated(count: int) -> None:
    """Splits the CPU into `count` devices; only before jax is first used."""
    jax.config.update('jax_num_cpu_devices', count)


# From glibc's malloc.h: M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD.
KEEP = ((-8, 1), (-3, 2**30), (-1, 2**30))


def keep_memory() -> None:
    """Has the C library keep the memory that programs on the CPU free, where it is glibc; before jax is first used.

    XLA asks for its buffers anew in every step. Given back to the system in between, they cost a quarter of a small model's step.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, 'mallopt'):
        for parameter, value in KEEP:
            library.mallopt(parameter, value)


# ---- Several processes: one run over several nodes ------------------------------------------------------------------------------


def join() -> None:
    """Joins the other processes of this run, where Slurm's `srun` started several; before jax is first used."""
    if int(os.environ.get('SLURM_STEP_NUM_TASKS', '1')) > 1 and not jax.distributed.is_initialized():
        jax.distributed.initialize()


def process() -> int:
    """The number of this process among those of its run."""
    return jax.process_index()


def chief() -> bool:
    """Whether this process is the one that writes."""
    return process() == 0


@contextlib.contextmanager
def chief_first() -> Iterator[None]:
    """The body in the first process, then in the others: what the first prepares, they find."""
    if not chief():
        multihost_utils.sync_global_devices('the first process is through')
    yield
    if chief() and jax.process_count() > 1:
        multihost_utils.sync_global_devices('the first process is through')


# ---- Several runs: each its part of this machine --------------------------------------------------------------------------------


class Slot(NamedTuple):
    """What one of several simultaneous runs may use of this machine."""

    settings: dict[str, str]  # environment variables
    cores: tuple[int, ...]


def accelerators() -> list[str]:
    """The GPUs of this machine by the names that CUDA_VISIBLE_DEVICES takes; jax is not started, which would take their memory."""
    named = os.environ.get('CUDA_VISIBLE_DEVICES')
    if named is not None:
        return [each for each in named.split(',') if each and each != '-1']
    try:
        told = subprocess.run(['nvidia-smi', '-L'], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [str(number) for number, line in enumerate(line for line in told.splitlines() if line.startswith('GPU '))]


def slots(jobs: int) -> list[Slot]:
    """This machine divided into `jobs` parts, or as many as it has GPUs (one without any) where that is 0.

    Each has one GPU, shared where there are more jobs than GPUs, and its share of the cores.
    """
    devices = accelerators()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else list(range(os.cpu_count() or 1))
    parts = jobs or max(1, len(devices))
    found = []
    for part in range(parts):
        mine = cores[part * len(cores) // parts : (part + 1) * len(cores) // parts] or [cores[part % len(cores)]]
        settings = {}
        if devices:
            sharers = len(range(part % len(devices), parts, len(devices)))
            settings['CUDA_VISIBLE_DEVICES'] = devices[part % len(devices)]
            if sharers > 1:
                settings['XLA_PYTHON_CLIENT_MEM_FRACTION'] = f'{0.9 / sharers:.3f}'
        found.append(Slot(settings, tuple(mine)))
    return found
