# SPDX-License-Identifier: Apache-2.0
"""Decodes the bytes of a photo into uint8 RGB; half a picture never passes for a whole one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.odd_paths import path_hint
from rmpe_ros.io.image_headers import count_pictures, lacks_data, read_size
from rmpe_ros.io.native_output import captured_lines

MEGAPIXEL = 1_000_000
MAX_MEGAPIXELS = 50.0
ADVICE = 'expected a photo such as JPEG, PNG, WebP, BMP or TIFF'
# The darkest and the brightest pixels, as many of each, that may lie outside of the range.
_OUTLIERS = 0.001
_SAMPLES = 1 << 16
# Some cameras pad the data in front of a JPEG's end marker.
_MOST_PADDING = 16
_limit = MAX_MEGAPIXELS


class ImageError(ValueError):
    """An image, folder, video or camera cannot be read; names it and says why."""


@contextmanager
def pixel_limit(megapixels: float) -> Iterator[None]:
    """The limit of everything in this process that does not ask for another one."""
    global _limit
    before, _limit = _limit, megapixels
    try:
        yield
    finally:
        _limit = before


def load_image(
    path: str | Path,
    *,
    max_megapixels: float | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> NDArray[np.uint8]:
    """Read a photo as uint8 (H, W, 3) RGB.

    It is turned upright as its EXIF orientation says; grey becomes RGB, transparency is dropped;
    16 bits become 8 as `to_8_bit` says. A truncated or damaged JPEG or PNG is an error, although
    decoders would fill the rest with grey: half a picture must not pass for a whole one.
    max_megapixels: what declares more is not decoded (default: MAX_MEGAPIXELS, see
    `pixel_limit`). warn: is called with a sentence about what is odd but can be used.
    Raises ImageError that names the file.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        hint = path_hint(path) if isinstance(error, FileNotFoundError) else ''
        raise ImageError(f'{path}: cannot be read: {error.strerror}{hint}') from error
    try:
        return decode_image(
            data, max_megapixels=max_megapixels, warn=lambda text: warn(f'{path}: {text}')
        )
    except ImageError as error:
        raise ImageError(f'{path}: {error}') from error.__cause__


