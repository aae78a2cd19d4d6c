# SPDX-License-Identifier: Apache-2.0
"""The demo's folder: a list in it says what the demo made, and nothing else is ever removed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from rmpe_ros.io.file_guard import Target, check_targets

_LIST = '.rmpe_demo.jsonl'


class DemoError(Exception):
    """Something that ends the demo; the text is for people."""


class DemoFolder:
    """`pictures`, `logs`, `bag`, `report` below `out`; the list of files grows as they are made."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.pictures, self.logs, self.bag = out / 'pictures', out / 'log', out / 'bag'
        self.report = out / 'report.html'

    def log(self, name: str) -> Path:
        """The log file of a process, noted as ours: it is written until the process ends."""
        path = self.logs / f'{name}.log'
        self._append(path, None)
        return path

    def note(self, path: Path) -> None:
        """A file has been made, and will not change any more."""
        status = path.stat()
        self._append(path, [status.st_size, status.st_mtime_ns])

    def made(self) -> Iterator[Path]:
        """What earlier demos made, as far as it is there and is still what they made."""
        try:
            lines = (self.out / _LIST).read_text(encoding='utf-8').splitlines()
        except OSError:
            return
        for name, state in dict(map(_parse, lines)).items():
            path = self.out / name
            if name and path.is_file() and not path.is_symlink():
                status = path.stat()
                if state is None or state == [status.st_size, status.st_mtime_ns]:
                    yield path

    def clear(self) -> None:
        """Remove what earlier demos made; make the folders. Raises OSError."""
        for path in list(self.made()):
            path.unlink()
        if self.bag.is_dir():
            self.bag.rmdir()
        for folder in (self.pictures, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        (self.out / _LIST).unlink(missing_ok=True)

    def _append(self, path: Path, state: list[int] | None) -> None:
        with (self.out / _LIST).open('a', encoding='utf-8') as file:
            file.write(json.dumps([str(path.relative_to(self.out)), state]) + '\n')


def prepare_folder(out: Path, sources: Iterable[Path] = ()) -> DemoFolder:
    """Make `out`, without what an earlier demo left there; whatever else is there stays.

    sources: the files that the demo will read. Raises TargetError when the demo would remove or
    replace one of them, DemoError when a stranger's bag or log is in the way.
    """
    folder = DemoFolder(out)
    sources = list(sources)
    ours = set(folder.made())
    targets = [*ours, *(folder.pictures / path.name for path in sources)]
    check_targets((Target(path, '--out', derived=True) for path in dict.fromkeys(targets)), sources)
    for place, kind in ((folder.bag, 'bag'), (folder.logs, 'log')):
        found = set(place.glob('*.log' if kind == 'log' else '*'))
        if (not place.is_dir() and (place.exists() or place.is_symlink())) or found - ours:
            raise DemoError(f'{place} is not a {kind} of the demo; move it away or use --out')
    try:
        folder.clear()
    except OSError as error:
        raise DemoError(f'{out} cannot be written: {error}') from error
    return folder


def _parse(line: str) -> tuple[str, list[int] | None]:
    """A line of the list; the name is empty where the line is none of ours."""
    try:
        name, state = json.loads(line)
        parts = Path(name).parts
    except (ValueError, TypeError):
        return '', None
    known = parts == ('report.html',) or (
        len(parts) == 2 and parts[0] in ('pictures', 'log', 'bag')
    )
    return (name if known else ''), state
