# SPDX-License-Identifier: Apache-2.0
"""The depth image of a simulated room, measured where somebody looks at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.lifting import DepthImage
from rmpe_ros.core.people.people_filter import CameraPose
from rmpe_ros.evaluation.people.simulated_bodies import SimulatedPerson
from rmpe_ros.evaluation.people.simulated_scenes import Scene

Array = NDArray[np.float64]


@dataclass(frozen=True)
class DepthErrors:
    """noise: metres at 1 m, for each pixel, growing with the square of the distance; scale: part of
    the distance by which a whole camera is off; holes, flying: share of pixels without a depth, and
    of those at edges whose depth is between the surfaces.
    """

    noise: float = 0.0025
    scale: float = 0.005
    holes: float = 0.15
    flying: float = 0.1


@dataclass(frozen=True, eq=False)
class SimulatedDepth(DepthImage):
    """A depth image of half the resolution whose pixels are measured when they are asked for.

    ray_map: (H, W, 2) lines of sight of the colour image's pixels; scale: of this camera's depth.
    """

    scene: Scene
    camera: CameraPose
    spheres: Array
    trunks: tuple[tuple[Array, Array], ...]
    ray_map: Array
    scale: float
    errors: DepthErrors
    rng: np.random.Generator

    @staticmethod
    def of(
        scene: Scene,
        pose: CameraPose,
        bodies: Sequence[SimulatedPerson],
        *,
        ray_map: Array,
        scale: float,
        errors: DepthErrors,
        rng: np.random.Generator,
    ) -> SimulatedDepth:
        """What a camera at `pose` sees of the bodies in the room of `scene`."""
        height, width = ray_map.shape[:2]
        spheres = np.concatenate([body.spheres for body in bodies])
        spheres[:, :3] = pose.to_camera(spheres[:, :3])
        trunks = tuple((body.trunk @ pose.rotation, pose.to_camera(body.middle)) for body in bodies)
        empty = np.broadcast_to(np.float32(0), (height // 2, width // 2))
        return SimulatedDepth(empty, 1.0, scene, pose, spheres, trunks, ray_map, scale, errors, rng)

    def windows(self, pixels: NDArray[np.floating[Any]], half: int) -> list[Array]:
        height, width = self.values.shape
        middle = np.round(pixels).astype(int)
        inside = np.all((middle >= 0) & (middle < (width, height)), axis=1)
        step = np.arange(-half, half + 1)
        columns = middle[:, :1] + np.tile(step, 2 * half + 1)
        rows = middle[:, 1:] + np.repeat(step, 2 * half + 1)
        known = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        known &= np.expand_dims(inside, 1)
        rays = self.ray_map[np.clip(rows, 0, height - 1) * 2, np.clip(columns, 0, width - 1) * 2]
        flat = np.concatenate([rays, np.ones((*known.shape, 1))], axis=-1).reshape(-1, 3)
        z = self._measured(np.where(known, self.nearest(flat).reshape(known.shape), np.nan))
        return [row[here] for row, here in zip(z, known, strict=True)]

    def nearest(self, directions: Array) -> Array:
        """z (R,) in the optical frame of the first surface along `directions` (R, 3)."""
        rays = directions / directions[:, 2:]
        squared = (rays**2).sum(axis=1)
        low, high = rays[:, :2].min(axis=0), rays[:, :2].max(axis=0)
        z = np.maximum(self.spheres[:, 2:3], 0.1)
        middle, reach = self.spheres[:, :2] / z, 2 * self.spheres[:, 3:] / z
        spheres = self.spheres[((middle + reach > low) & (middle - reach < high)).all(axis=1)]
        along = rays @ spheres[:, :3].T
        rest = (spheres[:, :3] ** 2).sum(axis=1) - spheres[:, 3] ** 2
        inside = along**2 - squared[:, None] * rest
        hit = np.where(inside > 0, along - np.sqrt(np.maximum(inside, 0)), np.inf)
        z = hit.min(axis=1, initial=np.inf) / squared
        for matrix, middle in self.trunks:
            line, start = rays @ matrix.T, matrix @ middle
            a, b = (line**2).sum(axis=1), line @ start
            under = b**2 - a * (start @ start - 1)
            z = np.minimum(z, np.where(under > 0, (b - np.sqrt(np.maximum(under, 0))) / a, np.inf))
        z = np.where(z > 0.05, z, np.inf)
        return np.minimum(z, self._scenery(rays))

    def _scenery(self, rays: Array) -> Array:
        """The first of floor, walls, pillars and tables."""
        origin, lines = self.camera.translation, rays @ self.camera.rotation.T
        with np.errstate(divide='ignore', invalid='ignore'):
            z = np.where(lines[:, 2] < 0, -origin[2] / lines[:, 2], np.inf)
            for axis, wall in ((0, 8.0), (1, 7.0), (1, -7.0)):
                away = (wall - origin[axis]) / lines[:, axis]
                z = np.minimum(z, np.where(away > 0, away, np.inf))
            for x, y, radius in self.scene.pillars:
                gap = origin[:2] - (x, y)
                a, b = (lines[:, :2] ** 2).sum(axis=1), lines[:, :2] @ gap
                under = b**2 - a * (gap @ gap - radius**2)
                away = (-b - np.sqrt(np.maximum(under, 0))) / a
                z = np.minimum(z, np.where((under > 0) & (away > 0), away, np.inf))
            for x1, y1, x2, y2, top in self.scene.tables:
                low = (np.array([x1, y1, 0.0]) - origin) / lines
                high = (np.array([x2, y2, top]) - origin) / lines
                enter = np.minimum(low, high).max(axis=1)
                leave = np.maximum(low, high).min(axis=1)
                z = np.minimum(z, np.where((leave > enter) & (enter > 0), enter, np.inf))
        return z

    def _measured(self, z: Array) -> Array:
        """Windows (J, R) with the errors of a depth camera, NaN where it measures nothing."""
        errors, rng = self.errors, self.rng
        known = np.isfinite(z)
        low = np.where(known, z, 1e3).min(axis=1, keepdims=True, initial=1e3)
        high = np.where(known, z, 0).max(axis=1, keepdims=True, initial=0)
        # Noise of a stereo match is common to neighbours in part.
        noise = errors.noise * z**2
        common = rng.normal(size=(len(z), 1))
        z = z * self.scale + noise * (0.7 * rng.normal(size=z.shape) + 0.7 * common)
        flying = (high - low > 0.2) & (rng.uniform(size=z.shape) < errors.flying)
        z = np.where(flying, low + rng.uniform(size=z.shape) * (high - low), z)
        lost = (rng.uniform(size=z.shape) < errors.holes) | (z < 0.3) | (z > 9)
        return np.where(known & ~lost, z, np.nan)
