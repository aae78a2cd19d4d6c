# SPDX-License-Identifier: Apache-2.0
"""How good a pose is, as one number, from the detector's score of its box and from its joints.

Two questions are asked of a pose: is its box on a person, and are its joints right? A small person
of whom no joint can be told is one, and her pose is worth little; so the first says who is kept,
the second who comes first among them. Each is a logistic of a few numbers, fitted to labelled
people by `rmpe fit-score`. (The product of the box's score and the mean joint's ranks worse and
says nothing: at 0.1 half of the people it stands for are none.)
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.oks import expected_similarity
from rmpe_ros.core.skeletons import Skeleton

# Joints from here on count as confident ones.
CONFIDENT = 0.5
_LEAST = 1e-4  # of a score, which has a logarithm then
# Ranks end a little below 1, so that they never round up to the threshold.
_HIGHEST = 1 - 1e-6


@dataclass(frozen=True)
class Logistic:
    """The probability

        sigmoid(bias + box · logit(box score) + joints · mean joint score
                + confident · share of joints of CONFIDENT or more + best · mean of the best half
                + exact · mean closeness + sure · mean of closeness times joint score)

    Closeness of a joint is its `expected_similarity`, for which the model must tell covariances;
    those of version 0.3 and before do without: exact and sure are 0.
    Raises ValueError for numbers that are not finite.
    """

    bias: float
    box: float
    joints: float
    confident: float
    best: float
    exact: float = 0.0
    sure: float = 0.0

    def __post_init__(self) -> None:
        values = asdict(self)
        if not all(
            isinstance(v, (int, float)) and math.isfinite(v) and abs(v) < 1e4
            for v in values.values()
        ):
            raise ValueError(f'a person score has finite numbers, got {values}')

    def __call__(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N,) probabilities of `person_features` (N, 6)."""
        weights = (self.box, self.joints, self.confident, self.best, self.exact, self.sure)
        logits = self.bias + features @ np.array(weights, np.float64)
        return 1 / (1 + np.exp(-np.clip(logits, -50, 50)))


@dataclass(frozen=True)
class PersonScore:
    """In [0, 1]; `threshold` and more exactly where the pose's box is likely to be on a person.

    right: the probability that the joints are right (OKS ≥ 0.5). person: that the box is on a
    person, taken for one at `threshold` or more. threshold: what pipelines leave out people below,
    unless told otherwise. With t for the threshold the score is t + (1 − t) · right of those taken
    for people, t · right of the others. Without `person`, as in version 0.4 and before, the score
    is `right` itself.
    Raises ValueError for a threshold outside [0, 1].
    """

    right: Logistic
    threshold: float
    person: Logistic | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.threshold, (int, float)) and 0 <= self.threshold <= 1):
            raise ValueError(f'the threshold of a person score is in [0, 1], got {self.threshold}')

    @property
    def needs_closeness(self) -> bool:
        asked = (self.right,) if self.person is None else (self.right, self.person)
        return any(each.exact or each.sure for each in asked)

    def __call__(
        self,
        box_scores: NDArray[np.floating],
        keypoint_scores: NDArray[np.floating],
        closeness: NDArray[np.floating] | None = None,
    ) -> NDArray[np.float32]:
        """(N,) float32 of scores (N,) of boxes and (N, K) of joints, in [0, 1].

        closeness: (N, K) in [0, 1]; raises ValueError when it is needed and not given.
        """
        if self.needs_closeness and closeness is None:
            raise ValueError('this person score needs the closeness of joints')
        return self.of_features(person_features(box_scores, keypoint_scores, closeness))

    def of_features(self, features: NDArray[np.float64]) -> NDArray[np.float32]:
        """(N,) scores of `person_features` (N, 6)."""
        right = self.right(features)
        if self.person is not None:
            taken = self.person(features) >= self.threshold
            below = self.threshold * np.minimum(right, _HIGHEST)
            right = np.where(taken, self.threshold + (1 - self.threshold) * right, below)
        return right.astype(np.float32)

    def to_json(self) -> str:
        values = _rounded(self.right) | {'threshold': round(self.threshold, 5)}
        if self.person is not None:
            values['person'] = _rounded(self.person)
        return json.dumps(values)

    @staticmethod
    def from_json(text: str) -> PersonScore:
        """Read what `to_json` wrote. Raises ValueError saying what is wrong."""
        try:
            values = json.loads(text)
        except RecursionError as error:
            raise ValueError('a person score is no nested JSON') from error
        if not isinstance(values, dict) or 'threshold' not in values:
            raise ValueError('a person score is a JSON object with a threshold')
        person = values.pop('person', None)
        return PersonScore(
            threshold=values.pop('threshold'),
            right=_logistic(values),
            person=None if person is None else _logistic(person),
        )


def _rounded(logistic: Logistic) -> dict[str, Any]:
    return {name: round(value, 5) for name, value in asdict(logistic).items()}


def _logistic(values: Any) -> Logistic:
    names = {field.name for field in fields(Logistic)}
    needed = names - {'exact', 'sure'}
    if not isinstance(values, Mapping) or not needed <= set(values) <= names:
        raise ValueError(f'a person score has the numbers {", ".join(sorted(names))}')
    return Logistic(**values)


def joint_closeness(
    skeleton: Skeleton,
    covariances: NDArray[np.floating] | None,
    boxes: NDArray[np.floating],
) -> NDArray[np.float64] | None:
    """(N, K) of people in boxes (N, 4) with covariances (N, K, 3); None where none are told."""
    if covariances is None:
        return None
    return expected_similarity(covariances, boxes, skeleton.sigmas)


def person_features(
    box_scores: NDArray[np.floating],
    keypoint_scores: NDArray[np.floating],
    closeness: NDArray[np.floating] | None = None,
) -> NDArray[np.float64]:
    """(N, 6) what a `Logistic` weighs, of scores (N,) of boxes and (N, K) of joints.

    closeness: (N, K), 0 where it is not known.
    """
    boxes = np.clip(np.asarray(box_scores, np.float64), _LEAST, 1 - _LEAST)
    joints = np.asarray(keypoint_scores, np.float64)
    close = np.zeros_like(joints) if closeness is None else np.asarray(closeness, np.float64)
    half = np.sort(joints, axis=1)[:, joints.shape[1] // 2 :]
    features = np.empty((len(joints), 6))
    features[:, 0] = np.log(boxes / (1 - boxes))
    features[:, 1] = _means(joints)
    features[:, 2] = _means(joints >= CONFIDENT)
    features[:, 3] = _means(half)
    features[:, 4] = _means(close)
    features[:, 5] = _means(close * joints)
    return features


def _means(rows: NDArray[Any]) -> NDArray[np.float64]:
    """Of each row; `numpy.mean` takes twice as long for a few people."""
    return np.asarray(np.add.reduce(rows, axis=1, dtype=np.float64) / rows.shape[1])
