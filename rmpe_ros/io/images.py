# SPDX-License-Identifier: Apache-2.0
"""Reads photos, folders, videos and webcams as uint8 RGB; says clearly what it cannot read."""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import cv2
import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.odd_paths import path_hint
from rmpe_ros.io.extras import how_to_install
from rmpe_ros.io.image_decoding import (
    ADVICE,
    MAX_MEGAPIXELS,
    ImageError,
    check_size,
    decode_image,
    load_image,
    quiet_cv2,
)
from rmpe_ros.io.video_decoding import (
    VideoFrame,
    has_av,
    read_file,
    read_stream,
    stream_address,
    without_password,
)

__all__ = [
    'MAX_MEGAPIXELS',
    'USUAL_RATE',
    'VIDEO_SUFFIXES',
    'ImageError',
    'SourceImage',
    'count_images',
    'decode_image',
    'is_video',
    'iter_images',
    'list_folder',
    'list_sources',
    'load_image',
]

# FFmpeg, inside OpenCV, has a log of its own and reads this once, at the first video: be quiet.
os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')

VIDEO_SUFFIXES = frozenset(
    '.mp4 .avi .mov .mkv .webm .m4v .mpg .mpeg .wmv .ts .mts .m2ts .flv .mjpeg .mjpg .3gp .ogv '
    '.gif'.split()
)
# Frames per second of a stream that does not say.
USUAL_RATE = 30.0
_WEBCAM = re.compile(r'(?:webcam:|/dev/video)?(\d+)')
_SIDES = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
# Containers whose frame count is only an estimate, from the length and the rate.
_ESTIMATES = frozenset('.mkv .webm .wmv .mpg .mpeg .3gp .ogv'.split())
_ESTIMATE_ERROR = 0.1
_UNCOUNTED = frozenset('.ts .mts .m2ts .flv .mjpeg .mjpg .gif'.split())


@dataclass(frozen=True, eq=False)
class SourceImage:
    """One image of a source, or why there is none.

    name: unique in a source list as far as the files are: the file's name, 'clip.mp4#000012' for a
        video's frame, 'webcam:0#000012' for a camera's. path: of the file, None for a camera.
    image: uint8 (H, W, 3) RGB, or None, and then `error` is a sentence that names the file.
    frame: number of the frame in a video or camera stream, None for a photo.
    rate: frames per second as the video or camera says, None where it does not.
    time: of the frame, in seconds: in a video since its beginning, as its container says, of a
        camera by a clock that never goes back; None for a photo and where a video does not say.
    warning: a sentence about what is odd with an image that can be used.
    """

    name: str
    path: Path | None
    image: NDArray[np.uint8] | None
    error: str | None = None
    frame: int | None = None
    rate: float | None = None
    time: float | None = None
    warning: str | None = None


def iter_images(
    sources: Iterable[str | Path], *, max_megapixels: float | None = None
) -> Iterator[SourceImage]:
    """All images of photos, folders, videos, cameras ('webcam:0', '/dev/video0' or '0') and streams
    (rtsp://…, http://…; with the extra `video`), which are reached again when they break off.

    Folders give their files in the natural order of their names, 2 before 10 (hidden files and
    sub-folders are left out), videos their frames, a camera its frames until it is unplugged.
    What cannot be read is an item with `error` set, and the rest goes on; nothing is raised. A
    video that is cut short or damaged has such an item at its end.
    max_megapixels: what declares more is not decoded, as for `load_image`.
    """
    most = max_megapixels
    for path, camera in list_sources(sources):
        if isinstance(camera, str):
            yield from _read_address(camera, most)
        elif camera is not None:
            yield from _read_stream(camera, f'webcam:{camera}', None, most)
        elif is_video(path) and has_av() and path.is_file():
            yield from _from_frames(read_file(path, most), path.name, path, str(path))
        elif is_video(path):
            yield from _read_stream(str(path), path.name, path, most)
        else:
            yield _read_photo(path, most)


def is_video(path: Path | None) -> bool:
    """Whether a file is read as a video, by its name."""
    return path is not None and path.suffix.lower() in VIDEO_SUFFIXES


def count_images(sources: Iterable[str | Path]) -> int | None:
    """How many items `iter_images` will give, for a progress bar; None with a stream among them."""
    listed = list(list_sources(sources))
    streams = any(camera is not None or is_video(path) for path, camera in listed)
    return None if streams else len(listed)


def list_sources(sources: Iterable[str | Path]) -> Iterator[tuple[Path, int | str | None]]:
    """What `iter_images` will read, in its order: (path, None), or a name with the number of a
    camera or the address of a stream.
    """
    for source in sources:
        path = Path(source)
        camera = _WEBCAM.fullmatch(str(source))
        address = stream_address(source)
        if address is not None:
            yield Path(stream_name(address)), address
        elif camera and not path.is_file():
            yield path, int(camera[1])
        elif path.is_dir():
            try:
                files = list_folder(path)
            except OSError:
                files = []
            # An empty or unreadable folder goes on as itself, and becomes an error when it is read.
            yield from ((each, None) for each in files or [path])
        else:
            yield path, None


