"""Options that XLA compiles the programs of this project with, beside those of XLA_FLAGS."""

import functools
import os

import jax

# On a CPU only reductions go to YNNPACK: Eigen computes most matrix products faster, small ones by a fifth (benchmarks/RESULTS.md).
CPU = {'xla_cpu_experimental_ynn_fusion_type': 'LIBRARY_FUSION_TYPE_REDUCE'}


@functools.cache
def find_options(platform: str) -> dict[str, str]:
    """The `compiler_options` of jax.jit on a platform: those of CPU that this version of XLA knows and XLA_FLAGS does not set."""
    given = os.environ.get('XLA_FLAGS', '')
    return {name: value for name, value in CPU.items() if platform == 'cpu' and name not in given and _is_known(name, value)}


def _is_known(name: str, value: str) -> bool:
    try:
        jax.jit(lambda x: x, compiler_options={name: value}).lower(1.0).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
