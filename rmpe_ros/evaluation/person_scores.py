# SPDX-License-Identifier: Apache-2.0
"""Fits the person score: which of the poses found are people's, and right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.boxes import box_iou
from rmpe_ros.core.person_score import PersonScore
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

    features: (M, 6), see `person_features`. right: (M,) with OKS of RIGHT_OKS or more, or for a
    person without labelled joints in a box of RIGHT_IOU. boxed: (M,) box on a person, each person
    once. people: how many there are to find.
    """

    features: NDArray[np.float64]
    right: NDArray[np.bool_]
    boxed: NDArray[np.bool_]
    people: int


@dataclass(frozen=True)
class Quality:
    """At a threshold: precision and recall of boxes at IoU 0.5, and ghosts a picture without
    people, NaN where there is none.
    """

    threshold: float
    precision: float
    recall: float


def judge_poses(labels: Labels, found: Mapping[int, FoundPeople]) -> ScoredPoses:
    """Which of the poses found in complete pictures are right."""
    complete = {image.id for image in labels.images if image.complete}
    _, oks = match_people(labels, found)
    people_of = labels.people_of()
    features, right, boxed, people = [], [], [], 0
    for image, poses in found.items():
        if image not in complete:
            continue
        here = people_of[image]
        people += len(here)
        overlap = box_iou(poses.boxes, labels.boxes[here])
        on_person = _first_on_each(overlap, poses.scores)
        found_right = on_person >= 0
        jointed = labels.counted[here]
        known = found_right & jointed[on_person] if len(here) else found_right
        found_right[known] = oks[here][on_person[known]] >= RIGHT_OKS
        features.append(poses.features)
        right.append(found_right)
        boxed.append(on_person >= 0)
    if not features:
        raise ValueError('no picture in which everybody is labelled: nothing to fit a score to')
    return ScoredPoses(
        np.concatenate(features), np.concatenate(right), np.concatenate(boxed), people
    )


def fit_person_score(poses: ScoredPoses) -> PersonScore:
    """The logistic of highest likelihood, and the lowest threshold of WANTED_PRECISION.

    Raises ValueError when the poses are all right or all wrong.
    """
    from sklearn.linear_model import LogisticRegression

    if poses.right.all() or not poses.right.any():
        raise ValueError('a person score needs poses that are right and poses that are not')
    spread = poses.features.std(axis=0) + 1e-9
    model = LogisticRegression(C=10.0, max_iter=1000).fit(poses.features / spread, poses.right)
    # The closeness of joints, of a model without covariances, says nothing.
    weights = np.where(poses.features.any(axis=0), model.coef_[0] / spread, 0.0)
    box, joints, confident, best, exact, sure = weights.tolist()
    bias = float(model.intercept_[0])
    score = PersonScore(bias, box, joints, confident, best, 0.0, exact=exact, sure=sure)
    for threshold in np.arange(0.05, 0.951, 0.01).tolist():
        quality = measure_quality(score, poses, threshold)
        if quality.precision >= WANTED_PRECISION:
            break
    return replace(score, threshold=round(threshold, 2))


def measure_quality(
    score: PersonScore, poses: ScoredPoses, threshold: float | None = None
) -> Quality:
    """Precision and recall of boxes at a threshold, the score's own when None."""
    threshold = score.threshold if threshold is None else threshold
    probability = 1 / (1 + np.exp(-(score.bias + poses.features @ score.weights)))
    kept = probability >= threshold
    hits = int((kept & poses.boxed).sum())
    return Quality(
        threshold,
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
