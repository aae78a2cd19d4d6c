# SPDX-License-Identifier: Apache-2.0
"""Object keypoint similarity, COCO's measure of one pose against one labelled person."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def keypoint_similarity(
    predicted: NDArray[np.floating],
    joints: NDArray[np.floating],
    labelled: NDArray[np.bool_],
    areas: NDArray[np.floating],
    sigmas: ArrayLike,
) -> NDArray[np.float64]:
    """(N,) OKS of each predicted pose with its own label: mean over labelled joints of exp(-d² / (2
    (2σ)² area)).

    predicted, joints: (N, K, 2) pixels, joints also one (K, 2) for all; labelled: (N, K); areas:
    (N,) px²; sigmas: (K,). NaN without a labelled joint.
    """
    variance = (2 * np.asarray(sigmas, np.float64)) ** 2
    squared = ((predicted - joints) ** 2).sum(axis=2)
    similarity = np.exp(-squared / (2 * variance * (areas[:, None] + np.spacing(1))))
    count = labelled.sum(axis=1)
    total = np.where(labelled, similarity, 0.0).sum(axis=1)
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
