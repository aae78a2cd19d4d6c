# SPDX-License-Identifier: Apache-2.0
"""Somebody's COCO-results file, poses or boxes: every field checked, or refused by its place."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.skeletons import COCO17
from rmpe_ros.evaluation.labels import Labels, LabelsError
from rmpe_ros.evaluation.labels.label_files import read_json
from rmpe_ros.evaluation.records import Record, are_places

_EXPECTED = 'expected a list of {"image_id", "keypoints": [x, y, score, ...], "score"}'
_BOX = 'the four finite numbers x, y, width, height'


def read_result_entries(path: Path, labels: Labels) -> list[dict[str, Any]]:
    """The poses of a COCO-results file: image_id, keypoints (3 K numbers), score, bbox where any
    has one.

    A picture may be named by its file instead, as `rmpe predict` does without --annotations.
    The joints are those of the labels, or COCO's 17, the first of body19. A pose without a box,
    where others have one, gets the extent of its joints, as pycocotools does it where none has.
    Entries for pictures that are not among the labels are an error, as in pycocotools: they would
    go unnoticed otherwise. Raises LabelsError naming the entry and the field.
    """
    images = {image.id: image.file for image in labels.images}
    ids = {file: image for image, file in images.items()}
    joints = labels.skeleton.num_keypoints
    entries, boxes = [], []
    for record in _records(path, _EXPECTED):
        named = record.values.get('image_id')
        image = ids[named] if isinstance(named, str) and named in ids else None
        image = record.identity('image_id') if image is None else image
        if image not in images:
            raise LabelsError(
                f'{record.where} is a pose for image_id {image!r}, which the annotations do not '
                'have; are they of the same data set?'
            )
        record = Record(record.values, f'{record.where} (image {image}, {images[image]})')
        keypoints = record.numbers('keypoints', 'x, y, score of every joint')
        if keypoints is None or not are_places(keypoints).all():
            raise record.refusal('keypoints', 'finite numbers x, y, score of every joint')
        # COCO's 17 joints are the first of body19.
        fitting = {3 * joints, 3 * COCO17.num_keypoints}
        if len(keypoints) not in fitting or len(keypoints) > 3 * joints:
            raise LabelsError(
                f'{record.where}: a pose has {len(keypoints) / 3:g} joints, the annotations have '
                f'{labels.skeleton.name} with {joints}'
            )
        boxes.append(_box(record))
        entries.append(
            {
                'image_id': image,
                'category_id': 1,
                'keypoints': keypoints.tolist(),
                'score': record.finite('score'),
            }
        )
    if any(box is not None for box in boxes):
        for entry, box in zip(entries, boxes, strict=True):
            entry['bbox'] = box if box is not None else _extent(entry['keypoints'])
    return entries


def read_box_results(
    path: Path, image_ids: Collection[int], *, min_score: float
) -> dict[int, NDArray[np.float64]]:
    """Boxes (N, 4) x1, y1, x2, y2 of people of a COCO-results file: picture id → those with at
    least `min_score`, of the pictures named. Raises LabelsError naming the entry and the field.
    """
    boxes: dict[int, list[list[float]]] = {}
    for record in _records(path, 'expected a list of {"image_id", "bbox", "score"}'):
        image, box = record.identity('image_id'), _box(record)
        if box is None:
            raise record.refusal('bbox', _BOX)
        category = record.values.get('category_id')
        person = category is None or record.identity('category_id') == 1
        if person and record.finite('score') >= min_score and image in image_ids:
            x, y, width, height = box
            boxes.setdefault(image, []).append([x, y, x + width, y + height])
    return {image: np.array(each, np.float64) for image, each in boxes.items()}


def _records(path: Path, expected: str) -> list[Record]:
    entries = read_json(path)
    if not isinstance(entries, list):
        raise LabelsError(f'{path} is no COCO results file; {expected}')
    return [Record.of(entry, f'{path}: entry {n}') for n, entry in enumerate(entries)]


def _box(record: Record) -> list[float] | None:
    """x, y, width, height; None where there is none."""
    box = record.numbers('bbox', _BOX)
    if box is None:
        return None
    if len(box) != 4 or not are_places(box).all():
        raise record.refusal('bbox', _BOX)
    return list(map(float, box))


def _extent(keypoints: list[float]) -> list[float]:
    """The box of joints in COCO's form."""
    triples = np.array(keypoints).reshape(-1, 3)
    (x, y), (right, bottom) = triples[:, :2].min(axis=0), triples[:, :2].max(axis=0)
    return [float(x), float(y), float(right - x), float(bottom - y)]
