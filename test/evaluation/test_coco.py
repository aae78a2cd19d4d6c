# SPDX-License-Identifier: Apache-2.0
"""OKS AP: worked values, and the same as pycocotools called by hand on files."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip('pycocotools')
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from rmpe_ros.cli.main import main
from rmpe_ros.evaluation.coco import coco_api, evaluate_boxes, evaluate_keypoints, precision_curves

JOINTS = np.stack([np.arange(17) * 7 % 50 + 100, np.arange(17) * 10 + 100], axis=1).astype(float)
# A body of 17 joints 100 px off is nobody's match; by 3 px it is nearly perfect at this area.
AREA = 20_000.0


def person(image: int, number: int, shift: float = 0, *, labelled: int = 17) -> dict[str, Any]:
    joints = np.concatenate([JOINTS + shift, np.full((17, 1), 2)], axis=1)
    joints[labelled:] = 0
    return {
        'id': number,
        'image_id': image,
        'category_id': 1,
        'keypoints': joints.ravel().tolist(),
        'num_keypoints': labelled,
        'bbox': [90 + shift, 90 + shift, 80, 190],
        'area': AREA,
        'iscrowd': 0,
    }


def pose(image: int, score: float, shift: float = 0) -> dict[str, Any]:
    joints = np.concatenate([JOINTS + shift, np.ones((17, 1))], axis=1)
    return {
        'image_id': image,
        'category_id': 1,
        'keypoints': joints.ravel().tolist(),
        'score': score,
    }


def labels(*people: dict[str, Any]) -> dict[str, Any]:
    images = [
        {'id': i, 'file_name': f'{i}.jpg'} for i in sorted({p['image_id'] for p in people} | {9})
    ]
    return {
        'images': images,
        'annotations': list(people),
        'categories': [{'id': 1, 'name': 'person'}],
    }


def test_one_wrong_pose_before_the_right_one_halves_ap() -> None:
    truth = coco_api(labels(person(1, 1)))
    # The right one comes second: precision is 1/2 at every recall.
    scores = evaluate_keypoints(truth, [pose(1, 0.9, 150), pose(1, 0.5)])
    assert scores['AP'] == pytest.approx(0.5)
    assert scores['AR'] == pytest.approx(1.0)
    scores = evaluate_keypoints(truth, [pose(1, 0.4, 150), pose(1, 0.5)])
    assert scores['AP'] == pytest.approx(1.0)


def test_half_of_the_people() -> None:
    truth = coco_api(labels(person(1, 1), person(2, 2)))
    scores = evaluate_keypoints(truth, [pose(1, 0.9)])
    # Precision 1 up to recall 0.5, then 0: 51 of the 101 recalls.
    assert scores['AP'] == pytest.approx(51 / 101)
    assert scores['AR'] == pytest.approx(0.5)
    assert np.nansum(precision_curves(truth, [pose(1, 0.9)])['0.5']) == pytest.approx(51)


def test_a_pose_on_somebody_without_labels_costs_nothing() -> None:
    unlabelled = person(1, 2, 300, labelled=0)
    truth = coco_api(labels(person(1, 1), unlabelled))
    assert evaluate_keypoints(truth, [pose(1, 0.9, 300), pose(1, 0.5)])['AP'] == pytest.approx(1)


def test_nothing_found_and_nobody_to_find() -> None:
    assert evaluate_keypoints(coco_api(labels(person(1, 1))), [])['AP'] == 0
    assert np.isnan(evaluate_keypoints(coco_api(labels()), [pose(9, 0.5)])['AP'])


def test_boxes() -> None:
    truth = coco_api(labels(person(1, 1), person(2, 2)))
    found = {'image_id': 1, 'category_id': 1, 'bbox': [90, 90, 80, 190], 'score': 0.5}
    scores = evaluate_boxes(truth, [found])
    assert scores == pytest.approx({'AP': 51 / 101, 'AP50': 51 / 101, 'recall': 0.5})


def test_the_command_gives_what_pycocotools_gives(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    people = [
        person(i, 10 * i + n, 220.0 * n, labelled=(17, 9, 0)[(i + n) % 3])
        for i in range(1, 6)
        for n in range(3)
    ]
    people[3]['iscrowd'] = 1
    results = []
    for truth in people:
        for spread in (2.0, 9.0):
            entry = pose(truth['image_id'], float(rng.random()), truth['bbox'][0] - 90)
            moved = np.array(entry['keypoints']).reshape(17, 3)
            moved[:, :2] += rng.normal(0, spread, (17, 2))
            results.append({**entry, 'keypoints': moved.ravel().tolist()})
    truth_file, results_file = tmp_path / 'labels.json', tmp_path / 'results.json'
    truth_file.write_text(json.dumps(labels(*people)))
    results_file.write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        api = COCO(str(truth_file))
        direct = COCOeval(api, api.loadRes(str(results_file)), 'keypoints')
        direct.evaluate()
        direct.accumulate()
        direct.summarize()
    out = tmp_path / 'out.json'
    arguments = ['--annotations', str(truth_file), '--results', str(results_file)]
    assert main(['evaluate', *arguments, '--json', str(out)]) == 0
    numbers = json.loads(out.read_text())
    assert 0.2 < numbers['oks']['AP'] < 0.98
    expected = direct.stats[[0, 1, 2, 4, 5]]
    names = ('AP', 'AP50', 'AP75', 'APL', 'AR')
    np.testing.assert_allclose([numbers['oks'][n] for n in names], expected, atol=1e-12)
    assert numbers['detector'] is None
    assert numbers['people'] == sum(p['num_keypoints'] > 0 and not p['iscrowd'] for p in people)
