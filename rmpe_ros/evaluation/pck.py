# SPDX-License-Identifier: Apache-2.0
"""PCK: the share of joints found within a fraction of the torso (LSP, person-centric)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.skeletons import Skeleton


def torso_lengths(
    joints: NDArray[np.floating], labelled: NDArray[np.bool_], skeleton: Skeleton
) -> NDArray[np.float64]:
    """(N,) left shoulder to right hip in pixels, the other diagonal where those are not labelled,
    else NaN.

    joints: (N, K, 2), labelled: (N, K).
    """
    lengths = np.full(len(joints), np.nan)
    for shoulder, hip in (('right_shoulder', 'left_hip'), ('left_shoulder', 'right_hip')):
        a, b = skeleton.index(shoulder), skeleton.index(hip)
        both = labelled[:, a] & labelled[:, b]
        lengths[both] = np.linalg.norm(joints[both, a] - joints[both, b], axis=1)
    return lengths


def correct_keypoints(
    predicted: NDArray[np.floating],
    joints: NDArray[np.floating],
    labelled: NDArray[np.bool_],
    lengths: NDArray[np.floating],
    threshold: float = 0.2,
) -> NDArray[np.float64]:
    """(N, K): 1 where the joint lies within threshold · length of the truth, 0 where not, NaN where
    there is no truth.

    predicted, joints: (N, K, 2) pixels. lengths: (N,) the person's reference length, NaN to leave a
    person out.
    """
    distance = np.linalg.norm(predicted - joints, axis=2)
    correct = (distance <= threshold * lengths[:, None]).astype(np.float64)
    correct[~labelled | ~np.isfinite(lengths)[:, None]] = np.nan
    return correct


def mean_pck(correct: NDArray[np.floating]) -> float:
    """Mean over joints of each joint's share of correct ones (N, K with NaN for no truth); NaN
    without any truth.
    """
    counts = (~np.isnan(correct)).sum(axis=0)
    hits = np.nansum(correct, axis=0)
    return float(np.mean(hits[counts > 0] / counts[counts > 0])) if counts.any() else float('nan')
