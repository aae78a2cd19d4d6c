# SPDX-License-Identifier: Apache-2.0
"""The pinhole camera: from pixels and depth to points in its optical frame (REP 103)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# OpenCV's model of radial and tangential distortion takes so many coefficients: k1, k2, p1, p2 and,
# further on, k3, k4 to k6, four of thin prisms, two of a tilted sensor.
_POLYNOMIAL = {'plumb_bob': (4, 5), 'rational_polynomial': (4, 5, 8, 12, 14)}
# Kannala and Brandt's model of four coefficients, under the names that drivers give it.
_FISHEYE = ('equidistant', 'fisheye', 'kannala_brandt', 'kannala_brandt4')
# A shorter focal length, in pixels, is no calibration: the identity matrix has 1.
_SHORTEST_FOCAL = 1.0
# Sizes of the image and of its calibration may differ by rounding, not in shape.
_SHAPE_TOLERANCE = 0.02
# Distortion is undone by iteration: when it ends, and by how many pixels the result may be wrong.
_UNTIL = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 40, 1e-4)
_WORST_PIXELS = 0.5


@dataclass(frozen=True)
class PinholeCamera:
    """Focal lengths and principal point in pixels, pixel-centre coordinates.

    distortion: OpenCV's coefficients (k1, k2, p1, p2, k3, …), or those of its fisheye model;
    empty for rectified images. image_size: (height, width) of the images that this is about, None
    where it is not known.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = ()
    fisheye: bool = False
    image_size: tuple[float, float] | None = None

    @staticmethod
    def nominal(width: int, height: int) -> PinholeCamera:
        """A guess for an unknown camera: 53 degrees of view over the longer side.

        Raises ValueError for an image without pixels.
        """
        if width < 1 or height < 1:
            raise ValueError(f'an image of {width}x{height} pixels has no camera')
        focal = float(max(width, height))
        return PinholeCamera(focal, focal, (width - 1) / 2, (height - 1) / 2)

    @staticmethod
    def from_message(message: Any, *, rectified: bool = False) -> PinholeCamera:
        """The camera of a sensor_msgs/CameraInfo, for the images that are published with it.

        rectified: the images are `image_rect`: matrix P, no distortion; otherwise K and D.
        Binning and region of interest are taken into account as image_geometry does it; for images
        of yet another size see `for_image`.
        Raises ValueError when the camera is not calibrated, or distorts in a way that is not known
        here; the text says what to do.
        """
        matrix, entries = (message.p, (0, 5, 2, 6)) if rectified else (message.k, (0, 4, 2, 5))
        fx, fy, cx, cy = (float(matrix[index]) for index in entries)
        name = 'P' if rectified else 'K'
        if not np.isfinite((fx, fy, cx, cy)).all() or min(fx, fy) <= _SHORTEST_FOCAL:
            raise ValueError(
                f'CameraInfo is not calibrated: {name} has focal lengths {fx:g} and {fy:g}, '
                f'principal point {cx:g}, {cy:g}; calibrate the camera, or let its driver publish '
                'the calibration'
            )
        distortion, fisheye = ((), False) if rectified else _distortion(message)
        region = message.roi
        full = (message.height, message.width)
        if region.width and region.height:
            full = (region.height, region.width)
        x_bins, y_bins = max(1, message.binning_x), max(1, message.binning_y)
        return PinholeCamera(
            fx / x_bins,
            fy / y_bins,
            (cx - region.x_offset) / x_bins,
            (cy - region.y_offset) / y_bins,
            distortion,
            fisheye,
            (full[0] / y_bins, full[1] / x_bins) if min(full) > 0 else None,
        )

    def for_image(self, height: int, width: int) -> PinholeCamera:
        """The same camera for its images scaled to another size.

        Raises ValueError when the image has another shape, so that it must be cut in a way that is
        not known.
        """
        if self.image_size is None or self.image_size == (height, width):
            return self
        y_scale, x_scale = height / self.image_size[0], width / self.image_size[1]
        rounding = 1 / min(height, width)
        if abs(x_scale / y_scale - 1) > _SHAPE_TOLERANCE + rounding:
            raise ValueError(
                f'the image has {width}x{height} pixels and its CameraInfo is for '
                f'{self.image_size[1]:g}x{self.image_size[0]:g}, another shape; publish the '
                'CameraInfo of these images, with roi where they are cut'
            )
        return replace(
            self,
            fx=self.fx * x_scale,
            fy=self.fy * y_scale,
            cx=self.cx * x_scale,
            cy=self.cy * y_scale,
            image_size=(height, width),
        )

    def rays(self, pixels: NDArray[np.floating]) -> NDArray[np.float64]:
        """Where the optical frame's plane z = 1 is seen at `pixels` (..., 2): x and y (..., 2).

        NaN where the distortion cannot be undone.
        """
        if not (self.distortion or self.fisheye) or not pixels.size:
            undistorted = pixels.astype(np.float64)
            # One after the other: both at once is twice as slow for a few pixels.
            x, y = undistorted[..., 0], undistorted[..., 1]
            x -= self.cx
            x /= self.fx
            y -= self.cy
            y /= self.fy
            return undistorted
        matrix = np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], np.float64)
        points = np.asarray(pixels, np.float64).reshape(-1, 1, 2)
        coefficients = np.array(self.distortion, np.float64)
        zero = np.zeros(3)
        if self.fisheye:
            rays = cv2.fisheye.undistortPoints(points, matrix, coefficients)
            again, _ = cv2.fisheye.projectPoints(
                cv2.convertPointsToHomogeneous(rays), zero, zero, matrix, coefficients
            )
        else:
            rays = cv2.undistortPointsIter(  # R and P may be None, which the stub does not know
                points,
                matrix,
                coefficients,
                None,
                None,
                _UNTIL,  # type: ignore[call-overload]
            )
            again, _ = cv2.projectPoints(
                cv2.convertPointsToHomogeneous(rays), zero, zero, matrix, coefficients
            )
        # The iteration always gives something; far outside the calibrated part it is anything.
        right = np.abs(again.reshape(points.shape) - points).max(axis=2) <= _WORST_PIXELS
        rays[~right] = np.nan
        return np.asarray(rays.reshape(pixels.shape), np.float64)

    def deproject(
        self, pixels: NDArray[np.floating], depth: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """Points (..., 3) in metres at `pixels` (..., 2) with z = depth (...) metres."""
        depth = np.asarray(depth, np.float64)[..., None]
        return np.concatenate([self.rays(pixels) * depth, depth], axis=-1)

    def project_to_plane(self, pixels: NDArray[np.floating], depth: float) -> NDArray[np.float64]:
        """Points (N, 3) in metres, z = depth in the optical frame, seen at `pixels` (N, 2)."""
        return self.deproject(pixels, np.full(len(pixels), depth))


def _distortion(message: Any) -> tuple[tuple[float, ...], bool]:
    """The coefficients of a CameraInfo, and whether they are a fisheye's; raises ValueError."""
    model = message.distortion_model
    coefficients = tuple(float(each) for each in message.d)
    if not np.isfinite(coefficients).all():
        raise ValueError(f'CameraInfo has coefficients of distortion that are no numbers: {model}')
    if model in _FISHEYE:
        if len(coefficients) != 4:
            raise ValueError(
                f'CameraInfo has {len(coefficients)} coefficients of distortion, {model!r} has 4: '
                'k1, k2, k3, k4'
            )
        return coefficients, True
    if model not in _POLYNOMIAL:
        if not any(coefficients) and not model:
            return (), False
        known = ', '.join([*_POLYNOMIAL, *_FISHEYE])
        raise ValueError(
            f'CameraInfo has the distortion model {model!r}, known are {known}; rectify the images '
            'and set the parameter rectified, or calibrate the camera with one of these'
        )
    if coefficients and len(coefficients) not in _POLYNOMIAL[model]:
        counts = ' or '.join(map(str, _POLYNOMIAL[model]))
        raise ValueError(
            f'CameraInfo has {len(coefficients)} coefficients of distortion, {model!r} has {counts}'
        )
    return (coefficients if any(coefficients) else ()), False
