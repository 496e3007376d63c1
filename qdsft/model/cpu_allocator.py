"""How the C library keeps the memory that tensors on a CPU are made of."""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGE = 2**30
_ENOUGH = 2**31 - 1


def keep_freed_memory() -> bool:
    """Have malloc keep what tensors free for those of the next step; returns whether it does.

    glibc gives each large block back to the system at once, which hands it out again page by page, zeroed. A training
    step asks for the same blocks again and again.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_THRESHOLD, _LARGE)) and bool(mallopt(_TRIM_THRESHOLD, _ENOUGH))
