# SPDX-License-Identifier: Apache-2.0
"""Bodies for simulated rooms: joints and surface of people who walk, stand and sit.

World frame: x and y on the floor, z up, metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Mixed adults: men 1.76 ± 0.07 m, women 1.63 ± 0.065 m.
STATURE, STATURE_SD = 1.695, 0.094
# Single parts of the body differ from the average proportions by so much besides.
_PROPORTION_SD = 0.04


@dataclass(frozen=True)
class Build:
    """One person's measures, metres; lean: of the trunk, radians forward; cadence: phase."""

    stature: float
    trunk: float
    thigh: float
    shank: float
    shoulders: float
    hips: float
    arm: float
    lean: float
    phase: float

    @staticmethod
    def random(rng: np.random.Generator) -> Build:
        stature = float(np.clip(rng.normal(STATURE, STATURE_SD), 1.45, 2.0))
        shares = np.array([0.288, 0.245, 0.246, 0.23, 0.13, 0.186])
        parts = stature * shares * np.exp(rng.normal(0, _PROPORTION_SD, 6))
        trunk, thigh, shank, shoulders, hips, arm = parts.tolist()
        lean, phase = float(rng.normal(0.05, 0.06)), float(rng.uniform(0, 2 * np.pi))
        return Build(stature, trunk, thigh, shank, shoulders, hips, arm, lean, phase)


@dataclass(frozen=True)
class SimulatedPerson:
    """What a depth camera sees of somebody in one posture.

    joints: (19, 3) in body19's order; spheres: (M, 4) centre and radius; trunk: a (3, 3) matrix
    that turns the trunk's ellipsoid about `middle` into the unit sphere.
    """

    joints: Array
    spheres: Array
    middle: Array
    trunk: Array


def pose_body(
    build: Build,
    place: Array,
    yaw: float,
    *,
    speed: float,
    gait: float,
    sitting: float,
    look: float = 0.0,
) -> SimulatedPerson:
    """A body whose hips are above `place` (2,), with the trunk facing `yaw`.

    speed: m/s, how wide the steps are; gait: radians, where in the step; sitting: 0 stands, 1 sits;
    look: radians that the head is turned to the left.
    """
    forward = np.array([np.cos(yaw), np.sin(yaw), 0.0])
    left = np.array([-np.sin(yaw), np.cos(yaw), 0.0])
    up = np.array([0.0, 0.0, 1.0])
    swing = 0.42 * min(speed / 1.3, 1.2)

    def leg(phase: float) -> tuple[Array, Array]:
        # Angles of thigh and shank from the vertical, forward positive.
        bend = 0.9 * min(speed / 1.0, 1.0) * max(0.0, np.cos(phase)) ** 2
        hip = swing * np.sin(phase) * (1 - sitting) + 1.45 * sitting
        knee = hip - bend * (1 - sitting) - 1.4 * sitting
        thigh = build.thigh * (np.sin(hip) * forward - np.cos(hip) * up)
        return thigh, build.shank * (np.sin(knee) * forward - np.cos(knee) * up)

    legs = [leg(gait), leg(gait + np.pi)]
    ankle = 0.045 * build.stature
    height = ankle + max(-(thigh + shank)[2] for thigh, shank in legs)
    hips = np.array([*place, height]) + 0.02 * min(speed, 1) * np.sin(gait) * left
    lean = build.lean + 0.1 * sitting
    spine = np.sin(lean) * forward + np.cos(lean) * up
    chest = hips + build.trunk * spine
    ahead = np.cos(look) * forward + np.sin(look) * left
    side = np.cos(look) * left - np.sin(look) * forward
    head = chest + 0.1 * build.stature * spine
    joints = np.zeros((19, 3))
    joints[0] = head + 0.11 * ahead
    joints[[1, 2]] = head + 0.03 * up + 0.09 * ahead + np.outer((0.03, -0.03), side)
    joints[[3, 4]] = head + np.outer((0.075, -0.075), side)
    joints[[5, 6]] = chest + np.outer((0.5, -0.5), left) * build.shoulders
    joints[[11, 12]] = hips + np.outer((0.5, -0.5), left) * build.hips
    for index, (thigh, shank) in enumerate(legs):
        joints[13 + index] = joints[11 + index] + thigh
        joints[15 + index] = joints[13 + index] + shank
        angle = 0.15 - (1 - 2 * index) * swing * 0.8 * np.sin(gait) + 0.5 * sitting
        upper = build.arm * (np.sin(angle) * forward - np.cos(angle) * up)
        bent = angle + 0.4 + 0.6 * sitting
        joints[7 + index] = joints[5 + index] + upper + (0.04 - 0.08 * index) * left
        joints[9 + index] = joints[7 + index] + 0.78 * build.arm * (
            np.sin(bent) * forward - np.cos(bent) * up
        )
    joints[17] = chest + 0.035 * build.stature * spine
    joints[18] = chest + 0.182 * build.stature * spine
    middle = (hips + chest) / 2
    axes = np.stack([left, np.cross(left, spine), spine])
    radii = np.array([0.17, 0.115, build.trunk * 0.75])
    spheres = [(*(head + 0.01 * ahead), 0.105), (*(chest + 0.04 * spine), 0.085)]
    spheres += [(*joints[index], radius) for index, radius in ((5, 0.075), (6, 0.075))]
    spheres += [(*joints[index], radius) for index, radius in ((11, 0.1), (12, 0.1))]
    for a, b, radius in (
        (5, 7, 0.05), (6, 8, 0.05), (7, 9, 0.04), (8, 10, 0.04),
        (11, 13, 0.075), (12, 14, 0.075), (13, 15, 0.055), (14, 16, 0.055),
    ):  # fmt: skip
        for share in (0.25, 0.6, 0.95):
            spheres.append((*(joints[a] + share * (joints[b] - joints[a])), radius))
    return SimulatedPerson(joints, np.array(spheres), middle, axes / radii[:, None])
