# SPDX-License-Identifier: Apache-2.0
"""Read bags of `ros2 bag record`: mcap or sqlite3, split, zstd-compressed, and damaged ones."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from rmpe_ros.core.odd_paths import path_hint
from rmpe_ros.io.bags.message_types import bag_types
from rmpe_ros.io.bags.storage import BagError, Storage
from rmpe_ros.io.bags.storage_files import open_storage
from rmpe_ros.io.bags.zstandard import LARGEST_PIECE, PieceError, decompress, zstd

# What a metadata.yaml that is none leads to.
_UNREADABLE = (
    OSError, ValueError, TypeError, LookupError, AttributeError, yaml.YAMLError, RecursionError
)  # fmt: skip
_SUFFIXES = ('.mcap', '.db3', '.mcap.zstd', '.db3.zstd')
_ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
# Fields that bags of earlier versions lack, and do well without.
_LATER = {('rmpe_ros/msg/PersonPose', 'colours')}
# What messages that cannot be decoded lead to.
_BROKEN = (SerdeError, zstd.ZstdError, PieceError, AssertionError, IndexError)
# A recording as a whole does not become smaller than this share.
_MOST_PACKED = 1000


@dataclass(frozen=True)
class TopicInfo:
    """The messages of one type on one topic: how many there are."""

    name: str
    type: str
    count: int


@dataclass(frozen=True, eq=False)
class BagMessage:
    """One message; received: nanoseconds since 1970; data: as recorded (CDR)."""

    topic: str
    type: str
    received: int
    message: Any
    data: bytes


class Bag:
    """A bag that has been opened: the folder of `ros2 bag record`, or one file out of it.

    topics: what is in it. custom_data: of metadata.yaml.
    warnings: what was missing or damaged, more of them while messages are read.
    damaged: whether something of the recording is lost.
    Types are decoded with the definitions in the bag, with ours where it has none.
    Raises BagError when nothing of it can be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.warnings: list[str] = []
        self.damaged = False
        self.custom_data: dict[str, str] = {}
        self._stores: dict[str, Typestore] = {}
        self._stack = ExitStack()
        try:
            opened = [self._open(file) for file in self._files()]
            self._storages = [storage for storage in opened if storage is not None]
            if not self._storages:
                raise BagError('; '.join(self.warnings))
        except BaseException:
            self._stack.close()
            raise
        self.topics = self._count_topics()

    def messages(self, topics: Collection[TopicInfo]) -> Iterator[BagMessage]:
        """The messages of `topics`, file by file in the order of receiving.

        Messages that cannot be decoded are left out, and counted in a warning.
        Raises BagError for a type with another definition than this package's.
        """
        broken: dict[str, list[str]] = {}
        kinds = {(each.name, each.type) for each in topics}
        for storage in self._storages:
            wanted = {each.id for each in storage.channels if (each.topic, each.type) in kinds}
            for channel, received, data in storage.messages(wanted):
                try:
                    if data.startswith(_ZSTD_MAGIC):  # CDR begins with 0
                        data = decompress(data)
                    message = self._store(channel.type).deserialize_cdr(data, channel.type)
                except _BROKEN as error:
                    broken.setdefault(channel.topic, []).append(str(error))
                    continue
                yield BagMessage(channel.topic, channel.type, received, message, data)
        for topic, reasons in broken.items():
            self._warn(
                f'{len(reasons)} messages on {topic} are broken and left out: {reasons[0]}',
                damage=True,
            )

    def topics_of(self, *types: str) -> list[TopicInfo]:
        """The topics with messages of one of these types."""
        return [each for each in self.topics if each.type in types and each.count]

    def contents(self) -> str:
        """What is in the bag, for error messages."""
        topics = [f'{each.name} ({each.type}, {each.count})' for each in self.topics]
        return ', '.join(topics) or 'nothing'

    def close(self) -> None:
        """Close all files."""
        self._stack.close()

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _warn(self, text: str, *, damage: bool) -> None:
        if text not in self.warnings:
            self.warnings.append(text)
        self.damaged |= damage

    def _files(self) -> list[Path]:
        """The storage files, in the order of metadata.yaml or else of their numbers."""
        path = self.path
        if path.name == 'metadata.yaml':
            path = path.parent
        if path.suffix == '.bag':
            raise BagError(f'{path} is a bag of ROS 1; convert it first: rosbags-convert')
        if path.is_file():
            if not path.name.endswith(_SUFFIXES):
                raise BagError(f'{path} is no bag: expected a folder, or a file {_SUFFIXES}')
            return [path]
        if not path.is_dir():
            raise BagError(f'{path} does not exist{path_hint(path)}')
        present = sorted((each for each in path.iterdir() if _is_storage(each)), key=_number)
        listed = self._read_metadata(path)
        missing = [name for name in listed if not (path / name).is_file()]
        if missing:
            self._warn(f'{path}: metadata.yaml lists {", ".join(missing)}: missing', damage=True)
        files = [path / name for name in listed if name not in missing] or present
        if not files:
            raise BagError(f'{path} is no bag: there is no .mcap or .db3 file in it')
        return files

    def _read_metadata(self, folder: Path) -> list[str]:
        """File names by metadata.yaml; none when it is missing or cannot be read."""
        file = folder / 'metadata.yaml'
        try:
            content = yaml.safe_load(file.read_text(encoding='utf-8'))[
                'rosbag2_bagfile_information'
            ]
            names = [Path(name).name for name in content['relative_file_paths']]
            custom = content.get('custom_data')
        except FileNotFoundError:
            self._warn(f'{folder} has no metadata.yaml: the recorder was killed', damage=False)
            return []
        except _UNREADABLE:
            self._warn(f'{file} cannot be read; going on without it', damage=False)
            return []
        if isinstance(custom, Mapping):
            self.custom_data = {str(key): str(value) for key, value in custom.items()}
        return names

    def _open(self, file: Path) -> Storage | None:
        """One file; None after a warning when it is one of several and cannot be read."""
        try:
            if file.suffix == '.zstd':
                file = self._decompress(file)
            storage = open_storage(file, lambda text: self._warn(text, damage=True))
        except (BagError, OSError) as error:
            self._warn(str(error), damage=True)
            return None
        self._stack.callback(storage.close)
        return storage

    def _decompress(self, file: Path) -> Path:
        """A file compressed as a whole, in a temporary folder, as far as it goes.

        Raises BagError when it becomes larger than any recording does.
        """
        folder = self._stack.enter_context(tempfile.TemporaryDirectory())
        target = Path(folder) / file.stem
        decompressor = zstd.ZstdDecompressor()
        most = max(LARGEST_PIECE, _MOST_PACKED * file.stat().st_size)
        # In small pieces: what was decompressed before an error is not lost.
        with file.open('rb') as source, target.open('wb') as copy:
            try:
                while not decompressor.eof and copy.tell() <= most:
                    piece = source.read(1 << 16) if decompressor.needs_input else b''
                    if not piece and decompressor.needs_input:
                        break
                    copy.write(decompressor.decompress(piece, max_length=1 << 20))
            except zstd.ZstdError as error:
                self._warn(f'{file} is damaged: {error}', damage=True)
            if copy.tell() > most:
                raise BagError(f'{file} becomes larger than {most >> 20} MiB; it is not unpacked')
        if not decompressor.eof:
            self._warn(f'{file} is cut off; reading what is left of it', damage=True)
        return target

    def _count_topics(self) -> tuple[TopicInfo, ...]:
        counts: Counter[tuple[str, str]] = Counter()
        for storage in self._storages:
            for channel in storage.channels:
                counts[channel.topic, channel.type] += channel.count
        return tuple(TopicInfo(*kind, count) for kind, count in counts.items())

    def _store(self, kind: str) -> Typestore:
        """What decodes messages of a type: the bag's definition of it, or ours."""
        if kind not in self._stores:
            self._stores[kind] = self._make_store(kind)
        return self._stores[kind]

    def _make_store(self, kind: str) -> Typestore:
        known = bag_types()
        definition = next(
            (
                channel.definition
                for storage in self._storages
                for channel in storage.channels
                if channel.type == kind and channel.definition
            ),
            '',
        )
        store = get_typestore(Stores.EMPTY)
        try:
            if not definition.strip():  # in bags of ROS 2 Humble
                raise LookupError('no definition')
            store.register(get_types_from_msg(definition, kind))
            store.get_msgdef(kind)  # fails when a type inside it is not defined
        except (TypesysError, ValueError, LookupError) as error:
            if kind not in known.fielddefs:
                raise BagError(
                    f'{self.path} has no usable definition of {kind}, which is not a known type'
                ) from error
            if definition.strip():
                self._warn(
                    f'{self.path}: its definition of {kind} cannot be used; using ours',
                    damage=False,
                )
            return known
        for name in store.fielddefs.keys() & known.fielddefs.keys():
            lacks = [
                each[0]
                for each in _fields(known, name)
                if each not in _fields(store, name) and (name, each[0]) not in _LATER
            ]
            if lacks:
                raise BagError(
                    f'{self.path}: {name} in it has another definition than here: '
                    f'{", ".join(lacks)} is missing or of another type; '
                    'it was recorded with another version'
                )
        return store


def _fields(store: Typestore, kind: str) -> list[Any]:
    return list(store.fielddefs[kind][1])


def _is_storage(path: Path) -> bool:
    return path.is_file() and path.name.endswith(_SUFFIXES)


def _number(path: Path) -> tuple[int, str]:
    """Files of a split recording are called name_0, name_1, …, name_10."""
    number = re.search(r'_(\d+)\.', path.name)
    return int(number[1]) if number else 0, path.name
