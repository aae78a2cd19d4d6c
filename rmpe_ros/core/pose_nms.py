# SPDX-License-Identifier: Apache-2.0
"""Parametric pose NMS (RMPE sec. 3.2, Eqs. 7-10): of several poses of one person, keep the best.

The most confident pose is the reference; poses too similar to it are eliminated; the rest go on in
the same way. (`oks_nms` here and `boxes.box_nms` are for comparison.) A pose's similarity d to the
reference, summed over their joints:

    K_sim = sum tanh(c_ref / sigma1) * tanh(c / sigma1)   of joints within the reference's K region
    H_sim = sum exp(-distance^2 / sigma2)                 of all joints
    d     = K_sim + lambda * H_sim                        eliminated when d > eta

**The sign.** Eq. 7 as printed eliminates when d <= eta, yet d of Eqs. 8-10 *grows* with similarity:
taken literally it would delete everybody but one and its duplicates. All code ever released
eliminates when d > eta, and so do we.

**The unit.** The distance of Eq. 9 is in units of 1/10 of the longer side of the reference's box,
as in the code of the paper's own evaluation, so that d does not depend on the size of the image.

**The K region.** The paper's is a box around the reference's joint, each side 1/10 of the same side
of the reference's box (|dx| <= 0.05 w and |dy| <= 0.05 h). The released code has a circle of radius
1/10 of the longer side, and does not square the distance in H_sim: `variant='released'`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.oks import keypoint_similarity

Floats = NDArray[np.floating]
Indices = NDArray[np.intp]

# A box without extent has no unit of length; this one (pixels) only avoids a division by zero.
_LEAST_UNIT = 1e-6
# References are compared with the rest in blocks of about so many joint pairs: few calls for a few
# poses, and arrays that stay in the processor's cache for hundreds.
_BLOCK_ELEMENTS = 20_000


@dataclass(frozen=True)
class PoseNmsParameters:
    """The four numbers of the paper, chosen there for the highest AP; it prints no values.

    Ours are those of `config/pose_nms.json`, of the highest AP of both shipped pose networks.
    sigma1: how sure joints must be to count in K_sim: a pair with scores 0.1 counts 0.10, with 0.3
        it counts 0.58, with 0.6 it counts 0.93 (at 0.3).
    sigma2: squared distance (in units of a tenth of the box) at which a joint's H_sim falls to 1/e.
    lambda_: weight of H_sim.
    eta: poses more similar than this are eliminated. d is a soft count of agreeing joints (each up
        to 1 + lambda). At the defaults 12 of 19 joints with scores 0.6 must coincide, or all of
        them be shifted by less than a twentieth of the box's longer side.
    num_keypoints: the number of joints that eta is meant for; for K joints it is scaled by
        K / num_keypoints.
    variant: 'paper' or 'released', see the top of this file.
    merge: replace each kept pose by the weighted mean of itself and the poses that it eliminated
        (`merge_poses`), as the released code does and the paper does not.
    Raises ValueError when a number is out of range.
    """

    sigma1: float = 0.3
    sigma2: float = 5.5
    lambda_: float = 1.7
    eta: float = 31.0
    num_keypoints: int = 19
    variant: Literal['paper', 'released'] = 'paper'
    merge: bool = False

    def __post_init__(self) -> None:
        for name in ('sigma1', 'sigma2', 'num_keypoints'):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f'{name} of pose NMS must be positive, got {getattr(self, name)}')
        for name in ('lambda_', 'eta'):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f'{name} of pose NMS must be 0 or more, got {getattr(self, name)}')
        if self.variant not in ('paper', 'released'):
            raise ValueError(f"variant of pose NMS is 'paper' or 'released', got {self.variant!r}")

    def eta_for(self, num_keypoints: int) -> float:
        """The threshold for poses of so many joints."""
        return self.eta * num_keypoints / self.num_keypoints

    def with_variant(self, variant: Literal['paper', 'released']) -> 'PoseNmsParameters':
        """The same numbers in the paper's or the released code's formulas."""
        return replace(self, variant=variant)


DEFAULT_POSE_NMS = PoseNmsParameters(merge=True)
"""Of pipelines and nodes: the mean of a person's poses has more AP, for nothing
(`docs/evaluation.md`).
"""

RELEASED_MPII = PoseNmsParameters(0.01, 2.08, 2.08, 22.48, num_keypoints=16, variant='released')
"""Constants of the paper's own evaluation code, for scores of heat maps of MPII's 16 joints."""

RELEASED_COCO = PoseNmsParameters(1.0, 2.65, 1.7, 22.48, num_keypoints=17, variant='released')
"""Constants of the later released code for COCO's 17 joints."""


