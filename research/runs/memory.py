"""The memory of the process that trains."""

import ctypes

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
