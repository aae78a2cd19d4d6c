# SPDX-License-Identifier: Apache-2.0
"""Redundant poses of labelled pictures, found once, and their AP after any pose NMS at once.

What no parameter changes is computed once: the OKS of all poses against all truths, and the offsets
of all pairs of poses. NMS is done for all pictures at once, hundreds of times as fast as picture by
picture; AP is that of pycocotools (tests compare both).
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.boxes import box_iou, box_nms
from rmpe_ros.core.pose_nms import PoseNmsParameters, merge_poses, oks_nms
from rmpe_ros.core.skeletons import COCO17
from rmpe_ros.evaluation.coco import coco_api
from rmpe_ros.evaluation.found_people import FoundPeople
from rmpe_ros.evaluation.labels import Labels
from rmpe_ros.evaluation.subset_precision import SubsetPrecision

Mask = NDArray[np.bool_]
Indices = NDArray[np.intp]
# Of M candidates those that are left, and (M,) the one that each is merged into; None: no merging.
Left = tuple[Mask, Indices | None]

LEAST_OVERLAP = 0.2
_SAME_PERSON = 0.3
_LEAST_UNIT = np.float32(1e-6)
# Of the people found, what the file of `save_candidates` holds.
_KEPT = ('keypoints', 'keypoint_scores', 'boxes', 'scores', 'box_scores')


class Candidates:
    """M poses of some pictures, from best to worst within each picture.

    labels: COCO's layout. found: picture id → poses, one per box. In pictures where not everyone is
    labelled, a pose whose box overlaps no labelled person's may be right without a label: it takes
    part in NMS, but does not count.
    """

    def __init__(self, labels: Labels, found: Mapping[int, FoundPeople]) -> None:
        self.labels = labels
        joints = labels.skeleton.num_keypoints
        self.ids = sorted(image.id for image in labels.images)
        parts = [found[image] for image in self.ids]
        orders = [np.argsort(-part.scores, kind='stable') for part in parts]
        counts = [len(order) for order in orders]
        self.starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.intp)

        def ordered(name: str, *sizes: int) -> NDArray[np.float64]:
            rows = [getattr(part, name)[order] for part, order in zip(parts, orders, strict=True)]
            return np.concatenate([np.zeros((0, *sizes)), *rows])

        self.keypoints = ordered('keypoints', joints, 2)
        self.keypoint_scores = ordered('keypoint_scores', joints)
        self.boxes, self.scores = ordered('boxes', 4), ordered('scores')
        # The detector's score of the box, which is what box NMS goes by.
        self.box_scores = ordered('box_scores')
        self.counts = np.ones(len(self.scores), bool)
        people_of = labels.people_of()
        complete = {image.id: image.complete for image in labels.images}
        for picture, image in enumerate(self.ids):
            if not complete[image]:
                part = self._slice(picture)
                overlap = box_iou(self.boxes[part], labels.boxes[people_of[image]])
                self.counts[part] = overlap.max(axis=1, initial=0) >= LEAST_OVERLAP
        # Whose box each pose's overlaps most, -1 nobody's: for the duplicates.
        self.person = np.full(len(self.scores), -1)
        for picture, image in enumerate(self.ids):
            part = self._slice(picture)
            people = people_of[image][labels.counted[people_of[image]]]
            overlap = box_iou(self.boxes[part], labels.boxes[people])
            if len(people):
                near = overlap.max(axis=1, initial=0) >= _SAME_PERSON
                self.person[part] = np.where(near, people[overlap.argmax(axis=1)], -1)
        joints_seen = labels.labelled[:, : COCO17.num_keypoints].any(axis=1)
        self.people = int((joints_seen & ~labels.crowd).sum())
        self._known: dict[bytes, float] = {}

    @cached_property
    def _precision(self) -> SubsetPrecision:
        truth = coco_api(self.labels.to_coco())
        images = np.repeat(self.ids, np.diff(self.starts))
        joints = self.keypoints[:, : COCO17.num_keypoints]
        return SubsetPrecision(truth, images, joints, self.scores, self._merge)

    def _merge(self, members: Indices, starts: Indices) -> NDArray[np.float64]:
        """COCO's joints (R, 17, 2) of R groups of candidates, each merged into its first."""
        arrays = self.keypoints[members], self.keypoint_scores[members], self.boxes[members]
        representative = np.repeat(starts, np.diff(starts, append=len(members)))
        points, _ = merge_poses(*arrays, starts, representative)
        return points[:, : COCO17.num_keypoints]

    def __len__(self) -> int:
        return len(self.scores)

    def found(self) -> dict[int, FoundPeople]:
        """The poses by picture, as they were given but for their order."""
        return {
            image: FoundPeople(
                self.keypoints[rows],
                self.keypoint_scores[rows],
                self.boxes[rows],
                self.scores[rows],
                box_scores=self.box_scores[rows],
            )
            for image, rows in zip(self.ids, map(self._slice, range(len(self.ids))), strict=True)
        }

    def _slice(self, picture: int) -> slice:
        return slice(int(self.starts[picture]), int(self.starts[picture + 1]))

    def after_box_nms(self, iou: float) -> Mask:
        """(M,) candidates that box NMS leaves."""
        kept = np.zeros(len(self), bool)
        for picture in range(len(self.ids)):
            part = self._slice(picture)
            chosen = box_nms(self.boxes[part], self.box_scores[part], iou)
            kept[part.start + chosen] = True
        return kept

    def after_oks_nms(self, among: Mask, threshold: float) -> Mask:
        """(M,) candidates of `among` that OKS NMS leaves."""
        kept = np.zeros(len(self), bool)
        for picture in range(len(self.ids)):
            part = self._slice(picture)
            index = part.start + np.flatnonzero(among[part])
            chosen = oks_nms(
                self.keypoints[index],
                self.keypoint_scores[index],
                self.boxes[index],
                self.scores[index],
                self.labels.skeleton.sigmas,
                threshold=threshold,
            )
            kept[index[chosen]] = True
        return kept

    def average_precision(self, kept: Mask, representative: Indices | None = None) -> float:
        """OKS AP of the candidates in `kept`, merged with those that they represent where that is
        told; NaN without anybody to find.
        """
        if self.people == 0:
            return float('nan')
        counted = kept & self.counts
        if representative is None:
            representative = np.where(kept, np.arange(len(self)), -1)
        # Over wide stretches parameters change nothing: the same poses have the same AP.
        held = counted.tobytes() + representative.tobytes()
        key = hashlib.blake2b(held, digest_size=16).digest()
        if key not in self._known:
            self._known[key] = self._precision(counted, representative)
        return self._known[key]

    def duplicates(self, kept: Mask, min_score: float) -> float:
        """Poses too many a person found, on average, of those in `kept` with `min_score`.

        AP hardly minds them, as they rank low; whoever draws or counts people does.
        """
        people = self.person[kept & (self.scores >= min_score) & (self.person >= 0)]
        found = len(np.unique(people))
        return len(people) / found - 1 if found else 0.0


