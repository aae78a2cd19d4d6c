# SPDX-License-Identifier: Apache-2.0
"""Crops of people as the pose network will see them, and worse: jittered boxes, rotation, half
bodies, bad pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from rmpe_ros.boxes import box_iou, crop_people, grow_boxes, invert_transforms, map_points
from rmpe_ros.skeletons import BODY19
from rmpe_ros.training.datasets import LabelledPerson

UPPER_BODY = tuple(
    i
    for i, name in enumerate(BODY19.keypoints)
    if not any(p in name for p in ('hip', 'knee', 'ankle'))
)
LOWER_BODY = tuple(
    i for i, name in enumerate(BODY19.keypoints) if any(p in name for p in ('hip', 'knee', 'ankle'))
)


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
    half_body: float = 0.1
    color: float = 0.8
    blur: float = 0.1
    low_resolution: float = 0.1
    erase: float = 0.15


NO_AUGMENTATION = Augmentation(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


@dataclass(frozen=True)
class TrainingCrop:
    """One example. image: uint8 (h, w, 3) RGB. joints: (K, 2) crop pixels. centred: (K, 2) the same
    joints in the crop of the true box, the target of the parallel SPPE. weights: (K,), 0 where
    there is no loss; centred_weights alike.
    """

    image: np.ndarray
    joints: np.ndarray
    weights: np.ndarray
    centred: np.ndarray
    centred_weights: np.ndarray


def jitter_box(
    box: np.ndarray, rng: np.random.Generator, *, spread: float = 0.12, min_iou: float = 0.5
) -> np.ndarray:
    """Random jitter of RMPE's ablation (Table 3 b): each edge moves by N(0, spread) of its side
    while IoU stays > 0.5.
    """
    sides = np.tile(box[2:] - box[:2], 2)
    for _ in range(10):
        moved = (box + rng.normal(0.0, spread, 4) * sides).astype(np.float32)
        if (
            moved[2] > moved[0]
            and moved[3] > moved[1]
            and box_iou(box[None], moved[None])[0, 0] > min_iou
        ):
            return moved
    return box


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


def similarity(
    box: np.ndarray,
    size: tuple[int, int],
    *,
    angle: float = 0.0,
    scale: float = 1.0,
    flip: bool = False,
) -> np.ndarray:
    """(2, 3) map from image pixels to crop pixels for a grown box, turned by `angle` degrees and
    zoomed by `scale`.

    size: (height, width) of the crop. The box's aspect is widened to the crop's. Both sides use
    pixel centres.
    """
    height, width = size
    box_width, box_height = box[2] - box[0], box[3] - box[1]
    zoom = scale * min(width / box_width, height / box_height)
    radians = np.deg2rad(angle)
    linear = zoom * np.array(
        [[np.cos(radians), np.sin(radians)], [-np.sin(radians), np.cos(radians)]]
    )
    if flip:
        linear = np.diag([-1.0, 1.0]) @ linear
    # Edge coordinates of the box's centre, then half a pixel back to pixel centres on both sides.
    centre = (box[:2] + box[2:]) / 2 - 0.5
    target = np.array([width, height]) / 2 - 0.5
    return np.concatenate([linear, (target - linear @ centre)[:, None]], axis=1)


def distort_picture(
    image: np.ndarray, options: Augmentation, rng: np.random.Generator
) -> np.ndarray:
    """Colour, blur, resolution and occlusion as cameras and crowds do them."""
    height, width = image.shape[:2]
    if rng.random() < options.low_resolution:
        factor = rng.uniform(0.25, 0.7)
        small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        image = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.random() < options.blur:
        length = int(rng.integers(3, 8))
        kernel = np.zeros((length, length), np.float32)
        kernel[length // 2] = 1.0 / length
        turn = cv2.getRotationMatrix2D(
            (length / 2 - 0.5, length / 2 - 0.5), rng.uniform(0, 180), 1.0
        )
        kernel = cv2.warpAffine(kernel, turn, (length, length))
        image = cv2.filter2D(image, -1, kernel / max(float(kernel.sum()), 1e-6))
    if rng.random() < options.color:
        image = distort_color(image, rng)
    if rng.random() < options.erase:
        image = image.copy()
        for _ in range(int(rng.integers(1, 4))):
            h, w = int(height * rng.uniform(0.05, 0.25)), int(width * rng.uniform(0.05, 0.3))
            y, x = int(rng.integers(0, height - h)), int(rng.integers(0, width - w))
            if rng.random() < 0.5:
                image[y : y + h, x : x + w] = rng.integers(0, 256, 3, dtype=np.uint8)
            else:  # a piece of the same picture: harder than a flat patch
                v, u = int(rng.integers(0, height - h)), int(rng.integers(0, width - w))
                image[y : y + h, x : x + w] = image[v : v + h, u : u + w].copy()
    return image


def distort_color(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast, gamma, colour cast, saturation (grey now and then) through one lookup
    table a channel.
    """
    levels = np.arange(256, dtype=np.float32) / 255
    gamma, contrast, shift = (
        np.exp(rng.normal(0, 0.25)),
        rng.uniform(0.65, 1.35),
        rng.uniform(-0.15, 0.15),
    )
    base = (levels**gamma - 0.5) * contrast + 0.5 + shift
    tables = np.stack([base * c for c in rng.uniform(0.85, 1.15, 3)], axis=1)
    image = cv2.LUT(image, (tables.clip(0, 1) * 255).astype(np.uint8)[None])
    saturation = 0.0 if rng.random() < 0.1 else rng.uniform(0.5, 1.3)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, saturation, grey, 1 - saturation, 0)


def make_crop(
    image: np.ndarray,
    person: LabelledPerson,
    size: tuple[int, int],
    options: Augmentation,
    rng: np.random.Generator,
    *,
    proposal: np.ndarray | None = None,
    growth: float = 0.3,
) -> TrainingCrop:
    """One training example from a photo (uint8 RGB) and a person in it.

    proposal: (4,) the box as a detector might have found it (jitter, PGPG); the true box when None.
    size: (h, w).
    """
    true_box = person.box
    box = true_box if proposal is None else proposal
    if rng.random() < options.half_body:
        half = half_body_box(person, rng)
        if half is not None:
            true_box = half
            box = jitter_box(half, rng, spread=0.08)
    angle = 0.0
    if rng.random() < options.rotation_probability:
        angle = float(
            np.clip(rng.normal(0, options.rotation), -2 * options.rotation, 2 * options.rotation)
        )
    if rng.random() < options.upside_down:
        angle += 180.0
    scale = float(np.exp(rng.normal(0, options.scale / 2))) if options.scale else 1.0
    flip = bool(rng.random() < options.flip)
    matrix = similarity(grow_boxes(box[None], growth)[0], size, angle=angle, scale=scale, flip=flip)
    centre = similarity(grow_boxes(true_box[None], growth)[0], size, angle=angle, flip=flip)
    maps = np.stack([matrix, centre])
    joints, centred = map_points(person.joints[None], maps).astype(np.float32)
    weights = person.weights
    if flip:
        order = BODY19.flip_permutation
        joints, centred, weights = joints[order], centred[order], weights[order]
    picture = crop_people(image, invert_transforms(matrix[None]), size)[0]
    picture = distort_picture(picture, options, rng)
    return TrainingCrop(
        picture, joints, weights * inside(joints, size), centred, weights * inside(centred, size)
    )


def inside(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(K,) float32, 1 for points inside a picture of (height, width)."""
    x, y = points[:, 0], points[:, 1]
    return ((x >= 0) & (y >= 0) & (x <= size[1] - 1) & (y <= size[0] - 1)).astype(np.float32)
