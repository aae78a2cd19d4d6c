# SPDX-License-Identifier: Apache-2.0
"""Writes files whole or not at all, so that an interrupted run leaves no half files."""

import os
import tempfile
from pathlib import Path

# Ends the names of files that are being written.
PARTIAL = '.partial'


def write_file(path: str | Path, data: bytes | str, *, durable: bool = False) -> None:
    """Write `data` to `path`, replacing what is there in one step; makes missing folders.

    Text is written as UTF-8.
    durable: wait until the disk has it, so that not even a power cut leaves an empty file.
    Raises OSError (disk full, no permission) that names the path; the old file is then untouched.
    """
    path = Path(path)
    new = NewFile(path)
    try:
        with new.temporary.open('wb') as file:
            file.write(data.encode() if isinstance(data, str) else data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        new.commit()
    except OSError as error:
        raise _cannot_be_written(path, error) from error
    finally:
        new.discard()


def unused_path(path: Path, *, since: int | None = None) -> Path:
    """`path`, or name-2 and so on when there is something of that name.

    since: nanoseconds since 1970; what was written later than that may be replaced.
    """
    candidate, number = path, 1
    while candidate.is_symlink() or candidate.exists():
        if since is not None and candidate.lstat().st_mtime_ns > since:
            break
        number += 1
        candidate = path.with_name(f'{path.stem}-{number}{path.suffix}')
    return candidate


class NewFile:
    """A file that others write, such as a video: under a temporary name until it is whole.

    temporary: where to write it, a hidden file in the folder of `path`, which is made.
    ending: what the temporary name has to end with.
    Raises OSError that names the path.
    """

    def __init__(self, path: Path, *, ending: str = PARTIAL) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(f'{ending}', f'.{path.name}.', path.parent)
            # mkstemp makes files that only their owner can read; results are for others, too.
            os.fchmod(handle, 0o666 & ~_umask())
            os.close(handle)
        except OSError as error:
            raise _cannot_be_written(path, error) from error
        self.temporary = Path(name)

    def commit(self) -> None:
        """It is whole: give it its name, in the place of what is there. Raises OSError."""
        try:
            os.replace(self.temporary, self.path)
        except OSError as error:
            raise _cannot_be_written(self.path, error) from error

    def discard(self) -> None:
        """Leave nothing; without effect after `commit`."""
        self.temporary.unlink(missing_ok=True)


def _cannot_be_written(path: Path, error: OSError) -> OSError:
    reason = error.strerror or str(error)
    if not reason.startswith('cannot be written'):
        reason = f'cannot be written: {reason}'
    return OSError(error.errno, reason, str(path))


def _umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