class PoseNmsScenes:
    """Pose NMS (Eqs. 8-10) over all pictures at a time, for many parameters.

    Only the candidates in `among` take part. Gives what `pose_nms.parametric_pose_nms` gives.
    """

    def __init__(self, candidates: Candidates, among: Mask, variant: str = 'paper') -> None:
        self.candidates, self.among, self.variant = candidates, among, variant
        reference, other, rank = _pairs(candidates.starts, among)
        # All pairs of the best pose of each picture first, then of the second best, and so on.
        order = np.argsort(rank, kind='stable')
        self.reference, self.other = reference[order], other[order]
        self.blocks = np.searchsorted(rank[order], np.arange(rank.max(initial=-1) + 2))
        points = candidates.keypoints.astype(np.float32)
        sides = np.maximum(candidates.boxes[:, 2:] - candidates.boxes[:, :2], 0).astype(np.float32)
        unit = np.maximum(sides.max(axis=1, initial=0) * np.float32(0.1), _LEAST_UNIT)
        offsets = points[self.other] - points[self.reference]
        self.squared = (offsets**2).sum(axis=2) / unit[self.reference, None] ** 2
        if variant == 'paper':
            half = np.float32(0.05) * sides[self.reference, None]
            self.near = (np.abs(offsets) <= half).all(axis=2)
        else:
            self.near = self.squared <= 1
        self.joints = points.shape[1]
        self._k_sim = lru_cache(64)(self._compute_k_sim)
        self._h_sim = lru_cache(64)(self._compute_h_sim)

    def leave(self, parameters: PoseNmsParameters) -> Left:
        """What pose NMS with these parameters leaves."""
        if parameters.variant != self.variant:
            raise ValueError(f'these scenes are for the variant {self.variant!r}')
        similarity = self._k_sim(parameters.sigma1) + np.float32(parameters.lambda_) * self._h_sim(
            parameters.sigma2
        )
        redundant = similarity > parameters.eta_for(self.joints)
        alive = self.among.copy()
        representative = np.where(alive, np.arange(len(alive)), -1)
        for start, end in zip(self.blocks[:-1], self.blocks[1:], strict=True):
            pairs = start + np.flatnonzero(redundant[start:end])
            pairs = pairs[alive[self.reference[pairs]] & alive[self.other[pairs]]]
            alive[self.other[pairs]] = False
            representative[self.other[pairs]] = self.reference[pairs]
        return alive, representative if parameters.merge else None

    def average_precision(self, parameters: PoseNmsParameters) -> float:
        """OKS AP after pose NMS with these parameters."""
        return self.candidates.average_precision(*self.leave(parameters))

    def _compute_k_sim(self, sigma1: float) -> NDArray[np.float32]:
        scores = self.candidates.keypoint_scores.astype(np.float32)
        certainty = np.tanh(scores / np.float32(sigma1))
        both = certainty[self.reference] * certainty[self.other]
        return np.asarray((both * self.near).sum(axis=1), np.float32)

    def _compute_h_sim(self, sigma2: float) -> NDArray[np.float32]:
        distance = self.squared if self.variant == 'paper' else np.sqrt(self.squared)
        return np.asarray(np.exp(-distance / np.float32(sigma2)).sum(axis=1), np.float32)


