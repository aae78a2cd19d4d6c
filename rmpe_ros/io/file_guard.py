# SPDX-License-Identifier: Apache-2.0
"""Refuses, before any work starts, to write over what a command reads.

Every command declares its arguments with `reads` and `writes`; `rmpe_ros.cli` checks them all in
one place. Files are compared by what they are on the disk, so that no other spelling, link or case
of a name gets past.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EISDIR, ENOTDIR
from pathlib import Path
from typing import Any

_MEDIA = frozenset(
    '.jpg .jpeg .png .bmp .dib .tif .tiff .webp .gif .pgm .ppm .pbm .pnm .jp2 .exr .hdr '
    '.mp4 .avi .mov .mkv .webm .m4v .mpg .mpeg .wmv'.split()
)
# What a network of ONNX keeps beside its file.
_ONNX_DATA = ('.data', '_data')


class TargetError(ValueError):
    """Something that was to be written would replace an input; says what to do."""


@dataclass(frozen=True)
class Target:
    """A file that will be written, or a folder such as a bag, which must be new.

    option: where its name comes from; derived: it is not given itself, but made of another name.
    """

    path: Path
    option: str
    derived: bool = False
    folder: bool = False


def reads(parser: Any, *names: str) -> None:
    """Declare which arguments of a command are files, folders or models that it reads."""
    parser.set_defaults(reads=(*(parser.get_default('reads') or ()), *names))


def writes(parser: Any, *names: str, folder: bool = False) -> None:
    """Declare which arguments of a command are files that it writes, as '--json' or 'output', or
    new folders.
    """
    before = parser.get_default('writes') or ()
    parser.set_defaults(writes=(*before, *((name, folder) for name in names)))


def derives(
    parser: Any,
    *,
    targets: Callable[[argparse.Namespace], Iterable[Target]] | None = None,
    inputs: Callable[[argparse.Namespace], Iterable[Path]] | None = None,
) -> None:
    """Declare files whose names are made from arguments: functions of the arguments."""
    parser.set_defaults(derived_targets=targets, derived_inputs=inputs)


def check_command(args: argparse.Namespace) -> None:
    """Raise TargetError when this call of a command would write over what it reads."""
    derive = getattr(args, 'derived_targets', None)
    targets = [*_declared(args), *(derive(args) if derive else ())]
    if not targets:
        return
    inputs = [
        path
        for name in getattr(args, 'reads', ())
        for path in _input_paths(_destination(name), args)
    ]
    derive = getattr(args, 'derived_inputs', None)
    check_targets(targets, [*inputs, *(derive(args) if derive else ())])


@contextmanager
def written_files(args: argparse.Namespace) -> Iterator[list[Path]]:
    """Gives a list that holds, afterwards, which of the declared files the command has written."""
    before = {each.path: _state(each.path) for each in _declared(args) if not each.folder}
    written: list[Path] = []
    yield written
    written += [file for file in before if _state(file) not in (None, before[file])]


def _declared(args: argparse.Namespace) -> list[Target]:
    """What the arguments that `writes` has named ask for."""
    return [
        Target(Path(value), name, folder=folder)
        for name, folder in getattr(args, 'writes', ())
        if (value := getattr(args, _destination(name))) is not None
    ]


def _state(path: Path) -> tuple[int, int] | None:
    """Changes when a file is written, also to the same content; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def check_targets(targets: Iterable[Target], inputs: Iterable[Path]) -> None:
    """Raise TargetError when a target is an input, in an input's bag, or twice a target; OSError
    where it cannot be written anyway.

    inputs: files and folders; what is not there is no input. Of a folder, its pictures and videos
    are inputs, at any depth; of a bag, everything.
    """
    inputs = [path for path in inputs if path.exists()]
    inputs += [path.parent for path in inputs if path.suffix in ('.mcap', '.db3', '.zstd')]
    files = {_identity(path) for path in inputs}
    folders = {path.resolve() for path in inputs if path.is_dir()}
    beside = {path.resolve().parent for path in inputs if not path.is_dir()}
    targets = list(targets)
    places = {target.path.resolve() for target in targets if not target.folder}
    seen: dict[object, Target] = {}
    for target in targets:
        path, place = target.path, target.path.resolve()
        if path.exists() and _identity(path) in files:
            raise _refusal(target, 'which this command reads')
        for folder in folders & set(place.parents):
            if (folder / 'metadata.yaml').is_file():
                raise _refusal(target, f'inside the bag {folder}, which this command reads')
            if path.exists() and place.suffix.lower() in _MEDIA:
                raise _refusal(target, f'one of the pictures in {folder}, which this command reads')
        if target.derived and path.exists() and place.parent in beside:
            raise _refusal(target, 'which lies beside the inputs and may be yours')
        if not target.derived:
            _check_place(target)
        for inside in places & set(place.parents):
            raise TargetError(
                f'{target.option} would write {path}, inside of {inside}, which is to be a file'
            )
        keys = {place, _identity(path)} if path.exists() else {place}
        for other in filter(None, map(seen.get, keys)):
            raise TargetError(
                f'{other.option} and {target.option} would both write {path}: '
                'give each a file of its own'
            )
        seen |= dict.fromkeys(keys, target)


def _refusal(target: Target, why: str) -> TargetError:
    place = 'folder' if target.derived else 'file'
    return TargetError(
        f'{target.option} would replace {target.path}, {why}; nothing was done. '
        f'Name another {place} with {target.option}'
    )


def _check_place(target: Target) -> None:
    """Raise OSError for a file that cannot be written: better known before the work than after."""
    path = target.path
    if path.is_dir() and not target.folder:
        raise IsADirectoryError(EISDIR, 'cannot be written: it is a folder', str(path))
    there = next((parent for parent in path.parents if parent.exists()), None)
    if there is not None and not there.is_dir():
        raise NotADirectoryError(ENOTDIR, f'cannot be written: {there} is a file', str(path))


def _destination(name: str) -> str:
    return name.lstrip('-').replace('-', '_')


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _input_paths(name: str, args: argparse.Namespace) -> Iterator[Path]:
    """The files and folders that one argument of a command names."""
    from rmpe_ros.models import DEFAULT_DETECTOR, DEFAULT_POSE, SHIPPED_MODELS

    models = {'detector': [DEFAULT_DETECTOR], 'pose': [DEFAULT_POSE], 'model': SHIPPED_MODELS}
    value: Any = getattr(args, name) or models.get(name) or []
    for each in value if isinstance(value, list | tuple) else [value]:
        yield from _model_files(each) if name in models else [Path(each)]
        if name == 'data':
            yield from _files_in_data(Path(each), args.data_root)
        if str(each).endswith('.onnx'):
            yield from (Path(f'{each}{suffix}') for suffix in _ONNX_DATA)


def _model_files(model: str | Path) -> list[Path]:
    from rmpe_ros.models import ModelError, find_model

    try:
        return [find_model(model)]
    except ModelError:  # the command itself will say so
        return []


def _files_in_data(path: Path, root: Path | None) -> list[Path]:
    """The labels and folders of photos that a data file of training names."""
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding='utf-8'))
        entries = [*data['train'], data['validation']]
        return [
            (root or path.parent) / entry[key]
            for entry in entries
            for key in ('annotations', 'images')
        ]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        return []  # the command itself will say so
