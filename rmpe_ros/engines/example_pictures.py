# SPDX-License-Identifier: Apache-2.0
"""Drawn people in front of a blurred background: the same pictures everywhere, to compare engines.

Networks trained on people answer to them with distinct peaks; noise would leave the position of a
peak to rounding.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

# Joints of a standing person, x and y as shares of the picture's width and height.
_STANDING = {
    'head': (0.50, 0.13),
    'neck': (0.50, 0.22),
    'hips': (0.50, 0.53),
    'left_shoulder': (0.61, 0.25),
    'left_elbow': (0.68, 0.39),
    'left_wrist': (0.70, 0.53),
    'left_hip': (0.56, 0.53),
    'left_knee': (0.57, 0.72),
    'left_ankle': (0.58, 0.91),
}
_LIMBS = (
    ('hip', 'knee', 'trousers', 0.055),
    ('knee', 'ankle', 'trousers', 0.045),
    ('shoulder', 'elbow', 'shirt', 0.04),
    ('elbow', 'wrist', 'skin', 0.03),
)


def draw_crops(count: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Crops (count, height, width, 3) RGB, each of one drawn person. size: (height, width)."""
    random = np.random.default_rng(2017)
    crops = [_background(size, random) for _ in range(count)]
    for crop in crops:
        draw_person(crop, (0, 0, size[1], size[0]), random)
    return np.stack(crops)


def draw_scene(people: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture (height, width, 3) RGB of several drawn people side by side."""
    random = np.random.default_rng(2018)
    picture = _background(size, random)
    height, width = size
    for person in range(people):
        tall = height * random.uniform(0.6, 0.95)
        left = width * (person + random.uniform(0.1, 0.3)) / people
        right = left + min(tall * 0.6, width / people)
        draw_person(picture, (round(left), round(height - tall), round(right), height), random)
    return picture


def draw_person(
    picture: NDArray[np.uint8], box: tuple[int, int, int, int], random: np.random.Generator
) -> None:
    """Draw one person into the box (x1, y1, x2, y2) of the picture, in a pose by chance."""
    x1, y1, x2, y2 = box
    width, height = x2 - x1, y2 - y1
    joints = dict(_STANDING)
    for name, (x, y) in _STANDING.items():
        if name.startswith('left_'):
            joints[name.replace('left', 'right')] = (1 - x, y)
    points = {
        name: (
            round(x1 + width * (x + random.normal(0, 0.025))),
            round(y1 + height * (y + random.normal(0, 0.012))),
        )
        for name, (x, y) in joints.items()
    }
    tones = {
        'skin': _tone(random, (150, 100, 80), (240, 190, 160)),
        'shirt': _tone(random, (20, 20, 20), (240, 240, 240)),
        'trousers': _tone(random, (10, 10, 20), (110, 110, 150)),
        'hair': _tone(random, (10, 10, 10), (120, 90, 60)),
    }

    def line(start: str, end: str, tone: str, share: float) -> None:
        thickness = max(1, round(2 * share * height * 0.8))
        cv2.line(picture, points[start], points[end], tones[tone], thickness, cv2.LINE_AA)

    for side in ('left', 'right'):
        for start, end, tone, share in _LIMBS[:2]:
            line(f'{side}_{start}', f'{side}_{end}', tone, share)
    torso = [points[each] for each in ('left_shoulder', 'right_shoulder')]
    torso += [points['right_hip'], points['left_hip']]
    cv2.fillConvexPoly(picture, np.array(torso, np.int32), tones['shirt'], cv2.LINE_AA)
    line('neck', 'hips', 'shirt', 0.07)
    line('neck', 'head', 'skin', 0.03)
    for side in ('left', 'right'):
        for start, end, tone, share in _LIMBS[2:]:
            line(f'{side}_{start}', f'{side}_{end}', tone, share)
    _draw_head(picture, points['head'], height, tones)
    region = picture[max(0, y1) : y2, max(0, x1) : x2]
    region[:] = cv2.GaussianBlur(region, (0, 0), max(0.6, height / 250))


def _draw_head(
    picture: NDArray[np.uint8],
    centre: tuple[int, int],
    height: int,
    tones: dict[str, tuple[int, int, int]],
) -> None:
    x, y = centre
    radius = height * 0.065
    axes = (round(radius * 0.8), round(radius))
    cv2.ellipse(picture, (x, round(y - radius * 0.25)), axes, 0, 0, 360, tones['hair'], -1)
    face = (round(axes[0] * 0.9), round(axes[1] * 0.85))
    cv2.ellipse(picture, (x, round(y + radius * 0.1)), face, 0, 0, 360, tones['skin'], -1)
    for shift in (-0.35, 0.35):
        eye = (round(x + radius * shift), round(y - radius * 0.05))
        cv2.circle(picture, eye, max(1, round(radius * 0.12)), (30, 20, 20), -1, cv2.LINE_AA)
    mouth = (round(x - radius * 0.25), round(y + radius * 0.5))
    end = (round(x + radius * 0.25), mouth[1])
    cv2.line(picture, mouth, end, (140, 60, 60), max(1, round(radius * 0.1)), cv2.LINE_AA)


def _background(size: tuple[int, int], random: np.random.Generator) -> NDArray[np.uint8]:
    coarse = random.integers(60, 200, (8, 6, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC).astype(np.int16)
    smooth += random.integers(-6, 7, smooth.shape, dtype=np.int16)
    return np.clip(smooth, 0, 255).astype(np.uint8)


def _tone(
    random: np.random.Generator, low: tuple[int, int, int], high: tuple[int, int, int]
) -> tuple[int, int, int]:
    share = random.uniform()
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(low, high, strict=True))
    return red, green, blue
