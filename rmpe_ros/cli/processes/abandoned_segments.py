# SPDX-License-Identifier: Apache-2.0
"""Shared memory of Fast DDS whose process was killed: nobody uses it, and nobody else removes it.

Needs no ROS.
"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

SHARED_MEMORY = Path('/dev/shm')
# A segment and its lock file, which its process holds for as long as it lives.
_LOCK_FILE = re.compile(r'fast(dds|rtps)_[0-9a-z]{16}_el')
# Seconds from the making of a lock file until it is held for certain: one must not be taken then.
_YOUNG = 2.0


def segment_locks(folder: Path = SHARED_MEMORY) -> list[Path]:
    """The lock file of each segment there is: its name and `_el`."""
    return [file for file in sorted(folder.iterdir()) if _LOCK_FILE.fullmatch(file.name)]


def abandoned_segments(folder: Path = SHARED_MEMORY) -> list[Path]:
    """The segments that no living process holds; each has a lock file of its name and `_el`.

    Empty where shared memory is no folder of files, as anywhere but on Linux.
    """
    if sys.platform != 'linux' or not folder.is_dir():
        return []
    import fcntl

    found = []
    for lock in segment_locks(folder):
        try:
            if time.time() < lock.stat().st_mtime + _YOUNG:
                continue
            with lock.open('rb') as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # held, just removed, or of another user
            continue
        found.append(lock.with_name(lock.name.removesuffix('_el')))
    return found
