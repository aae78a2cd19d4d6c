# SPDX-License-Identifier: Apache-2.0
"""The depth image of a simulated room, measured where somebody looks at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.lifting import DepthImage
from rmpe_ros.core.people_filter import CameraPose
from rmpe_ros.evaluation.simulated_bodies import Body
from rmpe_ros.evaluation.simulated_scenes import Scene

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
        bodies: Sequence[Body],
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

    def window(self, x: float, y: float, half: int) -> Array:
        height, width = self.values.shape
        column, row = round(x), round(y)
        if not (0 <= column < width and 0 <= row < height):
            return np.zeros((0, 0))
        rows = np.arange(max(row - half, 0), min(row + half + 1, height))
        columns = np.arange(max(column - half, 0), min(column + half + 1, width))
        rays = self.ray_map[np.ix_(rows * 2, columns * 2)]
        flat = np.concatenate([rays, np.ones((*rays.shape[:2], 1))], -1).reshape(-1, 3)
        z = self.nearest(flat, self._about(rays[rays.shape[0] // 2, rays.shape[1] // 2], half))
        return self._measured(z).reshape(rays.shape[:2])

    def _about(self, ray: Array, half: int) -> Array:
        """The spheres that can be seen in a window about `ray`."""
        z = np.maximum(self.spheres[:, 2], 0.1)
        pixel = np.abs(self.ray_map[0, 1] - self.ray_map[0, 0]).max()
        reach = 2 * self.spheres[:, 3] / z + 6 * (half + 1) * pixel
        off = np.abs(self.spheres[:, :2] / z[:, None] - ray)
        return self.spheres[(off < reach[:, None]).all(axis=1)]

    def nearest(self, directions: Array, spheres: Array | None = None) -> Array:
        """z (R,) in the optical frame of the first surface along `directions` (R, 3).

        spheres: those that can be seen there; all when left out.
        """
        spheres = self.spheres if spheres is None else spheres
        rays = directions / directions[:, 2:]
        squared = (rays**2).sum(axis=1)
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
        """With the errors of a depth camera, NaN where it measures nothing."""
        errors, rng = self.errors, self.rng
        known = z[np.isfinite(z)]
        if not known.size:
            return np.full(z.shape, np.nan)
        low, high = known.min(), known.max()
        # Noise of a stereo match is common to neighbours in part.
        noise = errors.noise * z**2
        z = z * self.scale + noise * (0.7 * rng.normal(size=z.shape) + 0.7 * rng.normal())
        if high - low > 0.2:
            flying = rng.uniform(size=z.shape) < errors.flying
            z = np.where(flying, rng.uniform(low, high, z.shape), z)
        lost = (rng.uniform(size=z.shape) < errors.holes) | (z < 0.3) | (z > 9)
        return np.where(lost, np.nan, z)
