# SPDX-License-Identifier: Apache-2.0
"""Annotated photos and videos as files, named after what they were made of."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import cv2

from rmpe_ros.core.drawing import draw_poses
from rmpe_ros.core.poses import Poses
from rmpe_ros.io.files import NewFile, write_file
from rmpe_ros.io.images import USUAL_RATE, SourceImage, is_video, list_sources
from rmpe_ros.io.video_files import VideoWriter, open_video


class DrawnFiles:
    """Writes an annotated photo for each photo, and a video for each video or webcam.

    Raises OSError when that cannot be done.
    """

    def __init__(self, out: Path, *, color_by: Literal['person', 'side'], boxes: bool) -> None:
        self._out, self._color_by, self._boxes = out, color_by, boxes
        self._names: set[str] = set()
        self._stream: str | None = None
        self._video: VideoWriter | None = None
        self._begin: float | None = None
        self._file: NewFile | None = None

    def add(self, item: SourceImage, poses: Poses) -> None:
        """Draw the people of one image, and write it."""
        assert item.image is not None
        drawn = draw_poses(
            item.image,
            poses,
            color_by=self._color_by,
            boxes=self._boxes,
            labels=self._boxes or bool((poses.track_ids >= 0).any()),
        )
        if item.frame is not None:
            self._add_frame(item, drawn)
            return
        picture = cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR)
        name = _unique(_photo_name(item.name), self._names)
        write_file(self._out / name, cv2.imencode(Path(name).suffix, picture)[1].tobytes())

    def _add_frame(self, item: SourceImage, picture: Any) -> None:
        stream = item.name.partition('#')[0]
        if stream != self._stream or item.frame == 0:
            self.close()
            path = self._out / _unique(_video_name(stream), self._names)
            self._file = NewFile(path, ending='.mp4')
            size = (picture.shape[1], picture.shape[0])
            self._stream = stream
            try:
                self._video = open_video(self._file.temporary, size, item.rate or USUAL_RATE)
            except OSError:
                self._file.discard()
                self._file = None
                raise
            self._begin = item.time
        since = None if item.time is None or self._begin is None else item.time - self._begin
        assert self._video is not None
        self._video.write(picture, since)

    def close(self) -> None:
        """Give the video its name; after an interruption, too, it can be played to its end."""
        if self._video is not None:
            self._video.close()
            self._video = None
        if self._file is not None:
            self._file.commit()
            self._file = None


def names_of_drawn_files(sources: Iterable[str | Path]) -> list[str]:
    """The names of all files that may be written, whichever of the sources can be read."""
    names: set[str] = set()
    for path, camera in list_sources(sources):
        if camera is not None:
            name = path.name if isinstance(camera, str) else f'webcam:{camera}'
            _unique(_video_name(name), names)
        else:
            _unique(_video_name(path.name) if is_video(path) else _photo_name(path.name), names)
    return sorted(names)


def _photo_name(name: str) -> str:
    """photo.jpg stays photo.jpg; photo.webp becomes photo.webp.jpg."""
    return name if name.lower().endswith(('.jpg', '.jpeg', '.png')) else f'{name}.jpg'


def _video_name(stream: str) -> str:
    """clip.avi becomes clip.mp4, webcam:0 webcam-0.mp4; a stream keeps its whole name."""
    path = Path(stream.replace(':', '-'))
    return f'{path.stem if is_video(path) else path.name}.mp4'


def _unique(name: str, names: set[str]) -> str:
    """`name`, or name-2 and so on when this run has written it already."""
    path, number = Path(name), 1
    while name in names:
        number += 1
        name = f'{path.stem}-{number}{path.suffix}'
    names.add(name)
    return name