def save_candidates(path: Path, found: Mapping[int, FoundPeople], key: str) -> None:
    """Keep poses in an .npz file; `key` says what they were made with."""
    from rmpe_ros.io.files import write_file

    ids = list(found)
    arrays = {
        name: np.concatenate([getattr(found[image], name) for image in ids]) for name in _KEPT
    }
    stream = io.BytesIO()
    counts = [len(found[image].scores) for image in ids]
    np.savez_compressed(stream, key=key, ids=ids, counts=counts, **arrays)  # type: ignore[arg-type]
    write_file(path, stream.getvalue())


def holds_candidates(path: Path) -> bool:
    """Whether a file is one of `save_candidates`, whatever it was made of."""
    try:
        with np.load(path) as data:
            return 'key' in data
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile):
        return False


def load_candidates(path: Path, key: str) -> dict[int, FoundPeople] | None:
    """Poses that `save_candidates` kept; None when there are none, or they were made otherwise."""
    try:
        with np.load(path) as data:
            if str(data['key']) != key:
                return None
            ends = np.cumsum(data['counts'])[:-1]
            parts = [np.split(data[name], ends) for name in _KEPT]
            return {
                int(image): FoundPeople(**dict(zip(_KEPT, arrays, strict=True)))
                for image, *arrays in zip(data['ids'], *parts, strict=True)
            }
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def _pairs(
    starts: NDArray[np.intp], among: Mask
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Reference, other, and the reference's rank, of all pairs of better and worse of a picture."""
    references, others, ranks = [], [], []
    for start, end in pairwise(starts):
        index = start + np.flatnonzero(among[start:end])
        better, worse = np.triu_indices(len(index), 1)
        references.append(index[better])
        others.append(index[worse])
        ranks.append(better)
    empty = [np.zeros(0, np.intp)]
    return tuple(np.concatenate(each or empty) for each in (references, others, ranks))  # type: ignore[return-value]
