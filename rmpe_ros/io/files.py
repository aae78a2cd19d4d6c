# SPDX-License-Identifier: Apache-2.0
"""Writes files whole or not at all, so that an interrupted run leaves no half files."""

import os
import tempfile
from pathlib import Path


def write_file(path: str | Path, data: bytes | str, *, durable: bool = False) -> None:
    """Write `data` to `path`, replacing what is there in one step; makes missing folders.

    durable: wait until the disk has it, so that not even a power cut leaves an empty file.
    Raises OSError (disk full, no permission) that names the path; the old file is then untouched.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f'.{path.name}.', dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, 'wb') as file:
            # mkstemp makes files that only their owner can read; results are for others, too.
            os.fchmod(file.fileno(), 0o666 & ~_umask())
            file.write(data.encode() if isinstance(data, str) else data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, f'cannot be written: {error.strerror}', str(path)) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
