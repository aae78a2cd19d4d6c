# SPDX-License-Identifier: Apache-2.0
"""OKS AP of thousands of subsets of the same poses, as pycocotools would give it for each.

Truths are read once. Of a subset only the pictures are matched again in which it differs from the
one before, all of them at a time; recall and precision are sums over poses that are sorted once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.evaluation.coco import MOST_PEOPLE, prepare_keypoints

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Mask = NDArray[np.bool_]
# A pose that is compared with nobody; less than any threshold.
_NOBODY = -1.0


class SubsetPrecision:
    """Call it with a subset of M poses, of which some are merged.

    truth: `coco_api`'s, without or with people that do not count. images: (M,) ids, ascending.
    keypoints: (M, 17, 2) and scores: (M,), best first within each picture. merge: indices of poses
    and where among them R groups start → the joints (R, 17, 2) of each group, merged into its
    first.
    """

    def __init__(
        self,
        truth: Any,
        images: NDArray[np.integer],
        keypoints: Floats,
        scores: Floats,
        merge: Callable[[Indices, Indices], Floats],
    ) -> None:
        parameters, people = prepare_keypoints(truth)
        self._thresholds = np.minimum(parameters.iouThrs, 1 - 1e-10)
        self._recalls = parameters.recThrs
        self._picture = np.searchsorted(parameters.imgIds, images)
        self._truths = _Truths([people[image] for image in parameters.imgIds], parameters)
        self._alone = self._truths.similarity(keypoints, self._picture)
        self._best_first = np.argsort(-scores, kind='mergesort')
        self._merge = merge
        # Of the subset before, at first of none: the similarity of each pose to each truth of its
        # picture, which poses count, and which are right and wrong at each threshold.
        count = len(scores)
        self._chosen = np.zeros(count, bool)
        self._representative = np.full(count, -1)
        self._similarity = self._alone.copy()
        self._counted = np.zeros(count, bool)
        self._right = np.zeros((len(self._thresholds), count), bool)
        self._wrong = np.zeros((len(self._thresholds), count), bool)

    def __call__(self, chosen: Mask, representative: Indices) -> float:
        """AP of the poses in the mask `chosen` (M,), each merged with all that have its number in
        `representative` (M,), which is that of one at least as good, or -1.
        """
        moved = representative != self._representative
        differs = moved | (chosen != self._chosen)
        groups = np.concatenate([self._representative[moved], representative[moved]])
        self._chosen, self._representative = chosen.copy(), representative.copy()
        self._merge_groups(groups[groups >= 0])
        again = np.zeros(len(self._truths), bool)
        again[self._picture[differs]] = True
        self._match(again)
        counted = self._best_first[self._counted[self._best_first]]
        right = np.cumsum(self._right[:, counted], axis=1, dtype=np.float64)
        wrong = np.cumsum(self._wrong[:, counted], axis=1, dtype=np.float64)
        precision = right / (wrong + right + np.spacing(1))
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        # Beyond the highest recall there is no precision.
        precision = np.concatenate([precision, np.zeros((len(precision), 1))], axis=1)
        reached = [np.searchsorted(row, self._recalls) for row in right / self._truths.counted]
        return float(np.take_along_axis(precision, np.array(reached), axis=1).mean())

    def _merge_groups(self, numbers: Indices) -> None:
        """Compare the poses of these groups, which are others than before, with their truths."""
        self._similarity[numbers] = self._alone[numbers]
        of_these = np.zeros(len(self._chosen) + 1, bool)  # the last is for -1
        of_these[numbers] = True
        members = np.flatnonzero(of_these[self._representative])
        members = members[np.argsort(self._representative[members], kind='stable')]
        firsts, sizes = np.unique(self._representative[members], return_counts=True)
        several = sizes > 1
        if not several.any():
            return
        members, firsts, sizes = members[np.repeat(several, sizes)], firsts[several], sizes[several]
        joints = self._merge(members, np.cumsum(sizes) - sizes)
        self._similarity[firsts] = self._truths.similarity(joints, self._picture[firsts])

    def _match(self, again: Mask) -> None:
        """Give truths to the chosen poses of those pictures, for all thresholds."""
        part = again[self._picture]
        self._counted[part] = False
        rows = np.flatnonzero(part & self._chosen)
        if not len(rows):
            return
        pictures, first, number = np.unique(
            self._picture[rows], return_index=True, return_inverse=True
        )
        place = np.arange(len(rows)) - first[number]
        within = place < MOST_PEOPLE
        rows, number, place = rows[within], number[within], place[within]
        ignored, crowd = self._truths.ignored[pictures], self._truths.crowd[pictures]
        table = np.full((place.max() + 1, len(pictures), ignored.shape[1]), _NOBODY)
        table[place, number] = self._similarity[rows]
        matched, neither = _give_truths(table, ignored, crowd, self._thresholds)
        matched, neither = matched[place, number].T, neither[place, number].T
        self._counted[rows] = True
        self._right[:, rows] = matched & ~neither
        self._wrong[:, rows] = ~matched


class _Truths:
    """The labelled people of some pictures, those that count before those that do not.

    counted: how many count. ignored, crowd: (pictures, G).
    """

    def __init__(self, people: list[list[dict[str, Any]]], parameters: Any) -> None:
        low, high = parameters.areaRng[0]

        def ignored(person: dict[str, Any]) -> bool:
            return bool(person['ignore']) or not low <= person['area'] <= high

        ordered = [sorted(each, key=ignored) for each in people]
        flat = [person for each in ordered for person in each]
        self._counts = np.array([len(each) for each in ordered])
        self._starts = np.cumsum(self._counts) - self._counts
        self._most = max(self._counts, default=0)
        triples = np.array([person['keypoints'] for person in flat], np.float64).reshape(-1, 17, 3)
        self._joints, self._labelled = triples[..., :2], triples[..., 2] > 0
        boxes = np.array([person['bbox'] for person in flat], np.float64).reshape(-1, 4)
        # People without labelled joints take whoever is in a box thrice as large.
        self._low = boxes[:, :2] - boxes[:, 2:]
        self._high = boxes[:, :2] + boxes[:, 2:] * 2
        self._areas = np.array([person['area'] for person in flat], np.float64)
        self._variances = (parameters.kpt_oks_sigmas * 2) ** 2
        shape = len(people), self._most
        self.ignored, self.crowd = np.zeros(shape, bool), np.zeros(shape, bool)
        for picture, each in enumerate(ordered):
            self.ignored[picture, : len(each)] = [ignored(person) for person in each]
            self.crowd[picture, : len(each)] = [bool(person['iscrowd']) for person in each]
        self.counted = sum(not ignored(person) for person in flat)

    def __len__(self) -> int:
        return len(self._counts)

    def similarity(self, keypoints: Floats, pictures: Indices) -> Floats:
        """(N, G) OKS of poses (N, 17, 2) with each person of their pictures (N,)."""
        counts = self._counts[pictures]
        pose = np.repeat(np.arange(len(counts)), counts)
        place = np.arange(len(pose)) - np.repeat(np.cumsum(counts) - counts, counts)
        truth = self._starts[pictures[pose]] + place
        labelled = self._labelled[truth]
        known = labelled.any(axis=1)
        offsets = keypoints[pose] - self._joints[truth]
        points, boxed = keypoints[pose[~known]], truth[~known]
        offsets[~known] = np.maximum(0, self._low[boxed, None] - points) + np.maximum(
            0, points - self._high[boxed, None]
        )
        labelled[~known] = True
        squared = (offsets**2).sum(axis=2) / self._variances
        distance = squared / (self._areas[truth, None] + np.spacing(1)) / 2
        total = np.where(labelled, np.exp(-distance), 0.0).sum(axis=1)
        table = np.full((len(counts), self._most), _NOBODY)
        table[pose, place] = total / labelled.sum(axis=1)
        return table


def _give_truths(
    similarity: Floats, ignored: Mask, crowd: Mask, thresholds: Floats
) -> tuple[Mask, Mask]:
    """COCO's greedy matching of D poses in each of B pictures, best first: (D, B, T) whether a
    pose has a truth, and whether that is one that does not count.

    similarity: (D, B, G). ignored, crowd: (B, G), those that count first. A pose takes the most
    similar free truth that counts, the last of equal ones; without any, one that does not count.
    """
    depth, pictures, truths = similarity.shape
    shape = pictures, len(thresholds), truths
    taken = np.zeros(shape, bool)
    matched = np.zeros((depth, *shape[:2]), bool)
    neither = np.zeros((depth, *shape[:2]), bool)
    if not truths:
        return matched, neither
    reusable, counts = crowd[:, None], ~ignored[:, None]
    for rank, each in enumerate(similarity):
        near = np.flatnonzero((each >= thresholds[0]).any(axis=1))
        values = each[near, None]
        able = (values >= thresholds[:, None]) & (~taken[near] | reusable[near])
        able &= counts[near] | ~(able & counts[near]).any(axis=2, keepdims=True)
        best = truths - 1 - np.where(able, values, _NOBODY)[..., ::-1].argmax(axis=2)
        row, threshold = np.nonzero(able.any(axis=2))
        picture, person = near[row], best[row, threshold]
        taken[picture, threshold, person] = True
        matched[rank, picture, threshold] = True
        neither[rank, picture, threshold] = ignored[picture, person]
    return matched, neither
