# SPDX-License-Identifier: Apache-2.0
"""Crops of people as the pose network will see them, and worse: jittered boxes, rotation, half
bodies, photos that end within the person, bad pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from rmpe_ros.core.boxes import crop_people, grow_boxes, invert_transforms, map_points
from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.training.datasets import LabelledPerson
from rmpe_ros.training.distortions import distort, draw_distortion

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
    cut: float = 0.2
    half_body: float = 0.15
    color: float = 0.8
    blur: float = 0.1
    low_resolution: float = 0.1
    erase: float = 0.25


NO_AUGMENTATION = Augmentation(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)

# Cameras cut people off below most often. Sides of the box: left, top, right, bottom.
CUT_SIDES = (0.15, 0.1, 0.15, 0.6)
# A line (a, b, c) leaves those points visible where a x + b y + c ≥ 0: this one all of them.
EVERYTHING = np.zeros(3)


@dataclass(frozen=True)
class TrainingCrop:
    """One example. image: uint8 (h, w, 3) RGB. joints: (K, 2) crop pixels. centred: (K, 2) the same
    joints in the crop of the true box, the target of the parallel SPPE. weights: (K,), 0 where
    there is no loss; centred_weights alike. theta: (2, 3) the perfect STN's answer, see
    `PlacedPeople`.
    """

    image: np.ndarray
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


@dataclass(frozen=True)
class PlacedPeople:
    """N people in their crops.

    to_crop: (N, 2, 3) float64, photo pixels → crop pixels. edges: (N, 3) float64, the lines at
    which the photos end, in crop pixels. theta: (N, 2, 3) float32, the map from the true box's crop
    to this one, both in [-1, 1], which a perfect STN would find. The others (N, K, …) float32, as
    of `TrainingCrop`.
    """

    to_crop: np.ndarray
    edges: np.ndarray
    joints: np.ndarray
    weights: np.ndarray
    centred: np.ndarray
    centred_weights: np.ndarray
    theta: np.ndarray


def jitter_box(
    box: np.ndarray, rng: np.random.Generator, *, spread: float = 0.12, min_iou: float = 0.5
) -> np.ndarray:
    """Random jitter of RMPE's ablation (Table 3 b): each edge moves by N(0, spread) of its side
    while IoU stays > 0.5.
    """
    sides = np.tile(box[2:] - box[:2], 2)
    true = box.tolist()
    for _ in range(10):
        moved = (box + rng.normal(0.0, spread, 4) * sides).astype(np.float32)
        if _overlap(true, moved.tolist()) > min_iou:
            return moved
    return box


def _overlap(a: list[float], b: list[float]) -> float:
    """`box_iou` of two boxes, 0 when one has no area; a tenth of its time, which counts here."""
    sides = [(box[2] - box[0], box[3] - box[1]) for box in (a, b)]
    width, height = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    if min(width, height, *sides[0], *sides[1]) <= 0:
        return 0.0
    intersection = width * height
    return intersection / (sum(w * h for w, h in sides) - intersection)


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
    """bool (..., ) of points (..., 2) on the side that an edge (..., 3) leaves."""
    edge = edge[..., None, :]
    form = edge[..., 0] * points[..., 0] + edge[..., 1] * points[..., 1] + edge[..., 2]
    return np.asarray(form >= 0)


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


def place_people(
    people: Sequence[LabelledPerson],
    views: Sequence[View],
    size: tuple[int, int],
    *,
    growth: float = 0.3,
) -> PlacedPeople:
    """Where each person is in the crop of (height, width) that its view cuts.

    Labels of joints outside the crop carry no loss.
    """
    angles, scales = (np.array([getattr(v, name) for v in views]) for name in ('angle', 'scale'))
    flips = np.array([view.flip for view in views])
    boxes = grow_boxes(np.stack([view.box for view in views]), growth)
    true_boxes = grow_boxes(np.stack([view.true_box for view in views]), growth)
    to_crop = similarities(boxes, size, angles, scales, flips)
    to_centred = similarities(true_boxes, size, angles, np.ones(len(views)), flips)
    points = np.stack([person.joints for person in people])
    edges = np.stack([view.edge for view in views])
    weights = np.stack([person.weights for person in people]) * visible(points, edges)
    joints = map_points(points, to_crop).astype(np.float32)
    centred = map_points(points, to_centred).astype(np.float32)
    mirrored = BODY19.flip_permutation
    joints[flips] = joints[flips][:, mirrored]
    centred[flips] = centred[flips][:, mirrored]
    weights[flips] = weights[flips][:, mirrored]
    from_crop = invert_transforms(to_crop)
    edges_in_crop = np.einsum('ni,nij->nj', edges[:, :2], from_crop)
    edges_in_crop[:, 2] += edges[:, 2]
    return PlacedPeople(
        to_crop,
        edges_in_crop,
        joints,
        weights * inside(joints, size),
        centred,
        weights * inside(centred, size),
        centring_thetas(to_crop, to_centred, size),
    )


def centring_thetas(
    to_crop: np.ndarray, to_centred: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """(N, 2, 3) float32 maps from one crop of a person to another, both in normalised coordinates.

    to_crop, to_centred: (N, 2, 3), photo pixels → pixels of the two crops of (height, width).
    """
    back = invert_transforms(to_centred)
    linear = to_crop[:, :, :2] @ back[:, :, :2]
    shift = np.einsum('nij,nj->ni', to_crop[:, :, :2], back[:, :, 2]) + to_crop[:, :, 2]
    # A pixel p is at (2 p + 1) / extent - 1.
    extent = np.array(size[::-1], np.float64)
    middle = (extent - 1) / 2
    shift = (np.einsum('nij,j->ni', linear, middle) + shift - middle) * 2 / extent
    linear = linear * extent[None, None, :] / extent[None, :, None]
    return np.concatenate([linear, shift[..., None]], axis=2).astype(np.float32)


def similarities(
    boxes: np.ndarray,
    size: tuple[int, int],
    angles: np.ndarray,
    scales: np.ndarray,
    flips: np.ndarray,
) -> np.ndarray:
    """(N, 2, 3) maps from image pixels to crop pixels for grown boxes (N, 4), turned by `angles`
    degrees, zoomed by `scales` and mirrored where `flips`, (N,) each.

    size: (height, width) of the crop. Each box's aspect is widened to the crop's. Both sides use
    pixel centres.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    zoom = scales * (np.array(size[::-1]) / sides).min(axis=1)
    radians = np.deg2rad(angles)
    cosine, sine = zoom * np.cos(radians), zoom * np.sin(radians)
    mirror = np.where(flips, -1.0, 1.0)
    linear = np.stack([mirror * cosine, mirror * sine, -sine, cosine], axis=1).reshape(-1, 2, 2)
    # Edge coordinates of the box's centre, then half a pixel back to pixel centres on both sides.
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 - 0.5
    target = np.array(size[::-1]) / 2 - 0.5
    shift = target - np.einsum('nij,nj->ni', linear, centre)
    return np.concatenate([linear, shift[..., None]], axis=2)