def decode_image(
    data: bytes,
    *,
    max_megapixels: float | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> NDArray[np.uint8]:
    """Decode the bytes of an image file as `load_image` does; for compressed ROS images, too."""
    if not data:
        raise ImageError('empty file')
    check_size(read_size(data), max_megapixels)
    is_jpeg = data.startswith(b'\xff\xd8')
    is_whole = _has_end(data) and not lacks_data(data)
    cut = ImageError('truncated: the file ends in the middle of the picture')
    if not is_whole and (not is_jpeg or lacks_data(data)):
        raise cut
    # Without an end marker libjpeg says only that, and not whether anything else is missing.
    image, said = _decode(data if is_whole else data + b'\xff\xd9')
    if image is None:
        raise (
            ImageError(f'not an image that can be decoded, or damaged; {ADVICE}')
            if is_whole
            else cut
        )
    damage = _jpeg_damage(said, data) if is_jpeg else None
    if damage and not is_whole:
        raise cut
    if damage:
        raise ImageError(f'damaged: a part of the picture is lost (libjpeg: {damage})')
    if not is_whole:
        warn('has no end marker, but is whole')
    if (count := count_pictures(data)) > 1:
        warn(
            f'has {count} pictures (pages, or frames), of which the first is read; to have all of '
            'them, save them as files of their own, or as a video or GIF'
        )
    return np.asarray(cv2.cvtColor(to_8_bit(image), cv2.COLOR_BGR2RGB), np.uint8)


def check_size(size: tuple[int, int] | None, max_megapixels: float | None = None) -> None:
    """Raise ImageError for a width and height of too many pixels."""
    most = _limit if max_megapixels is None else max_megapixels
    if size is not None and size[0] * size[1] > most * MEGAPIXEL:
        width, height = size
        raise ImageError(
            f'declares {width}x{height} pixels, {width * height / MEGAPIXEL:.0f} megapixels; at '
            f'most {most:g} are decoded (--max-megapixels of the commands, '
            'parameter max_megapixels of the nodes)'
        )


def to_8_bit(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Pixels of any type as uint8, so that 10, 12 or 14 bits of content are as bright as 8 are.

    Content that spans at least half of the 16 bits keeps its upper byte, as does one of a single
    value. Anything else (12-bit cameras, thermal images, floats) is stretched by its own range,
    from its 0.1 % to its 99.9 % quantile, all channels alike; a range of less than 256 levels is
    not spread.
    """
    if pixels.dtype == np.uint8:
        return pixels
    low, high = _range(pixels)
    if pixels.dtype.kind == 'u' and pixels.dtype.itemsize == 2:
        pixels = pixels.astype(np.uint16, copy=False)  # of this machine's byte order
        if high == low or high - low >= 1 << 15:
            return (pixels >> 8).astype(np.uint8)
        levels = _stretch(np.arange(1 << 16), low, max(high - low, 255.0))
        return levels[pixels]
    return _stretch(np.nan_to_num(pixels.astype(np.float64)), low, high - low or 1.0)


def _stretch(values: NDArray[Any], low: float, span: float) -> NDArray[np.uint8]:
    return np.clip(np.rint((values - low) * (255.0 / span)), 0, 255).astype(np.uint8)


def _range(pixels: NDArray[Any]) -> tuple[float, float]:
    """Quantiles of the values, or of every n-th pixel where there are many."""
    values = pixels.reshape(-1, pixels.shape[-1]) if pixels.ndim == 3 else pixels.reshape(-1, 1)
    # An odd step meets all colours of a Bayer pattern.
    sample = values[:: len(values) // _SAMPLES | 1].ravel()
    if np.issubdtype(sample.dtype, np.floating):
        sample = sample[np.isfinite(sample)]
    if not sample.size:
        return 0.0, 0.0
    outside = int(_OUTLIERS * sample.size)
    order = np.partition(sample, (outside, sample.size - 1 - outside))
    return float(order[outside]), float(order[sample.size - 1 - outside])


def _decode(data: bytes) -> tuple[NDArray[Any] | None, list[str]]:
    """BGR of whatever depth, and what the libraries said."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    with captured_lines() as said, quiet_cv2():
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error as error:
            raise ImageError(f'cannot be decoded: {error.err}') from error
    return image, said


def _jpeg_damage(said: list[str], data: bytes) -> str | None:
    """What libjpeg says is missing; padding in front of the end marker is not."""
    for line in said:
        extra = re.search(r'(\d+) extraneous bytes before marker 0xd9', line)
        if extra:
            count = int(extra[1])
            end = data.rfind(b'\xff\xd9')
            padding = set(data[max(0, end - count) : end])
            if count <= _MOST_PADDING or len(padding) == 1:
                continue
        if re.search(r'Corrupt JPEG|Premature end|Inconsistent progression', line):
            return line
    return None


# In a JPEG's entropy-coded data 0xFF is followed by 00 or a restart marker; others end it.
_JPEG_MARKER = re.compile(rb'\xff[^\x00\xd0-\xd7\xff]')


def _has_end(data: bytes) -> bool:
    """Whether a JPEG has its end-of-image marker and a PNG its last chunk; True for others."""
    if data.startswith(b'\x89PNG'):
        return b'IEND' in data
    if not data.startswith(b'\xff\xd8'):
        return True
    # Walk from segment to segment: a thumbnail inside one has an end marker of its own.
    position = 2
    while marker := _JPEG_MARKER.search(data, position):
        if marker[0] == b'\xff\xd9':
            return True
        length = int.from_bytes(data[marker.end() : marker.end() + 2], 'big')
        position = marker.end() + max(length, 2)
    return False


@contextmanager
def quiet_cv2() -> Iterator[None]:
    """Keep OpenCV from writing its own complaints to stderr; ours say more."""
    # OpenCV 4.5 of older Ubuntus keeps these functions elsewhere or not at all.
    logging: Any = getattr(cv2.utils, 'logging', None)
    if logging is None:
        yield
        return
    level = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(level)
