# SPDX-License-Identifier: Apache-2.0
"""Boxes, and the crops of people cut out by them (RMPE sec. 4.2).

Two coordinate systems, here and everywhere in this package:
- **Keypoints** are in pixel-centre coordinates: (0, 0) is the centre of the top-left pixel.
- **Boxes** are (x1, y1, x2, y2) in edge coordinates, as COCO's: 0 is the left (top) edge of the
  image, W (H) its right (bottom) edge, and width = x2 - x1.
An edge coordinate e is the pixel-centre coordinate e - 0.5.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray


def box_iou(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union of every box of `a` (N, 4) with every box of `b` (M, 4): (N, M).

    It is 0 where a box has no area or is not finite.
    """
    with np.errstate(invalid='ignore', over='ignore'):
        iou = _iou(_edges(a)[:, :, None], _edges(b)[:, None])
    return np.where(np.isfinite(iou), iou, 0.0)


def iou_of_pairs(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """As `box_iou`, of each box of `a` (N, 4), finite, with that of `b` in the same row: (N,)."""
    return _iou(_edges(a), _edges(b))


def box_nms(
    boxes: NDArray[np.floating], scores: NDArray[np.floating], iou_threshold: float
) -> NDArray[np.intp]:
    """Greedy non-maximum suppression: indices of the boxes to keep, best score first.

    boxes: (N, 4), scores: (N,). A box goes when its IoU with a better kept one is greater than
    `iou_threshold`. Boxes whose coordinates or score are not finite are never kept; boxes without
    area overlap nothing and stay. Equal scores keep the order given.
    """
    boxes = _as_boxes(boxes)
    scores = np.asarray(scores, np.float64)
    if scores.shape != boxes.shape[:1]:
        raise ValueError(
            f'{len(boxes)} boxes need scores of shape ({len(boxes)},), got {scores.shape}'
        )
    finite = np.flatnonzero(np.isfinite(boxes).all(axis=1) & np.isfinite(scores))
    order = finite[np.argsort(-scores[finite], kind='stable')]
    suppresses = box_iou(boxes[order], boxes[order]) > iou_threshold
    alive = np.ones(len(order), bool)
    for rank in range(len(order)):
        if alive[rank]:
            alive[rank + 1 :] &= ~suppresses[rank, rank + 1 :]
    return order[alive]


def clip_boxes(boxes: NDArray[np.floating], image_size: tuple[int, int]) -> NDArray[np.float64]:
    """The parts of boxes (N, 4) inside an image of `image_size` (height, width)."""
    height, width = image_size
    limits = np.array([width, height, width, height], np.float64)
    return np.minimum(np.maximum(_as_boxes(boxes), 0), limits)


def boxes_with_area(boxes: NDArray[np.floating]) -> NDArray[np.bool_]:
    """(N,) mask: boxes whose coordinates are finite and whose width and height are positive."""
    boxes = _as_boxes(boxes)
    with np.errstate(invalid='ignore'):
        valid = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    return np.asarray(valid)


def grow_boxes(boxes: NDArray[np.floating], growth: float = 0.3) -> NDArray[np.float64]:
    """Boxes (N, 4) with width and height enlarged by `growth` about the centre (RMPE sec. 4.2).

    0.3 adds 15 % on each side, so that a box cut too tightly still holds the whole person.
    The result may reach beyond the image.
    """
    boxes = _as_boxes(boxes)
    margin = (boxes[:, 2:] - boxes[:, :2]) * (growth / 2)
    return np.concatenate([boxes[:, :2] - margin, boxes[:, 2:] + margin], axis=1)


def crop_transforms(boxes: NDArray[np.floating], crop_size: tuple[int, int]) -> NDArray[np.float64]:
    """Affine maps (N, 2, 3) from crop to image, both in pixel-centre coordinates.

    boxes: (N, 4) edge coordinates; crop_size: (height, width) of the crop in pixels.
    Each box's short side (relative to the crop's shape) is enlarged about its centre, so that the
    scale is the same in x and y and nobody is stretched. The box of a whole image, cropped at the
    image's own size, gives the identity.
    Raises ValueError for a box that is not finite or has no extent.
    """
    boxes = _as_boxes(boxes)
    crop_height, crop_width = crop_size
    with np.errstate(invalid='ignore'):
        sides = boxes[:, 2:] - boxes[:, :2]
    scale = (sides / [crop_width, crop_height]).max(axis=1)
    bad = ~(np.isfinite(boxes).all(axis=1) & (scale > 0) & (sides >= 0).all(axis=1))
    if bad.any():
        raise ValueError(
            f'box {boxes[bad][0].tolist()} cannot be cropped: boxes are finite x1, y1, x2, y2 with '
            'x1 < x2 and y1 < y2; leave others out (see boxes_with_area)'
        )
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    top_left = centre - scale[:, None] * [crop_width / 2, crop_height / 2]
    transforms = np.zeros((len(boxes), 2, 3))
    transforms[:, 0, 0] = transforms[:, 1, 1] = scale
    # Edge coordinate of a crop pixel's centre is x + 0.5; back in the image, minus 0.5 again.
    transforms[:, :, 2] = top_left + 0.5 * scale[:, None] - 0.5
    return transforms


def crop_people(
    image: NDArray[np.uint8], transforms: NDArray[np.floating], crop_size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Cut crops (N, height, width, C) out of an image (H, W, C), black beyond its edges.

    transforms: (N, 2, 3), crop → image as from `crop_transforms` (rotations are fine, too).
    Where a crop shrinks the image twofold or more, the image is first averaged over blocks of whole
    pixels, because bilinear sampling alone would skip pixels and alias.
    """
    crops = np.zeros((len(transforms), *crop_size, image.shape[2]), np.uint8)
    for crop, transform in zip(crops, np.asarray(transforms, np.float64), strict=True):
        _cut(image, transform, crop)
    return crops


class PeopleCrops:
    """Crops (N, height, width, C) as of `crop_people`, cut when an array is made of them or of some
    rows: `numpy.asarray(crops[2:3])`. Several threads may do so.

    images: of each crop, (H, W, C) with the same C; they must not change meanwhile. transforms:
    (N, 2, 3).
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        images: Sequence[NDArray[np.uint8]],
        transforms: NDArray[np.floating],
        crop_size: tuple[int, int],
    ) -> None:
        self._images, self._transforms, self._crop_size = images, transforms, crop_size
        channels = images[0].shape[2] if images else 3
        self.shape = (len(images), *crop_size, channels)

    def __len__(self) -> int:
        """N."""
        return len(self._images)

    def __getitem__(self, rows: slice) -> 'PeopleCrops':
        return PeopleCrops(self._images[rows], self._transforms[rows], self._crop_size)

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[np.uint8]:
        crops = np.zeros(self.shape, self.dtype)
        for crop, image, transform in zip(crops, self._images, self._transforms, strict=True):
            _cut(image, transform, crop)
        return crops if dtype is None else crops.astype(dtype, copy=False)


def map_points(
    points: NDArray[np.floating], transforms: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Apply affine maps (N, 2, 3) to points (N, K, 2): (N, K, 2)."""
    transforms = np.asarray(transforms, np.float64)
    return points @ transforms[:, :, :2].transpose(0, 2, 1) + transforms[:, None, :, 2]


def map_covariances(
    covariances: NDArray[np.floating], transforms: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Covariances (N, K, 3), xx, xy and yy, of points that `map_points` maps."""
    linear = np.asarray(transforms, np.float64)[:, :, :2]
    full = covariances[..., [0, 1, 1, 2]].reshape(*covariances.shape[:2], 2, 2)
    turned = linear[:, None] @ full @ linear[:, None].transpose(0, 1, 3, 2)
    return turned.reshape(*covariances.shape[:2], 4)[..., [0, 1, 3]]


def invert_transforms(transforms: NDArray[np.floating]) -> NDArray[np.float64]:
    """The inverses of affine maps (N, 2, 3). Raises numpy.linalg.LinAlgError for singular ones."""
    transforms = np.asarray(transforms, np.float64)
    linear = np.linalg.inv(transforms[:, :, :2])
    return np.concatenate([linear, -linear @ transforms[:, :, 2:]], axis=2)


def _cut(image: NDArray[np.uint8], transform: NDArray[np.float64], crop: NDArray[np.uint8]) -> None:
    """Fill one crop (height, width, C), which is black, see `crop_people`."""
    height, width = crop.shape[:2]
    (a, b, _), (c, d, _) = transform.tolist()
    scale = math.sqrt(abs(a * d - b * c))
    shrink = max(1, int(scale + 1e-6))
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) - 0.5
    reach = corners @ transform[:, :2].T + transform[:, 2]
    # One block of margin, so that interpolation finds its neighbours; then only the image.
    low = np.clip(np.floor(reach.min(axis=0)).astype(int) - shrink, 0, None)
    high = np.ceil(reach.max(axis=0)).astype(int) + shrink + 1
    region = image[low[1] : max(high[1], 0), low[0] : max(high[0], 0)]
    if region.size == 0:
        return
    if shrink > 1:
        region = _average_blocks(region, shrink)
    to_region = transform.copy()
    to_region[:, 2] += 0.5 - low
    to_region /= shrink
    to_region[:, 2] -= 0.5
    cv2.warpAffine(
        region,
        to_region,
        (width, height),
        dst=crop,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=0,
    )


def _average_blocks(image: NDArray[np.uint8], block: int) -> NDArray[np.uint8]:
    """The means of block × block pixels; incomplete blocks at the end are filled with black."""
    height, width, channels = image.shape
    bottom, right = -height % block, -width % block
    padded = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=0)
    size = ((width + right) // block, (height + bottom) // block)
    averaged = cv2.resize(padded, size, interpolation=cv2.INTER_AREA)
    return np.asarray(averaged, np.uint8).reshape(*size[::-1], channels)


def _iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of boxes by their edges, (4, ...)."""
    intersection = _area(np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:]))
    union = _area(a[:2], a[2:]) + _area(b[:2], b[2:]) - intersection
    return np.asarray(intersection / np.where(union > 0, union, np.inf))


def _area(low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    """Between x, y (2, ...) and x, y; 0 where `high` is lower."""
    width, height = np.maximum(high - low, 0.0)
    return np.asarray(width * height)


def _edges(boxes: ArrayLike) -> NDArray[np.float64]:
    """(4, N) of boxes (N, 4): operations on rows of many take half of the time of those on pairs of
    two numbers.
    """
    return np.ascontiguousarray(_as_boxes(boxes).T)


def _as_boxes(boxes: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(boxes, np.float64)
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f'boxes are an (N, 4) array of x1, y1, x2, y2; got shape {array.shape}')
    return array
