# SPDX-License-Identifier: Apache-2.0
"""Tries an imported detector on a photo of a person: that it does what the original does says
nothing about whether both were shown the right colours and asked for the right class.
"""

from __future__ import annotations

import numpy as np

from rmpe_ros.core.boxes import box_iou
from rmpe_ros.detector import PersonDetector
from rmpe_ros.engines.example_pictures import PERSON, read_photo
from rmpe_ros.engines.onnxruntime import OnnxRuntimeEngine

_LEAST_IOU = 0.4
_LEAST_SCORE = 0.25


def try_on_photo(model: bytes) -> str:
    """Whether a detector by the contract (its file's bytes) finds the person; a warning if not."""
    engine = OnnxRuntimeEngine(model)
    try:
        boxes, scores = PersonDetector(engine, score_threshold=1e-6)(read_photo())
    finally:
        engine.close()
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
