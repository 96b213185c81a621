"""Freed memory stays with the process, unless the user set malloc up."""

import os
import platform
import subprocess
import sys

import pytest

# Frees and takes 16 MiB two hundred times: 4,096 pages of 4 KiB each, mapped once or every time.
_CHURN = """
import resource
from flood_distill import allocator
print(allocator.keep_freed_memory())
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(200):
    blocks = [libc.malloc(2**24) for _ in range(4)]
    for block in blocks:
        ctypes.memset(block, 1, 2**24)
    for block in blocks:
        libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _churn(**environment):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "LD_PRELOAD"))}
    command = [sys.executable, "-c", _CHURN]
    output = subprocess.run(command, capture_output=True, text=True, check=True, env={**kept, **environment}).stdout
    taken, faults = output.split()
    return taken == "True", int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="settings of glibc")
def test_memory_that_was_freed_is_not_mapped_again():
    taken, faults = _churn()
    assert taken
    assert faults < 2 * 4 * 4096  # once, not 200 times


def test_settings_of_the_user_stay():
    taken, _ = _churn(MALLOC_ARENA_TEST="8")
    assert not taken