def pose_similarity(
    reference: int,
    keypoints: Floats,
    keypoint_scores: Floats,
    boxes: Floats,
    params: PoseNmsParameters,
) -> NDArray[np.float32]:
    """Eq. 10: d of every pose to the pose with index `reference`: (N,).

    keypoints: (N, K, 2) pixels, keypoint_scores: (N, K), boxes: (N, 4) x1, y1, x2, y2.
    Joints with NaN or infinite coordinates resemble nothing; NaN scores count as 0.
    """
    return pose_similarities(np.array([reference]), keypoints, keypoint_scores, boxes, params)[0]


def pose_similarities(
    references: Indices,
    keypoints: Floats,
    keypoint_scores: Floats,
    boxes: Floats,
    params: PoseNmsParameters,
) -> NDArray[np.float32]:
    """`pose_similarity` to several references (indices, R of them) at once: (R, N)."""
    _check_shapes(keypoints, keypoint_scores, boxes, np.zeros(len(keypoints)))
    scene = _Scene(keypoints, keypoint_scores, boxes, np.arange(len(keypoints)), params)
    return scene.similarities(np.asarray(references), 0)


def parametric_pose_nms(
    keypoints: Floats,
    keypoint_scores: Floats,
    boxes: Floats,
    scores: Floats,
    params: PoseNmsParameters,
) -> Indices:
    """Indices of the poses to keep, most confident first.

    keypoints: (N, K, 2) pixels; keypoint_scores: (N, K) in [0, 1]; boxes: (N, 4) of the detector,
    not grown; scores: (N,), the confidence that decides who becomes a reference (the paper says
    only "most confident"; the released code takes the mean keypoint score, our pipeline that times
    the box's score, which knows more). NaN scores come last, equal scores keep the order given.
    Raises ValueError when the shapes disagree.
    """
    return suppress_poses(keypoints, keypoint_scores, boxes, scores, params)[0]


def keep_distinct_poses(
    keypoints: Floats,
    keypoint_scores: Floats,
    boxes: Floats,
    scores: Floats,
    params: PoseNmsParameters,
) -> tuple[Indices, NDArray[np.float64], NDArray[np.float64]]:
    """As `parametric_pose_nms`; also returns the M kept poses, (M, K, 2) and scores (M, K), merged
    with those that they eliminated where the parameters say so.
    """
    kept, representative = suppress_poses(keypoints, keypoint_scores, boxes, scores, params)
    if not params.merge:
        representative = np.arange(len(scores))
    return kept, *merge_poses(keypoints, keypoint_scores, boxes, kept, representative)


