# SPDX-License-Identifier: Apache-2.0
"""Object keypoint similarity, COCO's measure of one pose against one labelled person."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

# COCO's `area`, of a person's outline, is on average so much of the box; OKS sigmas are in units of
# its square root.
AREA_OF_BOX = 0.53


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


def expected_similarity(
    covariances: NDArray[np.floating], boxes: NDArray[np.floating], sigmas: ArrayLike
) -> NDArray[np.float64]:
    """(N, K) what each joint adds to OKS on average, when the true one is spread around it so:
    E exp(-d² / (2 v)) = det(I + Σ / v)^-½ with v = (2σ)² area.

    covariances: (N, K, 3) xx, xy, yy in pixels²; boxes: (N, 4) of the people; sigmas: (K,).
    0 where a covariance is unknown (NaN).
    """
    sides = boxes[:, 2:].astype(np.float64) - boxes[:, :2]
    areas = AREA_OF_BOX * (sides[:, 0] * sides[:, 1]) + np.spacing(1)
    unit = areas[:, None] * (2 * np.asarray(sigmas, np.float64)) ** 2
    xx, xy, yy = (np.asarray(covariances, np.float64) / unit[..., None]).transpose(2, 0, 1)
    determinant = (1 + xx) * (1 + yy) - xy**2
    # One that is no covariance could make it less than 1.
    return np.where(np.isfinite(determinant), 1 / np.sqrt(np.maximum(determinant, 1)), 0.0)
