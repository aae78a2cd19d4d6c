# SPDX-License-Identifier: Apache-2.0
"""The pinhole camera: from pixels and depth to points in its optical frame (REP 103)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_FISHEYE = ('equidistant', 'fisheye', 'kannala_brandt4')


@dataclass(frozen=True)
class PinholeCamera:
    """Focal lengths and principal point in pixels, pixel-centre coordinates.

    distortion: OpenCV's coefficients (k1, k2, p1, p2, k3, …), or those of its fisheye model;
    empty for rectified images.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = ()
    fisheye: bool = False

    @staticmethod
    def nominal(width: int, height: int) -> PinholeCamera:
        """A guess for an unknown camera: 53 degrees of view over the longer side."""
        focal = float(max(width, height))
        return PinholeCamera(focal, focal, (width - 1) / 2, (height - 1) / 2)

    @staticmethod
    def from_message(message: Any, *, rectified: bool = False) -> PinholeCamera:
        """The camera of a sensor_msgs/CameraInfo.

        rectified: the images are `image_rect`: matrix P, no distortion; otherwise K and D.
        Raises ValueError when the camera is not calibrated.
        """
        matrix, entries = (message.p, (0, 5, 2, 6)) if rectified else (message.k, (0, 4, 2, 5))
        fx, fy, cx, cy = (float(matrix[index]) for index in entries)
        if fx <= 0 or fy <= 0:
            raise ValueError(f'CameraInfo has focal lengths {fx:g} and {fy:g}: not calibrated')
        distortion = () if rectified else tuple(float(each) for each in message.d)
        if not any(distortion):
            return PinholeCamera(fx, fy, cx, cy)
        return PinholeCamera(fx, fy, cx, cy, distortion, message.distortion_model in _FISHEYE)

    def rays(self, pixels: NDArray[np.floating]) -> NDArray[np.float64]:
        """Where the optical frame's plane z = 1 is seen at `pixels` (..., 2): x and y (..., 2)."""
        if not self.distortion or not pixels.size:
            return np.asarray((pixels - (self.cx, self.cy)) / (self.fx, self.fy), np.float64)
        matrix = np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]])
        points = np.asarray(pixels, np.float64).reshape(-1, 1, 2)
        coefficients = np.array(self.distortion)
        undistort = cv2.fisheye.undistortPoints if self.fisheye else cv2.undistortPoints
        return undistort(points, matrix, coefficients).reshape(pixels.shape)

    def deproject(
        self, pixels: NDArray[np.floating], depth: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """Points (..., 3) in metres at `pixels` (..., 2) with z = depth (...) metres."""
        depth = np.asarray(depth, np.float64)[..., None]
        return np.concatenate([self.rays(pixels) * depth, depth], axis=-1)

    def project_to_plane(self, pixels: NDArray[np.floating], depth: float) -> NDArray[np.float64]:
        """Points (N, 3) in metres, z = depth in the optical frame, seen at `pixels` (N, 2)."""
        return self.deproject(pixels, np.full(len(pixels), depth))
