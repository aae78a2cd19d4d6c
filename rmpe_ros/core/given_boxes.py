# SPDX-License-Identifier: Apache-2.0
"""Boxes of people that a caller gives instead of the detector: checked, for a box in another form
finds nobody, or somebody else.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmpe_ros.core.boxes import boxes_with_area, clip_boxes

_FORM = 'boxes are an (N, 4) array of x1, y1, x2, y2 in pixels of the image'
# No box of a person is so small in pixels, and shares of the image hardly reach beyond 1.
_LARGEST_SHARE = 2.0
_ROUNDING = 1e-3


def check_boxes(
    boxes: ArrayLike, scores: ArrayLike | None, image_size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The boxes (M, 4) that have an area in an image of (height, width), clipped to it, and their
    scores (M,), best first; a score is 1 where none is given, and equal ones stay in order.

    Boxes and scores that are not finite are left out. Raises ValueError for arrays of other shapes,
    for boxes that look like x, y, width, height or shares of the image, and for scores outside
    [0, 1]; warns when no box lies in the image, or single ones have no width or height.
    """
    given = _numbers(boxes, _FORM)
    if given.ndim == 1 and given.size == 0:
        given = np.zeros((0, 4))
    if given.ndim != 2 or given.shape[1] != 4:
        one = '; a single box is boxes[None]' if given.shape == (4,) else ''
        raise ValueError(f'{_FORM}; got shape {given.shape}{one}')
    sure = np.ones(len(given)) if scores is None else _numbers(scores, 'box_scores are numbers')
    if sure.shape != (len(given),):
        raise ValueError(f'{len(given)} boxes need as many box_scores, got shape {sure.shape}')
    # Before they are clipped, which would make the whole image of an infinite one.
    finite = np.isfinite(given).all(axis=1) & np.isfinite(sure)
    given, sure = given[finite], sure[finite]
    if len(sure) and not (sure.min() >= -_ROUNDING and sure.max() <= 1 + _ROUNDING):
        raise ValueError(
            f'box_scores are from 0 to 1, got {sure.min():g} to {sure.max():g}: divide percents by '
            '100'
        )
    some = boxes_with_area(given)
    _check_form(given, some, image_size)
    clipped = clip_boxes(given, image_size)
    valid = boxes_with_area(clipped)
    if some.any() and not valid.any():
        _warn(
            f'none of the {len(given)} boxes lies in the image of {image_size[1]}x{image_size[0]}: '
            'are they of an image of another size?'
        )
    clipped, sure = clipped[valid], sure[valid]
    order = np.argsort(-sure, kind='stable')
    return clipped[order].astype(np.float32), np.clip(sure[order], 0, 1).astype(np.float32)


def _numbers(values: ArrayLike, expected: str) -> NDArray[np.float64]:
    try:
        array = np.asarray(values)
        if array.size and array.dtype.kind not in 'iuf':
            raise TypeError(f'an array of {array.dtype.name}')
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f'{expected}; got {error}') from error


def _check_form(
    boxes: NDArray[np.float64], some: NDArray[np.bool_], image_size: tuple[int, int]
) -> None:
    """Raises ValueError where finite boxes look like another form, and warns of single ones; `some`
    have an area.
    """
    if not len(boxes):
        return
    turned = (boxes[:, 2:] < boxes[:, :2]).any(axis=1)
    example = boxes[turned.argmax()].tolist()
    if 2 * turned.sum() >= len(boxes):
        raise ValueError(
            f'{_FORM}, but {turned.sum()} of {len(boxes)} end before they begin, as {example}: '
            'where they are x, y, width, height, add x and y to width and height'
        )
    if turned.any():
        text = f'{turned.sum()} of {len(boxes)} boxes end before they begin, as {example}: left out'
        _warn(text, depth=1)
    if some.any() and max(image_size) > 2 * _LARGEST_SHARE:
        least, largest = boxes[some].min(), boxes[some].max()
        if least >= -1 and largest <= _LARGEST_SHARE:
            raise ValueError(
                f'{_FORM}, but the largest number in them is {largest:g}: where they are shares of '
                f'the image, multiply them by its width {image_size[1]} and height {image_size[0]}'
            )


def _warn(text: str, depth: int = 0) -> None:
    # In the name of the line that calls the pipeline, which calls `check_boxes`.
    warnings.warn(text, stacklevel=4 + depth)
