# SPDX-License-Identifier: Apache-2.0
"""How simulated people move: to one goal after another, at their pace, out of each other's way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.evaluation.people.simulated_bodies import Build, SimulatedPerson, pose_body
from rmpe_ros.evaluation.people.simulated_ways import (
    APART,
    CLEAR,
    Pillar,
    Table,
    next_corner,
    out_of_the_way,
)

Array = NDArray[np.float64]
_STEP = 1 / 30
_ACCELERATION = 1.5  # m/s², of people who want to
# Metres from a goal: who is there, and who may stay, because somebody else is there.
_THERE, _BESIDE = 0.25, 0.9


@dataclass(frozen=True)
class Stop:
    """A goal on the floor, how long to stay there in seconds, and whether to sit down."""

    place: tuple[float, float]
    stay: float = 0.0
    sit: bool = False
    facing: float | None = None


@dataclass(frozen=True)
class Walker:
    """Goes from stop to stop, beginning at the first. pace: m/s."""

    build: Build
    stops: tuple[Stop, ...]
    pace: float = 1.2


@dataclass(eq=False)
class Motion:
    """What all walkers did: arrays over steps of 1/30 s and walkers."""

    walkers: list[Walker]
    places: Array
    yaws: Array
    gaits: Array
    speeds: Array
    sitting: Array
    looks: Array
    _cache: dict[tuple[int, int], SimulatedPerson] = field(default_factory=dict)

    def body(self, walker: int, seconds: float) -> SimulatedPerson:
        """The body of a walker at a time."""
        step = min(max(round(seconds / _STEP), 0), len(self.places) - 1)
        key = walker, step
        if key not in self._cache:
            self._cache[key] = pose_body(
                self.walkers[walker].build,
                self.places[step, walker],
                float(self.yaws[step, walker]),
                speed=float(self.speeds[step, walker]),
                gait=float(self.gaits[step, walker]),
                sitting=float(self.sitting[step, walker]),
                look=float(self.looks[step, walker]),
            )
        return self._cache[key]

    def yaw(self, walker: int, seconds: float) -> float:
        step = min(max(round(seconds / _STEP), 0), len(self.places) - 1)
        return float(self.yaws[step, walker])

    def steady(self, seconds: float) -> NDArray[np.bool_]:
        """(W,) whose velocity is within 0.3 m/s of that of a second ago."""
        now = min(max(round(seconds / _STEP), 1), len(self.places) - 1)
        ago = max(now - round(1 / _STEP), 1)
        change = self.places[now] - self.places[now - 1] - self.places[ago] + self.places[ago - 1]
        return np.hypot(*change.T) / _STEP < 0.3

    def velocity(self, walker: int, seconds: float) -> Array:
        """(3,) m/s of the trunk's middle, over the 0.53 s of one step: without its bobbing."""
        after, before = (self.body(walker, seconds + side * 8 * _STEP) for side in (1, -1))
        return (after.middle - before.middle) / (16 * _STEP)


def move(
    walkers: list[Walker],
    seconds: float,
    rng: np.random.Generator,
    *,
    tables: Sequence[Table] = (),
    pillars: Sequence[Pillar] = (),
) -> Motion:
    """Let the walkers walk among `tables` and `pillars`; a second is added at the end, so that
    velocities are known.
    """
    steps, count = int((seconds + 1) / _STEP) + 1, len(walkers)
    shape = (steps, count)
    yaws, gaits, speeds, seated, looks = (np.zeros(shape) for _ in range(5))
    motion = Motion(walkers, np.zeros((*shape, 2)), yaws, gaits, speeds, seated, looks)
    place = np.array([walker.stops[0].place for walker in walkers], float).reshape(count, 2)
    velocity = np.zeros((count, 2))
    stop, left = np.zeros(count, int), np.array([walker.stops[0].stay for walker in walkers])
    first = [walker.stops[0].facing for walker in walkers]
    yaw = np.array([rng.uniform(-np.pi, np.pi) if each is None else each for each in first])
    gait = np.array([walker.build.phase for walker in walkers])
    sitting, look = np.zeros(count), np.zeros(count)
    under_way = np.zeros(count, bool)
    posts = np.array(pillars).reshape(-1, 3)
    radii = np.concatenate([np.full(count, APART), posts[:, 2] + CLEAR])
    still = np.zeros((len(posts), 2))
    for step in range(steps):
        for index, walker in enumerate(walkers):
            goal = walker.stops[stop[index]]
            target = np.array(goal.place)
            distance = float(np.hypot(*(target - place[index])))
            others = np.arange(count) != index
            there = distance < _THERE
            if not goal.sit and distance < _BESIDE:  # somebody else is there: beside will do
                there |= bool((np.hypot(*(place[others] - target).T) < APART).any())
            resting = left[index] > 0 and there
            wanted = np.zeros(2)
            if resting:
                left[index] -= _STEP
                down = goal.sit and left[index] > 1.5
                sitting[index] = np.clip(sitting[index] + (_STEP if down else -_STEP) / 1.3, 0, 1)
                if goal.facing is not None:
                    yaw[index] += _turned(goal.facing - yaw[index]) * min(1, 2.5 * _STEP)
            elif there:
                stop[index] = (stop[index] + 1) % len(walker.stops)
                left[index] = walker.stops[stop[index]].stay
            elif sitting[index] < 0.05:
                slow = min(1.0, distance / 0.7) if goal.stay else 1.0
                away = next_corner(place[index], target, tables) - place[index]
                wanted = away / np.hypot(*away) * walker.pace * max(slow, 0.3)
            under_way[index] = wanted.any()
            if wanted.any():
                among = np.append(others, np.ones(len(posts), bool))
                wanted = out_of_the_way(
                    wanted,
                    velocity[index],
                    (np.concatenate([place, posts[:, :2]]) - place[index])[among],
                    np.concatenate([velocity, still])[among],
                    np.append(under_way, np.zeros(len(posts), bool))[among],
                    radii[among],
                    place=place[index],
                    tables=tables,
                )
            change = (wanted - velocity[index]) / 0.4
            change *= min(1.0, _ACCELERATION / max(np.hypot(*change), 1e-6))
            velocity[index] += change * _STEP
            place[index] += velocity[index] * _STEP
            speed = float(np.hypot(*velocity[index]))
            if speed > 0.25:
                course = np.arctan2(velocity[index, 1], velocity[index, 0])
                yaw[index] += _turned(course - yaw[index]) * min(1, 4 * _STEP)
            gait[index] += 2 * np.pi * _STEP * (0.35 + 0.45 * speed) * (speed > 0.1)
            look[index] += -0.6 * look[index] * _STEP + rng.normal(0, 0.35) * np.sqrt(_STEP)
        motion.places[step], motion.yaws[step], motion.gaits[step] = place, yaw, gait
        motion.speeds[step] = np.hypot(*velocity.T)
        motion.sitting[step], motion.looks[step] = sitting, look
    return motion


def _turned(angle: float) -> float:
    return float((angle + np.pi) % (2 * np.pi) - np.pi)
