# SPDX-License-Identifier: Apache-2.0
"""Tries an imported model on a photo of a person: that it does what the original does says nothing
about whether both were shown the right colours and asked for the right class or joints.
"""

from __future__ import annotations

from contextlib import closing

import numpy as np

from rmpe_ros.core.boxes import box_iou
from rmpe_ros.detector import PersonDetector
from rmpe_ros.engines.example_pictures import PERSON, example_photo
from rmpe_ros.engines.onnxruntime import OnnxRuntimeEngine
from rmpe_ros.estimator import PoseEstimator

# Her joints, x and y in pixels.
JOINTS = {
    'nose': (138, 77), 'left_eye': (153, 65), 'right_eye': (127, 62), 'left_ear': (173, 77),
    'right_ear': (109, 70), 'left_shoulder': (196, 164), 'right_shoulder': (63, 156),
}  # fmt: skip
_NEAR = 0.1  # of the longer side of her box
_LEAST_IOU = 0.5
_LEAST_SCORE = 0.25


def try_on_photo(model: bytes) -> str:
    """Whether a detector by the contract (its file's bytes) finds the person; a warning if not."""
    with closing(OnnxRuntimeEngine(model)) as engine:
        boxes, scores = PersonDetector(engine, score_threshold=1e-6)(example_photo())
    overlap = box_iou(np.array([PERSON]), boxes)[0]
    near = np.flatnonzero(overlap >= _LEAST_IOU)  # best first, as the detector gives them
    score = float(scores[near[0]]) if len(near) else 0.0
    if score >= _LEAST_SCORE:
        return (
            f'on a photo of a person it finds her, with a score of {score:.2f} and an overlap of '
            f'{overlap[near[0]]:.2f}'
        )
    return (
        f'warning: on a photo of a person it does not find her (score {score:.2f}, least '
        f'{_LEAST_SCORE}). Unless it was made for other pictures, something is read wrongly: see '
        '--format, --person-class, --color, --mean and --std'
    )


def try_pose_on_photo(model: bytes) -> str:
    """Whether a pose model by the contract (its file's bytes) finds her joints; else a warning."""
    with closing(OnnxRuntimeEngine(model)) as engine:
        estimator = PoseEstimator(engine)
        keypoints, _ = estimator(example_photo(), np.array([PERSON]))
    names = [name for name in JOINTS if name in estimator.skeleton.keypoints]
    if not names:
        return 'not tried on a photo of a person: none of its joints is known there'
    found = keypoints[0, [estimator.skeleton.index(name) for name in names]]
    distance = np.linalg.norm(found - [JOINTS[name] for name in names], axis=1)
    near = int((distance <= _NEAR * (PERSON[3] - PERSON[1])).sum())
    text = f'on a photo of a person {near} of {len(names)} joints are where she has them'
    if 2 * near > len(names):
        return text
    return (
        f'warning: {text}. Unless it was made for other pictures, something is read wrongly: see '
        '--skeleton, --joints, --color, --mean and --std'
    )