def suppress_poses(
    keypoints: Floats,
    keypoint_scores: Floats,
    boxes: Floats,
    scores: Floats,
    params: PoseNmsParameters,
) -> tuple[Indices, Indices]:
    """As `parametric_pose_nms`; also returns (N,) the index of the pose that represents each.

    A kept pose represents itself, an eliminated one has the reference that eliminated it.
    """
    count, joints = np.shape(keypoints)[:2]
    _check_shapes(keypoints, keypoint_scores, boxes, scores)
    if count < 2:  # nobody to be compared with
        return np.arange(count), np.arange(count)
    order = _by_confidence(scores)
    scene = _Scene(keypoints, keypoint_scores, boxes, order, params)
    eta = params.eta_for(joints)
    # Both by rank in `order`. A reference always represents itself and leaves, even where it is too
    # unsure of its joints to be more than eta similar to itself.
    representative = np.arange(count)
    alive = np.ones(count, bool)
    block = max(1, _BLOCK_ELEMENTS // max(1, count * joints))
    for start in range(0, count, block):
        references = start + np.flatnonzero(alive[start : start + block])
        redundant = scene.similarities(references, start) > eta
        for reference, row in zip(references, redundant, strict=True):
            if alive[reference]:
                eliminated = row[reference + 1 - start :] & alive[reference + 1 :]
                representative[reference + 1 :][eliminated] = reference
                alive[reference + 1 :][eliminated] = False
    kept = order[alive]
    by_index = np.empty(count, np.intp)
    by_index[order] = order[representative]
    return kept, by_index


def merge_poses(
    keypoints: Floats,
    keypoint_scores: Floats,
    boxes: Floats,
    kept: Indices,
    representative: Indices,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The kept poses, each averaged with those it eliminated: (M, K, 2) and scores (M, K).

    A joint counts with its score c, as in the released code, times exp(-(d / r)^2) of its distance
    d to the kept pose's, r = 1/20 of the longer side of that one's box: where two poses disagree
    one of them is wrong, and what lies between is nobody's joint. (The released code has a border
    at 1/10 instead.) Merged scores are sum w c / sum w.
    """
    merged = np.array(keypoints[kept], np.float64)
    merged_scores = np.array(keypoint_scores[kept], np.float64)
    if len(kept) == len(keypoints):
        return merged, merged_scores
    # The members of all groups of two and more, one group after the other.
    by_group = np.argsort(representative, kind='stable')
    first = np.searchsorted(representative[by_group], kept)
    size = np.searchsorted(representative[by_group], kept, side='right') - first
    rows = np.flatnonzero(size > 1)
    if not len(rows):
        return merged, merged_scores
    first, size = first[rows], size[rows]
    starts = np.cumsum(size) - size
    group = np.repeat(np.arange(len(rows)), size)
    members = by_group[np.arange(len(group)) + (first - starts)[group]]
    reference = kept[rows][group]
    radius = _units(boxes[reference]) / 2
    offsets = (keypoints[members] - keypoints[reference]) / radius[:, None, None]
    confidence = np.nan_to_num(np.maximum(keypoint_scores[members], 0)).astype(np.float64)
    weights = np.nan_to_num(confidence * np.exp(-(offsets**2).sum(axis=2)))
    total = np.add.reduceat(weights, starts)
    known = total > 0
    share = np.divide(weights, total[group], out=np.zeros_like(weights), where=known[group])
    points = np.add.reduceat(share[..., None] * np.nan_to_num(keypoints[members]), starts)
    merged[rows] = np.where(known[..., None], points, merged[rows])
    scores = np.add.reduceat(share * confidence, starts)
    merged_scores[rows] = np.where(known, scores, merged_scores[rows])
    return merged, merged_scores


def oks_nms(
    keypoints: Floats,
    keypoint_scores: Floats,
    boxes: Floats,
    scores: Floats,
    sigmas: Sequence[float],
    *,
    threshold: float = 0.9,
    min_score: float = 0.2,
) -> Indices:
    """Greedy NMS by object keypoint similarity, for comparison; indices to keep, best first.

    A pose goes when its OKS with a better kept one, over joints that both see with `min_score`,
    is greater than `threshold`. The area is the mean of the two boxes'. sigmas: the skeleton's.
    """
    _check_shapes(keypoints, keypoint_scores, boxes, scores)
    order = _by_confidence(scores)
    points = np.asarray(keypoints, np.float64)[order]
    seen = (np.asarray(keypoint_scores)[order] > min_score) & ~np.isnan(points).any(axis=-1)
    corners = np.asarray(boxes, np.float64)[order]
    with np.errstate(invalid='ignore'):
        areas = np.nan_to_num(np.prod(np.maximum(corners[:, 2:] - corners[:, :2], 0), axis=1))
    alive = np.ones(len(order), bool)
    for rank in range(len(order)):
        if alive[rank]:
            rest = slice(rank + 1, None)
            area = (areas[rest] + areas[rank]) / 2
            with np.errstate(invalid='ignore', over='ignore'):
                oks = keypoint_similarity(
                    points[rest], points[rank], seen[rest] & seen[rank], area, sigmas
                )
            alive[rest] &= ~(oks > threshold)
    return order[alive]


class _Scene:
    """Poses in the order of confidence, prepared so that comparisons cost few array passes.

    float32, as the poses themselves are: twice as fast, and exact to 1/4000 pixel in a 4K image.
    """

    def __init__(
        self,
        keypoints: Floats,
        keypoint_scores: Floats,
        boxes: Floats,
        order: Indices,
        params: PoseNmsParameters,
    ) -> None:
        with np.errstate(invalid='ignore', over='ignore'):
            points = np.asarray(keypoints)[order].astype(np.float32)
            corners = np.asarray(boxes)[order].astype(np.float32)
            sides = np.maximum(corners[:, 2:] - corners[:, :2], 0)
        self.sides = np.where(np.isfinite(sides), sides, np.float32(0))
        lost = np.logical_not(np.isfinite(points).all(axis=-1))
        points[lost] = 0
        self.x, self.y = np.ascontiguousarray(points.transpose(2, 0, 1))
        # The tanh of a joint's score is needed for every pair it is in: once is enough.
        scores = np.nan_to_num(np.asarray(keypoint_scores)[order]).astype(np.float32)
        self.certainty = np.tanh(scores / np.float32(params.sigma1))
        self.certainty[lost] = 0
        self.found = ~lost if lost.any() else None
        self.params = params

    def similarities(self, references: Indices, start: int) -> NDArray[np.float32]:
        """Eqs. 8-10: (R, N - start), d to the R `references` of the poses from rank `start` on."""
        params = self.params
        width, height = self.sides[references].T[:, :, None, None]
        unit = np.maximum(np.maximum(width, height) * 0.1, np.float32(_LEAST_UNIT))
        dx = self.x[start:] - self.x[references, None]
        dy = self.y[start:] - self.y[references, None]
        with np.errstate(over='ignore', under='ignore'):
            dx *= dx
            dy *= dy
            if params.variant == 'paper':
                near = dx <= (0.05 * width) ** 2
                near &= dy <= (0.05 * height) ** 2
                distance = np.add(dx, dy, out=dx)
                distance *= -1 / (params.sigma2 * unit**2)
            else:
                distance = np.sqrt(np.add(dx, dy, out=dx), out=dx)
                near = distance <= unit
                distance *= -1 / (params.sigma2 * unit)
            closeness = np.exp(distance, out=distance)
        if self.found is not None:
            closeness *= self.found[start:] & self.found[references, None]
        agreement = np.multiply(near, self.certainty[start:], out=dy)
        k_sim = (agreement @ self.certainty[references, :, None])[..., 0]
        # A product with ones sums short rows several times faster than sum(axis=-1).
        h_sim = closeness @ np.ones(closeness.shape[-1], np.float32)
        return k_sim + np.float32(params.lambda_) * h_sim


def _by_confidence(scores: Floats) -> Indices:
    """Indices from the highest score to the lowest; NaN last, equal ones in the order given."""
    return np.argsort(-np.asarray(scores, np.float64), kind='stable')


def _units(boxes: Floats) -> Floats:
    """(N,) 1/10 of each box's longer side."""
    sides = np.nan_to_num(np.max(boxes[:, 2:] - boxes[:, :2], axis=1))
    return np.asarray(np.maximum(0.1 * sides, _LEAST_UNIT))


def _check_shapes(
    keypoints: Floats, keypoint_scores: Floats, boxes: Floats, scores: Floats
) -> None:
    count, joints = np.shape(keypoint_scores)
    shapes = (np.shape(keypoints), np.shape(boxes), np.shape(scores))
    if shapes != ((count, joints, 2), (count, 4), (count,)):
        raise ValueError(
            'pose NMS needs keypoints (N, K, 2), keypoint_scores (N, K), boxes (N, 4) and scores '
            f'(N,); got {shapes[0]}, {(count, joints)}, {shapes[1]} and {shapes[2]}'
        )
