# SPDX-License-Identifier: Apache-2.0
"""How large a picture says it is, read from the first bytes of its file without decoding it.

A few hundred bytes can declare a picture of gigabytes; whoever decodes wants to know before.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator

Size = tuple[int, int]

# Start-of-frame markers of JPEG; C4, C8 and CC mean something else.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ARITHMETIC = frozenset(range(0xC9, 0xD0))
# Deflate packs no more than 1032 bytes into one.
_DEFLATE = 1032
# Tags of TIFF, which EXIF is.
_SUBFILE, _WIDTH, _HEIGHT, _ORIENTATION = 254, 256, 257, 274
_MOST_PAGES = 10_000


def read_size(data: bytes) -> Size | None:
    """Width and height that a JPEG, PNG, WebP, BMP, TIFF, GIF, JPEG 2000, AVIF, PNM, HDR or Sun
    raster file declares; None for other files and for headers that are not whole.
    """
    for start, reader in _READERS.items():
        if re.match(start, data, re.DOTALL):
            try:
                return reader(data)
            except (struct.error, ValueError, IndexError, StopIteration):
                return None
    return None


def read_upright_size(data: bytes) -> Size | None:
    """Width and height of a picture turned as its EXIF orientation says, as `load_image` has it.

    None where only decoding can tell.
    """
    size = read_size(data)
    if size is None or data.startswith(b'BM'):
        return size
    if data.startswith(b'\x89PNG'):
        return None if b'eXIf' in data else size
    if not data.startswith(b'\xff\xd8'):
        return None
    at = data.find(b'Exif\0\0', 0, 1 << 16)
    try:
        orientation = _tiff_values(data[at + 6 :]).get(_ORIENTATION, 1) if at >= 0 else 1
    except (struct.error, StopIteration):
        return None
    return size[::-1] if 5 <= orientation <= 8 else size


def count_pictures(data: bytes) -> int:
    """How many pages a TIFF has, or frames an animated PNG or WebP; 1 for other pictures.

    Smaller copies of a page are not counted.
    """
    try:
        if data[:4] in (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+'):
            pages = _tiff_pages(data)
            return sum(not page.get(_SUBFILE, 0) & 1 for page in pages) or 1
        if data.startswith(b'\x89PNG') and (at := data.find(b'acTL', 0, 1 << 12)) > 0:
            return int(struct.unpack_from('>I', data, at + 4)[0])
    except struct.error:
        return 1
    if data.startswith(b'RIFF') and data[12:16] == b'VP8X':
        return data.count(b'ANMF') or 1
    return 1


def lacks_data(data: bytes) -> bool:
    """Whether a JPEG or PNG is too small to hold the picture that it declares, whatever is on it.

    Even a picture of one colour takes a bit for each block of 8x8 in a JPEG; a PNG's rows are
    deflated.
    """
    size = read_size(data)
    if size is None:
        return False
    width, height = size
    if data.startswith(b'\x89PNG'):
        bits = data[24] * {2: 3, 4: 2, 6: 4}.get(data[25], 1)
        return len(data) < height * (1 + width * bits // 8) // _DEFLATE
    if data.startswith(b'\xff\xd8'):
        return _jpeg_frame(data)[0] not in _ARITHMETIC and len(data) < width * height // 512
    return False


def _jpeg_frame(data: bytes) -> tuple[int, int, int]:
    """Marker, width and height of a JPEG's frame; ValueError without one."""
    position = 2
    while position + 9 <= len(data):
        if data[position] != 0xFF:
            position += 1
            continue
        marker = data[position + 1]
        if marker in _FRAMES:
            height, width = struct.unpack_from('>HH', data, position + 5)
            return marker, width, height
        if marker == 0xDA:
            break
        alone = marker in (0x01, 0xFF) or 0xD0 <= marker <= 0xD8
        length = 0 if alone else int(struct.unpack_from('>H', data, position + 2)[0])
        position += 1 if marker == 0xFF else 2 + length
    raise ValueError('no frame')


def _bmp(data: bytes) -> Size:
    if struct.unpack_from('<I', data, 14)[0] == 12:
        width, height = struct.unpack_from('<HH', data, 18)
    else:
        width, height = struct.unpack_from('<ii', data, 18)
    return abs(width), abs(height)