def distort_picture(
    image: np.ndarray, options: Augmentation, rng: np.random.Generator
) -> np.ndarray:
    """Colour, blur, resolution and occlusion as cameras and crowds do them."""
    return distort(image, draw_distortion((image.shape[0], image.shape[1]), options, rng))


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
    size: (h, w). `DevicePoseBatches` makes the same from the same random generator, on a device.
    """
    view = draw_view(person, options, rng, proposal=proposal)
    placed = place_people([person], [view], size, growth=growth)
    picture = crop_people(image, invert_transforms(placed.to_crop), size)[0]
    hide_beyond(picture, placed.edges[0])
    picture = distort_picture(picture, options, rng)
    return TrainingCrop(
        picture,
        placed.joints[0],
        placed.weights[0],
        placed.centred[0],
        placed.centred_weights[0],
        placed.theta[0],
    )


def hide_beyond(picture: np.ndarray, edge: np.ndarray) -> None:
    """Blacken what lies beyond an edge (3,) in a picture (h, w, 3), as crops are beyond a photo."""
    if edge.any():
        x, y = np.arange(picture.shape[1]), np.arange(picture.shape[0])[:, None]
        picture[edge[0] * x + edge[1] * y + edge[2] < 0] = 0


def inside(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """float32 (...), 1 for points (..., 2) inside a picture of (height, width)."""
    x, y = points[..., 0], points[..., 1]
    return ((x >= 0) & (y >= 0) & (x <= size[1] - 1) & (y <= size[0] - 1)).astype(np.float32)
