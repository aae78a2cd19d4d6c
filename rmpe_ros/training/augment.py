# SPDX-License-Identifier: Apache-2.0
"""Crops of people as the pose network will see them, and worse: jittered boxes, rotation, half
bodies, photos that end within the person, bad pictures.

An example follows from the random generator alone, so a run that was stopped sees the same again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.boxes import box_iou, crop_people, grow_boxes, invert_transforms, map_points
from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.training.datasets import LabelledPerson

_LOWER = ('hip', 'knee', 'ankle')
UPPER_BODY = tuple(i for i, name in enumerate(BODY19.keypoints) if not name.endswith(_LOWER))
LOWER_BODY = tuple(i for i, name in enumerate(BODY19.keypoints) if name.endswith(_LOWER))


@dataclass(frozen=True)
class Augmentation:
    """How far training strays from the photo. Zero everywhere is a plain crop.

    Angles in degrees (standard deviation, cut at twice that); scale as a factor's spread; the rest
    probabilities.
    """

    rotation: float = 20.0
    rotation_probability: float = 0.5
    upside_down: float = 0.02
    scale: float = 0.2
    flip: float = 0.5
    cut: float = 0.2
    half_body: float = 0.15
    color: float = 0.8
    blur: float = 0.1
    low_resolution: float = 0.1
    erase: float = 0.25


NO_AUGMENTATION = Augmentation(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
# For a network that is to find the person's box: what a crop shows is what has to be told, a box of
# half a person could not be.
SAME_FRAME = Augmentation(rotation_probability=0, upside_down=0, scale=0, half_body=0)
# Spreads of edges, in sides of the box, and how often each is drawn: mostly detectors are nearly
# right, and a network that has seen that leaves such boxes alone.
SPREADS = {0.03: 0.25, 0.08: 0.35, 0.15: 0.4}

# Cameras cut people off below most often. Sides of the box: left, top, right, bottom.
CUT_SIDES = (0.15, 0.1, 0.15, 0.6)
# A line (a, b, c) leaves those points visible where a x + b y + c ≥ 0: this one all of them.
EVERYTHING = np.zeros(3)


@dataclass(frozen=True)
class PlacedPerson:
    """A person in a crop of (h, w).

    to_crop: (2, 3) float64, photo pixels → crop pixels. edge: (3,) the line at which the photo
    ends, in crop pixels. joints: (K, 2) crop pixels. centred: (K, 2) the same joints in the crop of
    the true box, the target of the parallel SPPE. weights: (K,), 0 where there is no loss;
    centred_weights alike. theta: (2, 3) the map from the true box's crop to this one, both in
    [-1, 1], which a perfect STN would find. All but the first two float32.
    """

    to_crop: np.ndarray
    edge: np.ndarray
    joints: np.ndarray
    weights: np.ndarray
    centred: np.ndarray
    centred_weights: np.ndarray
    theta: np.ndarray


@dataclass(frozen=True)
class View:
    """How a crop looks at a person, in the photo's edge pixels.

    box: (4,) that the crop is cut by, as a detector might have found it. true_box: (4,) the same
    without the detector's error. angle: degrees. scale: zoom, 1 for the box as it is. edge: (3,)
    the line, in photo pixels, at which the photo is made to end.
    """

    box: np.ndarray
    true_box: np.ndarray
    angle: float = 0.0
    scale: float = 1.0
    flip: bool = False
    edge: np.ndarray = field(default_factory=lambda: EVERYTHING)


def make_crop(
    image: np.ndarray,
    person: LabelledPerson,
    size: tuple[int, int],
    options: Augmentation,
    rng: np.random.Generator,
    *,
    proposal: np.ndarray | None = None,
    growth: float = 0.3,
) -> tuple[NDArray[np.uint8], PlacedPerson]:
    """One training example from a photo (uint8 RGB) and a person in it: picture and labels.

    proposal: (4,) the box as a detector might have found it (jitter, PGPG); the true box when None.
    size: (height, width) of the picture.
    """
    view = draw_view(person, options, rng, proposal=proposal)
    placed = place_person(person, view, size, growth=growth)
    picture = crop_people(image, invert_transforms(placed.to_crop[None]), size)[0]
    if placed.edge.any():  # beyond a photo all is black
        x, y = np.arange(size[1]), np.arange(size[0])[:, None]
        picture[placed.edge[0] * x + placed.edge[1] * y + placed.edge[2] < 0] = 0
    return distort_picture(picture, options, rng), placed


def jitter_box(box: np.ndarray, rng: np.random.Generator, *, spread: float = 0.12) -> np.ndarray:
    """Random jitter of RMPE's ablation (Table 3 b): each edge moves by N(0, spread) of its side
    while IoU stays > 0.5.
    """
    sides = np.tile(box[2:] - box[:2], 2)
    for _ in range(10):
        moved = (box + rng.normal(0.0, spread, 4) * sides).astype(np.float32)
        if box_iou(box[None], moved[None])[0, 0] > 0.5:
            return moved
    return box


def misplaced_box(person: LabelledPerson, rng: np.random.Generator) -> np.ndarray:
    """A person's box, off by one of SPREADS."""
    spread = float(rng.choice(list(SPREADS), p=list(SPREADS.values())))
    return jitter_box(person.box, rng, spread=spread)


