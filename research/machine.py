"""The machine that a process runs on: how many cores it may use, where prepared data lie and how fast batches come."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path('/proc/cpuinfo')
# The sets of vector instructions that matrix products are compiled for, as Linux calls them: x86's, then Arm's.
VECTORS = (
    *('sse4_2', 'avx', 'fma', 'avx2', 'avx512f', 'avx512bw', 'avx512vl', 'avx512_vnni', 'avx512_bf16', 'avx512_fp16', 'amx_tile'),
    *('asimd', 'asimdhp', 'bf16', 'i8mm', 'sve', 'sve2'),
)


@dataclass(frozen=True)
class Machine:
    """Where prepared data are stored and how fast batches are made. It never changes the batches."""

    cache: str = 'runs/cache'  # folder of prepared corpora and trained tokenizers; safe to delete
    prefetch: int = 8  # batches made ahead while the model computes (two a worker at least); 0 makes each when asked
    workers: int = 0  # processes that make them, each of which opens the data for itself; 0 is a thread of the run's own


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def describe_processor() -> tuple[str, tuple[str, ...]]:
    """(the model of the processor, those of VECTORS that it has; () where the system does not list them)."""
    model, found = read_processor()
    return model, tuple(name for name in VECTORS if name in found)


def read_processor() -> tuple[str, frozenset[str]]:
    """(the model of the processor, every feature that the system lists of it)."""
    lines = CPUINFO.read_text(errors='replace').splitlines() if CPUINFO.exists() else []
    pairs = [line.split(':', 1) for line in lines if ':' in line]
    first: dict[str, str] = {}
    for name, value in pairs:
        first.setdefault(name.strip(), value.strip())
    found = frozenset(word for name in ('flags', 'Features') if name in first for word in first[name].split())
    return first['model name'] if 'model name' in first else platform.processor() or platform.machine(), found
