# SPDX-License-Identifier: Apache-2.0
"""How sure it is that a pose is a person's and right: one number from the detector and the joints.

The product of the box's score and the mean joint's ranks well and says nothing: at 0.1 half of the
people it stands for are none. A logistic of a few numbers, fitted to labelled people by
`rmpe fit-score`, is a probability, so that a threshold means something.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.oks import expected_similarity
from rmpe_ros.core.skeletons import Skeleton

# Joints from here on count as confident ones.
CONFIDENT = 0.5
_LEAST = 1e-4  # of a score, which has a logarithm then


@dataclass(frozen=True)
class PersonScore:
    """Probability that a pose is of a person and has OKS ≥ 0.5:

        sigmoid(bias + box · logit(box score) + joints · mean joint score
                + confident · share of joints of CONFIDENT or more + best · mean of the best half
                + exact · mean closeness + sure · mean of closeness times joint score)

    threshold: what pipelines leave out people below, unless told otherwise. Closeness of a joint is
    its `expected_similarity`, for which the model must tell covariances; those of version 0.3 and
    before do without: exact and sure are 0.
    Raises ValueError for numbers that are not finite, or a threshold outside [0, 1].
    """

    bias: float
    box: float
    joints: float
    confident: float
    best: float
    threshold: float
    exact: float = 0.0
    sure: float = 0.0

    def __post_init__(self) -> None:
        values = asdict(self)
        if not all(
            isinstance(v, (int, float)) and math.isfinite(v) and abs(v) < 1e4
            for v in values.values()
        ):
            raise ValueError(f'a person score has finite numbers, got {values}')
        if not 0 <= self.threshold <= 1:
            raise ValueError(f'the threshold of a person score is in [0, 1], got {self.threshold}')

    @property
    def weights(self) -> NDArray[np.float64]:
        """Of `person_features`, in their order."""
        return np.array(
            [self.box, self.joints, self.confident, self.best, self.exact, self.sure], np.float64
        )

    @property
    def needs_closeness(self) -> bool:
        return bool(self.exact or self.sure)

    def __call__(
        self,
        box_scores: NDArray[np.floating],
        keypoint_scores: NDArray[np.floating],
        closeness: NDArray[np.floating] | None = None,
    ) -> NDArray[np.float32]:
        """(N,) float32 probabilities of scores (N,) of boxes and (N, K) of joints, in [0, 1].

        closeness: (N, K) in [0, 1]; raises ValueError when it is needed and not given.
        """
        if self.needs_closeness and closeness is None:
            raise ValueError('this person score needs the closeness of joints')
        features = person_features(box_scores, keypoint_scores, closeness)
        logits = self.bias + features @ self.weights
        return (1 / (1 + np.exp(-np.clip(logits, -50, 50)))).astype(np.float32)

    def to_json(self) -> str:
        return json.dumps({name: round(value, 5) for name, value in asdict(self).items()})

    @staticmethod
    def from_json(text: str) -> PersonScore:
        """Read what `to_json` wrote. Raises ValueError saying what is wrong."""
        try:
            values = json.loads(text)
        except RecursionError as error:
            raise ValueError('a person score is no nested JSON') from error
        names = {field.name for field in fields(PersonScore)}
        needed = names - {'exact', 'sure'}
        if not isinstance(values, dict) or not needed <= set(values) <= names:
            raise ValueError(f'a person score has the numbers {", ".join(sorted(names))}')
        return PersonScore(**values)


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
    """(N, 6) what a `PersonScore` weighs, of scores (N,) of boxes and (N, K) of joints.

    closeness: (N, K), 0 where it is not known.
    """
    boxes = np.clip(np.asarray(box_scores, np.float64), _LEAST, 1 - _LEAST)
    joints = np.asarray(keypoint_scores, np.float64)
    close = np.zeros_like(joints) if closeness is None else np.asarray(closeness, np.float64)
    half = np.sort(joints, axis=1)[:, joints.shape[1] // 2 :]
    return np.stack(
        [
            np.log(boxes / (1 - boxes)),
            joints.mean(axis=1),
            (joints >= CONFIDENT).mean(axis=1),
            half.mean(axis=1),
            close.mean(axis=1),
            (close * joints).mean(axis=1),
        ],
        axis=1,
    )
