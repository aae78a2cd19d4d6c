# SPDX-License-Identifier: Apache-2.0
"""Poses as a table for spreadsheets, pandas and R: a row for each joint, or for each person."""

from __future__ import annotations

import csv
from pathlib import Path

from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import Skeleton
from rmpe_ros.io.exports import Picture
from rmpe_ros.io.files import NewFile

_PERSON = ('image', 'frame', 'time', 'person', 'track_id', 'score')
_BOX = ('box_x1', 'box_y1', 'box_x2', 'box_y2')


class CsvTable:
    """Long: a row for each joint of each person. Wide: a row for each person with all joints.

    frame and time (seconds) are empty for photos, track_id where nobody is followed. Coordinates
    are pixels; the centre of the top-left one is (0, 0), for boxes its outer corner is.
    """

    def __init__(self, path: Path, skeleton: Skeleton, *, wide: bool = False) -> None:
        self._skeleton, self._wide = skeleton, wide
        self._new = NewFile(path)
        self._file = self._new.temporary.open('w', encoding='utf-8', newline='')
        self._writer = csv.writer(self._file, lineterminator='\n')
        if wide:
            joints = [f'{n}_{what}' for n in skeleton.keypoints for what in ('x', 'y', 'score')]
            self._writer.writerow([*_PERSON, *_BOX, *joints])
        else:
            self._writer.writerow([*_PERSON, 'joint', 'x', 'y', 'joint_score'])

    def add(self, picture: Picture, poses: Poses) -> None:
        poses = poses.to_skeleton(self._skeleton)
        frame = '' if picture.frame is None else picture.frame
        time = '' if picture.time is None else f'{picture.time:.6f}'
        for person in range(len(poses)):
            track = int(poses.track_ids[person])
            row: list[object] = [
                picture.name, frame, time, person, '' if track < 0 else track,
                f'{poses.scores[person]:.4f}',
            ]  # fmt: skip
            joints = [
                [f'{x:.2f}', f'{y:.2f}', f'{score:.4f}']
                for (x, y), score in zip(
                    poses.keypoints[person], poses.keypoint_scores[person], strict=True
                )
            ]
            if self._wide:
                box = [f'{edge:.2f}' for edge in poses.boxes[person]]
                self._writer.writerow([*row, *box, *(value for each in joints for value in each)])
            else:
                for name, values in zip(self._skeleton.keypoints, joints, strict=True):
                    self._writer.writerow([*row, name, *values])

    def close(self) -> None:
        self._file.close()
        self._new.commit()
