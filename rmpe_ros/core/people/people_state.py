# SPDX-License-Identifier: Apache-2.0
"""People at one time: where they are, as arrays over all of them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.people.clothing import Clothing
from rmpe_ros.core.people.people_filter import (
    METHODS,
    Array,
    MotionModel,
    cross_matrix,
    first_states,
)
from rmpe_ros.core.people.sights import LEVEL
from rmpe_ros.core.people.statures import Statures
from rmpe_ros.core.people.yaw import unknown_yaws

TENTATIVE, TRACKED, OCCLUDED = range(3)

# Sights after which somebody is a person and no error of the detector.
CONFIRMED = 3
# Seconds without a sight after which a person counts as occluded; a detector misses now and then.
MISS_TIME = 0.35


@dataclass(frozen=True)
class Axes:
    """Up and forward of the target frame, (3,) of length 1; yaw 0 is forward, π/2 is left."""

    up: Array
    forward: Array

    @cached_property
    def left(self) -> Array:
        """(3,) of length 1."""
        return self.up @ cross_matrix(self.forward)

    @staticmethod
    @cache
    def of_map() -> Axes:
        """x forward, z up, as of all frames but the optical ones (REP 103)."""
        return Axes(np.array([0.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0]))

    @staticmethod
    def of_optical(up: Array = LEVEL) -> Axes:
        """z forward, y down, for a level camera; else `up`, with the optical axis levelled."""
        forward = np.array([0.0, 0.0, 1.0]) - up[2] * up
        return Axes(up, forward / np.linalg.norm(forward))

    @cached_property
    def _level(self) -> Array:
        return np.stack([self.left, self.forward], axis=1)

    @cached_property
    def upright(self) -> Array:
        """x, y, z, w of the rotation of a frame with x forward and z up, as seen from this one."""
        return rotation_quaternion(np.stack([self.forward, self.left, self.up], axis=1))

    def level(self, vectors: Array) -> Array:
        """How far vectors (..., 3) go to the left and forward, (..., 2)."""
        return vectors @ self._level

    def yaw(self, vectors: Array) -> Array:
        """Of vectors (..., 3), radians."""
        parts = self.level(vectors)
        return np.arctan2(parts[..., 0], parts[..., 1])


def rotation_quaternion(matrix: Array) -> Array:
    """x, y, z, w of a rotation matrix."""
    candidates = np.array(
        [
            1 + matrix[0, 0] - matrix[1, 1] - matrix[2, 2],
            1 - matrix[0, 0] + matrix[1, 1] - matrix[2, 2],
            1 - matrix[0, 0] - matrix[1, 1] + matrix[2, 2],
            1 + np.trace(matrix),
        ]
    )
    largest = int(np.argmax(candidates))
    a = np.array([matrix[2, 1], matrix[0, 2], matrix[1, 0]])
    b = np.array([matrix[1, 2], matrix[2, 0], matrix[0, 1]])
    found = np.zeros(4)
    found[largest] = candidates[largest]
    if largest == 3:
        found[:3] = a - b
    else:
        found[3] = (a - b)[largest]
        for other in range(3):
            if other != largest:
                found[other] = (a + b)[3 - largest - other]
    return found / np.linalg.norm(found)


@dataclass(frozen=True, eq=False)
class People:
    """N people at one stamp, in the target frame; who was seen longest comes first.

    ids: (N,), from 0 on, each given once. states: (N, 12) of `people_filter`, position and velocity
    first, metres and m/s; covariances: (N, 12, 12). yaws: (N,) rad, yaw_variances: (N,) rad²,
    infinite where unknown. first_seen, last_seen: (N,) seconds, stamps. sights: (N,) how often
    seen. image_ids: (N,), boxes: (N, 4) and scores: (N,) of the last sight. methods: (N,) index in
    METHODS of what the distance was last measured by, -1 for nothing. missed: (N,) images in a row
    in which each was not found. strays: (N,) clear sights in a row at another distance. heights:
    (N,) logarithms of metres, of the boxes; height_variances: (N,), infinite where unknown;
    last_heights: (N,) of the last boxes. hiders: (N,) metres along the optical axis, of what was
    before each in the last sight, NaN for nothing; doubtful: (N,) whether that sight may be of who
    is behind her. colours: (N, 6) of the clothes; colour_variances: (N, 6), infinite where unknown.
    stamp: seconds; interval: seconds since the image before.
    """

    stamp: float
    ids: NDArray[np.int64]
    states: Array
    covariances: Array
    yaws: Array
    yaw_variances: Array
    first_seen: Array
    last_seen: Array
    sights: NDArray[np.int64]
    image_ids: NDArray[np.int32]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    methods: NDArray[np.int64]
    missed: NDArray[np.int64]
    strays: NDArray[np.int64]
    heights: Array
    height_variances: Array
    last_heights: Array
    hiders: Array
    doubtful: NDArray[np.bool_]
    colours: Array
    colour_variances: Array
    interval: float = 0.0

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, people: NDArray[np.bool_] | NDArray[np.integer]) -> People:
        return self.changed(**{name: getattr(self, name)[people] for name in ARRAYS})

    def changed(self, **values: Any) -> People:
        """The same with other `values`; `dataclasses.replace` takes ten times as long."""
        other = object.__new__(People)
        other.__dict__.update(self.__dict__, **values)
        other.__dict__.pop('unseen', None)  # depend on these
        other.__dict__.pop('lost', None)
        return other

    @property
    def positions(self) -> Array:
        """(N, 3) metres."""
        return self.states[:, :3]

    @property
    def velocities(self) -> Array:
        """(N, 3) m/s."""
        return self.states[:, 3:6]

    @property
    def statures(self) -> Statures:
        """How tall the boxes of each are."""
        return Statures(self.heights, self.height_variances, self.last_heights)

    @property
    def clothing(self) -> Clothing:
        """What each wears."""
        return Clothing(self.colours, self.colour_variances)

    @cached_property
    def unseen(self) -> Array:
        """(N,) seconds since each was seen."""
        return self.stamp - self.last_seen

    @cached_property
    def lost(self) -> NDArray[np.bool_]:
        """(N,) who was not seen for longer than a detector misses now and then."""
        return self.unseen > MISS_TIME

    @property
    def phases(self) -> NDArray[np.int64]:
        """(N,) TENTATIVE, TRACKED or OCCLUDED."""
        occluded = np.where(self.lost, OCCLUDED, TRACKED)
        return np.where(self.sights < CONFIRMED, TENTATIVE, occluded)

    @staticmethod
    def nobody(stamp: float) -> People:
        """An empty world."""
        states, covariances = first_states(0, MotionModel(), 1.0)
        times, whole = np.zeros(0), np.zeros(0, np.int64)
        boxes, scores = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
        image_ids, (yaws, variances) = np.zeros(0, np.int32), unknown_yaws(0)
        unknown = Clothing.unknown(0)
        return People(
            stamp, whole, states, covariances, yaws, variances, times, times, whole,
            image_ids, boxes, scores, methods=whole, missed=whole, strays=whole, heights=times,
            height_variances=times, last_heights=times, hiders=times, doubtful=whole > 0,
            colours=unknown.values, colour_variances=unknown.variances,
        )  # fmt: skip


ARRAYS = [each.name for each in fields(People) if each.name not in ('stamp', 'interval')]


def joined(people: People, others: People) -> People:
    """Both, of the same stamp."""
    both: dict[str, Any] = {
        name: np.concatenate([getattr(people, name), getattr(others, name)]) for name in ARRAYS
    }
    return people.changed(**both)


def method_name(index: int) -> str:
    """'depth', 'ground', 'size', or '' for none."""
    return METHODS[index] if index >= 0 else ''
