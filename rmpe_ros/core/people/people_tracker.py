# SPDX-License-Identifier: Apache-2.0
"""People in space: who is where, going where, facing where, and how sure that is.

A sight belongs to a person if both agree in place; the number that the image tracker gave adds to
it, so that it decides where places do not, and a number that jumps to somebody else does not carry
the person along. Who is not seen moves on at constant velocity, with growing spread, until
`max_occlusion`: who then comes into view where the person may be is that person.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.assignment import best_assignment
from rmpe_ros.core.people.people_filter import (
    METHODS,
    Array,
    CameraPose,
    Expected,
    MotionModel,
    expect,
    first_states,
    predict,
    update,
)
from rmpe_ros.core.people.sights import LEVEL, Sights
from rmpe_ros.core.people.yaw import YawFilter, unknown_yaws

TENTATIVE, TRACKED, OCCLUDED = range(3)

# Sights after which somebody is a person and no error of the detector.
_CONFIRMED = 3
# Seconds after which a tentative person who is not seen again is forgotten.
_TENTATIVE_TIME = 0.5
# Seconds without a sight after which a person counts as occluded; a detector misses now and then.
_MISS_TIME = 0.35
# How often somebody new appears, per image and unit of (line of sight)² and logarithm of distance.
_NEW_DENSITY = 0.003
# Squared distances in standard deviations beyond which a sight is not of this person.
_RAY_GATE, _DEPTH_GATE = 20.0, 20.0
# How often a measured distance has nothing to do with the person, as it is that of somebody before
# her: when all of her is seen and when nothing is; and the density that it then has, anywhere
# within a factor of e².
_STRAY_CLEAR, _STRAY_HIDDEN, _STRAY_DENSITY = 0.003, 0.2, 0.5
# Logarithm of how much likelier the same number is for the same person: apart, and side by side.
_SAME_ID, _SAME_ID_CROWDED = 6.0, 3.0
# The same for another number: right after the person was seen, side by side with somebody (where
# the image tracker mixes people up most), and when the number was forgotten.
_OTHER_ID, _OTHER_ID_CROWDED, _OTHER_ID_LATER = -5.0, -2.0, -1.0
# Without the number: squared distances at most, and the least clarity to find who was lost; and how
# much less likely it is for each unit by which the scores of the detector differ.
_STRANGE_GATE, _PLAIN, _SCORE_WEIGHT = 14.0, 0.5, 6.0
# After so many clear sights in a row at another distance, it is the person's place that was wrong.
_WRONG_PLACE, _CLEAR = 5, 0.65
# Who was seen so often is where she was seen; a sight of so much of a person, with a distance as
# sure as this, is of somebody who is there.
_ESTABLISHED, _WHOLE, _SURE_SD = 15, 0.75, 0.08
# Standard deviation of the logarithm of the first distance of somebody of whom little is seen.
_FIRST_SD = 0.3


@dataclass(frozen=True)
class PeopleParameters:
    """max_occlusion: seconds that a person may be out of sight. start_score: a person with a lower
    score does not begin. speed_sd: m/s, how fast people are before they were watched.

    Raises ValueError when a number is out of range.
    """

    max_occlusion: float = 5.0
    start_score: float = 0.2
    speed_sd: float = 0.8
    motion: MotionModel = field(default_factory=MotionModel)

    def __post_init__(self) -> None:
        if not 0 < self.max_occlusion < np.inf:
            raise ValueError(f'max_occlusion must be positive seconds, got {self.max_occlusion}')
        if not 0 <= self.start_score <= 1:
            raise ValueError(f'start_score must be in [0, 1], got {self.start_score}')
        if not 0 < self.speed_sd < np.inf:
            raise ValueError(f'speed_sd must be positive, got {self.speed_sd}')


@dataclass(frozen=True)
class Axes:
    """Up and forward of the target frame, (3,) of length 1; yaw 0 is forward, π/2 is left."""

    up: Array
    forward: Array

    @cached_property
    def left(self) -> Array:
        """(3,) of length 1."""
        return np.cross(self.up, self.forward)

    @staticmethod
    def of_map() -> Axes:
        """x forward, z up, as of all frames but the optical ones (REP 103)."""
        return Axes(np.array([0.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0]))

    @staticmethod
    def of_optical(up: Array = LEVEL) -> Axes:
        """z forward, y down, for a level camera; else `up`, with the optical axis levelled."""
        forward = np.array([0.0, 0.0, 1.0]) - up[2] * up
        return Axes(up, forward / np.linalg.norm(forward))

    def yaw(self, vectors: Array) -> Array:
        """Of vectors (..., 3), radians."""
        return np.arctan2(vectors @ self.left, vectors @ self.forward)

    def level(self, vectors: Array) -> Array:
        """Vectors (..., 3) without their part along up."""
        return vectors - (vectors @ self.up)[..., None] * self.up


@dataclass(frozen=True, eq=False)
class People:
    """N people at one stamp, in the target frame; who was seen longest comes first.

    ids: (N,), from 0 on, each given once. states: (N, 9) of `people_filter`, position and velocity
    first, metres and m/s; covariances: (N, 9, 9). yaws: (N,) rad, yaw_variances: (N,) rad²,
    infinite where unknown. first_seen, last_seen: (N,) seconds, stamps. sights: (N,) how often
    seen. image_ids: (N,), boxes: (N, 4) and scores: (N,) of the last sight. methods: (N,) index in
    METHODS of what the distance was last measured by, -1 for nothing. strays: (N,) clear sights in
    a row at another distance. stamp: seconds.
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
    strays: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, people: NDArray[np.bool_] | NDArray[np.integer]) -> People:
        return People(self.stamp, *(getattr(self, name)[people] for name in _ARRAYS))

    @property
    def positions(self) -> Array:
        """(N, 3) metres."""
        return self.states[:, :3]

    @property
    def velocities(self) -> Array:
        """(N, 3) m/s."""
        return self.states[:, 3:6]

    @property
    def phases(self) -> NDArray[np.int64]:
        """(N,) TENTATIVE, TRACKED or OCCLUDED."""
        occluded = np.where(self.stamp - self.last_seen > _MISS_TIME, OCCLUDED, TRACKED)
        return np.where(self.sights < _CONFIRMED, TENTATIVE, occluded)

    @staticmethod
    def nobody(stamp: float) -> People:
        """An empty world."""
        states, covariances = first_states(0, MotionModel(), 1.0)
        times, whole = np.zeros(0), np.zeros(0, np.int64)
        boxes, scores = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
        image_ids, (yaws, variances) = np.zeros(0, np.int32), unknown_yaws(0)
        return People(
            stamp, whole, states, covariances, yaws, variances, times, times, whole,
            image_ids, boxes, scores, methods=whole, strays=whole,
        )  # fmt: skip


