# SPDX-License-Identifier: Apache-2.0
"""What following people costs: CPU time of each step for a crowd before a camera."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from rmpe_ros.core.people.people_filter import CameraPose
from rmpe_ros.core.people.people_state import Axes, People
from rmpe_ros.core.people.people_tracker import PeopleTracker
from rmpe_ros.core.people.sights import Ground, observe
from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.evaluation.people.simulated_bodies import Build, pose_body
from rmpe_ros.evaluation.people.simulated_clothes import SimulatedClothes
from rmpe_ros.evaluation.people.simulated_rooms import CAMERAS, IMAGE_SIZE

_RATE = 15.0


def people_cost(
    count: int, *, images: int = 150, then: Callable[[People], object] | None = None
) -> dict[str, float]:
    """Milliseconds of CPU time an image, of `count` people who walk past with their depth known.

    'sights': from poses to sights; 'following': matching and filter; 'message': `then`, which is
    given the people. Each the least of ten parts of the film, as whatever else runs only adds.
    """
    rng = np.random.default_rng(0)
    level = np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]])
    view, camera = CameraPose(level, np.array([0, 0, 1.2])), CAMERAS['pinhole']
    builds = [Build.random(rng) for _ in range(count)]
    clothes = SimulatedClothes(count, rng)
    ground, tracker, axes = Ground.from_tilt(1.2, 0.0), PeopleTracker(), Axes.of_map()
    spent = []
    for image in range(images):
        joints = [
            pose_body(
                build,
                np.array([3 + 0.5 * (person % 5), -2 + 0.2 * person + 0.5 * np.sin(image / 30)]),
                np.pi,
                speed=0.5,
                gait=0.3 * image,
                sitting=0.0,
            ).joints
            for person, build in enumerate(builds)
        ]
        points = view.to_camera(np.array(joints).reshape(count, -1, 3))
        pixels = points[..., :2] / points[..., 2:] * camera.fx + (camera.cx, camera.cy)
        pixels += rng.normal(0, 2, pixels.shape)
        boxes = np.concatenate([pixels.min(axis=1) - 4, pixels.max(axis=1) + 4], axis=1)
        scores = rng.uniform(0.5, 0.95, pixels.shape[:2])
        poses = Poses(
            BODY19,
            pixels.astype(np.float32),
            scores.astype(np.float32),
            boxes.astype(np.float32),
            scores.mean(axis=1).astype(np.float32),
            np.arange(count, dtype=np.int32),
            colours=(clothes.worn + rng.normal(0, 3, clothes.worn.shape)).astype(np.float32),
        )
        times = [time.process_time()]
        sights = observe(
            poses, camera, image_size=IMAGE_SIZE, positions=points * 0.97, ground=ground
        )
        times.append(time.process_time())
        people = tracker.update(sights, image / _RATE, view, axes)
        times.append(time.process_time())
        if then is not None:
            then(people)
        times.append(time.process_time())
        spent.append(np.diff(times))
    parts = [part.mean(axis=0) for part in np.array_split(np.array(spent), 10)]
    milliseconds = 1e3 * np.min(parts, axis=0)
    return dict(zip(('sights', 'following', 'message'), milliseconds.tolist(), strict=True))
