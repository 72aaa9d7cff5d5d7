"""The memory settings of a training process."""

import ctypes
import os

# From glibc's malloc.h: M_ARENA_MAX, M_MMAP_MAX and M_TRIM_THRESHOLD (−1: never).
KEEP = ((-8, 1), (-4, 0), (-1, -1))
HUGE = 14  # MADV_HUGEPAGE of Linux
PAGE = 2**21  # bytes of a huge page
SHARE = 0.75  # of the machine's memory, set aside as addresses alone


def keep_memory() -> None:
    """Makes glibc keep freed memory, in huge pages, instead of returning it to the system. Call it before jax is first used.

    XLA allocates its buffers again in every step: fresh small pages from the system took a fifth of a step on a CPU
    (benchmarks/RESULTS.md). With another C library, or where the system has no huge pages or too few addresses, this does less or
    nothing.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, 'mallopt'):
        return
    for parameter, value in KEEP:
        library.mallopt(parameter, value)
    # Addresses of the heap are marked once, before they are used: what malloc takes later lies among them.
    size = int(SHARE * os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')) // PAGE * PAGE
    library.malloc.restype, library.malloc.argtypes, library.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    place = library.malloc(size)
    if place:
        begin = -(-place // PAGE) * PAGE
        library.madvise(begin, place + size - begin, HUGE)
        library.free(place)
