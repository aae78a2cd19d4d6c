# SPDX-License-Identifier: Apache-2.0
"""Fits the person score: which of the poses found are people's, and right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.boxes import box_iou
from rmpe_ros.core.person_score import Logistic, PersonScore
from rmpe_ros.evaluation.evaluate import match_people
from rmpe_ros.evaluation.found_people import FoundPeople
from rmpe_ros.evaluation.labels import Labels

RIGHT_OKS = 0.5
RIGHT_IOU = 0.5
# Poses that are wanted at the default threshold to be of people: a share of them.
WANTED_PRECISION = 0.87


@dataclass(frozen=True)
class ScoredPoses:
    """M poses of pictures in which everybody is labelled.

    features: (M, 6), see `person_features`. right: (M,) it is the best pose of a person with
    labelled joints, of OKS RIGHT_OKS or more. untold: (M,) nobody can say whether it is: its box is
    on a person without labelled joints. boxed: (M,) box on a person, each person once. people: how
    many there are to find.
    """

    features: NDArray[np.float64]
    right: NDArray[np.bool_]
    untold: NDArray[np.bool_]
    boxed: NDArray[np.bool_]
    people: int


@dataclass(frozen=True)
class Quality:
    """At a threshold: precision and recall of boxes at IoU 0.5, NaN where there is none."""

    threshold: float
    precision: float
    recall: float


def judge_poses(labels: Labels, found: Mapping[int, FoundPeople]) -> ScoredPoses:
    """Which of the poses found in complete pictures are right."""
    complete = {image.id for image in labels.images if image.complete}
    pose_of, oks = match_people(labels, found)[1:]
    people_of = labels.people_of()
    features, right, untold, boxed, people = [], [], [], [], 0
    for image, poses in found.items():
        if image not in complete:
            continue
        here = people_of[image]
        people += len(here)
        overlap = box_iou(poses.boxes, labels.boxes[here])
        features.append(poses.features)
        of_right = np.zeros(len(poses.scores), bool)
        of_right[pose_of[here[oks[here] >= RIGHT_OKS]]] = True
        right.append(of_right)
        without_joints = overlap[:, ~labels.counted[here]]
        untold.append((without_joints >= RIGHT_IOU).any(axis=1) & ~of_right)
        boxed.append(_first_on_each(overlap, poses.scores) >= 0)
    if not features:
        raise ValueError('no picture in which everybody is labelled: nothing to fit a score to')
    return ScoredPoses(
        np.concatenate(features),
        np.concatenate(right),
        np.concatenate(untold),
        np.concatenate(boxed),
        people,
    )


def fit_person_score(poses: ScoredPoses) -> PersonScore:
    """Logistics of highest likelihood, and the lowest threshold of WANTED_PRECISION.

    Raises ValueError when the poses are all right or all wrong, or the boxes.
    """
    told = ~poses.untold
    right = _fit(poses.features[told], poses.right[told])
    person = _fit(poses.features, poses.boxed)
    for threshold in np.arange(0.05, 0.951, 0.002).round(3).tolist():
        score = PersonScore(right, threshold, person)
        if measure_quality(score, poses).precision >= WANTED_PRECISION:
            break
    return score


def _fit(features: NDArray[np.float64], truth: NDArray[np.bool_]) -> Logistic:
    from sklearn.linear_model import LogisticRegression

    if truth.all() or not truth.any():
        raise ValueError('a person score needs poses that are right and poses that are not')
    spread = features.std(axis=0) + 1e-9
    model = LogisticRegression(C=10.0, max_iter=1000).fit(features / spread, truth)
    # The closeness of joints, of a model without covariances, says nothing.
    weights = np.where(features.any(axis=0), model.coef_[0] / spread, 0.0)
    return Logistic(float(model.intercept_[0]), *weights.tolist())


def measure_quality(score: PersonScore, poses: ScoredPoses) -> Quality:
    """Precision and recall of boxes at the score's threshold."""
    kept = score.of_features(poses.features) >= np.float32(score.threshold)
    hits = int((kept & poses.boxed).sum())
    return Quality(
        score.threshold,
        hits / kept.sum() if kept.any() else float('nan'),
        hits / poses.people if poses.people else float('nan'),
    )


def _first_on_each(overlap: NDArray[np.floating], scores: NDArray[np.floating]) -> NDArray[np.intp]:
    """(M,) the person whose box each pose's is on, best poses first and each person once; -1 none.

    overlap: (M, P) IoU.
    """
    result = np.full(len(scores), -1, np.intp)
    free = np.ones(overlap.shape[1], bool)
    for pose in np.argsort(-scores, kind='stable'):
        if not free.any():
            break
        best = int(np.where(free, overlap[pose], -1).argmax())
        if overlap[pose, best] >= RIGHT_IOU:
            result[pose], free[best] = best, False
    return result
