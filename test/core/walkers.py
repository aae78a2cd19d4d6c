# SPDX-License-Identifier: Apache-2.0
"""People who walk through a picture: labelled sequences for the tests of tracking."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import BODY19

# Joints of a standing person in heights, x from the middle and y from the top, in body19's order.
STANDING = np.array(
    [
        *[(0.0, 0.08), (0.01, 0.07), (-0.01, 0.07), (0.03, 0.08), (-0.03, 0.08)],
        *[(0.11, 0.2), (-0.11, 0.2), (0.14, 0.35), (-0.14, 0.35), (0.15, 0.48), (-0.15, 0.48)],
        *[(0.07, 0.52), (-0.07, 0.52), (0.07, 0.75), (-0.07, 0.75), (0.07, 0.97), (-0.07, 0.97)],
        *[(0.0, 0.18), (0.0, 0.0)],
    ]
)


@dataclass(frozen=True)
class Walker:
    """start: the middle of the head's top at t = 0, pixels; velocity: pixels per second."""

    start: tuple[float, float]
    velocity: tuple[float, float]
    height: float = 200.0
    phase: float = 0.0

    def joints(self, time: float) -> np.ndarray:
        """(19, 2) pixels; arms and legs swing with the steps."""
        points = STANDING * self.height
        swing = np.sin(2 * np.pi * 0.9 * time + self.phase) * 0.08 * self.height
        moving = np.hypot(*self.velocity) > 0
        for joint, share in ((9, -1), (10, 1), (15, 1), (16, -1), (13, 0.5), (14, -0.5)):
            points[joint, 0] += swing * share * moving
        return points + self.start + np.array(self.velocity) * time


@dataclass(frozen=True)
class Frame:
    """poses: as a pipeline would give them; labels: (N,) who each is; truth: (N, 19, 2) pixels."""

    stamp: float
    poses: Poses
    labels: np.ndarray
    truth: np.ndarray


def walk(
    walkers: list[Walker],
    *,
    seconds: float,
    rate: float = 15.0,
    noise: float = 0.0,
    misses: float = 0.0,
    occlusion: float = 1.0,
    hidden: dict[int, tuple[float, float]] | None = None,
    seed: int = 0,
) -> Iterator[Frame]:
    """A sequence of frames, everybody in a random order.

    noise: standard deviation of the joints, pixels; misses: chance that a person is not found;
    occlusion: who overlaps somebody nearer (a smaller index) by more of the own box is not found;
    hidden: seconds from and to which a walker is out of sight.
    """
    rng = np.random.default_rng(seed)
    for frame in range(int(seconds * rate) + 1):
        time = frame / rate
        truth = np.array([walker.joints(time) for walker in walkers])
        boxes = np.concatenate([truth.min(axis=1) - 5, truth.max(axis=1) + 5], axis=1)
        visible = rng.uniform(size=len(walkers)) >= misses
        for person in range(len(walkers)):
            start, end = (hidden or {}).get(person, (np.inf, np.inf))
            visible[person] &= not start <= time < end
            nearer = [covered_share(boxes[person], boxes[other]) for other in range(person)]
            visible[person] &= max(nearer, default=0) <= occlusion
        people = rng.permutation(np.flatnonzero(visible))
        count = len(people)
        jitter = rng.normal(0, noise, (count, 19, 2)) if noise else np.zeros((count, 19, 2))
        poses = Poses(
            BODY19,
            truth[people] + jitter,
            rng.uniform(0.5, 0.95, (count, 19)),
            boxes[people] + (rng.normal(0, noise, (count, 4)) if noise else 0),
            rng.uniform(0.4, 0.9, count),
        )
        yield Frame(time, poses, people, truth[people])


def covered_share(box: np.ndarray, other: np.ndarray) -> float:
    """The share of `box` that `other` covers."""
    sides = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
    return float(np.prod(np.maximum(sides, 0)) / np.prod(box[2:] - box[:2]))


def id_switches(frames: list[tuple[np.ndarray, np.ndarray]]) -> int:
    """How often a person's number is another one than when the person was last seen.

    frames: labels and track_ids of each frame. As in the CLEAR MOT metrics (Bernardin 2008).
    """
    last: dict[int, int] = {}
    switches = 0
    for labels, track_ids in frames:
        for label, track_id in zip(labels.tolist(), track_ids.tolist(), strict=True):
            switches += last.get(label, track_id) != track_id
            last[label] = track_id
    return switches
