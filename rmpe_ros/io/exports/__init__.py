# SPDX-License-Identifier: Apache-2.0
"""Poses in the formats of other tools: CSV tables, YOLO labels, pre-labels of CVAT, Label Studio.

Every exporter has `add(picture, poses)` and `close()`, which completes its files also after an
interruption. They raise OSError.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import Skeleton

# A joint below it is left for people to put in place.
LEAST_JOINT_SCORE = 0.3


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


def open_exporters(
    skeleton: Skeleton,
    *,
    csv: Path | None = None,
    csv_wide: Path | None = None,
    yolo: Path | None = None,
    cvat: Path | None = None,
    label_studio: Path | None = None,
) -> list[Exporter]:
    """Those that are asked for; poses are converted to `skeleton`."""
    from rmpe_ros.io.exports.csv_tables import CsvTable
    from rmpe_ros.io.exports.pre_labels import CvatLabels, LabelStudioTasks
    from rmpe_ros.io.exports.yolo_labels import YoloLabels

    made: list[Exporter] = []
    if csv:
        made.append(CsvTable(csv, skeleton))
    if csv_wide:
        made.append(CsvTable(csv_wide, skeleton, wide=True))
    if yolo:
        made.append(YoloLabels(yolo, skeleton))
    if cvat:
        made.append(CvatLabels(cvat, skeleton))
    if label_studio:
        made.append(LabelStudioTasks(label_studio, skeleton))
    return made


def options_of(values: Mapping[str, object]) -> dict[str, Path]:
    """Of the options of a command those that ask for an export."""
    names = ('csv', 'csv_wide', 'yolo', 'cvat', 'label_studio')
    return {name: Path(str(values[name])) for name in names if values.get(name) is not None}
