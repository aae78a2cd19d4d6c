# SPDX-License-Identifier: Apache-2.0
"""A data set as YOLO's pose training reads it: images/, labels/ and data.yaml.

Format: https://docs.ultralytics.com/datasets/pose/ (a line for each person: class, box centre and
size, then x, y, visibility of each keypoint; lengths in shares of the picture's sides).
"""

from __future__ import annotations

from pathlib import Path

import cv2

from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import Skeleton
from rmpe_ros.io.exports import LEAST_JOINT_SCORE, Picture
from rmpe_ros.io.files import write_file

PREDICTED = 'made by rmpe predict'  # in a comment of data.yaml: labels know no score


class YoloLabels:
    """Writes each picture (a photo as it is, a frame as JPEG) and its labels."""

    def __init__(self, folder: Path, skeleton: Skeleton) -> None:
        self._folder, self._skeleton = folder, skeleton
        self._names: set[str] = set()

    def add(self, picture: Picture, poses: Poses) -> None:
        name = self._unused(picture.file_name)
        if picture.file is not None and picture.frame is None:
            data = picture.file.read_bytes()
        else:
            pixels = cv2.cvtColor(picture.image, cv2.COLOR_RGB2BGR)
            data = cv2.imencode('.jpg', pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
        write_file(self._folder / 'images' / name, data)
        lines = self._lines(picture.size, poses.to_skeleton(self._skeleton))
        write_file(self._folder / 'labels' / f'{Path(name).stem}.txt', ''.join(lines))

    def close(self) -> None:
        names = self._skeleton.keypoints
        flipped = list(range(len(names)))
        for a, b in self._skeleton.flip_pairs:
            flipped[a], flipped[b] = b, a
        write_file(
            self._folder / 'data.yaml',
            f'# {PREDICTED}, not corrected yet: take this line out once somebody has\n'
            f'# joints: {", ".join(names)}\ntrain: images\nval: images\n'
            f'kpt_shape: [{len(names)}, 3]\nflip_idx: {flipped}\nnames:\n  0: person\n',
        )

    def _lines(self, size: tuple[int, int], poses: Poses) -> list[str]:
        width, height = size
        lines = []
        for box, joints, scores in zip(
            poses.boxes, poses.keypoints, poses.keypoint_scores, strict=True
        ):
            x1, x2 = (min(max(float(x) / width, 0.0), 1.0) for x in box[[0, 2]])
            y1, y2 = (min(max(float(y) / height, 0.0), 1.0) for y in box[[1, 3]])
            numbers = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
            words = ['0', *(f'{number:.6f}' for number in numbers)]
            for (x, y), score in zip(joints, scores, strict=True):
                # Keypoints are at pixel centres here, shares are counted from the edge.
                place = ((float(x) + 0.5) / width, (float(y) + 0.5) / height)
                seen = score >= LEAST_JOINT_SCORE and all(0 <= each <= 1 for each in place)
                words += [*(f'{each:.6f}' for each in place), '2'] if seen else ['0', '0', '0']
            lines.append(' '.join(words) + '\n')
        return lines

    def _unused(self, name: str) -> str:
        """Pictures that differ only in folder or ending would share a file of labels."""
        path, number = Path(name), 1
        stem = path.stem
        while stem in self._names:
            number += 1
            stem = f'{path.stem}-{number}'
        self._names.add(stem)
        return f'{stem}{path.suffix}'