def list_folder(folder: Path) -> list[Path]:
    """The files in a folder, without hidden ones, in natural order: frame_2 before frame_10.

    Raises OSError.
    """
    files = (each for each in folder.iterdir() if each.is_file() and not each.name.startswith('.'))
    return sorted(files, key=_natural_key)


def _natural_key(path: Path) -> tuple[list[tuple[bool, int, str]], str]:
    """Numbers by their value, the rest by its letters; equal values by the name."""
    parts = re.findall(r'[0-9]+|[^0-9]+', path.name)
    # A part is a number or not: digits come before letters, as in the order of characters.
    key = [(False, int(p), '') if p[0] in '0123456789' else (True, 0, p) for p in parts]
    return key, path.name


def stream_name(address: str) -> str:
    """What a stream is called, without a password that may be in its address."""
    return re.sub(r'[^\w.-]+', '-', without_password(address)).strip('-')


def _read_address(address: str, most: float | None) -> Iterator[SourceImage]:
    """Frames of a stream in the network, and an item with an error at its end."""
    name, shown = stream_name(address), without_password(address)
    if not has_av():
        error = f'{shown}: streams are read with PyAV: {how_to_install("video")}'
        yield SourceImage(name, None, None, error)
        return
    yield from _from_frames(read_stream(address, most), name, None, shown)


def _from_frames(
    frames: Iterator[VideoFrame], name: str, path: Path | None, where: str
) -> Iterator[SourceImage]:
    try:
        for number, frame in enumerate(frames):
            yield SourceImage(
                f'{name}#{number:06d}',
                path,
                frame.image,
                frame=number,
                rate=frame.rate,
                time=frame.time,
                warning=f'{where}: {frame.warning}' if frame.warning else None,
            )
    except ImageError as error:
        yield SourceImage(name, path, None, f'{where}: {error}')


def _read_photo(path: Path, most: float | None) -> SourceImage:
    warnings: list[str] = []
    try:
        if path.is_dir():
            # Says so itself when the folder may not be listed.
            list(path.iterdir())
            raise ImageError(f'{path}: folder without files; {ADVICE}')
        image = load_image(path, max_megapixels=most, warn=warnings.append)
        return SourceImage(path.name, path, image, warning='; '.join(warnings) or None)
    except OSError as error:
        return SourceImage(path.name, path, None, f'{path}: cannot be read: {error.strerror}')
    except ImageError as error:
        return SourceImage(path.name, path, None, str(error))


def _read_stream(
    source: str | int, name: str, path: Path | None, most: float | None
) -> Iterator[SourceImage]:
    """Frames of a video file or a camera; an item with an error when there is not even one, and
    at the end of a video that has fewer than it says.
    """
    where = str(path or name)
    if path is not None and not path.is_file():
        yield SourceImage(
            name, path, None, f'{where}: cannot be read: no such file{path_hint(where)}'
        )
        return
    with quiet_cv2():
        capture = cv2.VideoCapture(source)
    try:
        rate = capture.get(cv2.CAP_PROP_FPS)
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        width, height = (capture.get(key) for key in _SIDES)
        check_size((int(width), int(height)), most)
        number, before = 0, None
        while True:
            with quiet_cv2():
                found, frame = capture.read()
            if not found:
                break
            image = np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)
            time = _frame_time(capture, before, rate) if path is not None else monotonic()
            yield SourceImage(
                f'{name}#{number:06d}',
                path,
                image,
                frame=number,
                rate=rate if rate > 0 else None,
                time=time,
            )
            number, before = number + 1, time
    except ImageError as error:
        yield SourceImage(name, path, None, f'{where}: {error}')
        return
    finally:
        capture.release()
    if number == 0:
        advice = (
            'no such camera, or another program is using it'
            if path is None
            else 'not a video that can be decoded, or it is damaged'
        )
        yield SourceImage(name, path, None, f'{where}: {advice}')
    elif path is not None and number < _least_frames(path, count):
        yield SourceImage(
            name,
            path,
            None,
            f'{where}: ends after {number} of {count:.0f} frames: cut short, or damaged there',
        )


def _frame_time(capture: cv2.VideoCapture, before: float | None, rate: float) -> float | None:
    """Seconds of the frame just read, by the rate where the container's times do not grow."""
    seconds = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
    if before is None:
        return seconds if seconds >= 0 else None
    if seconds > before:
        return seconds
    return before + 1 / rate if rate > 0 else None


def _least_frames(path: Path, count: float) -> float:
    """So many frames a whole video has that says it has `count`."""
    if path.suffix.lower() in _UNCOUNTED:
        return 0
    if path.suffix.lower() in _ESTIMATES:
        return count - max(2.0, _ESTIMATE_ERROR * count)
    return count
