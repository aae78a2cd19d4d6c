# SPDX-License-Identifier: Apache-2.0
"""Reads videos and network streams with PyAV: upright, with their own times, damage told.

PyAV is the extra `video`; without it OpenCV reads files and cameras, see `images.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.odd_paths import web_address
from rmpe_ros.io.image_decoding import ImageError, check_size

# Seconds before each new attempt to reach a stream that has ended or failed.
RECONNECT_AFTER = (0.5, 1.0, 2.0, 4.0, 8.0)
_TIMEOUT = 10.0
# Of the length that a container says.
_ESTIMATE_ERROR = 0.1
# These do not say how long they are, or only roughly.
_UNCOUNTED = ('flv', 'mpegts', 'mjpeg', 'gif')
_PHOTOS = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff')
_OPTIONS = {'rtsp_transport': 'tcp'}


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """One frame, upright. time: seconds since the first one, None where nobody knows.

    rate: frames per second as the video says, None where it does not. warning: what was odd.
    """

    image: NDArray[np.uint8]
    time: float | None
    rate: float | None
    warning: str | None = None


def has_av() -> bool:
    """Whether PyAV is installed."""
    return find_spec('av') is not None


def stream_address(source: str | Path) -> str | None:
    """The address of a video or stream in the network; None for paths, and for photos there."""
    address = web_address(source)
    if address is None or address.partition('?')[0].lower().endswith(_PHOTOS):
        return None
    return address


def without_password(address: str) -> str:
    """The address for logs and file names."""
    return re.sub(r'//[^/@]*@', '//', address)


def read_file(path: Path, most: float | None) -> Iterator[VideoFrame]:
    """The frames of a video file. Raises ImageError when there is none, or at the end of a video
    that is damaged or cut short.
    """
    damaged = number = 0
    last = 0.0
    with _opened(str(path)) as container:
        stream = _video_of(container, most)
        for frame in _decoded(container, stream, lambda: None):
            if frame is None:
                damaged += 1
                continue
            number += 1
            last = frame.time or 0.0
            yield frame
        expected = stream.frames or _estimate(container, stream, last, damaged)
    if not number:
        raise ImageError('not a video that can be decoded, or it is damaged')
    if number < expected:
        raise ImageError(f'ends after {number} of {expected} frames: cut short, or damaged there')
    if damaged:
        raise ImageError(f'damaged: {damaged} pieces of it could not be decoded')


def _estimate(container: Any, stream: Any, last: float, damaged: int) -> int:
    """Frames of a video that does not count them, by its length and rate; 0 where `last`, the time
    of the last one, says that all are there.
    """
    rate, length = stream.average_rate or stream.guessed_rate, container.duration
    if not rate or not length or container.format.name in _UNCOUNTED:
        return 0
    seconds = length / 1e6
    is_whole = last >= (1 - _ESTIMATE_ERROR) * seconds - 2 / rate
    return 0 if is_whole and not damaged else round(seconds * rate)


def read_stream(address: str, most: float | None) -> Iterator[VideoFrame]:
    """The frames of a stream, which is opened again when it breaks off; of a video that has an end,
    until there. Times are those of a clock that never goes back.

    Raises ImageError when it can no longer be reached.
    """
    waits = list(RECONNECT_AFTER)
    lost: float | None = None
    reason = 'it has ended'
    while True:
        has_end = False
        try:
            with _opened(address) as container:
                stream = _video_of(container, most)
                has_end = container.duration is not None
                for frame in _decoded(container, stream, monotonic):
                    if frame is None:
                        continue
                    warning = None
                    if lost is not None:
                        warning = f'the stream is back after {monotonic() - lost:.1f} s'
                    lost, waits = None, list(RECONNECT_AFTER)
                    yield VideoFrame(frame.image, frame.time, frame.rate, warning)
        except ImageError as error:
            reason = str(error)
        if has_end:
            return
        lost = monotonic() if lost is None else lost
        if not waits:
            raise ImageError(f'no stream any more: {reason}')
        sleep(waits.pop(0))


def _opened(source: str) -> Any:
    import av

    # Neither to stderr nor to Python: a decoder's thread that tells something there waits for the
    # interpreter, which may be waiting for that thread to end.
    av.logging.set_level(None)
    options = _OPTIONS if source.startswith('rtsp:') else {}
    try:
        return av.open(source, options=options, timeout=_TIMEOUT)
    except (av.FFmpegError, OSError) as error:
        reason = getattr(error, 'strerror', None) or type(error).__name__
        raise ImageError(f'not a video that can be decoded, or it is damaged ({reason})') from error


def _video_of(container: Any, most: float | None) -> Any:
    if not container.streams.video:
        raise ImageError('there is no video in it')
    stream = container.streams.video[0]
    stream.thread_type = 'AUTO'
    check_size((stream.width, stream.height), most)
    return stream


def _decoded(container: Any, stream: Any, clock: Any) -> Iterator[VideoFrame | None]:
    """Frames, and None for each piece that cannot be decoded; `clock` gives the time of a frame,
    or None where the video's own times count.
    """
    import av

    rate = stream.average_rate or stream.guessed_rate
    first: float | None = None
    packets = container.demux(stream)
    ended = False
    while not ended:
        try:
            packet = next(packets)
            frames = packet.decode()
        except StopIteration:
            return
        except av.error.InvalidDataError:
            yield None
            continue
        except (av.FFmpegError, OSError):
            # The file or the connection ends in the middle: what came so far is still to be had.
            frames, ended = stream.codec_context.decode(None), True
        for frame in frames:
            time = clock()
            if time is None and frame.time is not None:
                first = frame.time if first is None else first
                time = float(frame.time - first)
            if frame.is_corrupt:
                yield None
            image = np.rot90(frame.to_ndarray(format='rgb24'), frame.rotation // 90 % 4)
            yield VideoFrame(np.ascontiguousarray(image), time, float(rate) if rate else None)
