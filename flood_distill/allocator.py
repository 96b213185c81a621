"""Keeps the memory that a step frees for the step that follows."""

import ctypes
import os
import platform

# glibc's malloc.h, in the order in which they are set.
_M_ARENA_MAX, _M_MMAP_MAX, _M_TRIM_THRESHOLD, _M_TOP_PAD = -8, -4, -1, -2
_SETTINGS = (
    (_M_ARENA_MAX, 1),  # the heaps of further arenas are small: what does not fit would be mapped all the same
    (_M_MMAP_MAX, 0),  # no block of its own from the kernel for a large array
    (_M_TRIM_THRESHOLD, -1),  # never give memory back (mallopt(3))
    (_M_TOP_PAD, 64 * 2**20),  # grow by at least this many bytes
)


def keep_freed_memory() -> bool:
    """Tells glibc's malloc to keep freed memory; call it before TensorFlow starts its threads.

    By default glibc returns every large freed array to the kernel, which maps and clears new pages for the next one.
    ``python -m benchmarks.page_faults`` measures what that costs a training.

    Returns:
        Whether malloc took the settings. It does not where the C library is another one, or where the environment holds
        ``MALLOC_*`` settings or a preloaded library, which are left as they are.
    """
    chosen = any(name.startswith("MALLOC_") for name in os.environ) or "LD_PRELOAD" in os.environ
    if chosen or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all([mallopt(parameter, value) for parameter, value in _SETTINGS])
