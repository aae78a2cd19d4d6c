# SPDX-License-Identifier: Apache-2.0
"""Read an .mcap file that is cut off or damaged, record by record, as far as it goes.

The layout is that of https://mcap.dev/spec: records of an opcode, a length and a body; messages lie
in chunks, which may be compressed; a good file repeats schemas and channels at its end.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

from lz4.frame import LZ4FrameDecompressor

from rmpe_ros.io.bags.storage import Channel, DamageError
from rmpe_ros.io.bags.zstandard import LARGEST_PIECE, zstd

MAGIC = b'\x89MCAP0\r\n'
_SCHEMA, _CHANNEL, _MESSAGE, _CHUNK = 0x03, 0x04, 0x05, 0x06
_RECORD_HEADER = struct.Struct('<BQ')
_CHUNK_HEADER = struct.Struct('<QQQI')
_MESSAGE_HEADER = struct.Struct('<HIQQ')
# What lies between chunks besides messages is small; a larger length is damage.
_LARGEST_RECORD = 2**32


class CutMcap:
    """All whole messages of a damaged file, in the order in which they lie there.

    Raises DamageError when it is no mcap file, or holds not one message.
    """

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open('rb')
        self._schemas: dict[int, tuple[str, str]] = {}
        self._channels: dict[int, Channel] = {}
        try:
            if self._file.read(len(MAGIC)) != MAGIC:
                raise DamageError('this is no mcap file: it does not begin with "\\x89MCAP0"')
            # First for the channels at the end of the file: the first chunk may be damaged.
            for _ in self._records(inside_chunks=False):
                pass
            counts = Counter(channel for channel, _, _ in self._messages())
            self.channels = [
                Channel(each.id, each.topic, each.type, each.definition, counts[each.id])
                for each in self._channels.values()
            ]
            if not counts:
                raise DamageError('there is not one whole message in it')
        except BaseException:
            self._file.close()
            raise

    def messages(self, wanted: Collection[int]) -> Iterator[tuple[Channel, int, bytes]]:
        """See `Storage`; ends where the file does, without an error."""
        for channel, time, data in self._messages():
            if channel in wanted:
                yield self._channels[channel], time, data

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _messages(self) -> Iterator[tuple[int, int, bytes]]:
        """Channel, log time and data of messages of known channels."""
        for opcode, body in self._records(inside_chunks=True):
            if opcode == _MESSAGE and len(body) >= _MESSAGE_HEADER.size:
                channel, _, log_time, _ = _MESSAGE_HEADER.unpack_from(body)
                if channel in self._channels:
                    yield channel, log_time, body[_MESSAGE_HEADER.size :]

    def _records(self, *, inside_chunks: bool) -> Iterator[tuple[int, bytes]]:
        """Schemas, channels (remembered, too) and messages, whole ones only."""
        self._file.seek(len(MAGIC))
        while header := self._file.read(_RECORD_HEADER.size):
            if len(header) < _RECORD_HEADER.size:
                return
            opcode, length = _RECORD_HEADER.unpack(header)
            if length > _LARGEST_RECORD:
                return
            end = self._file.tell() + length
            if opcode == _CHUNK and inside_chunks:
                for record in _chunk_records(self._file.read(length)):
                    self._remember(*record)
                    yield record
            elif opcode in (_SCHEMA, _CHANNEL, _MESSAGE):
                body = self._file.read(length)
                if len(body) < length:
                    return
                self._remember(opcode, body)
                yield opcode, body
            self._file.seek(end)

    def _remember(self, opcode: int, body: bytes) -> None:
        """Keep schemas and channels; what cannot be read of them is left out."""
        try:
            if opcode == _SCHEMA:
                (number,) = struct.unpack_from('<H', body)
                name, encoding, text = _strings(body[2:], 3)
                self._schemas[number] = name, text if encoding == 'ros2msg' else ''
            elif opcode == _CHANNEL:
                number, schema = struct.unpack_from('<HH', body)
                topic, _ = _strings(body[4:], 2)
                if number not in self._channels and schema in self._schemas:
                    self._channels[number] = Channel(number, topic, *self._schemas[schema], 0)
        except (struct.error, UnicodeDecodeError):
            return


def _chunk_records(chunk: bytes) -> Iterator[tuple[int, bytes]]:
    """The whole records in a chunk; none of a chunk whose checksum is wrong."""
    if len(chunk) < _CHUNK_HEADER.size + 4:
        return
    _, _, size, checksum = _CHUNK_HEADER.unpack_from(chunk)
    try:
        (compression,) = _strings(chunk[_CHUNK_HEADER.size :], 1)
        start = _CHUNK_HEADER.size + 4 + len(compression)
        (stored,) = struct.unpack_from('<Q', chunk, start)
    except (struct.error, UnicodeDecodeError):
        return
    if size > LARGEST_PIECE:
        return
    records = _decompress(chunk[start + 8 : start + 8 + stored], compression)
    if len(records) == size and checksum and crc32(records) != checksum:
        return
    position = 0
    while position + _RECORD_HEADER.size <= len(records):
        opcode, length = _RECORD_HEADER.unpack_from(records, position)
        position += _RECORD_HEADER.size
        if position + length > len(records):
            return
        yield opcode, records[position : position + length]
        position += length


def _decompress(data: bytes, compression: str) -> bytes:
    """As much as can be decompressed of the beginning of a chunk."""
    if not compression:
        return data
    if compression not in ('zstd', 'lz4'):
        return b''
    decompressor = LZ4FrameDecompressor() if compression == 'lz4' else zstd.ZstdDecompressor()
    parts: list[bytes] = []
    left = LARGEST_PIECE
    # In pieces: what was decompressed before an error is not lost.
    for start in range(0, len(data), 4096):
        try:
            parts.append(decompressor.decompress(data[start : start + 4096], max_length=left))
        except (RuntimeError, EOFError, zstd.ZstdError):
            break
        left -= len(parts[-1])
        if left <= 0:
            return b''
    return b''.join(parts)


def _strings(data: bytes, count: int) -> list[str]:
    """The first `count` strings, each after its length (uint32)."""
    strings, position = [], 0
    for _ in range(count):
        (length,) = struct.unpack_from('<I', data, position)
        position += 4
        if position + length > len(data):
            raise struct.error('a string goes beyond its record')
        strings.append(data[position : position + length].decode())
        position += length
    return strings
