# SPDX-License-Identifier: Apache-2.0
"""Where the trunk of a person faces, from how wide it looks, the nose, and the joints' depth."""

from __future__ import annotations

import numpy as np

from rmpe_ros.core.people.body_rays import HIPS, SHOULDERS, BodyRays
from rmpe_ros.core.people.people_filter import Array, cross_matrix


def facing_direction(
    body: BodyRays, distance: Array, positions: Array | None, up: Array
) -> tuple[Array, Array]:
    """Where the trunk faces: (N, 3), and its variance in rad² (N,)."""
    count = len(body.poses)
    tall, parts = body.parameters.stature, body.parts
    line = np.concatenate([body.middle, np.ones((count, 1))], axis=1)
    away = line - (line @ up)[:, None] * up
    away /= np.maximum(np.sqrt((away**2).sum(axis=1)), 1e-6)[:, None]
    right = away @ cross_matrix(up)  # of the image
    # Only of these joints is it asked where they are; the nose, if there is one, is the last.
    nose = body.joints('nose')
    joints = [*parts, *nose]
    rays = body.rays[:, joints]
    lateral = rays[:, :, 0] * right[:, :1] + rays[:, :, 1] * right[:, 1:2]
    lateral *= distance[:, None]  # (N, J) metres
    seen, variances = body.seen[:, joints], (body.noise[:, joints] * distance[:, None]) ** 2
    level = None
    if positions is not None:
        level = (positions[:, list(parts)] * away[:, None]).sum(axis=2)
    pairs = ((0, 1, SHOULDERS * tall), (2, 3, HIPS * tall))
    # The cosine: how wide shoulders and hips look, the left ones on the right of who faces us.
    weight, across, toward = np.full(count, 1e-9), np.zeros(count), np.zeros(count)
    depth_weight = np.full(count, 1e-9)
    for left, right_joint, width in pairs:
        both = seen[:, left] & seen[:, right_joint]
        variance = (variances[:, left] + variances[:, right_joint]) / width**2 + 0.1**2
        share = both / variance
        across += share * (lateral[:, left] - lateral[:, right_joint]) / width
        weight += share
        if level is not None:
            difference = (level[:, left] - level[:, right_joint]) / width
            usable = both & (np.abs(difference) < 1.5)
            depth_share = usable / (0.06 / width) ** 2
            toward += np.where(usable, difference, 0) * depth_share
            depth_weight += depth_share
    cosine = across / weight
    cosine_variance = 1 / weight
    bounded = np.minimum(np.maximum(cosine, -1), 1)
    sine = np.sqrt(1 - bounded**2)
    # The sign: the nose is on the side where the person looks; the depth of the shoulders says it.
    evidence = toward / depth_weight / 0.35**2 * (depth_weight > 1)
    if nose:
        offset = (lateral[:, -1] - (lateral[:, 0] + lateral[:, 1]) / 2) / 0.12
        evidence = evidence + np.where(seen[:, -1], offset / 0.5**2, 0)
    sign = np.where(evidence < 0, -1.0, 1.0)
    unsure = 2 * sine * np.exp(-np.minimum(np.abs(evidence * sine), 30))
    from_width = sign * sine
    width_variance = cosine_variance * (bounded / np.maximum(sine, 0.3)) ** 2 + 0.02
    # From the side the farther shoulder is hidden, and its depth is the nearer one's.
    depth_variance = 1 / depth_weight + 0.3 * sine**4 + 0.01
    both_weight = 1 / width_variance + 1 / depth_variance
    sideways = from_width / width_variance + toward / depth_weight / depth_variance
    sideways = np.where(depth_weight > 1, sideways / both_weight, from_width)
    norm = np.maximum(np.hypot(sideways, bounded), 1e-6)
    sideways, toward_us = sideways / norm, bounded / norm
    facing = -toward_us[:, None] * away + sideways[:, None] * right
    variance = cosine_variance / np.maximum(np.abs(sideways), 0.35) ** 2 + unsure**2 + 0.02
    known = (weight > 1) & np.isfinite(variance) & (variance < 1.5)
    return facing, np.where(known, variance, np.inf)
