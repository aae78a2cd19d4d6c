# SPDX-License-Identifier: Apache-2.0
"""A sensor_msgs/Image in the bytes that it was sent in, read without a copy of its pixels.

OMG's DDSI-RTPS, clause 10: numbers lie at multiples of their size after the first four bytes. rclpy
fills two more buffers with the pixels before a node sees them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

# Little endian, in the first and in the second version of CDR; up to 4 bytes both are the same.
_LITTLE_ENDIAN = (b'\x00\x01', b'\x00\x07')


@dataclass(frozen=True)
class SerializedImage:
    """The fields of sensor_msgs/Image; `data` is a view of the message's bytes."""

    header: Any
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: memoryview


def read_image(message: bytes, header: Any) -> SerializedImage | None:
    """The image that `message` holds, its stamp and frame_id in `header`; None when it is not in
    little-endian CDR, cut off or garbage.
    """
    if message[:2] not in _LITTLE_ENDIAN:
        return None
    body = memoryview(message)[4:]
    try:
        header.stamp.sec, header.stamp.nanosec = struct.unpack_from('<iI', body)
        header.frame_id, at = _string(body, 8)
        height, width = struct.unpack_from('<II', body, at)
        encoding, at = _string(body, at + 8, padded=False)
        is_bigendian = body[at]
        at = _multiple_of_4(at + 1)
        step, size = struct.unpack_from('<II', body, at)
    except (struct.error, IndexError, ValueError):
        return None
    data = body[at + 8 : at + 8 + size]
    if len(data) < size:
        return None
    return SerializedImage(header, height, width, encoding, is_bigendian, step, data)


def _string(body: memoryview, at: int, *, padded: bool = True) -> tuple[str, int]:
    """The text at this place and where it ends; ValueError where none is."""
    (size,) = struct.unpack_from('<I', body, at)
    end = at + 4 + size
    text = bytes(body[at + 4 : end])
    if len(text) < size or text[-1:] != b'\x00':
        raise ValueError('no text')
    return text[:-1].decode(errors='replace'), _multiple_of_4(end) if padded else end


def _multiple_of_4(at: int) -> int:
    return at + -at % 4
