# SPDX-License-Identifier: Apache-2.0
"""People found in labelled pictures: by our pipeline, or in somebody's COCO-results file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.boxes import boxes_with_area, clip_boxes
from rmpe_ros.core.person_score import joint_closeness, person_features
from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import COCO17, Skeleton
from rmpe_ros.evaluation.labels import Labels, boxes_around
from rmpe_ros.io.images import load_image
from rmpe_ros.io.overlap import ReadAhead

if TYPE_CHECKING:
    from rmpe_ros.pipeline import PosePipeline

# What a detector would have said of a true box, the same for all.
_TRUE_BOX_SCORE = 0.8


@dataclass(frozen=True, eq=False)
class FoundPeople:
    """M people found in one picture, with the joints of the labels' skeleton.

    keypoints: (M, K, 2) pixels; keypoint_scores: (M, K); boxes: (M, 4) edge pixels; scores: (M,).
    truth: (M,) indices of the labelled people whose boxes these poses were found in, None where
    people had to be found first. detections: (D, 4) and detection_scores (D,): the detector's
    boxes, from before the poses. box_scores: (M,) the detector's of each pose's box. features:
    (M, 6) what the person score goes by.
    """

    keypoints: NDArray[np.float64]
    keypoint_scores: NDArray[np.float64]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    truth: NDArray[np.intp] | None = None
    detections: NDArray[np.float64] | None = None
    detection_scores: NDArray[np.float64] | None = None
    box_scores: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    features: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 6)))

    def __post_init__(self) -> None:
        if len(self.box_scores) != len(self.scores):
            # Somebody else's results: his score as if it were the box's times the joints'.
            guess = self.scores / np.maximum(self.keypoint_scores.mean(axis=1), 1e-12)
            object.__setattr__(self, 'box_scores', np.asarray(guess))
        if len(self.features) != len(self.scores):
            features = person_features(self.box_scores, self.keypoint_scores)
            object.__setattr__(self, 'features', features)

    @staticmethod
    def from_poses(
        poses: Poses,
        skeleton: Skeleton,
        detections: NDArray[np.floating] | None = None,
        detection_scores: NDArray[np.floating] | None = None,
        *,
        truth: NDArray[np.intp] | None = None,
    ) -> FoundPeople:
        """The people of `poses` with the joints of `skeleton`. detections: boxes (D, 4) within the
        picture that the poses were found in, and their scores (D,).
        """
        box_scores, features = np.zeros(0), np.zeros((0, 6))
        if detections is not None and detection_scores is not None:
            box_scores = _scores_of(poses.boxes, detections, detection_scores)
            closeness = joint_closeness(poses.skeleton, poses.covariances, poses.boxes)
            features = person_features(box_scores, poses.keypoint_scores, closeness)
        wanted = poses.to_skeleton(skeleton)
        return FoundPeople(
            wanted.keypoints.astype(np.float64),
            wanted.keypoint_scores.astype(np.float64),
            poses.boxes.astype(np.float64),
            poses.scores.astype(np.float64),
            truth,
            None if detections is None else detections.astype(np.float64),
            None if detection_scores is None else detection_scores.astype(np.float64),
            box_scores,
            features,
        )

    def __getitem__(self, people: NDArray[np.intp]) -> FoundPeople:
        """Those of the people only; the detections stay."""
        return replace(
            self,
            keypoints=self.keypoints[people],
            keypoint_scores=self.keypoint_scores[people],
            boxes=self.boxes[people],
            scores=self.scores[people],
            box_scores=self.box_scores[people],
            features=self.features[people],
            truth=None if self.truth is None else self.truth[people],
        )

    def to_coco_results(self, image_id: int) -> list[dict[str, Any]]:
        """COCO-results entries with the first 17 joints (of a skeleton that starts with COCO's)."""
        count = COCO17.num_keypoints
        triples = np.concatenate([self.keypoints, self.keypoint_scores[..., None]], axis=2)
        sides = self.boxes[:, 2:] - self.boxes[:, :2]
        extents = np.concatenate([self.boxes[:, :2], sides], axis=1)
        return [
            {
                'image_id': image_id,
                'category_id': 1,
                'keypoints': triple[:count].ravel().tolist(),
                'score': float(score),
                'bbox': extent.tolist(),
            }
            for triple, score, extent in zip(triples, self.scores, extents, strict=True)
        ]

    def detector_results(self, image_id: int) -> list[dict[str, Any]]:
        """COCO-results entries of the detector's boxes."""
        if self.detections is None or self.detection_scores is None:
            return []
        return [
            {
                'image_id': image_id,
                'category_id': 1,
                'bbox': [x1, y1, x2 - x1, y2 - y1],
                'score': score,
            }
            for (x1, y1, x2, y2), score in zip(
                self.detections.tolist(), self.detection_scores.tolist(), strict=True
            )
        ]


def find_people(
    labels: Labels,
    paths: Mapping[int, Path],
    pipeline: PosePipeline,
    *,
    gt_boxes: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> dict[int, FoundPeople]:
    """Run the pipeline over the pictures: picture id → people found.

    gt_boxes: take the labelled people's boxes instead of the detector's, and keep each one's pose.
    Raises ImageError for a picture that cannot be read.
    """
    found = {}
    people_of = labels.people_of()
    # The next pictures are decoded while people are looked for in one.
    pictures = ReadAhead(
        ((image.id, load_image(paths[image.id])) for image in labels.images),
        lambda read: read[1].nbytes,
    )
    try:
        for image, picture in pictures:
            if gt_boxes:
                people = people_of[image]
                found[image] = _in_true_boxes(
                    labels, people[labels.counted[people]], picture, pipeline
                )
            else:
                boxes, scores = pipeline.detector(picture)
                poses = pipeline(picture, boxes=boxes, box_scores=scores)
                found[image] = FoundPeople.from_poses(poses, labels.skeleton, boxes, scores)
            progress()
    finally:
        pictures.close()
    return found


def people_of_entries(
    entries: Iterable[Mapping[str, Any]], labels: Labels
) -> dict[int, FoundPeople]:
    """People of what `read_result_entries` gives; a box without one is that of the joints found."""
    joints = labels.skeleton.num_keypoints
    grouped: dict[int, list[Mapping[str, Any]]] = {image.id: [] for image in labels.images}
    for entry in entries:
        grouped[entry['image_id']].append(entry)
    return {image: _group(group, joints) for image, group in grouped.items()}


def _scores_of(
    boxes: NDArray[np.floating], detections: Any, detection_scores: Any
) -> NDArray[np.float64]:
    """Scores of boxes (M, 4), each of which is one of the detections but for rounding."""
    if not len(boxes):
        return np.zeros(0)
    off = np.abs(np.asarray(boxes)[:, None] - np.asarray(detections)[None]).max(axis=2)
    return np.asarray(np.asarray(detection_scores, np.float64)[off.argmin(axis=1)])


def _in_true_boxes(
    labels: Labels, people: NDArray[np.intp], picture: NDArray[np.uint8], pipeline: PosePipeline
) -> FoundPeople:
    boxes = clip_boxes(labels.boxes[people], picture.shape[:2])
    inside = boxes_with_area(boxes)
    boxes, people = boxes[inside], people[inside]
    estimator = pipeline.estimator
    keypoints, scores, covariances = estimator.estimate(*estimator.crop(picture, boxes))
    sure = np.full(len(scores), _TRUE_BOX_SCORE)
    people_scores = estimator.score(sure, scores, covariances, boxes)
    poses = Poses(pipeline.skeleton, keypoints, scores, boxes.astype(np.float32), people_scores)
    return FoundPeople.from_poses(poses, labels.skeleton, truth=people)


def _group(group: Sequence[Mapping[str, Any]], joints: int) -> FoundPeople:
    triples = np.zeros((len(group), joints, 3))
    for row, entry in zip(triples, group, strict=True):
        given = np.array(entry['keypoints'], np.float64).reshape(-1, 3)
        row[: len(given)] = given
    seen = (triples[..., :2] != 0).any(axis=2)
    boxes = boxes_around(triples[..., :2], seen, margin=0.0)
    for index, entry in enumerate(group):
        if 'bbox' in entry:
            x, y, width, height = entry['bbox']
            boxes[index] = x, y, x + width, y + height
    scores = np.array([entry['score'] for entry in group], np.float64)
    return FoundPeople(triples[..., :2], triples[..., 2], boxes, scores)
