# SPDX-License-Identifier: Apache-2.0
"""Open an .mcap or .db3 file with rosbags, and salvage an .mcap where it is damaged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path

from rosbags.interfaces import MessageDefinitionFormat
from rosbags.rosbag2 import Reader, storage_mcap

from rmpe_ros.io.bags.salvage_mcap import CutMcap
from rmpe_ros.io.bags.storage import BagError, Channel, DamageError, Storage
from rmpe_ros.io.bags.zstandard import LARGEST_PIECE, PieceError, decompress

Warn = Callable[[str], None]


def _unpack(compression: str, data: bytes, size: int) -> bytes:
    if size > LARGEST_PIECE:
        raise PieceError(
            f'a chunk says that it becomes {size >> 20} MiB, more than {LARGEST_PIECE >> 20}; a '
            'compressed piece that becomes larger than that is not unpacked'
        )
    return decompress(data, compression, limit=size)


# rosbags unpacks a chunk whatever it becomes; with these, no further than its header says.
for _name in ('zstd', 'lz4'):
    if _name in getattr(storage_mcap, 'DECOMPRESSORS', {}):
        storage_mcap.DECOMPRESSORS[_name] = partial(_unpack, _name)


def open_storage(path: Path, warn: Warn) -> Storage:
    """Open one file; what is damaged is salvaged, and `warn` gets a sentence that says so.

    Raises BagError when nothing can be read of it, and for a damaged .db3, which SQLite's own tool
    repairs.
    """
    if not path.stat().st_size:
        raise BagError(f'{path} is empty: 0 bytes; the recording was not ended properly')
    if path.suffix == '.db3' and _has_journal(path):
        raise BagError(
            f'{path}: its journal (-wal) has not been merged, as the recorder was killed; do it '
            f'with: sqlite3 {path} "PRAGMA wal_checkpoint(TRUNCATE)"'
        )
    try:
        return _RosbagsStorage(path, warn)
    except Exception as error:  # rosbags raises whatever broken bytes lead to
        if path.suffix == '.db3':
            raise BagError(
                f'{path}: this is no sqlite3 bag that can be read ({_sentence(error)}); what is '
                f'left of a damaged one: sqlite3 {path} .recover | sqlite3 whole.db3'
            ) from error
        try:
            storage = CutMcap(path)
        except DamageError as reason:
            raise BagError(f'{path}: {reason}') from reason
        warn(f'{path} is damaged ({_sentence(error)}); reading what is left of it')
        return storage


def _has_journal(path: Path) -> bool:
    """Whether SQLite has left a write-ahead log beside the file, with messages not yet in it."""
    journal = Path(f'{path}-wal')
    return journal.is_file() and journal.stat().st_size > 0


class _RosbagsStorage:
    """A file as rosbags reads it, and the rest of an .mcap that is damaged in the middle."""

    def __init__(self, path: Path, warn: Warn) -> None:
        self._path, self._warn = path, warn
        self._reader = Reader(path)
        self._reader.open()
        self.channels = [
            Channel(
                connection.id,
                connection.topic,
                connection.msgtype,
                connection.msgdef.data
                if connection.msgdef.format == MessageDefinitionFormat.MSG
                else '',
                connection.msgcount,
            )
            for connection in self._reader.connections
        ]

    def messages(self, wanted: Collection[int]) -> Iterator[tuple[Channel, int, bytes]]:
        channels = {channel.id: channel for channel in self.channels}
        connections = [each for each in self._reader.connections if each.id in wanted]
        if not connections:
            return
        done: Counter[tuple[int, int]] = Counter()
        try:
            for connection, time, data in self._reader.messages(connections):
                done[connection.id, time] += 1
                yield channels[connection.id], time, bytes(data)
            return
        except Exception as error:  # rosbags raises whatever broken bytes lead to
            self._warn(f'{self._path} is damaged ({_sentence(error)}); reading what is left of it')
        if self._path.suffix == '.db3':
            return
        try:
            rest = CutMcap(self._path)
        except DamageError:  # not one message: what rosbags has given is all there is
            return
        try:
            for channel, time, data in rest.messages(wanted):
                if done[channel.id, time]:
                    done[channel.id, time] -= 1
                else:
                    yield channel, time, data
        finally:
            rest.close()

    def close(self) -> None:
        self._reader.close()


def _sentence(error: Exception) -> str:
    return (str(error) or type(error).__name__).rstrip('.')
