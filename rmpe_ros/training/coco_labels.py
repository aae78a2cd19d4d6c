# SPDX-License-Identifier: Apache-2.0
"""Joints to learn from of a person in a COCO-keypoints file: labelled by a human or a teacher."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rmpe_ros.core.skeletons import BODY19, MPII16
from rmpe_ros.evaluation.coco_file import CocoFile, CocoPerson

FACE_JOINTS = slice(0, 5)


def person_joints(
    person: CocoPerson, *, teacher_weight: float, teacher_floor: float = 0.6
) -> tuple[np.ndarray, np.ndarray]:
    """Joints (K, 2) and weights (K,) of a person; the teacher fills what no human labelled.

    The teacher's face is taken only where it was seen to sit on the human's head, or where there is
    no human label.
    """
    count = BODY19.num_keypoints
    joints = np.zeros((count, 2), np.float32)
    weights = np.zeros(count, np.float32)
    human = _float32(person.joints)
    labelled = human[:, 2] > 0
    joints[: len(human)][labelled] = human[labelled, :2]
    weights[: len(human)][labelled] = 1.0
    teacher = _float32(person.teacher)
    if teacher_weight > 0 and len(teacher):
        usable = (teacher[:, 2] > teacher_floor) & (weights[: len(teacher)] == 0)
        if labelled.any():
            allowed = np.zeros(len(teacher), bool)
            allowed[FACE_JOINTS] = person.teacher_face_ok
            # COCO leaves joints unlabelled where they cannot be seen: the teacher knows no better
            # there.
            usable &= allowed & ~labelled[FACE_JOINTS].any()
        joints[: len(teacher)][usable] = teacher[usable, :2]
        weights[: len(teacher)][usable] = teacher_weight * teacher[usable, 2]
    return joints, weights


def check_joints(file: CocoFile, people: Sequence[CocoPerson]) -> None:
    """Raises ValueError when people's joints are neither COCO's nor body19's."""
    if file.skeleton_of(people) == MPII16:
        raise ValueError(
            f'{file.path} has people of 48 numbers in "keypoints"; expected three for each of '
            '17 (coco17) or 19 (body19) joints'
        )


def _float32(triples: np.ndarray | None) -> np.ndarray:
    return np.zeros((0, 3), np.float32) if triples is None else triples.astype(np.float32)
