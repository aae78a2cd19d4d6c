# SPDX-License-Identifier: Apache-2.0
"""Where the trunk of a person faces, from how wide it looks, the nose, and the joints' depth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.people.body_rays import HIPS, SHOULDERS, TRUNK_JOINTS, BodyRays
from rmpe_ros.core.people.people_filter import Array, cross_matrix

# Of the joints of the trunk, the left ones and the right ones, of shoulders and hips.
_LEFT, _RIGHT = slice(0, 4, 2), slice(1, 4, 2)
_WIDTHS = np.array([[SHOULDERS], [HIPS]])


def facing_direction(
    body: BodyRays, distance: Array, positions: Array | None
) -> tuple[Array, Array]:
    """Where the trunk faces: (3, N), and its variance in rad² (N,)."""
    away = body.line - body.up[:, None] * body.rise
    away /= np.sqrt(np.maximum(body.squared_slant - body.rise**2, 1e-12))
    right = cross_matrix(body.up).T @ away  # of the image
    # Only of these joints is it asked where they are; the nose, if there is one, is the last.
    joints = body.joints(*TRUNK_JOINTS, 'nose')
    x, y = body.rays.take(joints, axis=1)
    sideward = right * distance
    lateral = x * sideward[0] + y * sideward[1]  # (J, N) metres
    seen, variances = body.seen.take(joints, axis=0), body.noise.take(joints, axis=0) * distance
    variances *= variances
    # The cosine: how wide shoulders and hips look, the left ones on the right of who faces us.
    widths = _WIDTHS * body.parameters.stature
    both = seen[_LEFT] & seen[_RIGHT]
    share = both / ((variances[_LEFT] + variances[_RIGHT]) / widths**2 + 0.1**2)
    weight = share[0] + share[1] + 1e-9
    share *= (lateral[_LEFT] - lateral[_RIGHT]) / widths
    cosine, cosine_variance = (share[0] + share[1]) / weight, 1.0 / weight
    bounded = np.minimum(np.maximum(cosine, -1.0), 1.0)
    squared_sine = 1.0 - bounded**2
    sine = np.sqrt(squared_sine)
    toward, depth_weight = _by_depth(both, widths, positions, joints, away)
    by_depth = depth_weight > 1.0
    # The sign: the nose is on the side where the person looks; the depth of the shoulders says it.
    evidence = toward * by_depth / 0.35**2
    if len(joints) > len(body.parts):
        offset = lateral[-1] - 0.5 * (lateral[0] + lateral[1])
        evidence = evidence + np.where(seen[-1], offset / (0.12 * 0.5**2), 0.0)
    unsure = 2.0 * sine * np.exp(-np.abs(evidence * sine))
    from_width = np.where(evidence < 0, -sine, sine)
    width_variance = cosine_variance * (bounded / np.maximum(sine, 0.3)) ** 2 + 0.02
    # From the side the farther shoulder is hidden, and its depth is the nearer one's.
    depth_variance = 1.0 / depth_weight + 0.3 * squared_sine**2 + 0.01
    sideways = from_width * depth_variance + toward * width_variance
    sideways = np.where(by_depth, sideways / (width_variance + depth_variance), from_width)
    norm = np.maximum(np.hypot(sideways, bounded), 1e-6)
    sideways, toward_us = sideways / norm, bounded / norm
    variance = cosine_variance / np.maximum(np.abs(sideways), 0.35) ** 2 + unsure**2 + 0.02
    known = (weight > 1.0) & (variance < 1.5)
    return sideways * right - toward_us * away, np.where(known, variance, np.inf)


def _by_depth(
    both: NDArray[np.bool_],
    widths: Array,
    positions: Array | None,
    joints: NDArray[np.intp],
    away: Array,
) -> tuple[Array, Array]:
    """(N,) how far the left one of shoulders and hips is behind the right one, as a part of the
    width, and how much that counts.
    """
    count = both.shape[1]
    if positions is None:
        return np.zeros(count), np.full(count, 1e-9)
    depth = (positions.take(joints[:4], axis=1) @ away.T[:, :, None])[:, :, 0].T
    difference = (depth[_LEFT] - depth[_RIGHT]) / widths
    usable = both & (np.abs(difference) < 1.5)
    share = usable * (widths / 0.06) ** 2
    weight = share[0] + share[1] + 1e-9
    share *= np.where(usable, difference, 0.0)
    return (share[0] + share[1]) / weight, weight
