# SPDX-License-Identifier: Apache-2.0
"""What C libraries inside OpenCV write to stderr: libjpeg tells of damage nowhere else."""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# How libjpeg, libpng, libtiff and OpenCV begin their lines; all other lines are passed on.
_THEIRS = re.compile(
    r'Corrupt JPEG|Premature end of|Invalid SOS|Inconsistent progression|Unsupported |Unknown |'
    r'Warning: |Bogus |JPEG |Not a JPEG|Found |lib(png|jpeg)|TIFF|_TIFF|\[ *(WARN|ERROR|INFO)|'
    r'OpenCV|imread_|imdecode_|OpenJPEG'
)
_lock = threading.Lock()
_kept: int | None = None
_file: int | None = None


@contextmanager
def captured_lines() -> Iterator[list[str]]:
    """Keep what C libraries say in `with` off the terminal; the list has it when that has ended.

    Other threads wait for each other here; what they print meanwhile is passed on.
    """
    lines: list[str] = []
    with _lock:
        try:
            _redirect()
            yield lines
        finally:
            lines += _restore()


def _redirect() -> None:
    global _kept
    try:
        file = _open_file()
        _kept = os.dup(2)
        os.dup2(file, 2)
    except OSError:  # no stderr at all: nothing to keep off it
        _kept = None


def _restore() -> list[str]:
    """The lines of libraries; those of others are passed on."""
    global _kept
    if _kept is None:
        return []
    kept, _kept = _kept, None
    os.dup2(kept, 2)
    lines = []
    for line in _take_text().splitlines(keepends=True):
        if _THEIRS.match(line):
            lines.append(line.strip())
        else:
            os.write(kept, line.encode(errors='surrogateescape'))
    os.close(kept)
    return lines


def _open_file() -> int:
    """A file in memory that lives as long as the process."""
    global _file
    if _file is None:
        if hasattr(os, 'memfd_create'):
            _file = os.memfd_create('stderr')
        else:
            with tempfile.TemporaryFile() as file:
                _file = os.dup(file.fileno())
    return _file


def _take_text() -> str:
    file = _open_file()
    size = os.lseek(file, 0, os.SEEK_END)
    if not size:
        return ''
    data = os.pread(file, size, 0)
    os.ftruncate(file, 0)
    os.lseek(file, 0, os.SEEK_SET)
    return data.decode(errors='surrogateescape')


def _start_again() -> None:
    """In a forked child: the thread that held the lock is not there."""
    global _lock, _kept, _file
    _lock = threading.Lock()
    if _kept is not None:
        os.dup2(_kept, 2)
        os.close(_kept)
    _kept = _file = None


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_start_again)
