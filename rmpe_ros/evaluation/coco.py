# SPDX-License-Identifier: Apache-2.0
"""COCO's AP and AR of poses and of boxes, computed by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
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


class SubsetPrecision:
    """OKS AP of many subsets of the same entries (M, ordered by picture, best first), of which some
    are merged.

    merge: the `keypoints` of the first of those entries (their numbers) when it is merged with the
    others. pycocotools matches a picture again only when its subset, or who is merged, is new.
    """

    def __init__(
        self,
        truth: Any,
        results: Sequence[Mapping[str, Any]],
        merge: Callable[[NDArray[np.intp]], list[float]],
    ) -> None:
        self._merge = merge
        self._evaluation = evaluation = _compare(truth, results, 'keypoints')
        parameters = evaluation.params
        # All entries have an OKS; then the limit on poses is of those in the subset.
        parameters.maxDets, parameters.areaRng = [len(results) + 1], parameters.areaRng[:1]
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation.evaluate()
        parameters.maxDets = evaluation._paramsEval.maxDets = [MOST_PEOPLE]
        self._keys = [(int(image), 1) for image in parameters.imgIds]
        self._entries = {key: evaluation._dts[key] for key in self._keys}
        self._similarities = dict(evaluation.ious)
        rows: dict[int, list[int]] = {}
        for row, result in enumerate(results):
            rows.setdefault(result['image_id'], []).append(row)
        self._rows = [np.array(rows.get(image, ()), np.intp) for image, _ in self._keys]
        self._matches: dict[tuple[int, bytes, bytes], Any] = {}
        self._merged: dict[bytes, NDArray[np.float64]] = {}

    def __call__(self, chosen: NDArray[np.bool_], representative: NDArray[np.intp]) -> float:
        """AP of the entries in the mask `chosen` (M,), each merged with all that have its number in
        `representative` (M,).
        """
        evaluation = self._evaluation
        evaluation.evalImgs = [
            self._match(key, rows, chosen[rows], representative[rows])
            for key, rows in zip(self._keys, self._rows, strict=True)
        ]
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation.accumulate()
        return float(evaluation.eval['precision'].mean())

    def _match(
        self,
        key: tuple[int, int],
        rows: NDArray[np.intp],
        chosen: NDArray[np.bool_],
        representative: NDArray[np.intp],
    ) -> Any:
        known = (key[0], chosen.tobytes(), representative.tobytes())
        if known not in self._matches:
            evaluation, index = self._evaluation, np.flatnonzero(chosen)
            oks = self._similarities[key]
            if len(oks):
                oks = oks[index]
                for place, i in enumerate(index.tolist()):
                    others = (representative == rows[i]) & (rows != rows[i])
                    if others.any():
                        oks[place] = self._of_merged(key, i, np.append(rows[i], rows[others]))
            evaluation._dts[key] = [self._entries[key][i] for i in index]
            evaluation.ious[key] = oks
            area = evaluation.params.areaRng[0]
            self._matches[known] = evaluation.evaluateImg(*key, area, MOST_PEOPLE)
        return self._matches[known]

    def _of_merged(
        self, key: tuple[int, int], index: int, members: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """OKS of a picture's entry `index`, merged with the rest of `members`, with each truth."""
        known = members.tobytes()
        if known not in self._merged:
            entry = {**self._entries[key][index], 'keypoints': self._merge(members)}
            self._evaluation._dts[key] = [entry]
            self._merged[known] = self._evaluation.computeOks(*key)[0]
        return self._merged[known]


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
