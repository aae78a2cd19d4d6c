# SPDX-License-Identifier: Apache-2.0
"""Rooms with people of whom everything is known, seen by cameras that err as real ones do.

What a camera gives is poses, as the pipeline would give them (joints that jitter and stray, people
that are not found, people that are not there), and depth with noise, holes and flying pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.camera import PinholeCamera
from rmpe_ros.core.lifting import lift_poses
from rmpe_ros.core.oks import AREA_OF_BOX
from rmpe_ros.core.people.distances import Ground
from rmpe_ros.core.people.people_filter import CameraPose
from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.evaluation.people.simulated_clothes import SimulatedClothes
from rmpe_ros.evaluation.people.simulated_depth import DepthErrors, SimulatedDepth
from rmpe_ros.evaluation.people.simulated_motion import Motion, move
from rmpe_ros.evaluation.people.simulated_scenes import Scene

Array = NDArray[np.float64]
IMAGE_SIZE = (480, 640)
# What is so much before a joint, metres, is not the person herself.
_OWN_BODY = 0.5

CAMERAS = MappingProxyType(
    {
        'pinhole': PinholeCamera(525.0, 525.0, 319.5, 239.5),
        'wide': PinholeCamera(420.0, 421.0, 317.0, 242.0, (-0.28, 0.08, 5e-4, -3e-4, 0.0)),
        'fisheye': PinholeCamera(330.0, 330.0, 321.0, 238.0, (-0.02, 0.006, -0.004, 8e-4), True),
    }
)


@dataclass(frozen=True)
class Errors:
    """How bad camera, detector and pose network are.

    misses: share of sights that the detector does not find, half of them in runs; ghosts: people
    that are not there, per image; switches: per minute, at which the image tracker gives a person a
    new number. joint_noise: in OKS sigmas. pose_error: radians, metres: of the camera's pose from
    image to image, while it moves; tilt_error: radians, metres, of tilt and height, all the time.
    """

    misses: float = 0.1
    ghosts: float = 0.02
    switches: float = 1.0
    joint_noise: float = 0.6
    depth: DepthErrors = field(default_factory=DepthErrors)
    pose_error: tuple[float, float] = (0.003, 0.005)
    tilt_error: tuple[float, float] = (0.006, 0.01)


@dataclass(frozen=True)
class Frame:
    """What one image gives, and the truth.

    labels: (N,) which walker each pose is of, -1 for a ghost; positions: (N, 19, 3) metres in the
    optical frame, lifted from the depth image; view: the camera's pose as TF tells
    it; present: walkers in the room; visible: (W,) share of the joints that can be seen; truth in
    the world: middles (W, 3), velocities (W, 3), yaws (W,); distances (W,) from the camera; walking
    (W,) m/s; feet: (W,) whether both ankles are seen; steady: (W,) whether the velocity is within
    0.3 m/s of what it was a second ago.
    """

    stamp: float
    poses: Poses
    labels: NDArray[np.int64]
    positions: Array
    view: CameraPose
    ground: Ground
    visible: Array
    middles: Array
    velocities: Array
    yaws: Array
    distances: Array
    speeds: Array
    feet: NDArray[np.bool_]
    steady: NDArray[np.bool_]


class Room:
    """Films a scene. camera: the lens; rate: images per second."""

    def __init__(
        self,
        scene: Scene,
        camera: PinholeCamera,
        *,
        seconds: float,
        seed: int,
        rate: float = 15.0,
        errors: Errors | None = None,
    ) -> None:
        self.scene, self.camera, self.rate = scene, camera, rate
        self.errors = errors or Errors()
        self.seconds = seconds
        self._rng = np.random.default_rng(seed)
        self._motion: Motion = move(
            list(scene.walkers), seconds, self._rng, tables=scene.tables, pillars=scene.pillars
        )
        rows, columns = np.mgrid[: IMAGE_SIZE[0], : IMAGE_SIZE[1]]
        pixels = np.stack([columns, rows], axis=-1).astype(float)
        self._ray_map = camera.rays(pixels.reshape(-1, 2)).reshape(pixels.shape)
        self._field = 1.05 * float(np.hypot(*np.abs(self._ray_map).max(axis=(0, 1))))
        count = len(scene.walkers)
        self._clothes = SimulatedClothes(count, np.random.default_rng([seed, 1]))
        self._stray = np.zeros((count, BODY19.num_keypoints, 2))
        self._missing = np.zeros(count, int)
        self._scale = self._rng.normal(1, self.errors.depth.scale)
        tilt, height = self.errors.tilt_error
        self._told_tilt = scene.tilt + self._rng.normal(0, tilt)
        self._told_height = scene.height + self._rng.normal(0, height)

    def frames(self) -> Iterator[Frame]:
        for index in range(int(self.seconds * self.rate)):
            yield self._film(index / self.rate)

    def camera_pose(self, seconds: float, tilt: float, height: float) -> CameraPose:
        """Where the camera is; moving ones drive and look about."""
        x, y, yaw = 0.0, 0.0, 0.0
        if self.scene.moving:
            x, y = 0.7 * np.sin(0.35 * seconds) - 0.7, 0.5 * np.sin(0.22 * seconds)
            yaw = 0.45 * np.sin(0.5 * seconds)
        ahead = np.array([np.cos(yaw) * np.cos(tilt), np.sin(yaw) * np.cos(tilt), -np.sin(tilt)])
        right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
        rotation = np.stack([right, np.cross(ahead, right), ahead], axis=1)
        return CameraPose(rotation, np.array([x, y, height]))

    def project(self, points: Array) -> Array:
        """Pixels (..., 2) of points in the optical frame that are before the camera."""
        matrix = np.array(
            [[self.camera.fx, 0, self.camera.cx], [0, self.camera.fy, self.camera.cy], [0, 0, 1.0]]
        )
        flat = points.reshape(-1, 1, 3)
        none = np.zeros(3)
        if self.camera.fisheye:
            pixels, _ = cv2.fisheye.projectPoints(
                flat, none, none, matrix, np.array(self.camera.distortion)
            )
        else:
            lens = np.array(self.camera.distortion or (0.0,) * 4)
            pixels, _ = cv2.projectPoints(flat, none, none, matrix, lens)
        return np.asarray(pixels.reshape(*points.shape[:-1], 2), np.float64)

    def _film(self, stamp: float) -> Frame:
        motion = self._motion
        count = len(self.scene.walkers)
        pose = self.camera_pose(stamp, self.scene.tilt, self.scene.height)
        bodies = [motion.body(walker, stamp) for walker in range(count)]
        depth = SimulatedDepth.of(
            self.scene,
            pose,
            bodies,
            ray_map=self._ray_map,
            scale=self._scale,
            errors=self.errors.depth,
            rng=self._rng,
        )
        joints = np.array([body.joints for body in bodies])
        points = pose.to_camera(joints)
        before = points[..., 2] > 0.25
        # Beyond the lens's field, a polynomial distortion folds back: such points are not seen.
        angle = np.hypot(points[..., 0], points[..., 1]) / np.maximum(points[..., 2], 1e-6)
        framed = before & (angle < self._field)
        pixels = self.project(np.where(framed[..., None], points, (0.0, 0.0, 1.0)))
        outside = points[..., :2] / np.maximum(points[..., 2:], 0.05) * self.camera.fx
        outside += np.array([self.camera.cx, self.camera.cy])
        pixels = np.where(framed[..., None], pixels, outside)
        height, width = IMAGE_SIZE
        inside = framed & (pixels > 0).all(axis=-1) & (pixels < (width - 1, height - 1)).all(-1)
        surface = depth.nearest(points.reshape(-1, 3)).reshape(points.shape[:2])
        # Joints are inside the body: only what is well before them hides them.
        clear = points[..., 2] < surface + 0.22
        visible = (inside & clear).mean(axis=1)
        poses, labels = self._detect(pixels, inside, clear, visible)
        self._clothes.move_on(1 / self.rate)
        colours = self._clothes.seen(
            labels,
            poses.keypoint_scores,
            inside=inside,
            bare=points[..., 2] < surface + _OWN_BODY,
            points=pixels,
            depths=points[..., 2].mean(axis=1),
        )
        poses = replace(poses, colours=colours)
        positions = lift_poses(poses, depth, self.camera, image_size=IMAGE_SIZE)
        middles = np.array([body.middle for body in bodies])
        told = self._told_pose(stamp)
        up = told.rotation.T @ np.array([0.0, 0.0, 1.0])
        return Frame(
            stamp,
            poses,
            labels,
            positions,
            told,
            Ground(up, float(told.translation[2])),
            visible,
            middles,
            np.array([motion.velocity(walker, stamp) for walker in range(count)]),
            np.array([motion.yaw(walker, stamp) for walker in range(count)]),
            np.linalg.norm(middles - pose.translation, axis=1),
            motion.speeds[min(round(stamp * 30), len(motion.speeds) - 1)],
            np.asarray((inside & clear)[:, [15, 16]].all(axis=1)),
            motion.steady(stamp),
        )

    def _told_pose(self, stamp: float) -> CameraPose:
        """The camera's pose with the errors of calibration and odometry."""
        turn, shift = self.errors.pose_error
        exact = self.camera_pose(stamp, self._told_tilt, self._told_height)
        if not self.scene.moving:
            return exact
        jitter, _ = cv2.Rodrigues(self._rng.normal(0, turn, 3))
        move_by = self._rng.normal(0, shift, 3)
        return CameraPose(exact.rotation @ jitter, exact.translation + move_by)

    def _detect(
        self, pixels: Array, inside: NDArray[np.bool_], clear: NDArray[np.bool_], visible: Array
    ) -> tuple[Poses, NDArray[np.int64]]:
        rng, errors = self._rng, self.errors
        sigmas = np.array(BODY19.sigmas) * errors.joint_noise
        seen = inside & clear
        keypoints, scores, boxes, labels = [], [], [], []
        # A miss may be the first of a run of five.
        single = errors.misses / 2 * (1 - errors.misses / 2)
        run = errors.misses / 2 / 5 / (1 - errors.misses / 2)
        keep = np.exp(-1 / self.rate / 0.5)
        self._stray = keep * self._stray + np.sqrt(1 - keep**2) * rng.normal(size=self._stray.shape)
        for walker in range(len(pixels)):
            if self._missing[walker]:
                self._missing[walker] -= 1
                missed = True
            else:
                missed = rng.uniform() < single
                if rng.uniform() < run:
                    self._missing[walker], missed = 4, True
            # Who is mostly hidden is rarely found, and one box is all that two such people get.
            hidden = rng.uniform() > (visible[walker] - 0.3) / 0.3
            if missed or hidden or seen[walker].sum() < 5:
                continue
            known = pixels[walker][inside[walker]]
            low, high = known.min(axis=0), known.max(axis=0)
            size = np.sqrt(AREA_OF_BOX * max(np.prod(high - low + 8), 1))
            spread = size * sigmas * np.where(seen[walker], 1, 2.5)
            noise = np.sqrt(0.5) * (self._stray[walker] + rng.normal(size=(19, 2)))
            points = pixels[walker] + noise * spread[:, None]
            # The network answers within the crop, even for joints that are outside.
            points = np.clip(points, low - 0.2 * (high - low), high + 0.2 * (high - low))
            score = np.where(seen[walker], rng.uniform(0.5, 0.95, 19), rng.uniform(0.05, 0.45, 19))
            jitter = rng.normal(0, 0.015, 4) * np.tile(high - low, 2)
            keypoints.append(points)
            scores.append(score)
            boxes.append(np.concatenate([low - 4, high + 4]) + jitter)
            labels.append(walker)
        for _ in range(rng.poisson(errors.ghosts)):
            tall = rng.uniform(60, 250)
            extent = np.array([0.4 * tall, tall])
            corner = rng.uniform((0, 0), (560, 300))
            keypoints.append(corner + rng.uniform(size=(19, 2)) * extent)
            scores.append(rng.uniform(0.05, 0.6, 19))
            boxes.append(np.concatenate([corner, corner + extent]))
            labels.append(-1)
        if not labels:
            return Poses.empty(BODY19), np.zeros(0, np.int64)
        order = rng.permutation(len(labels))
        sure = [0.25 if label < 0 else rng.uniform(0.4, 0.9) for label in labels]
        poses = Poses(
            BODY19, np.array(keypoints), np.array(scores), np.array(boxes), np.array(sure)
        )
        return poses[order], np.array(labels)[order]
