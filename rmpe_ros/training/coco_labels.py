# SPDX-License-Identifier: Apache-2.0
"""What a COCO-keypoints file says about people: whose joints are labelled, by a human or a teacher.

Besides COCO's fields it understands `teacher_keypoints` (17 × x, y, probability) and
`teacher_face_ok`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rmpe_ros.core.skeletons import BODY19, COCO17, Skeleton
from rmpe_ros.evaluation.labels.label_files import read_json

FACE_JOINTS = slice(0, 5)


def read_annotations(path: Path) -> dict[str, Any]:
    """A COCO-format file; raises ValueError saying what is missing."""
    data = read_json(path)
    missing = {'images', 'annotations'} - set(data if isinstance(data, dict) else ())
    if missing:
        raise ValueError(
            f'{path} lacks {sorted(missing)}: a COCO annotation file has "images" and "annotations"'
        )
    return dict(data)


def corner_box(box: Sequence[float]) -> np.ndarray:
    """COCO's x, y, width, height → x1, y1, x2, y2."""
    x, y, width, height = box
    return np.array([x, y, x + width, y + height], np.float32)


def person_joints(
    annotation: Mapping, *, teacher_weight: float, teacher_floor: float = 0.6
) -> tuple[np.ndarray, np.ndarray]:
    """Joints (K, 2) and weights (K,) of one annotation; the teacher fills what no human labelled.

    The teacher's face is taken only where it was seen to sit on the human's head, or where there is
    no human label.
    """
    count = BODY19.num_keypoints
    joints = np.zeros((count, 2), np.float32)
    weights = np.zeros(count, np.float32)
    human = np.asarray(annotation.get('keypoints') or [], np.float32).reshape(-1, 3)[:count]
    labelled = human[:, 2] > 0
    joints[: len(human)][labelled] = human[labelled, :2]
    weights[: len(human)][labelled] = 1.0
    teacher = np.asarray(annotation.get('teacher_keypoints') or [], np.float32).reshape(-1, 3)
    if teacher_weight > 0 and len(teacher):
        usable = (teacher[:, 2] > teacher_floor) & (weights[: len(teacher)] == 0)
        if labelled.any():
            allowed = np.zeros(len(teacher), bool)
            allowed[FACE_JOINTS] = bool(annotation.get('teacher_face_ok', False))
            # COCO leaves joints unlabelled where they cannot be seen: the teacher knows no better
            # there.
            usable &= allowed & ~labelled[FACE_JOINTS].any()
        joints[: len(teacher)][usable] = teacher[usable, :2]
        weights[: len(teacher)][usable] = teacher_weight * teacher[usable, 2]
    return joints, weights


def persons_of(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The annotations of people, in files that label other things, too."""
    persons = {c['id'] for c in data.get('categories', ()) if c.get('name') == 'person'}
    return [
        each for each in data['annotations'] if not persons or each.get('category_id', 1) in persons
    ]


def check_joints(
    data: Mapping[str, Any], annotations: Iterable[Mapping[str, Any]], path: Path
) -> None:
    """Raises ValueError when people's joints are neither COCO's nor body19's."""
    known: dict[int, Skeleton] = {3 * s.num_keypoints: s for s in (COCO17, BODY19)}
    lengths = {len(each['keypoints']) for each in annotations if each.get('keypoints')}
    expected = ' or '.join(f'{n // 3} ({s.name})' for n, s in known.items())
    if wrong := lengths - set(known):
        raise ValueError(
            f'{path} has people of {min(wrong)} numbers in "keypoints"; expected three for each of '
            f'{expected} joints'
        )
    for category in data.get('categories', ()):
        names = tuple(category.get('keypoints') or ())
        if category.get('name') == 'person' and names and lengths:
            skeletons = [known[length] for length in lengths]
            if any(names != skeleton.keypoints for skeleton in skeletons):
                raise ValueError(
                    f'{path} says that its joints are {", ".join(names)}; expected those of '
                    f'{expected} in their order: {", ".join(skeletons[0].keypoints)}'
                )


def not_coco(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f'{path} is no COCO annotation file: {type(error).__name__} {error}; images need id and '
        'file_name, annotations image_id and bbox'
    )
