"""The memory settings of a training process."""

import ctypes

# From glibc's malloc.h: M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD.
KEEP = ((-8, 1), (-3, 2**30), (-1, 2**30))


def keep_memory() -> None:
    """Makes glibc keep freed memory instead of returning it to the system. Call it before jax is first used.

    XLA allocates its buffers again in every step; fresh pages from the system take a quarter of a small model's step on a CPU. With
    another C library this does nothing.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, 'mallopt'):
        for parameter, value in KEEP:
            library.mallopt(parameter, value)
