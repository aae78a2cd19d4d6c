# SPDX-License-Identifier: Apache-2.0
"""How well people are followed in space: errors against the truth of simulated rooms."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.camera import PinholeCamera
from rmpe_ros.core.people.people_filter import METHODS
from rmpe_ros.core.people.people_state import TENTATIVE, Axes, People
from rmpe_ros.core.people.people_tracker import PeopleParameters, PeopleTracker
from rmpe_ros.core.people.sights import SightParameters, observe
from rmpe_ros.core.people.yaw import wrapped
from rmpe_ros.core.poses import Poses
from rmpe_ros.core.tracking import PoseTracker
from rmpe_ros.evaluation.people.simulated_rooms import (
    CAMERAS,
    IMAGE_SIZE,
    Errors,
    Frame,
    Room,
)
from rmpe_ros.evaluation.people.simulated_scenes import SCENES, make_scene

# What is known of distances: joints in space, the ground, and which method is asked for.
MODES: Mapping[str, tuple[bool, bool, str]] = MappingProxyType(
    {
        'depth': (True, False, 'depth'),
        'ground': (False, True, 'ground'),
        'size': (False, False, 'size'),
        'rgb': (False, True, 'best'),
        'rgbd': (True, True, 'best'),
    }
)
# Longer out of sight than this, nobody expects the same number.
_MEMORY = 5.0
_WALKING = 0.4  # m/s
# Numbers kept of each person in each image.
_COLUMNS = 13


@dataclass(eq=False)
class Scores:
    """Sums over frames and people of one mode; see `summary`."""

    errors: list[Any] = field(default_factory=list)
    switches: int = 0
    merges: int = 0
    visible: int = 0
    lost: int = 0
    sights: int = 0
    undecided: int = 0
    ghosts: int = 0
    frames: int = 0
    rate: float = 15.0
    _label_of: dict[int, int] = field(default_factory=dict)
    _id_of: dict[int, tuple[int, float]] = field(default_factory=dict)

    def start_scene(self) -> None:
        """Numbers begin again."""
        self._label_of.clear()
        self._id_of.clear()

    def add(self, frame: Frame, people: People) -> None:
        """The people that a tracker gave for a frame."""
        self.frames += 1
        labels = np.full(len(people), -1)
        for row in np.flatnonzero(people.last_seen == people.stamp).tolist():
            same = (frame.poses.boxes == people.boxes[row]).all(axis=1)
            label = int(frame.labels[np.argmax(same)])
            if label >= 0 and people.phases[row] != TENTATIVE:
                self._count(int(people.ids[row]), label, frame.stamp)
            elif label >= 0:
                self._label_of.setdefault(int(people.ids[row]), label)
        for row, number in enumerate(people.ids.tolist()):
            labels[row] = self._label_of.get(number, -1)
        sure = people.phases != TENTATIVE
        shown = set(labels[sure].tolist())
        for label in np.flatnonzero(frame.visible >= 0.5).tolist():
            self.visible += 1
            self.lost += label not in shown
        self.ghosts += int((sure & (labels < 0)).sum())
        told = people.boxes[people.last_seen == people.stamp]
        real = frame.poses.boxes[frame.labels >= 0]
        self.sights += len(real)
        self.undecided += int((real[:, None] != told).any(axis=2).all(axis=1).sum())
        for row in np.flatnonzero(sure & (labels >= 0)).tolist():
            self._measure(frame, people, row, int(labels[row]))

    def _count(self, number: int, label: int, stamp: float) -> None:
        before = self._label_of.get(number)
        if before is not None and before != label:
            self.merges += 1
        self._label_of[number] = label
        known = self._id_of.get(label)
        if known is not None and known[0] != number and stamp - known[1] <= _MEMORY:
            self.switches += 1
        self._id_of[label] = number, stamp

    def _measure(self, frame: Frame, people: People, row: int, label: int) -> None:
        position = people.positions[row] - frame.middles[label]
        velocity = people.velocities[row] - frame.velocities[label]
        covariance = people.covariances[row]
        both = np.concatenate([position, velocity])
        known = np.isfinite(people.yaw_variances[row])
        turn = wrapped(people.yaws[row] - frame.yaws[label]) if known else np.nan
        self.errors.append(
            (
                position @ position,
                velocity @ velocity,
                turn**2,
                frame.distances[label],
                frame.speeds[label],
                position @ np.linalg.solve(covariance[:3, :3], position) / 3,
                velocity @ np.linalg.solve(covariance[3:6, 3:6], velocity) / 3,
                both @ np.linalg.solve(covariance[:6, :6], both) / 6,
                turn**2 / people.yaw_variances[row] if known else np.nan,
                people.last_seen[row] == people.stamp,
                people.methods[row],
                frame.steady[label],
                frame.feet[label],
            )
        )

    def summary(self) -> dict[str, float]:
        """Numbers by name; errors are of people seen in this image 1-5 m away, where not said."""
        table = np.array(self.errors, float).reshape(-1, _COLUMNS)
        squared, speed_squared, turn, distance, speed, near, fast, both, turned, now = table.T[:10]
        steady, feet = table[:, 11] == 1, table[:, 12] == 1
        sight = (now == 1) & (distance >= 1) & (distance <= 5)
        walking = sight & (speed > _WALKING)

        def mean(values: NDArray[np.float64]) -> float:
            return float(np.mean(values)) if len(values) else float('nan')

        allowed = (0.06 + 0.01 * distance) ** 2
        relative = squared / distance**2
        return {
            'position_rmse_m': mean(squared[sight]) ** 0.5,
            'position_allowed_m': mean(allowed[sight]) ** 0.5,
            'position_percent': 100 * mean(relative[sight]) ** 0.5,
            'position_percent_feet': 100 * mean(relative[sight & feet]) ** 0.5,
            'position_percent_no_feet': 100 * mean(relative[sight & ~feet]) ** 0.5,
            'velocity_rmse': mean(speed_squared[walking]) ** 0.5,
            'velocity_steady_rmse': mean(speed_squared[walking & steady]) ** 0.5,
            'heading_rmse_deg': float(np.degrees(mean(turn[sight & np.isfinite(turn)]) ** 0.5)),
            'heading_known_percent': 100 * mean(np.isfinite(turn[sight]).astype(float)),
            'nees': mean(both),
            'nees_position': mean(near),
            'nees_velocity': mean(fast),
            'nees_heading': mean(turned[np.isfinite(turned)]),
            'id_switches': self.switches,
            'merges': self.merges,
            'lost_percent': 100 * self.lost / max(self.visible, 1),
            'ghosts_percent': 100 * self.ghosts / max(self.visible, 1),
            'undecided_percent': 100 * self.undecided / max(self.sights, 1),
            'minutes': self.frames / self.rate / 60,
        }

    def by_method(self) -> dict[str, float]:
        """Percent of the distance by what measured it, 1-5 m away."""
        table = np.array(self.errors, float).reshape(-1, _COLUMNS)
        result = {}
        for index, name in enumerate(METHODS):
            rows = table[(table[:, 10] == index) & (table[:, 9] == 1)]
            rows = rows[(rows[:, 3] >= 1) & (rows[:, 3] <= 5)]
            if len(rows):
                result[name] = float(100 * np.sqrt(np.mean(rows[:, 0] / rows[:, 3] ** 2)))
        return result


@dataclass(eq=False)
class _ImageTracker:
    """The pipeline's own tracker, with the switches of real life added."""

    switches: float
    rng: np.random.Generator
    tracker: PoseTracker = field(default_factory=PoseTracker)
    renamed: dict[int, int] = field(default_factory=dict)
    last: dict[int, tuple[int, float]] = field(default_factory=dict)
    counted: int = 0
    stamp: float = 0.0

    def follow(self, frame: Frame) -> Poses:
        poses = self.tracker.update(frame.poses, frame.stamp)
        for index, number in enumerate(poses.track_ids.tolist()):
            if number < 0:
                continue
            if self.rng.uniform() < self.switches * (frame.stamp - self.stamp) / 60:
                self.renamed[number] = int(1e6 + self.rng.integers(1 << 20))
            poses.track_ids[index] = self.renamed.get(number, number)
            label, given = int(frame.labels[index]), int(poses.track_ids[index])
            before = self.last.get(label)
            if label >= 0:
                recent = before is not None and frame.stamp - before[1] <= _MEMORY
                self.counted += recent and before is not None and before[0] != given
                self.last[label] = given, frame.stamp
        self.stamp = frame.stamp
        return poses


