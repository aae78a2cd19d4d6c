# SPDX-License-Identifier: Apache-2.0
"""A photo of a person, cut out in many ways: the same pictures everywhere, to compare engines.

Networks trained on people answer to it with distinct peaks; noise would leave the position of a
peak to rounding.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

# Eileen Collins, photographed by NASA: in the public domain.
_PHOTO = Path(__file__).with_name('astronaut.jpg')
# Where she is in it: x1, y1, x2, y2 in edge pixels.
PERSON = (8.0, 16.0, 228.0, 320.0)


def example_photo() -> NDArray[np.uint8]:
    """The photo (320, 320, 3) RGB, with the person in the box `PERSON`."""
    picture = cv2.imread(str(_PHOTO))
    assert picture is not None, 'it comes with the package'
    return np.asarray(picture[..., ::-1].copy(), np.uint8)


def example_crops(count: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Crops (count, height, width, 3) RGB of the person: turned, shifted, enlarged and mirrored by
    chance. size: (height, width).
    """
    random, photo = np.random.default_rng(2017), example_photo()
    return np.stack([_cut_out(photo, size, random) for _ in range(count)])


def example_scene(people: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture (height, width, 3) RGB of the person several times, side by side."""
    random, photo = np.random.default_rng(2018), example_photo()
    widths = np.diff(np.linspace(0, size[1], people + 1).astype(int))
    return np.hstack([_cut_out(photo, (size[0], int(width)), random) for width in widths])


def _cut_out(
    photo: NDArray[np.uint8], size: tuple[int, int], random: np.random.Generator
) -> NDArray[np.uint8]:
    height, width = size
    low, high = np.reshape(PERSON, (2, 2))
    sides = high - low
    centre = (low + high) / 2 + random.uniform(-0.05, 0.05, 2) * sides
    scale = min(width / sides[0], height / sides[1]) * random.uniform(0.75, 1)
    angle, mirror = random.uniform(-0.2, 0.2), random.choice([-1, 1])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = scale * turn * [mirror, 1]
    shift = np.array([width, height]) / 2 - linear @ centre
    moved = cv2.warpAffine(
        photo, np.column_stack([linear, shift]), (width, height), borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(moved, np.uint8)
