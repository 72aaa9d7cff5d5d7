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


HUGE_PAGES = Path('/sys/kernel/mm/transparent_hugepage/enabled')


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='only glibc has the setting')
@pytest.mark.skipif(not HUGE_PAGES.exists() or '[never]' in HUGE_PAGES.read_text(), reason='this system has no huge pages')
def test_memory_lies_in_huge_pages(root: Path) -> None:
    program = (
        'import numpy as np\n'
        'from research.runs import memory\n'
        'memory.keep_memory()\n'
        'kept = np.ones(2**26, np.uint8)\n'
        'print(sum(int(line.split()[1]) for line in open("/proc/self/smaps") if line.startswith("AnonHugePages")))\n'
    )
    output = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True, cwd=root)
    assert int(output.stdout) > 2**15  # KiB, half of the array


def test_a_process_with_few_addresses_works_all_the_same(root: Path) -> None:
    program = (
        'import resource\n'
        'resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))\n'
        'from research.runs import memory\n'
        'memory.keep_memory()\n'
        'print(len(bytes(2**24)))\n'
    )
    output = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True, cwd=root)
    assert int(output.stdout) == 2**24