def half_body_box(person: LabelledPerson, rng: np.random.Generator) -> np.ndarray | None:
    """The box of the upper or the lower body's labelled joints, or None when there are too few of
    them.
    """
    part = np.array(UPPER_BODY if rng.random() < 0.65 else LOWER_BODY)
    joints = person.joints[part[person.weights[part] > 0]]
    if len(joints) < 4:
        return None
    low, high = joints.min(axis=0), joints.max(axis=0)
    margin = 0.15 * max(high - low) + 2
    box = np.concatenate([low - margin, high + margin]).astype(np.float32)
    return box if (box[2:] - box[:2]).min() > 16 else None


def cut_person(
    person: LabelledPerson, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray] | None:
    """The edge (3,) of a photo that ends within the person, and the box (4,) of what it still
    shows; None when too little is left to learn from.
    """
    side = int(rng.choice(4, p=CUT_SIDES))
    axis, far = side % 2, side >= 2
    low, high = person.box[axis], person.box[axis + 2]
    hidden = rng.uniform(0.25, 0.65) * (high - low)
    edge = np.zeros(3)
    box = person.box.copy()
    box[side] = round(high - hidden if far else low + hidden)
    # Half a pixel: the box has edge coordinates, points have pixel centres.
    edge[axis], edge[2] = (-1, box[side] - 0.5) if far else (1, 0.5 - box[side])
    left = (person.weights > 0) & visible(person.joints, edge)
    if left.sum() < 4 or (box[2:] - box[:2]).min() < 12:
        return None
    return edge, box


def visible(points: np.ndarray, edge: np.ndarray) -> np.ndarray:
    """bool (K,) of points (K, 2) on the side that an edge (3,) leaves."""
    return np.asarray(points @ edge[:2] + edge[2] >= 0)


def draw_view(
    person: LabelledPerson,
    options: Augmentation,
    rng: np.random.Generator,
    *,
    proposal: np.ndarray | None = None,
) -> View:
    """How the next crop looks at a person.

    proposal: (4,) the box as a detector might have found it (jitter, PGPG); the true box when None.
    """
    true_box = person.box
    box = true_box if proposal is None else proposal
    edge = EVERYTHING
    cut = cut_person(person, rng) if rng.random() < options.cut else None
    if cut is not None:
        edge, true_box = cut
        box = jitter_box(true_box, rng)
    elif rng.random() < options.half_body:
        half = half_body_box(person, rng)
        if half is not None:
            true_box = half
            box = jitter_box(half, rng, spread=0.08)
    angle = 0.0
    if rng.random() < options.rotation_probability:
        limit = 2 * options.rotation
        angle = min(max(float(rng.normal(0, options.rotation)), -limit), limit)
    if rng.random() < options.upside_down:
        angle += 180.0
    scale = float(np.exp(rng.normal(0, options.scale / 2))) if options.scale else 1.0
    return View(box, true_box, angle, scale, bool(rng.random() < options.flip), edge)


def place_person(
    person: LabelledPerson, view: View, size: tuple[int, int], *, growth: float = 0.3
) -> PlacedPerson:
    """Where the person is in the crop of (height, width) that the view cuts.

    Labels of joints outside the crop carry no loss.
    """
    box, true_box = grow_boxes(np.stack([view.box, view.true_box]), growth)
    to_crop = similarity(box, size, view.angle, view.scale, view.flip)
    to_centred = similarity(true_box, size, view.angle, 1.0, view.flip)
    joints, centred = (
        map_points(person.joints[None], to[None])[0].astype(np.float32)
        for to in (to_crop, to_centred)
    )
    weights = person.weights * visible(person.joints, view.edge)
    if view.flip:
        mirrored = BODY19.flip_permutation
        joints, centred, weights = joints[mirrored], centred[mirrored], weights[mirrored]
    edge = view.edge[:2] @ invert_transforms(to_crop[None])[0]
    edge[2] += view.edge[2]
    return PlacedPerson(
        to_crop,
        edge,
        joints,
        weights * inside(joints, size),
        centred,
        weights * inside(centred, size),
        centring_theta(to_crop, to_centred, size),
    )


