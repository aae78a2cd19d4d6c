# SPDX-License-Identifier: Apache-2.0
"""The memory that a process holds, and what becomes of what it frees."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from pathlib import Path
from typing import Any

# Of <malloc.h>.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
# The most that glibc takes, and twice that: an rgb8 image of 4K is 25 MB.
_REUSED_BYTES = 32 << 20
_KEPT_BYTES = 64 << 20
_USERS_CHOICES = ('MALLOC_MMAP_THRESHOLD_', 'MALLOC_TRIM_THRESHOLD_', 'GLIBC_TUNABLES')


def resident_megabytes(pid: int | None = None) -> float | None:
    """Memory that a process, or else this one, holds, in MB of 10^6 bytes; None where there is no
    /proc, and when it has ended.
    """
    try:
        pages = int(Path(f'/proc/{pid or "self"}/statm').read_text(encoding='utf-8').split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf('SC_PAGE_SIZE') / 1e6 or None


def reuse_freed_memory() -> bool:
    """Let glibc keep what is freed, up to 64 MB, for the next image; returns whether it will.

    It gives blocks as large as an image back to the system at once otherwise, and gets the next
    one page by page: for each image of 640x480 that rclpy takes, 640 pages and 1.5 ms. Blocks of
    more than 32 MB are given back as before. Left as it is where the environment chooses.
    """
    mallopt = _of_libc('mallopt')
    if mallopt is None or any(name in os.environ for name in _USERS_CHOICES):
        return False
    reused: int = mallopt(_M_MMAP_THRESHOLD, _REUSED_BYTES)
    kept: int = mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    return bool(reused and kept)


def return_freed_memory() -> None:
    """Give freed memory back to the system; glibc keeps it otherwise."""
    gc.collect()
    trim = _of_libc('malloc_trim')
    if trim is not None:
        trim(0)


def _of_libc(name: str) -> Any:
    """A function that glibc has and others may not; None where there is none."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == 'linux' else None
