# SPDX-License-Identifier: Apache-2.0
"""Whether covariances of joints are true: 90 % of labelled joints should be in the 90 % ellipse.

The errors of a pose network have long tails (it takes one leg for the other), so that the ellipses
are fitted as those of Student's t with three degrees of freedom, and then scaled until 90 % hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.boxes import boxes_with_area, clip_boxes
from rmpe_ros.estimator import PoseEstimator
from rmpe_ros.evaluation.labels import Labels
from rmpe_ros.io.images import load_image

Array = NDArray[np.float64]

# Squared distance, in standard deviations, within which 90 % of a Gaussian in the plane lie.
ELLIPSE_90 = float(-2 * np.log(0.1))
_FREEDOM = 3.0
# Joints that are worth a fit.
_FEWEST = 100


@dataclass(frozen=True, eq=False)
class JointErrors:
    """J labelled joints of people in their labelled boxes, as a network found them.

    errors: (J, 2) pixels; covariances: (J, 3) xx, xy, yy pixels², as the model gives them; scores:
    (J,); reaches: (J,) pixels, the joint's OKS sigma times the crop's height; people: (J,) which
    person; joints: (J,) index in `names`.
    """

    errors: Array
    covariances: Array
    scores: Array
    reaches: Array
    people: NDArray[np.intp]
    joints: NDArray[np.intp]
    names: tuple[str, ...]

    def __getitem__(self, chosen: NDArray[np.bool_]) -> JointErrors:
        arrays = ('errors', 'covariances', 'scores', 'reaches', 'people', 'joints')
        return replace(self, **{name: getattr(self, name)[chosen] for name in arrays})


def find_joint_errors(
    labels: Labels,
    paths: Mapping[int, Path],
    estimator: PoseEstimator,
    progress: Callable[[], None] = lambda: None,
) -> JointErrors:
    """Run the pose network of `estimator` on the labelled boxes; progress: called for each picture.

    Raises ValueError when the model gives no covariances, or no joint of its is labelled.
    """
    ours, theirs = estimator.skeleton.keypoints, labels.skeleton.keypoints
    both = [(ours.index(name), theirs.index(name)) for name in ours if name in theirs]
    model, label = (np.array(each) for each in zip(*both, strict=True))
    sigmas = np.array(estimator.skeleton.sigmas)[model]
    rows: list[tuple[NDArray[Any], ...]] = []
    for image, people in labels.people_of().items():
        progress()
        people = people[labels.counted[people]]
        picture = load_image(paths[image]) if len(people) else np.zeros((1, 1, 3), np.uint8)
        boxes = clip_boxes(labels.boxes[people], picture.shape[:2])
        inside = boxes_with_area(boxes)
        people, boxes = people[inside], boxes[inside]
        if not len(people):
            continue
        crops, transforms = estimator.crop(picture, boxes)
        keypoints, scores, covariances = estimator.estimate(crops, transforms)
        if covariances is None:
            raise ValueError(f'{estimator.engine.name} has no output covariance')
        height = estimator.crop_size[0] * np.sqrt(np.abs(np.linalg.det(transforms[:, :, :2])))
        errors = keypoints[:, model] - labels.keypoints[people][:, label]
        known = labels.labelled[people][:, label] & np.isfinite(covariances[:, model]).all(axis=2)
        person, joint = np.nonzero(known)
        rows.append(
            (
                errors[known],
                covariances[:, model][known],
                scores[:, model][known],
                (height[:, None] * sigmas)[known],
                people[person],
                joint,
            )
        )
    if not rows:
        raise ValueError('no labelled joint to compare covariances with')
    columns: Any = [np.concatenate(column) for column in zip(*rows, strict=True)]
    names = tuple(ours[each] for each in model.tolist())
    errors, covariances, scores, reaches, owners, joints = columns
    return JointErrors(errors, covariances, scores, reaches, owners, joints, names)


def fit_scale(found: JointErrors) -> tuple[float, float, float]:
    """scale, offset and doubt of `CovarianceScale`, of a model that gives the bare moments.

    Raises ValueError for too few joints.
    """
    from scipy.optimize import minimize

    if len(found.errors) < _FEWEST:
        raise ValueError(f'{len(found.errors)} labelled joints, at least {_FEWEST} are needed')

    def loss(logs: Array) -> float:
        off, determinant = off_squared(found.errors, scaled(found, *np.exp(logs)))
        tail = (_FREEDOM + 2) / 2 * np.log1p(off / _FREEDOM)
        return float(np.mean(0.5 * np.log(determinant) + tail))

    best = minimize(loss, np.log([0.2, 0.05, 1.0]), method='Nelder-Mead')
    scale, offset, doubt = np.exp(best.x).tolist()
    off, _ = off_squared(found.errors, scaled(found, scale, offset, doubt))
    factor = float(np.quantile(off, 0.9)) / ELLIPSE_90
    return scale * factor, offset * factor**0.5, doubt * factor**0.5


def scaled(found: JointErrors, scale: float, offset: float, doubt: float) -> Array:
    """The covariances (J, 3) that bare moments become, as `JointCovariance` has it."""
    every_way = ((offset + doubt * (1 - found.scores)) * found.reaches) ** 2
    return scale * found.covariances + every_way[:, None] * np.array([1.0, 0.0, 1.0])


def off_squared(errors: Array, covariances: Array) -> tuple[Array, Array]:
    """Squared distances (J,) in standard deviations, and the covariances' determinants."""
    xx, xy, yy = covariances.T
    determinant = np.maximum(xx * yy - xy**2, 1e-12)
    x, y = errors.T
    return (yy * x**2 - 2 * xy * x * y + xx * y**2) / determinant, determinant


def coverage(found: JointErrors) -> dict[str, tuple[int, float, float]]:
    """How many joints, which share of them lies in the 90 % ellipse, and the ellipses' median mean
    radius (one standard deviation, pixels of the image): of all joints, of each, and of each fifth
    of all by the size of the ellipse in the crop, from the surest on.
    """
    off, determinant = off_squared(found.errors, found.covariances)
    within, radius = off <= ELLIPSE_90, determinant**0.25
    relative = radius / found.reaches
    edges = np.quantile(relative, [0.2, 0.4, 0.6, 0.8])
    fifth = np.searchsorted(edges, relative)
    groups = {'all joints': np.ones(len(off), bool)}
    for index, name in enumerate(found.names):
        groups[name] = found.joints == index
    for index in range(5):
        groups[f'fifth {index + 1} by size'] = fifth == index
    return {
        name: (int(here.sum()), float(within[here].mean()), float(np.median(radius[here])))
        for name, here in groups.items()
        if here.any()
    }
