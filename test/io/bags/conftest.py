# SPDX-License-Identifier: Apache-2.0
"""Bags as other programs write them, made with rosbags alone, and ways to damage them."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

TYPES = get_typestore(Stores.LATEST)
STORAGES = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}
MESSAGES = 40
SECOND = 1_000_000_000


def image(index: int, *, encoding: str = 'rgb8', size: int = 96, noise: bool = True):
    """A picture (size x size) that no other index has, 27 kB of noise by default."""
    pixels = np.random.default_rng(index).integers(0, 256, (size, size, 3), np.uint8)
    if not noise:
        pixels[:] = index
    time, header = (TYPES.types[f'{each}'] for each in _HEADER)
    return TYPES.types['sensor_msgs/msg/Image'](
        header=header(stamp=time(sec=100 + index, nanosec=index), frame_id='camera'),
        height=size,
        width=size,
        encoding=encoding,
        is_bigendian=0,
        step=3 * size,
        data=pixels.reshape(-1),
    )


_HEADER = ('builtin_interfaces/msg/Time', 'std_msgs/msg/Header')


def text(words: str):
    return TYPES.types['std_msgs/msg/String'](data=words)


def write_bag(
    path: Path,
    messages: list,
    *,
    storage: str = 'mcap',
    compression: CompressionMode = CompressionMode.NONE,
) -> Path:
    """A bag of (topic, message); message number i was received at 200 + i seconds."""
    writer = Writer(path, version=9, storage_plugin=STORAGES[storage])
    writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        connections = {}
        for index, (topic, message) in enumerate(messages):
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=TYPES)
            data = TYPES.serialize_cdr(message, kind)
            writer.write(connections[topic], (200 + index) * SECOND, data)
    return path


def storage_file(bag: Path) -> Path:
    """The only storage file of a bag."""
    (file,) = (each for each in bag.iterdir() if each.name != 'metadata.yaml')
    return file


def cut(file: Path, share: float) -> None:
    """Keep the first part of a file."""
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])


def leave_journal(file: Path) -> None:
    """Turn a .db3 file into what a killed recorder leaves: the messages are in the -wal file."""
    rows = sqlite3.connect(file).execute('SELECT * FROM messages').fetchall()
    live = file.with_name('live.db3')
    live.write_bytes(file.read_bytes())
    connection = sqlite3.connect(live)
    connection.execute('PRAGMA journal_mode = WAL')
    connection.execute('DELETE FROM messages')
    connection.commit()
    connection.execute('PRAGMA wal_checkpoint(TRUNCATE)')
    connection.execute('PRAGMA wal_autocheckpoint = 0')
    connection.executemany('INSERT INTO messages VALUES (?, ?, ?, ?)', rows)
    connection.commit()
    file.write_bytes(live.read_bytes())
    Path(f'{file}-wal').write_bytes(Path(f'{live}-wal').read_bytes())
    connection.close()
    for left in file.parent.glob('live.db3*'):
        left.unlink()


@pytest.fixture(params=['mcap', 'sqlite3'])
def storage(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def images_bag(tmp_path: Path) -> Callable[..., Path]:
    """Makes a bag with MESSAGES pictures on /image_raw and as many words on /chatter."""

    def make(storage: str = 'mcap', **options) -> Path:
        messages = []
        for index in range(MESSAGES):
            messages.append(('/image_raw', image(index)))
            messages.append(('/chatter', text(f'word {index}')))
        return write_bag(tmp_path / 'bag', messages, storage=storage, **options)

    return make
