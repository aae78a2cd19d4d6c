# SPDX-License-Identifier: Apache-2.0
"""What kept work was made of: short texts that change whenever a result would."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content. Raises OSError."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def hash_files(paths: Iterable[Path]) -> str:
    """Of the contents of files in their order; of a single one as `hash_file`. Raises OSError."""
    hashes = [hash_file(path) for path in paths]
    return hashes[0] if len(hashes) == 1 else hash_settings({'files': hashes})


def hash_pictures(paths: Iterable[Path]) -> str:
    """Of the names, sizes and times of pictures, since reading them all would take too long.

    Raises OSError.
    """
    states = []
    for path in sorted(set(paths)):
        status = path.stat()
        states.append([path.name, status.st_size, status.st_mtime_ns])
    return hash_settings({'pictures': states})


def hash_settings(settings: Mapping[str, Any]) -> str:
    """Of values that JSON can hold, in any order."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
