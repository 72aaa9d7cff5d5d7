"""Memory of a training process."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='only glibc has the setting')
def test_freed_memory_is_kept(root: Path) -> None:
    """A separate process allocates the same memory again without new page faults."""
    program = (
        'import resource, numpy as np\n'
        'from research.runs import memory\n'
        'memory.keep_memory()\n'
        'np.ones(2**26, np.uint8)\n'
        'before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n'
        'for _ in range(20): np.ones(2**26, np.uint8)\n'
        'print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n'
    )
    output = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True, cwd=root)
    assert int(output.stdout) < 1000  # without it 16,384 pages each time
