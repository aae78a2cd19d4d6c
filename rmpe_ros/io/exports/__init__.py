# SPDX-License-Identifier: Apache-2.0
"""Poses in the formats of other tools: CSV tables, YOLO labels, pre-labels of CVAT, Label Studio.

Every exporter has `add(picture, poses)` and `close()`, which completes its files also after an
interruption. They raise OSError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import Skeleton

# A joint below it is left for people to put in place.
LEAST_JOINT_SCORE = 0.3
EXPORTS = ('csv', 'csv_wide', 'yolo', 'cvat', 'label_studio')


@dataclass(frozen=True, eq=False)
class Picture:
    """What the poses are of. name: as in the COCO results. image: uint8 (H, W, 3) RGB.

    frame, time: number and seconds in a video or a recording, None for a photo. file: of a photo.
    """

    name: str
    image: NDArray[np.uint8]
    frame: int | None = None
    time: float | None = None
    file: Path | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.image.shape[1], self.image.shape[0]

    @property
    def file_name(self) -> str:
        """The name of its file; frame 12 of clip.mp4 becomes clip_000012.jpg."""
        if self.frame is None:
            return self.name
        stream = self.name.partition('#')[0].replace(':', '-')
        return f'{Path(stream).stem}_{self.frame:06d}.jpg'


class Exporter(Protocol):
    """Takes the poses of one picture after the other."""

    def add(self, picture: Picture, poses: Poses) -> None:
        """The people of one picture, also when there are none."""

    def close(self) -> None:
        """Complete the files."""


def open_exporters(skeleton: Skeleton, **files: Path) -> list[Exporter]:
    """An exporter for each of `files`, which are called as in EXPORTS; poses are converted to
    `skeleton`.
    """
    from rmpe_ros.io.exports.csv_tables import CsvTable
    from rmpe_ros.io.exports.pre_labels import CvatLabels, LabelStudioTasks
    from rmpe_ros.io.exports.yolo_labels import YoloLabels

    kinds: dict[str, Callable[[Path, Skeleton], Exporter]] = {
        'csv': CsvTable,
        'csv_wide': partial(CsvTable, wide=True),
        'yolo': YoloLabels,
        'cvat': CvatLabels,
        'label_studio': LabelStudioTasks,
    }
    return [kinds[name](path, skeleton) for name, path in files.items()]


def options_of(values: Mapping[str, object]) -> dict[str, Path]:
    """Of the options of a command those that ask for an export."""
    return {name: Path(str(values[name])) for name in EXPORTS if values.get(name) is not None}
