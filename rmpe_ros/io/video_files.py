# SPDX-License-Identifier: Apache-2.0
"""Writes MP4 videos: H.264, which browsers play, with PyAV; MPEG-4 with OpenCV without it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from rmpe_ros.io.video_decoding import has_av

_TICKS = 90_000  # of a second


class VideoWriter(Protocol):
    """Takes frames of one size."""

    def write(self, image: NDArray[np.uint8], time: float | None) -> None:
        """One more frame, uint8 (H, W, 3) RGB; time: its seconds, for a variable rate."""

    def close(self) -> None:
        """Complete the file."""


def open_video(path: Path, size: tuple[int, int], rate: float) -> VideoWriter:
    """A writer for frames of width and height `size`. Raises OSError."""
    if has_av():
        return _H264Video(path, size, rate)
    return _Mpeg4Video(path, size, rate)


class _H264Video:
    def __init__(self, path: Path, size: tuple[int, int], rate: float) -> None:
        import av

        self._av = av
        self._step = max(1, round(_TICKS / rate))
        try:
            # The index goes to the front, so that browsers play while they load.
            self._container: Any = av.open(
                str(path), 'w', format='mp4', options={'movflags': '+faststart'}
            )
            self._stream = self._container.add_stream(
                'libx264', rate=Fraction(rate).limit_denominator(1001)
            )
        except (av.FFmpegError, ValueError) as error:
            raise OSError(None, f'no MP4 video can be written there: {error}', str(path)) from error
        # Half of the colours' resolution, as browsers want it, needs even sides.
        self._stream.width, self._stream.height = (side + side % 2 for side in size)
        self._stream.pix_fmt = 'yuv420p'
        self._stream.options = {'crf': '23', 'preset': 'veryfast'}
        self._stream.time_base = Fraction(1, _TICKS)
        self._stream.codec_context.time_base = Fraction(1, _TICKS)
        self._last = -self._step

    def write(self, image: NDArray[np.uint8], time: float | None) -> None:
        bottom, right = image.shape[0] % 2, image.shape[1] % 2
        if bottom or right:
            image = np.asarray(
                cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE), np.uint8
            )
        # OpenCV takes a tenth of the time that FFmpeg does.
        planes = cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420)
        frame = self._av.VideoFrame.from_ndarray(planes, format='yuv420p')
        wanted = self._last + self._step if time is None else round(time * _TICKS)
        self._last = max(wanted, self._last + 1)
        frame.pts, frame.time_base = self._last, Fraction(1, _TICKS)
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def close(self) -> None:
        for packet in self._stream.encode():
            self._container.mux(packet)
        self._container.close()


class _Mpeg4Video:
    def __init__(self, path: Path, size: tuple[int, int], rate: float) -> None:
        codec = cv2.VideoWriter.fourcc(*'mp4v')
        self._video = cv2.VideoWriter(str(path), codec, rate, size)
        if not self._video.isOpened():
            raise OSError(None, 'this OpenCV cannot write MP4 videos there', str(path))

    def write(self, image: NDArray[np.uint8], time: float | None) -> None:
        self._video.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        self._video.release()
