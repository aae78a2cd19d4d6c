# SPDX-License-Identifier: Apache-2.0
"""Reads photos, folders, videos and webcams as uint8 RGB; says clearly what it cannot read."""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# FFmpeg, inside OpenCV, has a log of its own and reads this once, at the first video: be quiet.
os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')

VIDEO_SUFFIXES = frozenset('.mp4 .avi .mov .mkv .webm .m4v .mpg .mpeg .wmv'.split())
_WEBCAM = re.compile(r'(?:webcam:|/dev/video)?(\d+)')
_ADVICE = 'expected a photo such as JPEG, PNG, WebP, BMP or TIFF'


class ImageError(ValueError):
    """An image, folder, video or camera cannot be read; names it and says why."""


@dataclass(frozen=True, eq=False)
class SourceImage:
    """One image of a source, or why there is none.

    name: unique in a source list as far as the files are: the file's name, 'clip.mp4#000012' for a
        video's frame, 'webcam:0#000012' for a camera's. path: of the file, None for a camera.
    image: uint8 (H, W, 3) RGB, or None, and then `error` is a sentence that names the file.
    frame: number of the frame in a video or camera stream, None for a photo.
    rate: frames per second as the video or camera says, None where it does not.
    """

    name: str
    path: Path | None
    image: NDArray[np.uint8] | None
    error: str | None = None
    frame: int | None = None
    rate: float | None = None


def load_image(path: str | Path) -> NDArray[np.uint8]:
    """Read a photo as uint8 (H, W, 3) RGB.

    It is turned upright as its EXIF orientation says; grey becomes RGB, 16 bit 8 bit; transparency
    is dropped. A truncated JPEG or PNG is an error, although decoders would fill the rest with
    grey: half a picture must not pass for a whole one.
    Raises ImageError that names the file.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f'{path}: cannot be read: {error.strerror}') from error
    try:
        return decode_image(data)
    except ImageError as error:
        raise ImageError(f'{path}: {error}') from error.__cause__


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """Decode the bytes of an image file as `load_image` does; for compressed ROS images, too."""
    if not data:
        raise ImageError('empty file')
    if _is_truncated(data):
        raise ImageError('truncated: the file ends in the middle of the picture')
    with _quiet_cv2():
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error as error:
            raise ImageError(f'cannot be decoded: {error.err}') from error
    if image is None:
        raise ImageError(f'not an image that can be decoded; {_ADVICE}')
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def iter_images(sources: Iterable[str | Path]) -> Iterator[SourceImage]:
    """All images of photos, folders, videos and cameras ('webcam:0', '/dev/video0' or '0').

    Folders give their files in the order of their names (hidden files and sub-folders are left
    out), videos their frames, a camera its frames until it is unplugged.
    What cannot be read is an item with `error` set, and the rest goes on; nothing is raised.
    """
    for path, camera in list_sources(sources):
        if camera is not None:
            yield from _read_stream(camera, f'webcam:{camera}', None)
        elif path.suffix.lower() in VIDEO_SUFFIXES:
            yield from _read_stream(str(path), path.name, path)
        else:
            yield _read_photo(path)


def count_images(sources: Iterable[str | Path]) -> int | None:
    """How many items `iter_images` will give, for a progress bar; None with a stream among them."""
    total = 0
    for path, camera in list_sources(sources):
        if camera is not None or path.suffix.lower() in VIDEO_SUFFIXES:
            return None
        total += 1
    return total


def list_sources(sources: Iterable[str | Path]) -> Iterator[tuple[Path, int | None]]:
    """What `iter_images` will read, in its order: (path, None), or (name, number) of a camera."""
    for source in sources:
        path = Path(source)
        camera = _WEBCAM.fullmatch(str(source))
        if camera and not path.is_file():
            yield path, int(camera[1])
        elif path.is_dir():
            try:
                files = sorted(each for each in path.iterdir() if each.is_file())
            except OSError:
                files = []
            visible = [each for each in files if not each.name.startswith('.')]
            # An empty or unreadable folder goes on as itself, and becomes an error when it is read.
            yield from ((each, None) for each in visible or [path])
        else:
            yield path, None


def _read_photo(path: Path) -> SourceImage:
    try:
        if path.is_dir():
            # Says so itself when the folder may not be listed.
            list(path.iterdir())
            raise ImageError(f'{path}: folder without files; {_ADVICE}')
        return SourceImage(path.name, path, load_image(path))
    except OSError as error:
        return SourceImage(path.name, path, None, f'{path}: cannot be read: {error.strerror}')
    except ImageError as error:
        return SourceImage(path.name, path, None, str(error))


def _read_stream(source: str | int, name: str, path: Path | None) -> Iterator[SourceImage]:
    """Frames of a video file or a camera; one item with an error when there is not even one."""
    where = str(path or name)
    if path is not None and not path.is_file():
        yield SourceImage(name, path, None, f'{where}: cannot be read: no such file')
        return
    with _quiet_cv2():
        capture = cv2.VideoCapture(source)
    try:
        rate = capture.get(cv2.CAP_PROP_FPS)
        number = 0
        while True:
            with _quiet_cv2():
                found, frame = capture.read()
            if not found:
                break
            image = np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)
            yield SourceImage(
                f'{name}#{number:06d}', path, image, None, number, rate if rate > 0 else None
            )
            number += 1
    finally:
        capture.release()
    if number == 0:
        advice = (
            'no such camera, or another program is using it'
            if path is None
            else 'not a video that can be decoded, or it is damaged'
        )
        yield SourceImage(name, path, None, f'{where}: {advice}')


# In a JPEG's entropy-coded data 0xFF is followed by 00 or a restart marker; others end it.
_JPEG_MARKER = re.compile(rb'\xff[^\x00\xd0-\xd7\xff]')


def _is_truncated(data: bytes) -> bool:
    """Whether a JPEG lacks its end-of-image marker or a PNG its last chunk."""
    if data.startswith(b'\x89PNG'):
        return b'IEND' not in data
    if not data.startswith(b'\xff\xd8'):
        return False
    # Walk from segment to segment: a thumbnail inside one has an end marker of its own.
    position = 2
    while marker := _JPEG_MARKER.search(data, position):
        if marker[0] == b'\xff\xd9':
            return False
        length = int.from_bytes(data[marker.end() : marker.end() + 2], 'big')
        position = marker.end() + max(length, 2)
    return True


@contextmanager
def _quiet_cv2() -> Iterator[None]:
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
