# SPDX-License-Identifier: Apache-2.0
"""What a process holds."""

from __future__ import annotations

import os
from pathlib import Path


def resident_megabytes(pid: int | None = None) -> float | None:
    """Memory that a process, or else this one, holds, in MB of 10^6 bytes; None where there is no
    /proc, and when it has ended.
    """
    try:
        pages = int(Path(f'/proc/{pid or "self"}/statm').read_text(encoding='utf-8').split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf('SC_PAGE_SIZE') / 1e6 or None