_ARRAYS = [each.name for each in fields(People) if each.name != 'stamp']


class PeopleTracker:
    """Follows people in the target frame from image to image. Not thread-safe."""

    def __init__(self, parameters: PeopleParameters | None = None) -> None:
        self.parameters = parameters or PeopleParameters()
        self._yaw = YawFilter()
        self._people: People | None = None
        self._next_id = 0

    def reset(self) -> None:
        """Forget everybody; numbers go on."""
        self._people = None

    def update(
        self, sights: Sights | None, stamp_seconds: float, camera: CameraPose, axes: Axes
    ) -> People:
        """Everybody at the time of an image, after it was looked at.

        sights: in the image, None when it could not be looked at: then people only move on.
        camera: where it was at that time. An earlier stamp than the last one is a new beginning.
        Raises ValueError when the stamp is not finite.
        """
        people = self._predicted(stamp_seconds, axes)
        if sights is not None and len(sights):
            tracks, seen = self._assign(people, sights, camera)
            # One strange sight of somebody who was here a moment ago is not yet somebody else.
            recent = people.image_ids[stamp_seconds - people.last_seen <= _MISS_TIME]
            new = ~np.isin(sights.image_ids, recent[recent >= 0])
            new[seen] = False
            people = self._measure(people, tracks, sights[seen], camera, axes)
            new &= sights.known & (sights.scores >= self.parameters.start_score)
            people = self._begin(people, sights[new], camera, axes)
        self._people = people
        return people

    def _predicted(self, stamp: float, axes: Axes) -> People:
        if not np.isfinite(stamp):
            raise ValueError(f'the stamp must be a number of seconds, got {stamp}')
        people = self._people
        if people is None or stamp < people.stamp:
            return People.nobody(stamp)
        unseen = stamp - people.last_seen
        longest = np.where(
            people.sights < _CONFIRMED, _TENTATIVE_TIME, self.parameters.max_occlusion
        )
        interval, people = stamp - people.stamp, people[unseen <= longest]
        states, covariances = predict(
            people.states,
            people.covariances,
            interval,
            self.parameters.motion,
            axes.up,
            lost=stamp - people.last_seen > _MISS_TIME,
        )
        variances = self._yaw.predict(people.yaw_variances, interval)
        return replace(
            people, stamp=stamp, states=states, covariances=covariances, yaw_variances=variances
        )

    def _assign(
        self, people: People, sights: Sights, camera: CameraPose
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Indices of people and of their sights."""
        expected = expect(people.states, camera)
        ray = expected.ray_jacobian
        spread = ray @ people.covariances @ ray.transpose(0, 2, 1)
        total = spread[:, None] + sights.ray_covariances
        error = sights.rays - expected.rays[:, None]
        determinant = total[..., 0, 0] * total[..., 1, 1] - total[..., 0, 1] ** 2
        off_ray = (
            total[..., 1, 1] * error[..., 0] ** 2
            - 2 * total[..., 0, 1] * error[..., 0] * error[..., 1]
            + total[..., 0, 0] * error[..., 1] ** 2
        ) / determinant
        off, spread_along = self._off_distance(people, sights, expected)
        same = (people.image_ids[:, None] == sights.image_ids) & (sights.image_ids >= 0)
        possible = (off_ray < _RAY_GATE) & expected.ahead[:, None]
        best = np.take_along_axis(off, sights.best[None, :, None], axis=2)[:, :, 0]
        crowded = possible.sum(axis=0) > 1
        # Who is seen whole, and elsewhere, is another one who was given the number.
        measured = np.min(sights.log_depth_variances, axis=1)
        whole = (sights.clarity > _WHOLE) & (measured < _SURE_SD**2)
        moved = same & ~(whole & (people.sights >= _ESTABLISHED)[:, None])
        possible &= (best < _DEPTH_GATE) | moved
        # Without the number, place alone must tell; errors of the detector are anywhere, too.
        lost = (people.stamp - people.last_seen > _MISS_TIME)[:, None]
        plain = sights.known & (sights.clarity >= _PLAIN) & (best < _STRANGE_GATE)
        possible &= same | ((off_ray < _STRANGE_GATE) & np.where(lost, plain, sights.known))
        unlike = np.abs(people.scores[:, None] - sights.scores) * _SCORE_WEIGHT
        along = -0.5 * (off + np.log(2 * np.pi * spread_along))
        stray = _STRAY_CLEAR + (1 - sights.clarity) ** 2 * _STRAY_HIDDEN
        floor = np.log(stray * _STRAY_DENSITY)[None, :, None]
        along = np.where(same[:, :, None], np.maximum(along, floor), along)
        along = np.where(np.isfinite(sights.log_depth_variances), along, 0).sum(axis=2)
        # Of several distances, each would count against somebody new as well.
        known = np.isfinite(sights.log_depth_variances).sum(axis=1)
        along = along + np.log(2.0) * np.maximum(known - 1, 0)
        likelihood = along - 0.5 * (off_ray + np.log(determinant)) - np.log(2 * np.pi)
        bonus = np.where(crowded, _SAME_ID_CROWDED, _SAME_ID)
        other = np.where(lost, _OTHER_ID_LATER, np.where(crowded, _OTHER_ID_CROWDED, _OTHER_ID))
        other = other - unlike
        gain = likelihood - np.log(_NEW_DENSITY) + np.where(same, bonus, other)
        return best_assignment(np.where(possible, np.maximum(gain, 0), 0))

    @staticmethod
    def _off_distance(people: People, sights: Sights, expected: Expected) -> tuple[Array, Array]:
        """Squared distances in standard deviations, and variances: (T, N, 3), by method."""
        row = expected.depth_jacobian
        variances = ((row @ people.covariances) * row).sum(axis=2)
        measured = sights.log_depth_variances
        total = variances[:, None] + np.where(np.isfinite(measured), measured, 1e6)
        return (sights.log_depths - expected.log_depths[:, None]) ** 2 / total, total

    def _measure(
        self,
        people: People,
        tracks: NDArray[np.intp],
        sights: Sights,
        camera: CameraPose,
        axes: Axes,
    ) -> People:
        """People after each of `tracks` was seen as the sight of the same place in the list."""
        changed = {name: getattr(people, name).copy() for name in _ARRAYS}
        states, covariances = people.states[tracks], people.covariances[tracks]
        every = np.arange(len(tracks))
        off, _ = self._off_distance(people[tracks], sights, expect(states, camera))
        stray = off[every, every, sights.best] > _DEPTH_GATE
        # A sight of little of a person neither proves the place wrong nor right.
        strays = people.strays[tracks] + (stray & (sights.clarity > _CLEAR))
        strays = np.where(stray, strays, 0)
        wrong = strays >= _WRONG_PLACE
        if wrong.any():
            states[wrong], covariances[wrong] = self._first(sights[wrong], camera, axes)
        changed['strays'][tracks] = np.where(wrong, 0, strays)
        changed['states'][tracks], changed['covariances'][tracks] = update(
            states,
            covariances,
            camera,
            rays=sights.rays,
            ray_covariances=sights.ray_covariances,
            log_depths=sights.log_depths,
            log_depth_variances=sights.log_depth_variances,
        )
        changed['yaws'][tracks], changed['yaw_variances'][tracks] = self._yaw.update(
            people.yaws[tracks],
            people.yaw_variances[tracks],
            axes.yaw(sights.facing @ camera.rotation.T),
            sights.facing_variances,
        )
        walking = axes.level(changed['states'][tracks, 3:6])
        seconds = people.stamp - people.last_seen[tracks]
        changed['yaws'][tracks], changed['yaw_variances'][tracks] = self._yaw.follow_walking(
            changed['yaws'][tracks],
            changed['yaw_variances'][tracks],
            axes.yaw(walking),
            np.linalg.norm(walking, axis=1),
            np.minimum(seconds, 0.2),
        )
        # A number that is somebody's now is nobody else's any more.
        given_away = np.isin(people.image_ids, sights.image_ids)
        changed['image_ids'][given_away] = -1
        changed['last_seen'][tracks] = people.stamp
        changed['sights'][tracks] += 1
        for name, value in _appearance(sights).items():
            changed[name][tracks] = value
        return People(people.stamp, **changed)

    def _first(self, sights: Sights, camera: CameraPose, axes: Axes) -> tuple[Array, Array]:
        """States and covariances of people who were nowhere before, at the place of the sights."""
        count, parameters = len(sights), self.parameters
        states, covariances = first_states(count, parameters.motion, parameters.speed_sd)
        depths = np.exp(sights.log_depths[np.arange(count), sights.best])
        line = np.concatenate([sights.rays, np.ones((count, 1))], axis=1)
        states[:, :3] = camera.from_camera(line * depths[:, None])
        # Nobody rises from the ground at the speed of walking.
        rising = np.outer(axes.up, axes.up) * 0.96 * parameters.speed_sd**2
        covariances[:, 3:6, 3:6] -= rising
        return states, covariances

    def _begin(self, people: People, sights: Sights, camera: CameraPose, axes: Axes) -> People:
        """People and those who are new."""
        count = len(sights)
        if not count:
            return people
        states, covariances = self._first(sights, camera, axes)
        unsure = (_FIRST_SD * (1 - sights.clarity)) ** 2
        sights = replace(sights, log_depth_variances=sights.log_depth_variances + unsure[:, None])
        new = People(
            people.stamp,
            np.arange(self._next_id, self._next_id + count),
            states,
            covariances,
            *unknown_yaws(count),
            np.full(count, people.stamp),
            np.full(count, people.stamp),
            np.zeros(count, np.int64),
            **_appearance(sights),
            strays=np.zeros(count, np.int64),
        )
        self._next_id += count
        new = self._measure(new, np.arange(count), sights, camera, axes)
        return People(
            people.stamp,
            *(np.concatenate([getattr(people, name), getattr(new, name)]) for name in _ARRAYS),
        )


def _appearance(sights: Sights) -> dict[str, NDArray]:
    """What a person keeps of the last sight."""
    return {
        'image_ids': sights.image_ids,
        'boxes': sights.boxes,
        'scores': sights.scores,
        'methods': np.where(sights.known, sights.best, -1),
    }


def method_name(index: int) -> str:
    """'depth', 'ground', 'size', or '' for none."""
    return METHODS[index] if index >= 0 else ''
