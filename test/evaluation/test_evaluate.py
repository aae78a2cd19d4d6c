# SPDX-License-Identifier: Apache-2.0
"""Found people against labels: matching, misses, MPII, pictures that are labelled in part."""

import dataclasses
import math

import numpy as np
import pytest

pytest.importorskip('pycocotools')

from rmpe_ros.core.skeletons import BODY19, MPII16, Skeleton
from rmpe_ros.evaluation.evaluate import Evaluation, evaluate, match_people
from rmpe_ros.evaluation.found_people import FoundPeople
from rmpe_ros.evaluation.labels import LabelledImage, Labels, boxes_around


def body(skeleton: Skeleton, shift: float = 0) -> np.ndarray:
    rng = np.random.default_rng(skeleton.num_keypoints)
    return rng.uniform(50, 200, (skeleton.num_keypoints, 2)) + shift


def make_labels(
    skeleton: Skeleton, shifts: list[tuple[int, float]], layout: str, **images: bool
) -> Labels:
    """People at (image, shift); images: name=complete, with ids 0, 1, …"""
    keypoints = np.array([body(skeleton, shift) for _, shift in shifts])
    labelled = np.ones(keypoints.shape[:2], bool)
    boxes = boxes_around(keypoints, labelled)
    return Labels(
        layout,  # type: ignore[arg-type]
        skeleton,
        tuple(
            LabelledImage(i, f'{name}.jpg', name, complete)
            for i, (name, complete) in enumerate(images.items())
        ),
        np.array([image for image, _ in shifts], np.int64),
        boxes,
        keypoints,
        labelled,
        np.prod(boxes[:, 2:] - boxes[:, :2], axis=1),
        np.zeros(len(shifts), bool),
        np.full(len(shifts), 20.0 if layout == 'mpii' else math.nan),
    )


def make_found(skeleton: Skeleton, *shifts: float) -> FoundPeople:
    keypoints = np.array([body(skeleton, s) for s in shifts]).reshape(-1, *body(skeleton).shape)
    scores = np.linspace(0.9, 0.6, len(shifts))
    boxes = boxes_around(keypoints, np.ones(keypoints.shape[:2], bool))
    repeated = np.repeat(scores[:, None], skeleton.num_keypoints, axis=1)
    return FoundPeople(keypoints, repeated, boxes, scores)


def numbers(evaluation: Evaluation) -> dict:
    return evaluation.to_json()


def test_the_best_pairs_are_matched_first() -> None:
    labels = make_labels(BODY19, [(0, 0), (0, 12)], 'coco', yard=True)
    # The first pose is near both people, the second one near nobody else than the first person.
    predicted, pose_of, oks = match_people(labels, {0: make_found(BODY19, 11, -3)})
    assert pose_of.tolist() == [1, 0]
    np.testing.assert_array_equal(predicted, [body(BODY19, -3), body(BODY19, 11)])
    assert (oks > 0.8).all()


def test_people_not_found_count() -> None:
    labels = make_labels(BODY19, [(0, 0), (0, 600)], 'coco', yard=True)
    result = numbers(evaluate(labels, {0: make_found(BODY19, 0)}))
    assert result['oks']['mean'] == pytest.approx(0.5)
    assert result['oks']['AR'] == pytest.approx(0.5)
    assert result['pck']['mean'] == pytest.approx(0.5)
    assert any('1 of 2 labelled people' in note for note in result['notes'])
    nobody = numbers(evaluate(labels, {}))
    assert nobody['oks']['AP'] == nobody['oks']['mean'] == nobody['pck']['mean'] == 0


def test_in_incomplete_pictures_ap_is_not_measured() -> None:
    labels = make_labels(BODY19, [(0, 0), (1, 0)], 'coco', street=True, crowd=False)
    found = {0: make_found(BODY19, 0), 1: make_found(BODY19, 600, 0)}
    result = evaluate(labels, found)
    assert result.oks is not None and result.oks['AP'] == pytest.approx(1)
    assert any('1 of 2 pictures' in note for note in result.notes)
    # The passer-by of the second picture counts as wrong when asked for.
    strict = evaluate(labels, found, incomplete=True)
    assert strict.oks is not None and strict.oks['AP'] < 0.9
    assert result.oks['mean'] == strict.oks['mean'] == pytest.approx(1)
    assert result.sources['crowd']['oks'] == pytest.approx(1)
    nowhere = evaluate(labels.select(lambda image: not image.complete), found)
    assert numbers(nowhere)['oks']['AP'] is None


def test_mpii() -> None:
    labels = make_labels(MPII16, [(0, 0), (1, 0)], 'mpii', a=True, b=True)
    # Half a head is 10 px: 7 px each way is right, 8 px is wrong.
    result = evaluate(labels, {0: make_found(MPII16, 7), 1: make_found(MPII16, 8)})
    assert result.oks is None
    assert result.pckh is not None and result.pckh['mean'] == pytest.approx(0.5)
    assert result.mpii is not None and result.mpii['mAP'] == pytest.approx(0.5)
    assert list(result.mpii)[:3] == ['mAP', 'head', 'shoulder']


def test_true_boxes_are_matched_to_their_people() -> None:
    labels = make_labels(BODY19, [(0, 0), (0, 40)], 'coco', yard=True)
    # Each pose is nearer to the other person, yet it is of its own box.
    found = dataclasses.replace(make_found(BODY19, 40, 0), truth=np.array([0, 1]))
    swapped = evaluate(labels, {0: found}, gt_boxes=True)
    assert swapped.oks is not None and swapped.oks['mean'] < 0.5
    assert swapped.detector is None


def test_detector_is_measured_where_boxes_were_drawn() -> None:
    labels = make_labels(BODY19, [(0, 0), (1, 0)], 'coco', drawn=True, derived=True)
    images = (labels.images[0], dataclasses.replace(labels.images[1], drawn_boxes=False))
    labels = dataclasses.replace(labels, images=images)
    each = make_found(BODY19, 0)
    good = dataclasses.replace(each, detections=each.boxes, detection_scores=each.scores)
    bad = dataclasses.replace(good, detections=each.boxes + 500)
    result = evaluate(labels, {0: good, 1: bad})
    assert result.detector == pytest.approx({'AP': 1, 'AP50': 1, 'recall': 1})
    strict = evaluate(labels, {0: good, 1: bad}, incomplete=True)
    assert strict.detector is not None and strict.detector['recall'] == pytest.approx(0.5)
