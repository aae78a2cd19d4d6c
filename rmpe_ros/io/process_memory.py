# SPDX-License-Identifier: Apache-2.0
"""What a process holds."""

from __future__ import annotations

import os
from pathlib import Path


def resident_megabytes() -> float | None:
    """Memory that this process holds, in MB of 10^6 bytes; None where there is no /proc."""
    try:
        pages = int(Path('/proc/self/statm').read_text(encoding='utf-8').split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf('SC_PAGE_SIZE') / 1e6
