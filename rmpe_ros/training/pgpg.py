# SPDX-License-Identifier: Apache-2.0
"""Pose-guided proposals generator (RMPE sec. 3.3): boxes as a detector would find them.

How a detector's box is off depends on the pose: P(δB | atom(P)). Poses aligned so that their torsos
have the same length are clustered by k-means to atomic poses; for each of these a mixture of
Gaussians is fitted to the offsets of detected boxes from true ones, in sides of the true box.
The paper states neither the number of atomic poses nor of Gaussians: the latter is chosen by BIC.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.boxes import box_iou
from rmpe_ros.core.json_text import parse_json
from rmpe_ros.core.odd_paths import why_unreadable
from rmpe_ros.core.skeletons import Skeleton, get_skeleton
from rmpe_ros.io.files import write_file

if TYPE_CHECKING:
    from rmpe_ros.training.datasets import LabelledPerson

Floats = NDArray[np.floating]

# The joints of an atomic pose: those that COCO, MPII and LSP all have.
ATOM_JOINTS = (
    'left_shoulder', 'right_shoulder', 'left_elbow', 'right_elbow', 'left_wrist', 'right_wrist',
    'left_hip', 'right_hip', 'left_knee', 'right_knee', 'left_ankle', 'right_ankle',
)  # fmt: skip
_SHOULDERS, _HIPS = [0, 1], [6, 7]
# Fewer offsets than this say too little about an atomic pose: it gets everybody's mixture.
_LEAST_SAMPLES = 40
# Seen end-on a torso has no length; it then counts as this share of the box's diagonal.
_LEAST_TORSO = 0.08
# Sampled boxes that overlap the person less are not what a detector would have called a person.
MIN_IOU = 0.3
_TRIES = 10


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of C Gaussians over box offsets (x1, y1, x2, y2).

    weights: (C,) that sum to 1. means: (C, 4). covariances: (C, 4, 4).
    """

    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    covariances: NDArray[np.float64]

    def __post_init__(self) -> None:
        count = len(self.weights)
        shapes = (self.weights.shape, self.means.shape, self.covariances.shape)
        if shapes != ((count,), (count, 4), (count, 4, 4)) or not count:
            raise ValueError(f'a mixture has weights (C,), means (C, 4), covariances; got {shapes}')
        if not np.isclose(self.weights.sum(), 1) or (self.weights < 0).any():
            raise ValueError('the weights of a mixture are positive and sum to 1')
        object.__setattr__(self, '_roots', np.linalg.cholesky(self.covariances))

    def sample(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """One offset (4,)."""
        part = rng.choice(len(self.weights), p=self.weights)
        roots: NDArray[np.float64] = self._roots  # type: ignore[attr-defined]
        return np.asarray(self.means[part] + roots[part] @ rng.standard_normal(4))

    @property
    def mean(self) -> NDArray[np.float64]:
        """(4,) of the whole mixture."""
        return np.asarray(self.weights @ self.means)

    @property
    def covariance(self) -> NDArray[np.float64]:
        """(4, 4) of the whole mixture."""
        off = self.means - self.mean
        between = np.einsum('c,ci,cj->ij', self.weights, off, off)
        return np.asarray(np.einsum('c,cij->ij', self.weights, self.covariances) + between)


@dataclass(frozen=True, eq=False)
class ProposalGenerator:
    """P(δB | atom(P)), fitted.

    atoms: (A, 12, 2) atomic poses, ATOM_JOINTS in torso lengths from the torso's middle.
    mixtures: one for each atomic pose, and last everybody's, for people without a torso.
    """

    atoms: NDArray[np.float64]
    mixtures: tuple[Mixture, ...]

    def __post_init__(self) -> None:
        if self.atoms.shape[1:] != (len(ATOM_JOINTS), 2):
            raise ValueError(f'atomic poses are (A, {len(ATOM_JOINTS)}, 2), got {self.atoms.shape}')
        if len(self.mixtures) != len(self.atoms) + 1:
            raise ValueError(
                f'{len(self.atoms)} atomic poses need {len(self.atoms) + 1} mixtures, got '
                f'{len(self.mixtures)}'
            )

    def atom_of(
        self, joints: Floats, known: NDArray[np.bool_], boxes: Floats, skeleton: Skeleton
    ) -> NDArray[np.intp]:
        """(N,) the nearest atomic pose over the joints known, A for people without a torso.

        joints: (N, K, 2), known: (N, K), of the skeleton; boxes: (N, 4).
        """
        aligned, seen = align_poses(joints, known, boxes, skeleton)
        squared = ((aligned[:, None] - self.atoms[None]) ** 2).sum(axis=3)
        distance = np.where(seen[:, None], squared, 0).sum(axis=2)
        return np.where(seen.any(axis=1), distance.argmin(axis=1), len(self.atoms))

    def propose(self, person: LabelledPerson, rng: np.random.Generator) -> NDArray[np.float32]:
        """A box (4,) float32 in which a detector might have found a labelled person."""
        skeleton = get_skeleton('body19')
        atom = self.atom_of(
            person.joints[None], person.weights[None] > 0, person.box[None], skeleton
        )[0]
        return self.sample(person.box, int(atom), rng)

    def sample(self, box: Floats, atom: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """A box (4,) float32 drawn for a true box of a person with that atomic pose."""
        sides = np.tile(box[2:] - box[:2], 2)
        for _ in range(_TRIES):
            drawn = (box + self.mixtures[atom].sample(rng) * sides).astype(np.float32)
            if box_iou(drawn[None], np.asarray(box)[None])[0, 0] >= MIN_IOU:
                return drawn
        return np.asarray(box, np.float32)


def align_poses(
    joints: Floats, known: NDArray[np.bool_], boxes: Floats, skeleton: Skeleton
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Poses as (N, 12, 2), ATOM_JOINTS about the torso's middle in torso lengths, and which joints
    are known (N, 12): none for people without a shoulder or without a hip.
    """
    index = [skeleton.index(name) for name in ATOM_JOINTS]
    points = np.asarray(joints, np.float64)[:, index]
    known = np.asarray(known)[:, index]
    shoulders, has_shoulder = _middle(points[:, _SHOULDERS], known[:, _SHOULDERS])
    hips, has_hip = _middle(points[:, _HIPS], known[:, _HIPS])
    boxes = np.asarray(boxes, np.float64)
    diagonal = np.hypot(*(boxes[:, 2:] - boxes[:, :2]).T)
    length = np.maximum(np.linalg.norm(shoulders - hips, axis=1), _LEAST_TORSO * diagonal)
    length = np.maximum(length, 1e-6)
    aligned = (points - ((shoulders + hips) / 2)[:, None]) / length[:, None, None]
    known = known & (has_shoulder & has_hip)[:, None]
    return np.where(known[..., None], aligned, 0.0), known


def box_offsets(
    detected: Floats, true_boxes: Floats
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Offsets (M, 4) of detected boxes (D, 4) from the true one (N, 4) that each overlaps most, in
    units of its sides, and the index of that one (M,). Those below an IoU of 0.5 are nobody's.
    """
    if not len(detected) or not len(true_boxes):
        return np.zeros((0, 4)), np.zeros(0, np.intp)
    overlap = box_iou(detected, true_boxes)
    person = overlap.argmax(axis=1)
    hit = overlap[np.arange(len(detected)), person] >= 0.5
    person = person[hit]
    true = np.asarray(true_boxes, np.float64)[person]
    sides = np.tile(true[:, 2:] - true[:, :2], 2)
    return (np.asarray(detected, np.float64)[hit] - true) / sides, person


def fit_proposals(
    joints: Floats,
    known: NDArray[np.bool_],
    boxes: Floats,
    skeleton: Skeleton,
    offsets: Floats,
    person: NDArray[np.intp],
    *,
    atoms: int = 16,
    most_components: int = 4,
    seed: int = 0,
) -> ProposalGenerator:
    """Fit PGPG to labelled people and the offsets of the boxes that a detector found for them.

    joints (N, K, 2), known (N, K), boxes (N, 4): the people. offsets (M, 4), person (M,): from
    `box_offsets`. Needs scikit-learn. Raises ValueError when there is too little to fit.
    """
    from sklearn.cluster import KMeans

    if len(offsets) < _LEAST_SAMPLES:
        raise ValueError(
            f'the detector found {len(offsets)} boxes of labelled people; {_LEAST_SAMPLES} or more '
            'are needed to learn how its boxes are off'
        )
    aligned, seen = align_poses(joints, known, boxes, skeleton)
    usable = seen.mean(axis=1) >= 0.75
    if usable.sum() < atoms:
        raise ValueError(
            f'{int(usable.sum())} people have enough labelled joints, fewer than {atoms} atoms'
        )
    # A joint that is not known lies where it does on average.
    mean = (aligned * seen[..., None]).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)[:, None]
    complete = np.where(seen[..., None], aligned, mean)[usable]
    clusters = KMeans(atoms, n_init=4, random_state=seed).fit(complete.reshape(len(complete), -1))
    centres = clusters.cluster_centers_.reshape(atoms, len(ATOM_JOINTS), 2).astype(np.float64)
    everybody = fit_mixture(offsets, most_components, seed)
    generator = ProposalGenerator(centres, (everybody,) * (atoms + 1))
    atom = generator.atom_of(joints, known, boxes, skeleton)[person]
    mixtures = []
    for each in range(atoms):
        mine = offsets[atom == each]
        enough = len(mine) >= _LEAST_SAMPLES
        mixtures.append(fit_mixture(mine, most_components, seed) if enough else everybody)
    return ProposalGenerator(centres, (*mixtures, everybody))


def fit_mixture(offsets: Floats, most_components: int, seed: int = 0) -> Mixture:
    """The mixture of 1 to `most_components` Gaussians with the lowest BIC of offsets (M, 4)."""
    from sklearn.mixture import GaussianMixture

    fits = [
        GaussianMixture(count, reg_covar=1e-5, n_init=2, random_state=seed).fit(offsets)
        for count in range(1, most_components + 1)
        if len(offsets) >= 15 * count
    ]
    best = min(fits, key=lambda fit: fit.bic(offsets))
    return Mixture(
        best.weights_ / best.weights_.sum(),
        best.means_.astype(np.float64),
        best.covariances_.astype(np.float64),
    )


def save_proposals(path: Path, generator: ProposalGenerator, provenance: Mapping[str, Any]) -> None:
    """Write a generator, and where it comes from, as JSON for `load_proposals`."""
    data = {
        'joints': ATOM_JOINTS,
        'atoms': generator.atoms.round(5).tolist(),
        'mixtures': [
            {
                'weights': mixture.weights.tolist(),
                'means': mixture.means.tolist(),
                'covariances': mixture.covariances.tolist(),
            }
            for mixture in generator.mixtures
        ],
        'provenance': dict(provenance),
    }
    write_file(path, json.dumps(data) + '\n')


def load_proposals(path: Path) -> ProposalGenerator:
    """A generator that `save_proposals` wrote. Raises ValueError naming the file."""
    try:
        data = parse_json(path.read_bytes())
        if tuple(data['joints']) != ATOM_JOINTS:
            raise ValueError(f'its atomic poses have the joints {data["joints"]}')
        return ProposalGenerator(
            np.array(data['atoms'], np.float64),
            tuple(
                Mixture(*(np.array(m[k], np.float64) for k in ('weights', 'means', 'covariances')))
                for m in data['mixtures']
            ),
        )
    except OSError as error:
        raise ValueError(f'{path} cannot be read: {why_unreadable(error, path)}') from error
    except (ValueError, KeyError, TypeError, np.linalg.LinAlgError) as error:
        raise ValueError(
            f'{path} is no file of "rmpe fit-pgpg": {type(error).__name__} {error}'
        ) from error


def _middle(
    points: NDArray[np.float64], known: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Mean (N, 2) of the known ones of points (N, P, 2), and whether there is any (N,)."""
    count = known.sum(axis=1)
    total = np.where(known[..., None], points, 0).sum(axis=1)
    return total / np.maximum(count, 1)[:, None], count > 0
