# SPDX-License-Identifier: Apache-2.0
"""From joints in the image and a registered depth image to joints in space. No ROS needed.

What a depth camera measures is the surface of the body, not the joint inside it. At the edge of a
thin limb half of the pixels belong to the background; there the nearer surface is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.camera import PinholeCamera
from rmpe_ros.core.poses import Poses

# The joints that are on the trunk, by name; they tell how far away the person is.
_TRUNK = ('left_shoulder', 'right_shoulder', 'left_hip', 'right_hip', 'neck', 'pelvis', 'thorax')
# A jump of depth by more than this many metres within a window is the edge of a surface.
_EDGE = 0.15
# The nearer one of two surfaces must have at least this share of the window's valid pixels.
_NEAR_SHARE = 0.2
# Images of the same view differ in shape by rounding only.
_SHAPE_TOLERANCE = 0.02


@dataclass(frozen=True)
class LiftingParameters:
    """How depth is sampled.

    min_score: joints with a lower score stay unknown.
    window: half the side of the square around a joint, as a share of the longer side of the box.
    min_valid: at least this share of the window's pixels must have a depth near the person.
    reach: metres before and behind the trunk within which a joint of the same person can be.
    Raises ValueError when a number is out of range.
    """

    min_score: float = 0.3
    window: float = 0.015
    min_valid: float = 0.2
    reach: float = 1.0

    def __post_init__(self) -> None:
        for name, most in (('min_score', 1), ('window', 0.5), ('min_valid', 1), ('reach', 100)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f'{name} must be in [0, {most}], got {getattr(self, name)}')


@dataclass(frozen=True, eq=False)
class DepthImage:
    """values: (H, W), a view of the message's buffer; unit: metres of the value 1."""

    values: NDArray[Any]
    unit: float

    @staticmethod
    def from_message(message: Any) -> DepthImage:
        """A sensor_msgs/Image `16UC1` (or `mono16`) in millimetres or `32FC1` in metres (REP 118).

        Raises ValueError for other encodings and for a size, `step` and data that disagree.
        """
        kinds = {'16UC1': ('u2', 1e-3), 'mono16': ('u2', 1e-3), '32FC1': ('f4', 1.0)}
        if message.encoding not in kinds:
            raise ValueError(
                f'encoding {message.encoding!r} is not a depth image; publish 16UC1 (millimetres) '
                'or 32FC1 (metres)'
            )
        code, unit = kinds[message.encoding]
        dtype = np.dtype(code).newbyteorder('>' if message.is_bigendian else '<')
        height, width, step = message.height, message.width, message.step
        row = width * dtype.itemsize
        if height < 1 or width < 1 or step < row or len(message.data) < step * (height - 1) + row:
            raise ValueError(
                f'a depth image of {width}x{height} {message.encoding} cannot have a step of '
                f'{step} and {len(message.data)} bytes'
            )
        strides = (step, dtype.itemsize)
        return DepthImage(np.ndarray((height, width), dtype, message.data, strides=strides), unit)

    def windows(self, pixels: NDArray[np.floating], half: int) -> list[NDArray[np.float64]]:
        """The `window` around each of the pixels (J, 2)."""
        return [self.window(x, y, half) for x, y in pixels.tolist()]

    def window(self, x: float, y: float, half: int) -> NDArray[np.float64]:
        """The square of 2 * half + 1 pixels around (x, y), in metres, NaN where not measured.

        The part that is in the image; nothing when (x, y) is not.
        """
        height, width = self.values.shape
        column, row = round(x), round(y)
        if not (0 <= column < width and 0 <= row < height):
            return np.zeros((0, 0))
        square = self.values[
            max(row - half, 0) : row + half + 1, max(column - half, 0) : column + half + 1
        ]
        metres = square.astype(np.float64) * self.unit
        return np.where(np.isfinite(metres) & (metres > 0), metres, np.nan)


