# SPDX-License-Identifier: Apache-2.0
"""Files that hold the state of a training run, and the settings it was made with."""

from __future__ import annotations

import fcntl
import glob
import io
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from rmpe_ros.core.odd_paths import why_unreadable
from rmpe_ros.io.files import write_file

# With another one of these, the weights or the optimiser's state are of another network.
NETWORK_SETTINGS = ('stage', 'model', 'frozen_blocks', 'parallel')
# A run may go on with another one of these: longer, or on another machine.
FREE_SETTINGS = ('steps', 'minutes', 'precision', 'processes')


# How `write_file` names what is not complete: not a user's own '.checkpoint.pt.backup'.
_TEMPORARY = re.compile(r'\.(\w+\.partial|(?=\w*\d)\w{6,8})')


class CheckpointError(ValueError):
    """A checkpoint that cannot be written, read or gone on from; says what to do."""


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write `state`; what was there before stays until all of it is on the disk.

    Raises CheckpointError when it cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    try:
        write_file(path, buffer.getvalue(), durable=True)
    except OSError as error:
        kept = 'the one before is untouched' if path.exists() else 'there is none yet'
        raise CheckpointError(
            f'the checkpoint {path} {error.strerror} ({buffer.tell() / 1e6:.0f} MB); {kept}'
        ) from error


def read_checkpoint(path: Path, device: torch.device | str = 'cpu') -> dict[str, Any]:
    """The state in a checkpoint. Raises CheckpointError when the file is none, or is damaged."""
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except OSError as error:
        raise CheckpointError(f'{path} cannot be read: {why_unreadable(error, path)}') from error
    except Exception as error:  # unpickling raises whatever the broken bytes lead to
        raise CheckpointError(
            f'{path} is damaged or no checkpoint: {_first_sentence(error)}. Put back a copy of it, '
            'delete it to start again, or name another folder with --out'
        ) from error
    weights = state.get('ema') if isinstance(state, dict) else None
    if not isinstance(weights, Mapping) or not weights:
        found = sorted(map(str, state))[:8] if isinstance(state, dict) else type(state).__name__
        raise CheckpointError(
            f'{path} is no checkpoint of "rmpe train": there are no averaged weights ("ema") in it '
            f'({found})'
        )
    strange = [name for name, each in weights.items() if not isinstance(each, torch.Tensor)]
    if strange or not all(isinstance(name, str) for name in weights):
        raise CheckpointError(
            f'{path} is no checkpoint of "rmpe train": its averaged weights ("ema") hold '
            f'{(strange or list(weights))[0]!r}, which is no named tensor'
        )
    return state


@contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Keep other runs out of `folder`. Raises CheckpointError when there is one."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise CheckpointError(
            f'another run is training in {folder}: stop it, wait for its end, or name another '
            'folder with --out'
        ) from error
    except OSError:  # a network's file system that has no locks: then nobody watches
        pass
    try:
        yield
    finally:
        os.close(descriptor)


def remove_leftovers(path: Path) -> None:
    """Delete what was left of checkpoints that a killed run was writing."""
    for leftover in path.parent.glob(f'.{glob.escape(path.name)}.*'):
        if _TEMPORARY.fullmatch(leftover.name.removeprefix(f'.{path.name}')):
            leftover.unlink(missing_ok=True)


def compare_settings(
    path: Path, before: Mapping[str, Any], now: Mapping[str, Any], *, allow_changes: bool
) -> list[str]:
    """Changes of settings since `path` was written, as sentences.

    Raises CheckpointError for another network, and, unless `allow_changes`, for anything that
    would make a run that is neither the old one nor the new one. What `before` does not name (a
    checkpoint of an older version) is not compared.
    """
    changed = {
        name: f'{name.replace("_", " ")} was {before[name]}, now {value}'
        for name, value in now.items()
        if name in before and before[name] != value
    }
    if other := [text for name, text in changed.items() if name in NETWORK_SETTINGS]:
        raise CheckpointError(
            f'{path} is of another network: {"; ".join(other)}. Give its own settings to go on, '
            'or another --out for a new run (--init starts that from these weights)'
        )
    mixed = [text for name, text in changed.items() if name not in FREE_SETTINGS]
    if mixed and not allow_changes:
        raise CheckpointError(
            f'{path} was made with other settings: {"; ".join(mixed)}. Give the same ones to go '
            'on, another --out for a new run, or --allow-changes to go on with the new ones'
        )
    return list(changed.values())


def _first_sentence(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].split('. ')[0].rstrip('.')
