# SPDX-License-Identifier: Apache-2.0
"""What colours people wear: what tells those apart whom places do not.

Of the trunk and of the thighs, the median over points between the joints, in CIE L*a*b* (D65, as
OpenCV has it): L* is in [0, 100], a* and b* are about [-100, 100], and a shadow changes L* mostly.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.poses import COLOURS, Poses

# Joints with a lower score are guesses.
_MIN_SCORE = 0.3
_TRUNK = ('left_shoulder', 'right_shoulder', 'left_hip', 'right_hip')
_THIGHS = (('left_hip', 'left_knee'), ('right_hip', 'right_knee'))
# Of the trunk the middle, without arms, collar and belt: shares of its width and height.
_ACROSS, _DOWN = np.meshgrid(np.linspace(0.25, 0.75, 5), np.linspace(0.15, 0.85, 6))
_IN_TRUNK = np.stack(
    [
        (1 - _ACROSS) * (1 - _DOWN),
        _ACROSS * (1 - _DOWN),
        (1 - _ACROSS) * _DOWN,
        _ACROSS * _DOWN,
    ],
    axis=-1,
).reshape(-1, 4)
# Of a thigh its bone and a strip on each side: shares of its length.
_ALONG, _BESIDE = (
    each.ravel() for each in np.meshgrid(np.linspace(0.15, 0.85, 8), (-0.08, 0.0, 0.08))
)


def clothes_colours(image: NDArray[np.uint8], poses: Poses) -> NDArray[np.float32]:
    """(N, 6) L*, a*, b* of the trunks, then of the thighs, of people in an image (H, W, 3) RGB.

    NaN where less than half of the part is in the image, where joints are guesses or the skeleton
    lacks them; a* and b* in images without colours.
    """
    colours = np.full((len(poses), COLOURS), np.nan, np.float32)
    names = poses.skeleton.keypoints
    if not len(poses) or any(name not in names for name in _TRUNK):
        return colours
    seen = poses.keypoint_scores >= _MIN_SCORE
    trunk = [names.index(name) for name in _TRUNK]
    points = [_IN_TRUNK @ poses.keypoints[:, trunk]]
    used = [np.repeat(seen[:, trunk].all(axis=1, keepdims=True), len(_IN_TRUNK), axis=1)]
    for pair in _THIGHS:
        if all(name in names for name in pair):
            joints = [names.index(name) for name in pair]
            top, bottom = poses.keypoints[:, joints[0], None], poses.keypoints[:, joints[1], None]
            along = bottom - top
            across = np.stack([-along[..., 1], along[..., 0]], axis=-1)
            points.append(top + _ALONG[:, None] * along + _BESIDE[:, None] * across)
            both = seen[:, joints].all(axis=1, keepdims=True)
            used.append(np.repeat(both, len(_ALONG), axis=1))
    where = np.rint(np.concatenate(points, axis=1))
    asked = np.concatenate(used, axis=1)
    size = np.array(image.shape[1::-1])
    inside = asked & ((where >= 0) & (where < size)).all(axis=2)
    columns, rows = np.moveaxis(np.clip(where, 0, size - 1).astype(np.intp), 2, 0)
    lab = cv2.cvtColor(image[rows, columns], cv2.COLOR_RGB2LAB).astype(np.float32)
    coloured = bool((lab[inside][:, 1:] != 128).any())
    lab = (lab - (0, 128, 128)) * (100 / 255, 1, 1)
    first = len(_IN_TRUNK)
    for part, start in ((slice(0, first), 0), (slice(first, None), 3)):
        colours[:, start : start + 3] = _medians(lab[:, part], inside[:, part], asked[:, part])
    if not coloured:
        colours[:, [1, 2, 4, 5]] = np.nan
    return colours


def _medians(
    lab: NDArray[np.floating], inside: NDArray[np.bool_], asked: NDArray[np.bool_]
) -> NDArray[np.floating]:
    """(N, 3) of the points (N, P, 3) that are `inside`, NaN where these are few of those asked."""
    number = inside.sum(axis=1)
    known = (number > 0) & (2 * number >= asked.sum(axis=1))
    if not known.any():
        return np.full((len(lab), 3), np.nan)
    ordered = np.sort(np.where(inside[..., None], lab, np.inf), axis=1)
    middle = ordered[np.arange(len(lab)), np.maximum(number - 1, 0) // 2]
    return np.where(known[:, None], middle, np.nan)
