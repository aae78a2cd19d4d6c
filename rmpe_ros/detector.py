# SPDX-License-Identifier: Apache-2.0
"""`PersonDetector`: an image to person boxes; letterbox, one network, loose box NMS.

RMPE wants redundant boxes rather than missed people, so the box NMS is loose (IoU 0.6 and more):
pose NMS removes what is left over (`pose_nms.py`).
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.boxes import box_nms, boxes_with_area, clip_boxes
from rmpe_ros.engines import Engine
from rmpe_ros.models import LARGEST_SIDE, ModelError, ModelInfo, check_sides

# Boxes that take part in box NMS; more than any image has people, and it bounds the time.
_MOST_CANDIDATES = 300
_PADDING = 114
# Of a free input size, each side: a flatter picture would have fewer cells than the model's Q.
FEWEST_STEPS = 2
# Pixels of the longer side; nobody is recognised in less.
SMALLEST_SIZE = 64


class PersonDetector:
    """Finds people with a detector model.

    engine: a model of the contract: `image` uint8 [1, H, W, 3] RGB → `boxes` float32 [1, Q, 4]
        (x1, y1, x2, y2 in edge pixels of that input) and `scores` [1, Q]. H and W are fixed, or
        free and chosen for each image by the model's metadata (`ModelInfo.long_side`).
    score_threshold, nms_iou: the model's own suggestions by default.
    max_people: keep only so many boxes, the best ones.
    size: longer side of the network's input in pixels, the model's own by default; more pixels
        find smaller people and take longer.
    Raises ModelError when the model is not such a detector.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        score_threshold: float | None = None,
        nms_iou: float | None = None,
        max_people: int | None = None,
        size: int | None = None,
    ) -> None:
        self.engine = engine
        self.info = ModelInfo.from_metadata(engine.metadata, task='detector', model=engine.name)
        self.score_threshold = (
            self.info.score_threshold if score_threshold is None else score_threshold
        )
        self.nms_iou = self.info.nms_iou if nms_iou is None else nms_iou
        self.max_people = max_people
        shape = engine.inputs['image'].shape if 'image' in engine.inputs else ()
        height, width = shape[1:3] if len(shape) == 4 else (None, None)
        self._fixed_size = (
            (height, width) if isinstance(height, int) and isinstance(width, int) else None
        )
        if len(shape) != 4 or (self._fixed_size is None and not self.info.long_side):
            raise ModelError(
                f'{engine.name}: a detector has an input image [1, H, W, 3] with fixed H and W, or '
                'says rmpe.long_side in its metadata; '
                f'it has {", ".join(f"{key} {value}" for key, value in engine.inputs.items())}'
            )

        if self._fixed_size is not None:
            sides = dict(zip(('height', 'width'), self._fixed_size, strict=True))
            check_sides(engine.name, 'image', sides)
        self.size = size

    @property
    def size(self) -> int | None:
        """Longer side of the network's input in pixels; None where the model decides.

        Raises ValueError, when it is set, for a size that cannot be.
        """
        return self._size

    @size.setter
    def size(self, size: int | None) -> None:
        if size is not None and self._fixed_size is not None:
            height, width = self._fixed_size
            raise ValueError(
                f"the detector's size cannot be {size}: the input of {self.engine.name} is fixed "
                f'at {width}x{height}; use a detector with a free input, as the shipped one'
            )
        if size is not None and not SMALLEST_SIZE <= size <= LARGEST_SIDE:
            raise ValueError(
                f"the detector's size is from {SMALLEST_SIZE} to {LARGEST_SIDE} pixels, got {size}"
            )
        self._size = size

    def input_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the network's input for an image of (height, width)."""
        if self._fixed_size is not None:
            return self._fixed_size
        ratio = (self.size or self.info.long_side) / max(image_size)
        step = self.info.size_step
        height, width = (
            step * max(FEWEST_STEPS, math.ceil(round(side * ratio) / step)) for side in image_size
        )
        # As many cells as in the flattest picture of the model's own size, again for its Q.
        area = self.info.long_side * FEWEST_STEPS * step
        if height * width < area:
            if height < width:
                height = step * math.ceil(area / width / step)
            else:
                width = step * math.ceil(area / height / step)
        return height, width

    def __call__(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """People in an image uint8 (H, W, 3) RGB, best first.

        Returns boxes (N, 4) float32, x1, y1, x2, y2 in edge coordinates clipped to the image, and
        scores (N,) float32 in [0, 1].
        """
        canvas, scale = letterbox(image, self.input_size(image.shape[:2]))
        outputs = self.engine({'image': canvas[None]})
        boxes, scores = outputs['boxes'][0], outputs['scores'][0]
        # NaN compares false, so that a broken score is no candidate.
        candidates = np.flatnonzero(scores >= self.score_threshold)
        if not len(candidates):
            return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
        if len(candidates) > _MOST_CANDIDATES:
            best = np.argpartition(-scores[candidates], _MOST_CANDIDATES)[:_MOST_CANDIDATES]
            candidates = np.sort(candidates[best])
        scores = np.clip(scores[candidates], 0, 1)
        boxes = clip_boxes(boxes[candidates] / np.tile(scale, 2), image.shape[:2])
        valid = boxes_with_area(boxes)
        boxes, scores = boxes[valid], scores[valid]
        keep = box_nms(boxes, scores, self.nms_iou)[: self.max_people]
        return boxes[keep].astype(np.float32), scores[keep].astype(np.float32)


def letterbox(
    image: NDArray[np.uint8], size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Scale an image to fit into `size` (height, width), at the top left of a grey canvas.

    Returns the canvas uint8 (height, width, 3) and the scale (x, y): canvas = image · scale, in
    edge coordinates. The two differ only by rounding to whole pixels.
    """
    height, width = original = image.shape[:2]
    ratio = min(size[0] / height, size[1] / width)
    fitted = (max(1, round(height * ratio)), max(1, round(width * ratio)))
    canvas = np.empty((*size, 3), np.uint8)
    canvas[fitted[0] :] = _PADDING
    canvas[: fitted[0], fitted[1] :] = _PADDING
    # Bilinear sampling would skip pixels below a half. Means of two by two cost a tenth of others.
    while ratio < 0.5 and height % 2 == 0 and width % 2 == 0:
        height, width, ratio = height // 2, width // 2, ratio * 2
        image = np.asarray(
            cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8
        )
    interpolation = cv2.INTER_AREA if ratio < 0.5 else cv2.INTER_LINEAR
    cv2.resize(
        image,
        fitted[::-1],
        dst=canvas[: fitted[0], : fitted[1]],
        interpolation=interpolation,
    )
    return canvas, np.array([fitted[1] / original[1], fitted[0] / original[0]])
