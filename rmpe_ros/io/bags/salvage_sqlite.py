# SPDX-License-Identifier: Apache-2.0
"""Read a .db3 file (SQLite) that is cut off, damaged, or whose recorder was killed."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path

from rmpe_ros.io.bags.storage import Channel, DamageError


def has_journal(path: Path) -> bool:
    """Whether SQLite has left a write-ahead log beside the file, with messages not yet in it."""
    journal = Path(f'{path}-wal')
    return journal.is_file() and journal.stat().st_size > 0


class CutSqlite:
    """All messages of a damaged file up to the damage, in the order in which they were stored.

    Raises DamageError when it is no bag, or holds not one message.
    """

    def __init__(self, path: Path) -> None:
        self._stack = ExitStack()
        self._counts: Counter[int] = Counter()
        try:
            self._connection = self._connect(path)
            definitions = self._definitions()
            topics = self._connection.execute('SELECT id, name, type FROM topics').fetchall()
            self._counts.update(topic for topic, _, _ in self._rows())
            self.channels = [
                Channel(number, name, kind, definitions.get(kind, ''), self._counts[number])
                for number, name, kind in topics
            ]
            if not self._counts:
                raise DamageError('there is not one whole message in it')
        except sqlite3.Error as error:
            self._stack.close()
            raise DamageError(f'this is no sqlite3 bag that can be read: {error}') from error
        except BaseException:
            self._stack.close()
            raise

    def messages(self, wanted: Collection[int]) -> Iterator[tuple[Channel, int, bytes]]:
        """See `Storage`; ends where the damage begins, without an error."""
        channels = {channel.id: channel for channel in self.channels}
        for topic, time, data in self._rows():
            if topic in wanted and topic in channels:
                yield channels[topic], time, data

    def close(self) -> None:
        """Close the database."""
        self._stack.close()

    def _connect(self, path: Path) -> sqlite3.Connection:
        if has_journal(path):
            # The journal is merged on opening: into a copy, as recordings are not ours to change.
            folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
            shutil.copy(path, folder / path.name)
            shutil.copy(f'{path}-wal', folder / f'{path.name}-wal')
            address = (folder / path.name).resolve().as_uri()
        else:
            address = f'{path.resolve().as_uri()}?mode=ro&immutable=1'
        connection = sqlite3.connect(address, uri=True)
        self._stack.callback(connection.close)
        # Without this SQLite refuses a file that is shorter than its first page says.
        connection.execute('PRAGMA writable_schema = ON')
        return connection

    def _definitions(self) -> dict[str, str]:
        """Definition by type; bags of ROS 2 Humble have none."""
        try:
            return dict(
                self._connection.execute(
                    'SELECT topic_type, encoded_message_definition FROM message_definitions '
                    "WHERE encoding = 'ros2msg'"
                )
            )
        except sqlite3.Error:
            return {}

    def _rows(self) -> Iterator[tuple[int, int, bytes]]:
        """topic_id, timestamp and data of the messages that can be reached."""
        # "NOT INDEXED" because the index may lie in the part that is missing.
        query = 'SELECT topic_id, timestamp, data FROM messages NOT INDEXED'
        try:
            yield from self._connection.execute(query)
        except sqlite3.DatabaseError:
            return