def _webp(data: bytes) -> Size:
    kind = data[12:16]
    if kind == b'VP8X':
        return 1 + int.from_bytes(data[24:27], 'little'), 1 + int.from_bytes(data[27:30], 'little')
    if kind == b'VP8L':
        bits = struct.unpack_from('<I', data, 21)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from('<HH', data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _tiff(data: bytes) -> Size:
    found = _tiff_values(data)
    if not {_WIDTH, _HEIGHT} <= found.keys():
        raise ValueError('no size')
    return found[_WIDTH], found[_HEIGHT]


def _tiff_values(data: bytes) -> dict[int, int]:
    """Sides and orientation in the first directory of a TIFF, by tag."""
    return next(_tiff_pages(data))


def _tiff_pages(data: bytes) -> Iterator[dict[int, int]]:
    """The same of one directory after the other, whether it is a smaller copy included."""
    order = '<' if data.startswith(b'II') else '>'
    big = struct.unpack_from(f'{order}H', data, 2)[0] == 43
    place, count, entry = ('Q', 'Q', 20) if big else ('I', 'H', 12)
    offset = struct.unpack_from(f'{order}{place}', data, 8 if big else 4)[0]
    seen: set[int] = set()
    while offset and offset not in seen and len(seen) < _MOST_PAGES:
        seen.add(offset)
        entries = struct.unpack_from(f'{order}{count}', data, offset)[0]
        offset += struct.calcsize(f'{order}{count}')
        found = {}
        for index in range(min(entries, 4096)):
            at = offset + index * entry
            tag, kind = struct.unpack_from(f'{order}HH', data, at)
            if tag in (_SUBFILE, _WIDTH, _HEIGHT, _ORIENTATION):
                value = f'{order}{ {1: "B", 3: "H", 16: "Q"}.get(kind, "I") }'
                found[tag] = struct.unpack_from(value, data, at + (12 if big else 8))[0]
        yield found
        offset = struct.unpack_from(f'{order}{place}', data, offset + entries * entry)[0]


def _boxed(name: bytes, skip: int, order: str) -> Callable[[bytes], Size]:
    """The size behind a named box; `order` is how it stands there."""

    def read(data: bytes) -> Size:
        at = data.index(name) + len(name) + skip
        first, second = struct.unpack_from('>II', data, at)
        return (first, second) if order == 'wh' else (second, first)

    return read


def _text(pattern: bytes, order: str) -> Callable[[bytes], Size]:
    """The size in a header of text."""

    def read(data: bytes) -> Size:
        head = re.sub(rb'#[^\n]*\n', b'\n', data[:65536])
        found = re.search(pattern, head)
        if not found:
            raise ValueError('no size')
        first, second = int(found[1]), int(found[2])
        return (first, second) if order == 'wh' else (second, first)

    return read


_READERS: dict[bytes, Callable[[bytes], Size]] = {
    rb'\xff\xd8': lambda data: _jpeg_frame(data)[1:],
    rb'\x89PNG': lambda data: struct.unpack_from('>II', data, 16),
    rb'BM': _bmp,
    rb'GIF8': lambda data: struct.unpack_from('<HH', data, 6),
    rb'RIFF....WEBP': _webp,
    rb'II[\x2a\x2b]\0|MM\0[\x2a\x2b]': _tiff,
    rb'\0\0\0\x0cjP  ': _boxed(b'ihdr', 0, 'hw'),
    rb'\xff\x4f\xff\x51': _boxed(b'\xff\x51', 4, 'wh'),
    rb'....ftyp': _boxed(b'ispe', 4, 'wh'),
    rb'P7': _text(rb'WIDTH\s+(\d+)\s+HEIGHT\s+(\d+)', 'wh'),
    rb'P[1-6fF]\s': _text(rb'^P\w\s+(\d+)\s+(\d+)\s', 'wh'),
    rb'#\?RA': _text(rb'-Y\s+(\d+)\s+\+X\s+(\d+)', 'hw'),
    rb'\x59\xa6\x6a\x95': lambda data: struct.unpack_from('>II', data, 4),
}
