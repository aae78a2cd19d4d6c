# SPDX-License-Identifier: Apache-2.0
"""How good a detector is while it trains: COCO's AP50 and recall on photos in which everybody is
labelled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from rmpe_ros.core.boxes import box_nms, boxes_with_area, clip_boxes
from rmpe_ros.detector import letterbox
from rmpe_ros.evaluation.coco import coco_api, evaluate_boxes
from rmpe_ros.networks.person_detector import QUERIES, DetectorGraph, DetectorNetwork
from rmpe_ros.training.datasets import LabelledScene, evenly, read_photo

MOST_PHOTOS = 500
NMS_IOU = 0.6  # the run-time's default
# AP asks for the doubtful boxes, too; below this they change nothing.
LEAST_SCORE = 0.01


class DetectorValidation:
    """Scores a detector on photos letterboxed to (height, width), at most MOST_PHOTOS of them.

    Photos in which not everybody is labelled are left out, unless there are no others: a person
    found there would count as a mistake. canvases: (N, height, width, 3) uint8; boxes: the labelled
    ones in each, (M, 4) canvas pixels.
    """

    def __init__(
        self,
        scenes: Sequence[LabelledScene],
        size: tuple[int, int],
        *,
        read: Callable[[Path], np.ndarray] = read_photo,
    ):
        scenes = [scene for scene in scenes if scene.complete] or scenes
        if not scenes:
            raise ValueError('there is no photo to validate the detector on')
        scenes = [scenes[i] for i in evenly(len(scenes), MOST_PHOTOS)]
        canvases, scales = zip(
            *(letterbox(read(scene.image), size) for scene in scenes), strict=True
        )
        self.canvases, self.scales = np.stack(canvases), np.stack(scales)
        self.boxes = [
            scene.boxes * np.tile(scale, 2) for scene, scale in zip(scenes, scales, strict=True)
        ]
        self.truth = coco_api(
            {
                'images': [{'id': i} for i in range(len(scenes))],
                'annotations': [
                    {'id': number, 'image_id': i, 'bbox': coco_box(box), 'iscrowd': int(ignored)}
                    for number, (i, box, ignored) in enumerate(
                        (
                            (i, box, ignored)
                            for i, scene in enumerate(scenes)
                            for ignored, boxes in enumerate((scene.boxes, scene.ignore))
                            for box in boxes
                        ),
                        start=1,
                    )
                ],
            }
        )

    def detect(
        self, network: nn.Module, canvases: np.ndarray, batch: int = 16
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Boxes (M, 4) in canvas pixels and scores (M,) of each, after box NMS, best first."""
        assert isinstance(network, DetectorNetwork)
        device = next(network.parameters()).device
        cells = sum(
            canvases.shape[1] // stride * (canvases.shape[2] // stride) for stride in (8, 16, 32)
        )
        graph = DetectorGraph(network, min(QUERIES, cells))
        found = []
        with torch.no_grad():
            for start in range(0, len(canvases), batch):
                pictures = torch.from_numpy(canvases[start : start + batch]).to(device)
                boxes, scores = (values.cpu().numpy() for values in graph(pictures))
                found += [
                    self._best(*each, canvases.shape[1:3])
                    for each in zip(boxes, scores, strict=True)
                ]
        return found

    def __call__(self, network: nn.Module) -> dict[str, float]:
        results = [
            {'image_id': i, 'category_id': 1, 'bbox': coco_box(box), 'score': float(score)}
            for i, (scale, (boxes, scores)) in enumerate(
                zip(self.scales, self.detect(network, self.canvases), strict=True)
            )
            for box, score in zip(boxes / np.tile(scale, 2), scores, strict=True)
        ]
        found = evaluate_boxes(self.truth, results)
        return {'ap50': found['AP50'], 'recall': found['recall']}

    @staticmethod
    def _best(
        boxes: np.ndarray, scores: np.ndarray, size: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        boxes = clip_boxes(boxes, size)
        usable = boxes_with_area(boxes) & (scores >= LEAST_SCORE)
        boxes, scores = boxes[usable], scores[usable]
        keep = box_nms(boxes, scores, NMS_IOU)
        return boxes[keep], scores[keep]


def coco_box(box: np.ndarray) -> list[float]:
    """x1, y1, x2, y2 → COCO's x, y, width, height."""
    return [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()]
