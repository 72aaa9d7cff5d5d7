"""The flags that make XLA compile fast rather than well, as far as the installed XLA knows them.

XLA ends a process that names a flag it does not know, and from one release to the next it forgets some.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence

# Compiling is what tests cost, so XLA shall not optimize.
FAST = (
    '--xla_cpu_use_fusion_emitters=false',
    '--xla_backend_optimization_level=0',
    '--xla_llvm_disable_expensive_passes=true',
)
HANDED = 'TESTS_XLA_FLAGS'  # what the first process found, for the workers of pytest-xdist


def known(flags: Sequence[str], said: str) -> tuple[str, ...]:
    """The flags that XLA does not call unknown in what it said."""
    unknown = {flag for line in re.findall(r'Unknown flags? in XLA_FLAGS:(.*)', said) for flag in line.split()}
    return tuple(flag for flag in flags if flag not in unknown)


def probe(flags: Sequence[str]) -> str:
    """What XLA says of the flags in a process of its own; '' where it takes them all."""
    environment = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': ' '.join(flags)}
    ended = subprocess.run(
        [sys.executable, '-c', 'import jax; jax.devices()'], env=environment, capture_output=True, text=True, check=False
    )
    return ended.stderr if ended.returncode else ''


def flags(environment: Mapping[str, str]) -> str:
    """The XLA_FLAGS for tests: those of the environment, and of FAST those that are known. Asked of XLA once, then handed on."""
    if HANDED in environment:
        return environment[HANDED]
    given = environment.get('XLA_FLAGS', '').split()
    wanted = [*given, *FAST]
    refused = probe(wanted)
    taken = [*given, *known(FAST, refused)]
    if taken != wanted:
        refused = probe(taken)
    if refused:
        raise RuntimeError(f'jax does not start with XLA_FLAGS={" ".join(taken)!r}:\n{refused}')
    return ' '.join(taken)
