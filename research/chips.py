"""What a chip can do: peak speeds, memory and links of the accelerators that runs are predicted for (CHIPS), and of this machine.

Peaks are of dense products, without sparsity. `float32` is what jax does with float32 arrays unless told otherwise: TF32 on a GPU,
one bfloat16 pass on a TPU. Sources: of TPUs Google's pages docs.cloud.google.com/tpu/docs/v5e, v5p and v6e, whose bandwidths
of links count both directions; of GPUs NVIDIA's data sheets of A100 80GB, H100 and H200 SXM, whose bandwidths of NVLink do too and
whose peaks are with sparsity where they are twice ours, as quoted by glennklockwood.com/garden/processors and aiwiki.ai. The
network of a GPU is one port of a DGX A100 (200 Gbit/s) or H100 (400 Gbit/s), from memory. NVIDIA's own pages were not readable.
"""

import os
import resource
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp

from research import parallel
from research.errors import choose


class Chip(NamedTuple):
    """One device."""

    bfloat16: float  # FLOP/s of dense products
    float32: float
    memory: float  # bytes
    bandwidth: float  # bytes/s between the memory and the chip
    link: float  # bytes/s that it sends to the chips it is linked to, all links together, in one direction
    linked: int  # chips that links join: a server of GPUs, a pod of TPUs
    network: float  # bytes/s that it sends to chips beyond, its share of the host's network
    reach: float  # the share of the peak and of the bandwidth that steps are assumed to reach
    is_cpu: bool = False  # whether XLA compiles for it as for a CPU


# Assumed, not measured: large products reach 0.6 to 0.8 of a data sheet's peak.
REACH = 0.65
REACH_HERE = 0.9  # of what was measured, which large products reach
CHIPS: dict[str, Chip] = {
    'a100': Chip(312e12, 156e12, 80e9, 2.039e12, 300e9, 8, 25e9, REACH),
    'h100': Chip(989.4e12, 494.7e12, 80e9, 3.35e12, 450e9, 8, 50e9, REACH),
    'h200': Chip(989.4e12, 494.7e12, 141e9, 4.8e12, 450e9, 8, 50e9, REACH),
    'v5e': Chip(197e12, 197e12, 16e9, 819e9, 200e9, 256, 3.1e9, REACH),
    'v5p': Chip(459e12, 459e12, 95e9, 2.765e12, 600e9, 8960, 6.25e9, REACH),
    'v6e': Chip(918e12, 918e12, 32e9, 1.6e12, 400e9, 256, 12.5e9, REACH),
}
HERE = 'here'  # the device of this machine, measured when asked for


def find_chips(names: str) -> dict[str, Chip]:
    """The rows of CHIPS with these names, separated by commas; 'all' is all rows, 'here' this machine, measured.

    Raises UserError for another name.
    """
    found = list(CHIPS) if names == 'all' else [choose('chip (--chip)', name, [*CHIPS, HERE, 'all']) for name in names.split(',')]
    return {name: measure_chip() if name == HERE else CHIPS[name] for name in found}


def measure_chip() -> Chip:
    """The Chip of a device of this machine: two products and a pass over memory are timed. It takes seconds and opens the devices.

    What was measured is reached: `reach` is below 1 for what smaller products and the loops around them lose.
    """
    bandwidth = measure_bandwidth()
    return Chip(
        measure_speed('bfloat16', 1024), measure_speed(), read_memory(), bandwidth, bandwidth, 1, bandwidth, REACH_HERE, is_cpu()
    )


def measure_speed(dtype: str = 'float32', side: int = 2048) -> float:
    """FLOP/s of a large matrix product on this machine's devices."""
    one = jnp.ones((side, side), dtype)
    return 2 * side**3 / _time(jax.jit(jnp.matmul), one, one)


def measure_bandwidth() -> float:
    """Bytes/s of a pass that reads an array too large for any cache and writes another."""
    array = jnp.ones(2**25)
    return 2 * array.nbytes / _time(jax.jit(lambda x: x + 1), array)


def _time(function: jax.stages.Wrapped, *arguments: jax.Array) -> float:
    function(*arguments).block_until_ready()
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        function(*arguments).block_until_ready()
        times.append(time.perf_counter() - begin)
    return min(times)


def is_cpu() -> bool:
    """Whether this machine's devices are a CPU."""
    return parallel.find_platform() == 'cpu'


def read_memory() -> float:
    """The bytes that a device of this machine has for a run; of a CPU, those of the machine that this process may take."""
    limit = parallel.read_memory_limit()
    if limit is not None:
        return limit
    allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
    machine = float(os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE'))
    return machine if allowed == resource.RLIM_INFINITY else min(machine, allowed)