def centring_theta(
    to_crop: np.ndarray, to_centred: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """(2, 3) float32 map from one crop of a person to another, both in normalised coordinates.

    to_crop, to_centred: (2, 3), photo pixels → pixels of the two crops of (height, width).
    """
    back = invert_transforms(to_centred[None])[0]
    linear = to_crop[:, :2] @ back[:, :2]
    shift = to_crop[:, :2] @ back[:, 2] + to_crop[:, 2]
    # A pixel p is at (2 p + 1) / extent - 1.
    extent = np.array(size[::-1], np.float64)
    middle = (extent - 1) / 2
    shift = (linear @ middle + shift - middle) * 2 / extent
    linear = linear * extent[None, :] / extent[:, None]
    return np.column_stack([linear, shift]).astype(np.float32)


def similarity(
    box: np.ndarray, size: tuple[int, int], angle: float, scale: float, flip: bool
) -> np.ndarray:
    """(2, 3) map from image pixels to crop pixels for a grown box (4,), turned by `angle` degrees,
    zoomed by `scale` and mirrored if `flip`.

    size: (height, width) of the crop. The box's aspect is widened to the crop's. Both sides use
    pixel centres.
    """
    zoom = scale * (np.array(size[::-1]) / (box[2:] - box[:2])).min()
    radians = np.deg2rad(angle)
    cosine, sine = zoom * np.cos(radians), zoom * np.sin(radians)
    mirror = -1.0 if flip else 1.0
    linear = np.array([[mirror * cosine, mirror * sine], [-sine, cosine]])
    # Edge coordinates of the box's centre, then half a pixel back to pixel centres on both sides.
    centre = (box[:2] + box[2:]) / 2 - 0.5
    target = np.array(size[::-1]) / 2 - 0.5
    return np.column_stack([linear, target - linear @ centre])


def inside(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """float32 (...), 1 for points (..., 2) inside a picture of (height, width)."""
    x, y = points[..., 0], points[..., 1]
    return ((x >= 0) & (y >= 0) & (x <= size[1] - 1) & (y <= size[0] - 1)).astype(np.float32)


def distort_picture(
    picture: NDArray[np.uint8], options: Augmentation, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """A picture (uint8 RGB) as bad cameras and crowds make it: lower resolution, motion blur,
    another light, things in front. The given one is not changed.
    """
    image: NDArray[Any] = picture
    height, width = image.shape[:2]
    if rng.random() < options.low_resolution:
        factor = rng.uniform(0.25, 0.7)
        small = max(round(width * factor), 1), max(round(height * factor), 1)
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.random() < options.blur:
        image = cv2.filter2D(image, -1, motion_kernel(int(rng.integers(3, 8)), rng.uniform(0, 180)))
    if rng.random() < options.color:
        image = change_color(image, rng)
    if rng.random() < options.erase:
        image = image.copy()
        for _ in range(int(rng.integers(1, 4))):
            cover(image, rng)
    return image


def motion_kernel(length: int, angle: float) -> NDArray[np.float32]:
    """(length, length) mean along a line at `angle` degrees."""
    kernel = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1.0 / length
    turn = cv2.getRotationMatrix2D((length / 2 - 0.5, length / 2 - 0.5), angle, 1.0)
    line = np.asarray(cv2.warpAffine(kernel, turn, (length, length)), np.float32)
    return line / max(float(line.sum()), 1e-6)


def change_color(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Another light and another camera: gamma, contrast, brightness, cast; grey now and then."""
    light = np.exp(rng.normal(0, 0.25)), rng.uniform(0.65, 1.35), rng.uniform(-0.15, 0.15)
    gamma, contrast, shift = np.array(light, np.float32)
    cast = rng.uniform(0.85, 1.15, 3).astype(np.float32)
    saturation = 0.0 if rng.random() < 0.1 else rng.uniform(0.5, 1.3)
    levels = np.arange(256, dtype=np.float32)[:, None] / 255
    table = ((levels**gamma - 0.5) * contrast + 0.5 + shift) * cast
    image = np.asarray(cv2.LUT(image, (table.clip(0, 1) * 255).astype(np.uint8)[None]), np.uint8)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return np.asarray(cv2.addWeighted(image, saturation, grey, 1 - saturation, 0), np.uint8)


def cover(image: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Put a patch of one colour, or a copy of another part of the picture, which is harder,
    somewhere, in place: up to a quarter of the height and a third of the width.
    """
    rows, columns = image.shape[:2]
    height, width = int(rows * rng.uniform(0.05, 0.25)), int(columns * rng.uniform(0.05, 0.3))

    def anywhere() -> NDArray[np.uint8]:
        top, left = rng.integers(0, rows - height), rng.integers(0, columns - width)
        return image[top : top + height, left : left + width]

    part = anywhere()
    if rng.random() < 0.5:
        part[:] = rng.integers(0, 256, 3, dtype=np.uint8)
    else:
        part[:] = anywhere().copy()
