# SPDX-License-Identifier: Apache-2.0
"""The shared memory that a process has made, of which nothing may be left when it has ended."""

from pathlib import Path

from rmpe_ros.cli.processes.abandoned_segments import segment_locks


def segments_of(pid: int) -> list[Path]:
    """The segments of Fast DDS whose lock file this process holds."""
    held = set()
    for line in Path('/proc/locks').read_text(encoding='ascii').splitlines():
        # 1: FLOCK  ADVISORY  WRITE 4711 00:1a:42 0 EOF
        kind, owner, file = (line.split()[index] for index in (1, -4, -3))
        if (kind, owner) == ('FLOCK', str(pid)):
            held.add(int(file.rpartition(':')[2]))
    return [
        lock.with_name(lock.name.removesuffix('_el'))
        for lock in segment_locks()
        if _inode(lock) in held
    ]


def _inode(file: Path) -> int | None:
    """None for one that has just been removed."""
    try:
        return file.stat().st_ino
    except FileNotFoundError:
        return None
