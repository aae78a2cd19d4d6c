# SPDX-License-Identifier: Apache-2.0
"""The zstd module: Python's own from 3.14 on, before that the backport that rosbags brings.

And decompression of no more than a bag may hold in one piece: 96 kB of zstd can become 3 GB.
"""

import sys

from lz4.frame import LZ4FrameDecompressor

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    import backports.zstd as zstd

__all__ = ['LARGEST_PIECE', 'PieceError', 'decompress', 'zstd']

# A message or a chunk of messages, decompressed; an image of 50 megapixels takes 150 MB.
LARGEST_PIECE = 512 << 20


class PieceError(Exception):
    """A compressed piece that becomes too large, or is cut off."""


def decompress(data: bytes, compression: str = 'zstd', *, limit: int | None = None) -> bytes:
    """Decompress one whole piece of zstd or lz4.

    Raises PieceError when it becomes larger than `limit` (LARGEST_PIECE) or is cut off, and what
    the libraries raise when it is damaged.
    """
    parts: list[bytes] = []
    limit = LARGEST_PIECE if limit is None else min(limit, LARGEST_PIECE)
    if (
        data
        and compression == 'zstd'
        and (zstd.get_frame_info(data).decompressed_size or 0) > limit
    ):
        raise _too_large(limit)
    left = limit
    while data:
        unpacker = LZ4FrameDecompressor() if compression == 'lz4' else zstd.ZstdDecompressor()
        parts.append(unpacker.decompress(data, max_length=left + 1))
        left -= len(parts[-1])
        if left < 0:
            raise _too_large(limit)
        if not unpacker.eof:
            raise PieceError('a compressed piece is cut off')
        data = unpacker.unused_data or b''
    return b''.join(parts)


def _too_large(limit: int) -> PieceError:
    return PieceError(
        f'a compressed piece becomes larger than {limit / (1 << 20):g} MiB; it is not unpacked'
    )
