# SPDX-License-Identifier: Apache-2.0
"""How good the found people are: OKS, PCK, PCKh, MPII's mAP, and the detector's AP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.json_text import plain
from rmpe_ros.core.oks import keypoint_similarity
from rmpe_ros.core.skeletons import COCO17
from rmpe_ros.evaluation.coco import coco_api, evaluate_boxes, evaluate_keypoints
from rmpe_ros.evaluation.found_people import FoundPeople
from rmpe_ros.evaluation.labels import LabelledImage, Labels
from rmpe_ros.evaluation.labels.mpii import JOINT_GROUPS, PCKH_THRESHOLD, multi_person_ap
from rmpe_ros.evaluation.pck import correct_keypoints, torso_lengths

PCK_THRESHOLD = 0.2


@dataclass
class Evaluation:
    """What was measured. Each dictionary maps the name of a number to it, NaN for no truth; None
    where it does not apply.

    oks: COCO's AP, AP50, AP75, APM, APL, AR and `mean`, the mean OKS over people (0 for one not
    found). pck: share of joints within 0.2 of the torso, `mean` over joints and each joint. pckh:
    within half a head. mpii: mAP of the published protocol, joint groups, joints.
    detector: AP, AP50, recall at IoU 0.5. images, people: counted ones.
    sources: the means and the people of each source. notes: sentences about what was counted.
    person_oks, correct, distances: (N,), (N, K), (N, K) for each labelled person, for reports;
    distances are in torso lengths (or head sizes for MPII).
    """

    oks: dict[str, float] | None
    pck: dict[str, float] | None
    pckh: dict[str, float] | None
    mpii: dict[str, float] | None
    detector: dict[str, float] | None
    images: int
    people: int
    sources: dict[str, dict[str, float]]
    models: dict[str, dict[str, str]] = field(default_factory=dict)
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    person_oks: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    distances: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))

    def to_json(self) -> dict[str, Any]:
        """A dictionary for json.dump; numbers that do not exist become None."""
        names = (
            'oks', 'pck', 'pckh', 'mpii', 'detector', 'images', 'people', 'sources', 'models',
            'seconds', 'notes',
        )  # fmt: skip
        return {name: plain(getattr(self, name)) for name in names}


def evaluate(
    labels: Labels,
    found: Mapping[int, FoundPeople],
    *,
    gt_boxes: bool = False,
    incomplete: bool = False,
    coco_results: list[dict[str, Any]] | None = None,
) -> Evaluation:
    """Compare people found with the labelled ones.

    gt_boxes: the poses were found in true boxes. incomplete: count AP also on pictures where not
    everyone is labelled. coco_results: the entries that `found` was read from, given to pycocotools
    as they are.
    """
    predicted, _, oks = match_people(labels, found)
    counted = labels.counted
    lengths = torso_lengths(labels.keypoints, labels.labelled, labels.skeleton)
    correct = correct_keypoints(
        predicted, labels.keypoints, labels.labelled, lengths, PCK_THRESHOLD
    )[counted]
    result = Evaluation(
        oks=None,
        pck=_per_joint(correct, labels, labels.skeleton.keypoints),
        pckh=None,
        mpii=None,
        detector=None,
        images=len(labels.images),
        people=int(counted.sum()),
        sources={},
    )
    units = lengths
    if labels.layout == 'coco':
        result.oks = _oks(labels, found, oks, incomplete, coco_results, result.notes)
    if labels.layout == 'mpii' or np.isfinite(labels.head_sizes).any():
        units = labels.head_sizes
        hits = correct_keypoints(
            predicted, labels.keypoints, labels.labelled, units, PCKH_THRESHOLD
        )[counted]
        table = tuple(name for names in JOINT_GROUPS.values() for name in names)
        result.pckh = _per_joint(hits, labels, table)
        result.mpii = _mpii(labels, found, incomplete, result.notes)
    if not gt_boxes and any(each.detections is not None for each in found.values()):
        result.detector = _detector(labels, found, incomplete, result.notes)
    sources = labels.sources[counted]
    for source in np.unique(sources).tolist():
        here = sources == source
        result.sources[source] = {
            'people': int(here.sum()),
            'oks': _mean(oks[counted][here]),
            'pck': _per_joint(correct[here], labels, labels.skeleton.keypoints)['mean'],
        }
    missed = int((~np.isfinite(predicted[counted]).all(axis=(1, 2))).sum())
    if missed and not gt_boxes:
        result.notes.append(
            f'{missed} of {result.people} labelled people have no pose near them: their OKS is 0 '
            'and their joints are wrong'
        )
    result.person_oks = np.where(counted, oks, np.nan)
    with np.errstate(invalid='ignore', divide='ignore'):
        distances = np.linalg.norm(predicted - labels.keypoints, axis=2) / units[:, None]
    distances[~labels.labelled | ~np.isfinite(units)[:, None]] = np.nan
    result.distances = distances
    return result


def match_people(
    labels: Labels, found: Mapping[int, FoundPeople]
) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.float64]]:
    """The pose of each labelled person: (N, K, 2), infinity for those not found, its index (N,)
    among those of the picture, -1 for none, and its OKS (N,).

    In each picture the pair with the highest OKS is matched, then the best of the rest, and so on.
    OKS counts COCO's joints only (all for other skeletons); it is NaN where none is labelled.
    """
    predicted = np.full(labels.keypoints.shape, np.inf)
    pose_of = np.full(len(predicted), -1, np.intp)
    sigmas = np.array(labels.skeleton.sigmas)
    for image, people in labels.people_of().items():
        people = people[labels.counted[people]]
        poses = found.get(image)
        if poses is None or not len(poses.scores) or not len(people):
            continue
        if poses.truth is not None:
            predicted[poses.truth] = poses.keypoints
            pose_of[poses.truth] = np.arange(len(poses.scores))
            continue
        pairs = np.stack(
            [
                keypoint_similarity(
                    poses.keypoints,
                    labels.keypoints[person][None],
                    np.broadcast_to(labels.labelled[person], poses.keypoints.shape[:2]),
                    np.full(len(poses.scores), labels.areas[person]),
                    sigmas,
                )
                for person in people
            ]
        )
        while pairs.max() > 0:
            person, pose = np.unravel_index(pairs.argmax(), pairs.shape)
            predicted[people[person]] = poses.keypoints[pose]
            pose_of[people[person]] = pose
            pairs[person], pairs[:, pose] = -1, -1
    compared = labels.labelled.copy()
    if labels.skeleton.num_keypoints > COCO17.num_keypoints:
        compared[:, COCO17.num_keypoints :] = False
    oks = keypoint_similarity(predicted, labels.keypoints, compared, labels.areas, sigmas)
    return predicted, pose_of, oks


def _oks(
    labels: Labels,
    found: Mapping[int, FoundPeople],
    oks: NDArray[np.float64],
    incomplete: bool,
    coco_results: list[dict[str, Any]] | None,
    notes: list[str],
) -> dict[str, float]:
    images = _counted_images(labels, incomplete, lambda image: image.complete)
    if len(images) < len(labels.images):
        notes.append(
            f'OKS AP and AR are of the {len(images)} of {len(labels.images)} pictures in which '
            'everyone is labelled; in the others a person found may be right without a label'
        )
    if coco_results is None:
        entries = [
            entry for image in images if image in found
            for entry in found[image].to_coco_results(image)
        ]  # fmt: skip
    else:
        wanted = set(images)
        entries = [entry for entry in coco_results if entry['image_id'] in wanted]
    scores = evaluate_keypoints(coco_api(labels.to_coco(), images), entries)
    kept = {name: scores[name] for name in ('AP', 'AP50', 'AP75', 'APM', 'APL', 'AR')}
    return {**kept, 'mean': _mean(oks[labels.counted])}


def _mpii(
    labels: Labels, found: Mapping[int, FoundPeople], incomplete: bool, notes: list[str]
) -> dict[str, float]:
    images = _counted_images(labels, incomplete, lambda image: image.complete)
    if len(images) < len(labels.images):
        notes.append(
            f'mAP is of the {len(images)} of {len(labels.images)} pictures in which everyone is '
            'labelled'
        )
    if not np.isfinite(labels.head_sizes).all():
        notes.append("people without a head's box or segment are left out of PCKh and mAP")
    chosen = {image: found[image] for image in images if image in found}
    return multi_person_ap(
        labels.select(lambda image: incomplete or image.complete),
        {image: each.keypoints for image, each in chosen.items()},
        {image: each.keypoint_scores for image, each in chosen.items()},
    )


def _detector(
    labels: Labels, found: Mapping[int, FoundPeople], incomplete: bool, notes: list[str]
) -> dict[str, float] | None:
    images = _counted_images(labels, incomplete, lambda image: image.complete and image.drawn_boxes)
    if not images:
        return None
    if len(images) < len(labels.images):
        notes.append(
            f'the detector is measured on the {len(images)} of {len(labels.images)} pictures in '
            'which everyone has a box that a person drew'
        )
    truth = coco_api(labels.to_coco(), images)
    entries = [e for i in images if i in found for e in found[i].detector_results(i)]
    return evaluate_boxes(truth, entries)


def _counted_images(
    labels: Labels, incomplete: bool, complete: Callable[[LabelledImage], bool]
) -> list[int]:
    return sorted(image.id for image in labels.images if incomplete or complete(image))


def _per_joint(
    correct: NDArray[np.float64], labels: Labels, mean_over: tuple[str, ...]
) -> dict[str, float]:
    """Each joint's share of right ones, and first the mean over `mean_over` that have any truth."""
    counts = (~np.isnan(correct)).sum(axis=0)
    shares = np.divide(
        np.nansum(correct, axis=0), counts, out=np.full(len(counts), np.nan), where=counts > 0
    )
    joints = dict(zip(labels.skeleton.keypoints, shares.tolist(), strict=True))
    return {'mean': _mean(np.array([joints[name] for name in mean_over])), **joints}


def _mean(values: NDArray[np.float64]) -> float:
    """Of those that are not NaN; NaN of none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float('nan')
