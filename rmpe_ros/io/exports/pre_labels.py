# SPDX-License-Identifier: Apache-2.0
"""Poses as a start for people who label: files that CVAT and Label Studio import.

CVAT: "COCO Keypoints 1.0", https://docs.cvat.ai/docs/manual/advanced/formats/. Label Studio: tasks
with predictions, https://labelstud.io/guide/predictions. Each person has a `score` below 1: until
people have gone over it, it is no truth for training or evaluation.
"""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import Skeleton
from rmpe_ros.io.exports import LEAST_JOINT_SCORE, Picture
from rmpe_ros.io.files import write_file

# What a model is never allowed to say of itself; see `labels_from_coco`.
_SUREST = 0.9999


class CvatLabels:
    """COCO keypoint annotations. In CVAT: a skeleton label `person` with these joints first."""

    def __init__(self, path: Path, skeleton: Skeleton) -> None:
        self._path, self._skeleton = path, skeleton
        self._images: list[dict[str, Any]] = []
        self._people: list[dict[str, Any]] = []

    def add(self, picture: Picture, poses: Poses) -> None:
        image, (width, height) = len(self._images) + 1, picture.size
        self._images.append(
            {'id': image, 'file_name': picture.file_name, 'width': width, 'height': height}
        )
        for result in poses.to_skeleton(self._skeleton).to_coco_results(image):
            joints = result['keypoints']
            for index in range(0, len(joints), 3):
                sure = joints[index + 2] >= LEAST_JOINT_SCORE
                joints[index : index + 3] = [*joints[index : index + 2], 2] if sure else [0, 0, 0]
            wide, high = result['bbox'][2:]
            self._people.append(
                {
                    **result,
                    'id': len(self._people) + 1,
                    'score': min(result['score'], _SUREST),
                    'num_keypoints': sum(v > 0 for v in joints[2::3]),
                    'area': round(wide * high, 2),
                    'segmentation': [],
                    'iscrowd': 0,
                }
            )

    def close(self) -> None:
        category = {
            'id': 1,
            'name': 'person',
            'supercategory': 'person',
            'keypoints': list(self._skeleton.keypoints),
            'skeleton': [[a + 1, b + 1] for a, b in self._skeleton.edges],
        }
        content = {'images': self._images, 'annotations': self._people, 'categories': [category]}
        write_file(self._path, json.dumps(content))


class LabelStudioTasks:
    """Tasks with predictions: a rectangle for each person, and its joints as points below it.

    Beside FILE.json it writes FILE.xml, the labelling interface that they fit into. Pictures are
    referred to as files of Label Studio's local storage.
    """

    def __init__(self, path: Path, skeleton: Skeleton) -> None:
        self._path, self._skeleton = path, skeleton
        self._tasks: list[dict[str, Any]] = []

    def add(self, picture: Picture, poses: Poses) -> None:
        poses = poses.to_skeleton(self._skeleton)
        results: list[dict[str, Any]] = []
        for person in range(len(poses)):
            results += self._person(picture, poses, person)
        scores = [float(score) for score in poses.scores]
        self._tasks.append(
            {
                'data': {'image': f'/data/local-files/?d={picture.file_name}'},
                'predictions': [
                    {
                        'model_version': 'rmpe',
                        'score': round(sum(scores) / len(scores), 4) if scores else 0.0,
                        'result': results,
                    }
                ],
            }
        )

    def close(self) -> None:
        write_file(self._path, json.dumps(self._tasks))
        write_file(interface_file(self._path), labelling_interface(self._skeleton))

    def _person(self, picture: Picture, poses: Poses, person: int) -> list[dict[str, Any]]:
        width, height = picture.size
        x1, y1, x2, y2 = (float(edge) for edge in poses.boxes[person])
        x1, x2 = max(x1, 0.0), min(x2, float(width))
        y1, y2 = max(y1, 0.0), min(y2, float(height))
        common = {
            'to_name': 'image',
            'original_width': width,
            'original_height': height,
            'image_rotation': 0,
        }
        name = f'person-{len(self._tasks)}-{person}'
        result: list[dict[str, Any]] = [
            {
                **common,
                'id': name,
                'type': 'rectanglelabels',
                'from_name': 'person',
                'score': min(round(float(poses.scores[person]), 4), _SUREST),
                'value': {
                    'x': 100 * x1 / width,
                    'y': 100 * y1 / height,
                    'width': 100 * (x2 - x1) / width,
                    'height': 100 * (y2 - y1) / height,
                    'rotation': 0,
                    'rectanglelabels': ['person'],
                },
            }
        ]
        for index, (x, y) in enumerate(poses.keypoints[person].astype(float).tolist()):
            inside = 0 <= x + 0.5 <= width and 0 <= y + 0.5 <= height
            if poses.keypoint_scores[person, index] < LEAST_JOINT_SCORE or not inside:
                continue
            result.append(
                {
                    **common,
                    'id': f'{name}-{index}',
                    'parentID': name,
                    'type': 'keypointlabels',
                    'from_name': 'joint',
                    'value': {
                        'x': 100 * (x + 0.5) / width,
                        'y': 100 * (y + 0.5) / height,
                        'width': 0.5,
                        'keypointlabels': [self._skeleton.keypoints[index]],
                    },
                }
            )
        return result


def interface_file(path: Path) -> Path:
    """Where the labelling interface goes that belongs to a file of tasks."""
    return path.with_suffix('.xml')


def labelling_interface(skeleton: Skeleton) -> str:
    """The XML for Label Studio's "Labeling Interface", code view."""
    joints = '\n'.join(f'    <Label value="{html.escape(name)}"/>' for name in skeleton.keypoints)
    return (
        '<View>\n  <RectangleLabels name="person" toName="image">\n'
        '    <Label value="person"/>\n  </RectangleLabels>\n'
        f'  <KeyPointLabels name="joint" toName="image">\n{joints}\n  </KeyPointLabels>\n'
        '  <Image name="image" value="$image"/>\n</View>\n'
    )