@dataclass(eq=False)
class PeopleEvaluation:
    """Sums over rooms, by mode and by mode and scene.

    errors: of the rooms, of which the image tracker's are used here; people: of the trackers.
    """

    modes: tuple[str, ...] = tuple(MODES)
    errors: Errors = field(default_factory=Errors)
    people: PeopleParameters | None = None
    total: dict[str, Scores] = field(default_factory=lambda: defaultdict(Scores))
    by_scene: dict[tuple[str, str], Scores] = field(default_factory=lambda: defaultdict(Scores))
    image_tracker_switches: int = 0

    def add(
        self, scene: str, camera: PinholeCamera, frames: Iterable[Frame], rng: np.random.Generator
    ) -> None:
        """Follow the people of one film in each mode."""
        trackers = {mode: PeopleTracker(self.people) for mode in self.modes}
        scores = {mode: (self.total[mode], self.by_scene[mode, scene]) for mode in trackers}
        for pair in scores.values():
            for score in pair:
                score.start_scene()
        numbers = _ImageTracker(self.errors.switches, rng)
        for frame in frames:
            poses = numbers.follow(frame)
            for mode, tracker in trackers.items():
                with_depth, with_ground, method = MODES[mode]
                sights = observe(
                    poses,
                    camera,
                    image_size=IMAGE_SIZE,
                    positions=frame.positions if with_depth else None,
                    ground=frame.ground if with_ground else None,
                    parameters=SightParameters(method=method),
                )
                found = tracker.update(sights, frame.stamp, frame.view, Axes.of_map())
                for score in scores[mode]:
                    score.add(frame, found)
        self.image_tracker_switches += numbers.counted

    def summary(self) -> dict[str, Any]:
        """'modes': numbers by mode; 'scenes': by mode and scene; 'methods': percent of the
        distance by mode and by what measured it; 'image_tracker_switches': without us.
        """
        return {
            'modes': {mode: score.summary() for mode, score in self.total.items()},
            'scenes': {f'{mode}: {name}': s.summary() for (mode, name), s in self.by_scene.items()},
            'methods': {mode: score.by_method() for mode, score in self.total.items()},
            'image_tracker_switches': self.image_tracker_switches,
        }


def evaluate_people(
    *,
    modes: Iterable[str] = MODES,
    scenes: Iterable[str] = SCENES,
    cameras: Iterable[str] = CAMERAS,
    seconds: float = 40.0,
    seed: int = 0,
    errors: Errors | None = None,
    people: PeopleParameters | None = None,
    on_room: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Film each scene with each camera for so many seconds, and follow the people in each mode.

    Returns `PeopleEvaluation.summary`. on_room: told what is filmed next.
    """
    errors = errors or Errors()
    evaluation = PeopleEvaluation(tuple(modes), errors, people)
    for scene in scenes:
        for lens in cameras:
            if on_room is not None:
                on_room(f'{scene}, {lens}')
            rng = np.random.default_rng([seed, zlib.crc32(f'{scene} {lens}'.encode())])
            room = Room(
                make_scene(scene, rng, seconds),
                CAMERAS[lens],
                seconds=seconds,
                seed=int(rng.integers(1 << 31)),
                errors=errors,
            )
            evaluation.add(scene, room.camera, room.frames(), rng)
    return evaluation.summary()
