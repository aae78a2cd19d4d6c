# SPDX-License-Identifier: Apache-2.0
"""COCO's AP and AR of poses and of boxes, computed by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.skeletons import COCO17

KEYPOINT_NAMES = ('AP', 'AP50', 'AP75', 'APM', 'APL', 'AR', 'AR50', 'AR75', 'ARM', 'ARL')
MOST_PEOPLE = 20  # COCO's limit of poses an image
# Where 0.5 and 0.75 are among COCO's thresholds 0.5, 0.55, … 0.95.
_AT_50, _AT_75 = 0, 5


def coco_api(annotations: Mapping[str, Any], image_ids: Iterable[int] | None = None) -> Any:
    """A pycocotools COCO object of the annotations, of some images only where ids are given.

    Joints beyond COCO's 17 are cut off, and what they counted with them; a missing `iscrowd` or
    `area` is filled in. People without labelled joints stay: COCO's rules say that a pose on one
    of them is neither right nor wrong.
    """
    wanted = (
        {image['id'] for image in annotations['images']} if image_ids is None else set(image_ids)
    )
    people = []
    for annotation in annotations['annotations']:
        if annotation['image_id'] not in wanted:
            continue
        joints = list(annotation.get('keypoints') or [0] * 51)[:51]
        box = annotation['bbox']
        people.append(
            {
                **annotation,
                'keypoints': joints,
                'num_keypoints': int(sum(v > 0 for v in joints[2::3])),
                'iscrowd': annotation.get('iscrowd', 0),
                'area': annotation.get('area', box[2] * box[3]),
                'category_id': 1,
            }
        )
    images = [image for image in annotations['images'] if image['id'] in wanted]
    return _index(images, people)


def evaluate_keypoints(truth: Any, results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """OKS AP and AR of COCO-results entries (image_id, category_id, keypoints 51, score) against
    `coco_api`'s truth; NaN where there is nobody to find.
    """
    evaluation = _run(truth, results, 'keypoints')
    return _named(KEYPOINT_NAMES, evaluation.stats)


def evaluate_boxes(truth: Any, results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Box AP, AP50 and recall at IoU 0.5 of entries (image_id, category_id, bbox, score) against
    `coco_api`'s truth; NaN where there is nobody to find.
    """
    evaluation = _run(truth, results, 'bbox')
    # recall: (IoU, class, area, limit): the first area is all, the last limit 100 boxes.
    recall = evaluation.eval['recall'][_AT_50, 0, 0, -1]
    return _named(('AP', 'AP50', 'recall'), [*evaluation.stats[:2], recall])


def precision_curves(
    truth: Any, results: Sequence[Mapping[str, Any]]
) -> dict[str, NDArray[np.float64]]:
    """Precision of poses at recall 0, 0.01, … 1 for OKS 0.5 and 0.75: (101,) each, NaN where there
    is nobody to find.
    """
    precision = _run(truth, results, 'keypoints').eval['precision'][:, :, 0, 0, -1]
    precision = np.where(precision < 0, np.nan, precision)
    return {'0.5': precision[_AT_50], '0.75': precision[_AT_75]}


def prepare_keypoints(truth: Any) -> tuple[Any, dict[int, list[dict[str, Any]]]]:
    """COCO's parameters for poses, and the people that it compares in each picture, of which it
    leaves out those with `ignore`.
    """
    evaluation = _compare(truth, [], 'keypoints')
    evaluation._prepare()
    parameters = evaluation.params
    return parameters, {
        image: evaluation._gts[image, parameters.catIds[0]] for image in parameters.imgIds
    }


def _run(truth: Any, results: Sequence[Mapping[str, Any]], kind: str) -> Any:
    evaluation = _compare(truth, results, kind)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def _compare(truth: Any, results: Sequence[Mapping[str, Any]], kind: str) -> Any:
    """A COCOeval that has not been run yet."""
    from pycocotools.cocoeval import COCOeval

    # Copies: loadRes writes into them. A box, where there is one, stays: it decides on APM and APL.
    # coco_api has people only, as category 1, whatever their number was in the file.
    entries = [{**result, 'category_id': 1} for result in results]
    if kind == 'keypoints':
        for entry in entries:
            entry['keypoints'] = list(entry['keypoints'])[:51]
    with contextlib.redirect_stdout(io.StringIO()):
        # loadRes cannot load nothing.
        found = truth.loadRes(entries) if entries else _index(truth.dataset['images'], [])
        evaluation = COCOeval(truth, found, kind)
    if kind == 'keypoints':
        evaluation.params.maxDets = [MOST_PEOPLE]
    return evaluation


def _index(images: list[Mapping[str, Any]], annotations: list[dict[str, Any]]) -> Any:
    from pycocotools.coco import COCO

    api = COCO()
    api.dataset = {
        'images': images,
        'annotations': annotations,
        'categories': [{'id': 1, 'name': 'person', 'keypoints': list(COCO17.keypoints)}],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        api.createIndex()
    return api


def _named(names: Sequence[str], values: Iterable[float]) -> dict[str, float]:
    """pycocotools says -1 where there is nobody to find."""
    return {
        name: float(value) if value >= 0 else float('nan')
        for name, value in zip(names, values, strict=True)
    }
