# SPDX-License-Identifier: Apache-2.0
"""Labels of Leeds Sports Poses: `joints.mat` of LSP (3 x 14 x 2000) and LSP Extended (14 x 3 x N).

http://sam.johnson.io/research/lsp.html. Fourteen joints a person, left and right are the person's,
one labelled person a picture (others may stand around). Pixel (1, 1) is MATLAB's first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.evaluation.labels import LabelledImage, Labels, LabelsError, boxes_around
from rmpe_ros.evaluation.records import are_places

# LSP's 14 joints, by their body19 names: PCK on LSP is the mean over these.
LSP_JOINTS = (
    'right_ankle', 'right_knee', 'right_hip', 'left_hip', 'left_knee', 'left_ankle',
    'right_wrist', 'right_elbow', 'right_shoulder', 'left_shoulder', 'left_elbow', 'left_wrist',
    'neck', 'head_top',
)  # fmt: skip

# The official split of LSP's 2000 pictures: the first half trains, the second tests.
_LSP_PICTURES = 2000
_LSP_TRAINING = 1000


def labels_from_joints(joints: Any, path: Path) -> Labels:
    """Labels of the array `joints` of a joints.mat; `path` for messages.

    The third number differs: in LSP 1 marks a hidden joint (labelled all the same), in LSP Extended
    0 one that is not labelled. LSP's pictures have the source 'lsp_train' or 'lsp_test', the
    others 'lspet'.
    """
    numeric = np.ndim(joints) == 3 and np.asarray(joints).dtype.kind in 'iuf'
    array = np.asarray(joints, np.float64) if numeric else np.zeros((0, 0, 0))
    if array.shape[:2] == (3, 14):
        extended, array = False, array.transpose(2, 1, 0)
    elif array.shape[:2] == (14, 3):
        extended, array = True, array.transpose(2, 0, 1)
    else:
        raise LabelsError(
            f'{path}: "joints" has shape {np.shape(joints)} of '
            f'{np.asarray(joints).dtype.name}; expected 3 x 14 x N (LSP) or '
            '14 x 3 x N (LSP Extended) numbers'
        )
    count = len(array)
    where = [BODY19.index(name) for name in LSP_JOINTS]
    keypoints = np.zeros((count, BODY19.num_keypoints, 2))
    labelled = np.zeros((count, BODY19.num_keypoints), bool)
    keypoints[:, where] = array[..., :2] - 1
    known = are_places(array[..., :2]).all(axis=2)
    labelled[:, where] = known & (array[..., 2] > 0) if extended else known
    keypoints[~labelled] = 0
    boxes = boxes_around(keypoints, labelled)
    digits = 5 if extended else 4

    def source(number: int) -> str:
        if extended or count != _LSP_PICTURES:
            return 'lspet' if extended else 'lsp'
        return 'lsp_train' if number <= _LSP_TRAINING else 'lsp_test'

    return Labels(
        'lsp',
        BODY19,
        tuple(
            LabelledImage(n, f'im{n:0{digits}d}.jpg', source(n), complete=False, drawn_boxes=False)
            for n in range(1, count + 1)
        ),
        np.arange(1, count + 1, dtype=np.int64),
        boxes,
        keypoints,
        labelled,
        np.prod(boxes[:, 2:] - boxes[:, :2], axis=1),
        np.zeros(count, bool),
        np.full(count, np.nan),
    )
