# SPDX-License-Identifier: Apache-2.0
"""Write a bag in the layout of `ros2 bag record`; it appears whole or not at all."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer

from rmpe_ros.io.bags.message_types import bag_types

# RMW_DURATION_INFINITE of rmw/time.h.
_FOR_EVER = QosTime(9223372036, 854775807)

STORAGES: Mapping[str, StoragePlugin] = {
    'mcap': StoragePlugin.MCAP,
    'sqlite3': StoragePlugin.SQLITE3,
}


@dataclass(frozen=True)
class BagTopic:
    """One topic of a bag: name, type such as 'sensor_msgs/msg/Image', whether it is latched."""

    name: str
    type: str
    latched: bool = False


class BagWriter:
    """A new bag: folder with metadata.yaml and .mcap or .db3, definitions of all types inside.

    It is written into a hidden folder beside `path` and renamed when it is complete: `close` or
    leaving `with` without an exception; otherwise nothing is left.
    custom_data: text by key, kept in metadata.yaml.
    Raises OSError that names the path when it exists already or cannot be written (disk full).
    """

    def __init__(
        self,
        path: Path,
        topics: Iterable[BagTopic],
        *,
        storage: str = 'mcap',
        custom_data: Mapping[str, str] | None = None,
    ) -> None:
        check_is_new(path)
        types = bag_types()
        self._path = path
        self._folder: Path | None = None
        with self._told():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix=f'.{path.name}.', dir=path.parent))
            # The files in a bag are named after its folder.
            self._writer = Writer(
                self._folder / path.name, version=9, storage_plugin=STORAGES[storage]
            )
            for key, value in (custom_data or {}).items():
                self._writer.set_custom_data(key, value)
            self._writer.open()
            self._connections = {
                topic.name: self._writer.add_connection(
                    topic.name,
                    topic.type,
                    typestore=types,
                    offered_qos_profiles=[_qos(topic.latched)],
                )
                for topic in topics
            }

    def write(self, topic: str, nanoseconds: int, data: bytes | memoryview) -> None:
        """Append a serialised (CDR) message received at `nanoseconds` since 1970."""
        with self._told():
            self._writer.write(self._connections[topic], nanoseconds, data)

    def close(self) -> None:
        """Finish the bag and put it into its place."""
        if self._folder is None:
            return
        with self._told():
            self._writer.close()
        try:
            check_is_new(self._path)
        except OSError:
            self.abort()
            raise
        with self._told():
            (self._folder / self._path.name).rename(self._path)
            self._folder.rmdir()
            self._folder = None

    def abort(self) -> None:
        """Leave nothing of the bag; without effect after `close`."""
        if self._folder is None:
            return
        with suppress(OSError, sqlite3.Error):
            self._writer.abort()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Abort on any exception; name the bag where it cannot be written."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            self.abort()
            number, reason = (
                (error.errno, error.strerror) if isinstance(error, OSError) else (None, None)
            )
            raise OSError(
                number, f'the bag cannot be written: {reason or error}', str(self._path)
            ) from error
        except BaseException:
            self.abort()
            raise

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def check_is_new(path: Path) -> None:
    """Raise FileExistsError when there is something at `path`."""
    if path.exists() or path.is_symlink():
        raise FileExistsError(
            None, 'exists already; a bag is never overwritten, choose another name', str(path)
        )


def _qos(latched: bool) -> Qos:
    """How `ros2 bag play` is to publish a topic: reliable, and latched where it was."""
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if latched else 10,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=_FOR_EVER,
        lifespan=_FOR_EVER,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=_FOR_EVER,
        avoid_ros_namespace_conventions=False,
    )
