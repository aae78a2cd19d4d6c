# SPDX-License-Identifier: Apache-2.0
"""Fitting the person score: what counts as right, and that the threshold keeps its promise."""

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

pytest.importorskip('pycocotools')
if find_spec('sklearn') is None:  # importing it takes a second, in every worker
    pytest.skip('needs scikit-learn', allow_module_level=True)

from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.evaluation.found_people import FoundPeople
from rmpe_ros.evaluation.labels import LabelledImage, Labels, boxes_around
from rmpe_ros.evaluation.person_scores import (
    ScoredPoses,
    fit_person_score,
    judge_poses,
    measure_quality,
)


def people_at(*shifts: float) -> tuple[np.ndarray, np.ndarray]:
    body = np.random.default_rng(2).uniform(50, 200, (19, 2))
    keypoints = np.array([body + shift for shift in shifts]).reshape(-1, 19, 2)
    return keypoints, boxes_around(keypoints, np.ones(keypoints.shape[:2], bool))


def labels_of(*, complete: bool = True, jointed: bool = True) -> Labels:
    keypoints, boxes = people_at(0, 400)
    labelled = np.ones((2, 19), bool)
    labelled[1] = jointed
    return Labels(
        'coco', BODY19, (LabelledImage(7, 'a.jpg', 'yard', complete),), np.array([7, 7]), boxes,
        keypoints, labelled, np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), np.zeros(2, bool),
        np.full(2, np.nan),
    )  # fmt: skip


def found_at(*shifts: float, wrong: tuple[int, ...] = ()) -> dict[int, FoundPeople]:
    keypoints, boxes = people_at(*shifts)
    for person in wrong:  # a pose that is nothing like the person in the box
        keypoints[person] = keypoints[person, ::-1]
    scores = np.linspace(0.9, 0.5, len(shifts))
    return {7: FoundPeople(keypoints, np.full((len(shifts), 19), 0.8), boxes, scores)}


def test_a_pose_is_right_once_a_person_and_by_its_oks() -> None:
    # Both people, the first once more, and one where nobody is.
    poses = judge_poses(labels_of(), found_at(0, 400, 1, 900))
    assert poses.right.tolist() == [True, True, False, False]
    assert poses.boxed.tolist() == [True, True, False, False]
    assert not poses.untold.any()
    assert poses.people == 2
    bad = judge_poses(labels_of(), found_at(0, 400, wrong=(1,)))
    assert bad.right.tolist() == [True, False] and bad.boxed.tolist() == [True, True]


def test_the_best_pose_of_a_person_is_right_not_the_first() -> None:
    found = found_at(8, 0, 400)  # the surest is a little off
    assert judge_poses(labels_of(), found).right.tolist() == [False, True, True]
    assert judge_poses(labels_of(), found).boxed.tolist() == [True, False, True]


def test_of_people_without_joints_only_their_boxes_are_told() -> None:
    poses = judge_poses(labels_of(jointed=False), found_at(0, 400, 900, wrong=(1,)))
    assert poses.right.tolist() == [True, False, False]
    assert poses.untold.tolist() == [False, True, False]
    assert poses.boxed.tolist() == [True, True, False]


def test_pictures_labelled_in_part_teach_nothing() -> None:
    with pytest.raises(ValueError, match='everybody is labelled'):
        judge_poses(labels_of(complete=False), found_at(0))


@pytest.mark.parametrize('exact', [0, 1])
def test_the_fit_is_calibrated_and_its_threshold_precise(exact: int) -> None:
    """Poses whose truth is drawn from a known logistic: the fit finds its probabilities."""
    rng = np.random.default_rng(0)
    features = rng.uniform([-4, 0, 0, 0, 0, 0], [4, 1, 1, 1, 1, 1], (4000, 6))
    features[:, 4:] *= exact
    truth = 1 / (1 + np.exp(-(-2 + 0.8 * features[:, 0] + 3 * features[:, 1] + 2 * features[:, 4])))
    right = rng.random(4000) < truth
    boxed = rng.random(4000) < truth**0.5  # a person more often than right
    untold = rng.random(4000) < 0.1
    poses = ScoredPoses(features, right & ~untold, untold, boxed, 2500)
    score = fit_person_score(poses)
    assert score.person is not None and score.needs_closeness == bool(exact)
    assert np.abs(score.right(features) - truth).mean() < 0.02
    assert np.abs(score.person(features) - truth**0.5).mean() < 0.03
    quality = measure_quality(score, poses)
    assert quality.precision >= 0.87 and quality.threshold == score.threshold
    less = replace(score, threshold=score.threshold - 0.01)
    assert measure_quality(less, poses).precision < 0.87
    kept = score.person(features) >= score.threshold
    assert quality.recall == pytest.approx((boxed & kept).sum() / 2500)


@pytest.mark.parametrize('right', [True, False])
def test_one_kind_of_pose_fits_nothing(right: bool) -> None:
    some = np.full(5, right)
    with pytest.raises(ValueError, match='poses that are right and poses that are not'):
        fit_person_score(ScoredPoses(np.zeros((5, 6)), some, np.zeros(5, bool), some, 5))
