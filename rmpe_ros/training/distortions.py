# SPDX-License-Identifier: Apache-2.0
"""Bad pictures, drawn first and made then: low resolution, motion blur, colour, patches over it.

What is drawn here is made on the host by `distort`, or for a whole batch on the training's device
by `rmpe_ros.training.device_pixels`: one distribution, two ways to the same pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rmpe_ros.training.augment import Augmentation

MOST_PATCHES = 3
# Motion blur is at most this long, in pixels.
LONGEST_BLUR = 7


@dataclass(frozen=True)
class ColorChange:
    """Gamma, contrast about the middle, brightness (shift, of 1), colour cast (RGB), saturation."""

    gamma: float
    contrast: float
    shift: float
    cast: NDArray[np.float64]
    saturation: float


@dataclass(frozen=True)
class Patch:
    """A rectangle of one colour (uint8 RGB), or where that is None a copy of the picture's part of
    the same size at (from_top, from_left): harder than a flat patch.
    """

    top: int
    left: int
    height: int
    width: int
    color: NDArray[np.uint8] | None
    from_top: int = 0
    from_left: int = 0


@dataclass(frozen=True)
class Distortion:
    """What happens to a picture, in this order.

    small: (height, width) that it is reduced to and enlarged from. blur: (L, L) kernel.
    """

    small: tuple[int, int] | None = None
    blur: NDArray[np.float32] | None = None
    color: ColorChange | None = None
    patches: tuple[Patch, ...] = ()


def draw_distortion(
    size: tuple[int, int], options: Augmentation, rng: np.random.Generator
) -> Distortion:
    """What a camera and a crowd do to a picture of (height, width)."""
    height, width = size
    small = blur = color = None
    patches: tuple[Patch, ...] = ()
    if rng.random() < options.low_resolution:
        factor = rng.uniform(0.25, 0.7)
        small = max(round(height * factor), 1), max(round(width * factor), 1)
    if rng.random() < options.blur:
        blur = motion_kernel(int(rng.integers(3, LONGEST_BLUR + 1)), rng.uniform(0, 180))
    if rng.random() < options.color:
        color = draw_color_change(rng)
    if rng.random() < options.erase:
        count = int(rng.integers(1, MOST_PATCHES + 1))
        patches = tuple(draw_patch(size, rng) for _ in range(count))
    return Distortion(small, blur, color, patches)


def draw_color_change(rng: np.random.Generator) -> ColorChange:
    """Another light and another camera; grey now and then."""
    gamma, contrast, shift = (
        np.exp(rng.normal(0, 0.25)),
        rng.uniform(0.65, 1.35),
        rng.uniform(-0.15, 0.15),
    )
    cast = rng.uniform(0.85, 1.15, 3)
    saturation = 0.0 if rng.random() < 0.1 else rng.uniform(0.5, 1.3)
    return ColorChange(float(gamma), contrast, shift, cast, saturation)


def draw_patch(size: tuple[int, int], rng: np.random.Generator) -> Patch:
    """A patch of up to a quarter of the height and a third of the width, anywhere."""
    height = int(size[0] * rng.uniform(0.05, 0.25))
    width = int(size[1] * rng.uniform(0.05, 0.3))

    def anywhere() -> tuple[int, int]:
        return int(rng.integers(0, size[0] - height)), int(rng.integers(0, size[1] - width))

    top, left = anywhere()
    if rng.random() < 0.5:
        color = rng.integers(0, 256, 3, dtype=np.uint8)
        return Patch(top, left, height, width, color)
    return Patch(top, left, height, width, None, *anywhere())


def motion_kernel(length: int, angle: float) -> NDArray[np.float32]:
    """(length, length) mean along a line at `angle` degrees."""
    kernel = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1.0 / length
    turn = cv2.getRotationMatrix2D((length / 2 - 0.5, length / 2 - 0.5), angle, 1.0)
    line = np.asarray(cv2.warpAffine(kernel, turn, (length, length)), np.float32)
    return line / max(float(line.sum()), 1e-6)


def color_tables(changes: list[ColorChange]) -> NDArray[np.uint8]:
    """(N, 256, 3): what gamma, contrast, brightness and cast make of each level of R, G and B."""
    gamma, contrast, shift = (
        np.array([getattr(change, name) for change in changes], np.float32)[:, None]
        for name in ('gamma', 'contrast', 'shift')
    )
    cast = np.array([change.cast for change in changes], np.float32)[:, None]
    levels = np.arange(256, dtype=np.float32)[None] / 255
    base = (levels**gamma - 0.5) * contrast + 0.5 + shift
    return np.asarray((base[..., None] * cast).clip(0, 1) * 255, np.uint8)


def distort(picture: NDArray[np.uint8], distortion: Distortion) -> NDArray[np.uint8]:
    """The picture (uint8 RGB) after `distortion`; the given one is not changed."""
    image: NDArray[Any] = picture
    height, width = image.shape[:2]
    if distortion.small is not None:
        small = cv2.resize(image, distortion.small[::-1], interpolation=cv2.INTER_AREA)
        image = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    if distortion.blur is not None:
        image = cv2.filter2D(image, -1, distortion.blur)
    if distortion.color is not None:
        image = cv2.LUT(image, color_tables([distortion.color]))
        saturation = distortion.color.saturation
        grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        image = cv2.addWeighted(image, saturation, grey, 1 - saturation, 0)
    if distortion.patches:
        image = image.copy()
    for patch in distortion.patches:
        v, u = patch.from_top, patch.from_left
        image[patch.top : patch.top + patch.height, patch.left : patch.left + patch.width] = (
            image[v : v + patch.height, u : u + patch.width].copy()
            if patch.color is None
            else patch.color
        )
    return image