def lift_poses(
    poses: Poses,
    depth: DepthImage,
    camera: PinholeCamera,
    *,
    image_size: tuple[int, int],
    parameters: LiftingParameters | None = None,
) -> NDArray[np.float64]:
    """Positions (N, K, 3) in metres in the camera's optical frame, NaN where unknown.

    depth: registered to the colour image, of the same view; it may have another resolution.
    image_size: (height, width) of the colour image, to which `camera` and `poses` belong.
    Raises ValueError when the depth image has another shape, so that it shows something else.
    """
    parameters = parameters or LiftingParameters()
    height, width = image_size
    rows, columns = depth.values.shape
    scale = np.array([columns / width, rows / height])
    if abs(scale[0] / scale[1] - 1) > _SHAPE_TOLERANCE + 1 / min(rows, columns):
        raise ValueError(
            f'the depth image has {columns}x{rows} pixels and the image {width}x{height}, another '
            'shape: it is not of the same view; take the depth image that is registered to the '
            'colour image'
        )
    pixels = (poses.keypoints.astype(np.float64) + 0.5) * scale - 0.5
    sides = (poses.boxes[:, 2:] - poses.boxes[:, :2]) * scale
    halves = np.maximum(1, np.round(parameters.window * sides.max(axis=1, initial=0)))
    trunk = [
        poses.skeleton.keypoints.index(each) for each in _TRUNK if each in poses.skeleton.keypoints
    ]
    metres = np.full(poses.keypoint_scores.shape, np.nan)
    for person, half in enumerate(halves.astype(int).tolist()):
        scores = poses.keypoint_scores[person]
        joints = np.flatnonzero(scores >= parameters.min_score)
        measured = depth.windows(pixels[person, joints], half)
        windows = dict(zip(joints.tolist(), measured, strict=True))
        middle = _middle({joint: windows[joint] for joint in trunk if joint in windows}, scores)
        if np.isnan(middle):  # no joint of the trunk is seen
            middle = _middle(windows, scores)
        for joint, window in windows.items():
            metres[person, joint] = _surface(window, middle, parameters)
    positions = camera.deproject(poses.keypoints, metres)
    # Half a position, of a joint where the lens cannot be understood, is none.
    positions[~np.isfinite(positions).all(axis=-1)] = np.nan
    return positions


def transform_points(
    points: NDArray[np.floating],
    translation: tuple[float, float, float],
    rotation: tuple[float, float, float, float],
) -> NDArray[np.float64]:
    """Points (..., 3) rotated by the unit quaternion `rotation` (x, y, z, w), then translated."""
    x, y, z, w = np.asarray(rotation, np.float64) / np.linalg.norm(rotation)
    matrix = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    return np.asarray(points, np.float64) @ matrix.T + np.asarray(translation, np.float64)


def _surface(window: NDArray[np.float64], middle: float, parameters: LiftingParameters) -> float:
    """The depth of the joint in the middle of the window, or NaN."""
    near = np.sort(window[np.abs(window - middle) <= parameters.reach])
    if not near.size or near.size < parameters.min_valid * window.size:
        return np.nan
    return _nearer_surface(near)


def _nearer_surface(depths: NDArray[np.float64]) -> float:
    """The median of `depths`, sorted, at least one; at an edge that of the nearer side."""
    jumps = np.diff(depths)
    if jumps.size and jumps.max() > _EDGE:
        first = int(np.argmax(jumps > _EDGE)) + 1
        if first >= _NEAR_SHARE * depths.size:
            depths = depths[:first]
    last = depths.size - 1
    return float(depths[last // 2] + depths[(last + 1) // 2]) / 2


def _middle(windows: dict[int, NDArray[np.float64]], scores: NDArray[np.float32]) -> float:
    """The depth that half of the joints are nearer than, whatever the size of their windows.

    Joints count by the square of their score: those that somebody else hides have low ones.
    """
    known = {
        joint: _nearer_surface(np.sort(measured))
        for joint, window in windows.items()
        if (measured := window[np.isfinite(window)]).size
    }
    if not known:
        return np.nan
    depths = np.array(list(known.values()))
    order = np.argsort(depths)
    weights = np.cumsum(scores[list(known)][order].astype(np.float64) ** 2 + 1e-6)
    below, above = np.searchsorted(weights, weights[-1] * np.array([0.4999, 0.5001]))
    return float((depths[order[below]] + depths[order[above]]) / 2)
