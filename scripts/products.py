# SPDX-License-Identifier: Apache-2.0
"""Folders that are made in steps, and never count as made when a step was interrupted."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

UNFINISHED = '.unfinished'
STAMPS = '.stamps'


def fingerprint(*parts: str | Path) -> str:
    """SHA-256 of texts and of files' contents, in hexadecimal. A missing file counts as such."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            content = part.read_bytes() if part.is_file() else b'missing'
        else:
            content = part.encode()
        digest.update(f'{len(content)}:'.encode() + content)
    return digest.hexdigest()


def file_names(root: Path, folders: Iterable[str]) -> str:
    """The names of all files in some folders of `root`, sorted, one a line."""
    names = []
    for folder in folders:
        for path in (root / folder).rglob('*'):
            if path.is_file() and '__pycache__' not in path.parts:
                names.append(path.relative_to(root).as_posix())
    return '\n'.join(sorted(names))


class Product:
    """A folder that steps fill, each leaving a stamp in it with the key of its inputs.

    While a step works, the folder carries a mark. A mark that is there at the start is from a step
    that failed or was killed: nobody knows what it left, so the folder is removed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if (folder / UNFINISHED).exists():
            self.remove()

    def remove(self) -> None:
        """Remove the folder. The mark goes last, so that an interrupted removal is noticed too."""
        if not self.folder.exists():
            return
        (self.folder / UNFINISHED).touch()
        for path in self.folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != UNFINISHED:
                path.unlink()
        (self.folder / UNFINISHED).unlink()
        self.folder.rmdir()

    def has(self, step: str, key: str) -> bool:
        """Whether `step` was finished with inputs of this `key`."""
        stamp = self.folder / STAMPS / step
        return stamp.is_file() and stamp.read_text(encoding='utf-8') == key

    @contextlib.contextmanager
    def making(self, step: str, key: str) -> Iterator[None]:
        """Stamp the step when the body of the `with` ends without an exception."""
        stamp = self.folder / STAMPS / step
        stamp.parent.mkdir(parents=True, exist_ok=True)
        (self.folder / UNFINISHED).touch()
        stamp.unlink(missing_ok=True)
        yield
        write_atomically(stamp, key)
        (self.folder / UNFINISHED).unlink()


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that readers see the old or the new content, never a part."""
    temporary = path.with_name(f'{path.name}.{os.getpid()}.tmp')
    temporary.write_text(text, encoding='utf-8')
    os.replace(temporary, path)


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, waiting while another process holds it.

    The system frees it when this process ends, however it does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('w', encoding='utf-8') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print('waiting for another bootstrap of this folder to end', flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
