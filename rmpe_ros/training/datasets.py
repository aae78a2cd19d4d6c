# SPDX-License-Identifier: Apache-2.0
"""Labelled people for training: COCO-keypoints files, several mixed with weights, teachers told
apart from humans.

Besides COCO's fields it understands `teacher_keypoints` (17 × x, y, probability) and
`teacher_face_ok`, and on images `source` and `all_persons_labelled`. A joint nobody labelled has
weight 0 and carries no loss.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from rmpe_ros.skeletons import BODY19

FACE_JOINTS = slice(0, 5)


@dataclass(frozen=True)
class LabelledPerson:
    """One person in one photo.

    box: (4,) float32 x1, y1, x2, y2 in edge pixels. joints: (K, 2) float32 pixels, (0, 0) the
    centre of the top-left pixel. weights: (K,) float32, 1 for a human label, less for a teacher's,
    0 for none.
    """

    image: Path
    box: np.ndarray
    joints: np.ndarray
    weights: np.ndarray
    source: str


@dataclass(frozen=True)
class LabelledScene:
    """One photo with all its boxes, for a detector.

    boxes: (N, 4) float32 edge pixels. ignore: (M, 4), doubtful people and crowds that are neither
    right nor wrong. complete: whether everyone in the photo is labelled, so that the rest is
    background.
    """

    image: Path
    boxes: np.ndarray
    ignore: np.ndarray
    complete: bool
    source: str


def read_annotations(path: Path) -> dict:
    """A COCO-format file; raises ValueError saying what is missing."""
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f'{path} is no readable COCO annotation file: {error}') from error
    missing = {'images', 'annotations'} - set(data)
    if missing:
        raise ValueError(
            f'{path} lacks {sorted(missing)}: a COCO annotation file has "images" and "annotations"'
        )
    return data


def corner_box(box: Sequence[float]) -> np.ndarray:
    """COCO's x, y, width, height → x1, y1, x2, y2."""
    x, y, width, height = box
    return np.array([x, y, x + width, y + height], np.float32)


def person_joints(
    annotation: Mapping, *, teacher_weight: float, teacher_floor: float = 0.6
) -> tuple[np.ndarray, np.ndarray]:
    """Joints (K, 2) and weights (K,) of one annotation; the teacher fills what no human labelled.

    The teacher's face is taken only where it was seen to sit on the human's head, or where there is
    no human label.
    """
    count = BODY19.num_keypoints
    joints = np.zeros((count, 2), np.float32)
    weights = np.zeros(count, np.float32)
    human = np.asarray(annotation.get('keypoints') or [], np.float32).reshape(-1, 3)[:count]
    labelled = human[:, 2] > 0
    joints[: len(human)][labelled] = human[labelled, :2]
    weights[: len(human)][labelled] = 1.0
    teacher = np.asarray(annotation.get('teacher_keypoints') or [], np.float32).reshape(-1, 3)
    if teacher_weight > 0 and len(teacher):
        usable = (teacher[:, 2] > teacher_floor) & (weights[: len(teacher)] == 0)
        if labelled.any():
            allowed = np.zeros(len(teacher), bool)
            allowed[FACE_JOINTS] = bool(annotation.get('teacher_face_ok', False))
            # COCO leaves joints unlabelled where they cannot be seen: the teacher knows no better
            # there.
            usable &= allowed & ~labelled[FACE_JOINTS].any()
        joints[: len(teacher)][usable] = teacher[usable, :2]
        weights[: len(teacher)][usable] = teacher_weight * teacher[usable, 2]
    return joints, weights


def load_people(
    annotations: Path,
    images: Path,
    *,
    teacher_weight: float = 0.5,
    min_joints: int = 5,
    min_side: float = 24.0,
) -> list[LabelledPerson]:
    """Everyone in a COCO-format file with enough labelled joints to learn from."""
    data = read_annotations(annotations)
    records = {image['id']: image for image in data['images']}
    people = []
    for annotation in data['annotations']:
        box = corner_box(annotation['bbox'])
        if (
            annotation.get('iscrowd')
            or annotation.get('score', 1.0) < 0.5
            or max(box[2:] - box[:2]) < min_side
        ):
            continue
        joints, weights = person_joints(annotation, teacher_weight=teacher_weight)
        if (weights > 0).sum() < min_joints:
            continue
        record = records[annotation['image_id']]
        human = bool((weights >= 1).any())
        source = record.get('source', annotations.stem) + ('' if human else ':teacher')
        people.append(LabelledPerson(images / record['file_name'], box, joints, weights, source))
    return people


def load_scenes(
    annotations: Path, images: Path, *, min_score: float = 0.5, ignore_score: float = 0.25
) -> list[LabelledScene]:
    """Every photo of a COCO-format file with its boxes; a teacher's doubtful people become regions
    to ignore.
    """
    data = read_annotations(annotations)
    boxes: dict[int, list[np.ndarray]] = {image['id']: [] for image in data['images']}
    ignore: dict[int, list[np.ndarray]] = {image['id']: [] for image in data['images']}
    for annotation in data['annotations']:
        score = annotation.get('score', 1.0)
        if score < ignore_score:
            continue
        doubtful = annotation.get('iscrowd') or score < min_score
        (ignore if doubtful else boxes)[annotation['image_id']].append(
            corner_box(annotation['bbox'])
        )
    empty = np.zeros((0, 4), np.float32)
    return [
        LabelledScene(
            images / image['file_name'],
            np.stack(boxes[image['id']]) if boxes[image['id']] else empty,
            np.stack(ignore[image['id']]) if ignore[image['id']] else empty,
            bool(image.get('all_persons_labelled', True)),
            image.get('source', annotations.stem),
        )
        for image in data['images']
    ]


@dataclass
class ImageCache:
    """Decoded photos, kept as uint8 RGB (H, W, 3) once read; safe to share between threads."""

    limit_bytes: int = 8 << 30
    _images: dict[Path, np.ndarray] = field(default_factory=dict)
    _bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, path: Path) -> np.ndarray:
        """The photo. Raises ValueError naming a file that is missing or broken."""
        image = self._images.get(path)
        if image is not None:
            return image
        bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if bgr is None:
            raise ValueError(f'{path} cannot be read as an image')
        image = np.ascontiguousarray(bgr[:, :, ::-1])
        with self._lock:
            if self._bytes + image.nbytes <= self.limit_bytes and path not in self._images:
                self._images[path] = image
                self._bytes += image.nbytes
        return image


def mixing_probabilities(sources: Sequence[str], weights: Mapping[str, float]) -> np.ndarray:
    """Probability of drawing each example, (N,) float64 summing to 1.

    weights: share of the draws for each source; sources it does not name share weights['*']
    (default 0) by size.
    """
    counts: dict[str, int] = {}
    for source in sources:
        counts[source] = counts.get(source, 0) + 1
    rest = sum(count for source, count in counts.items() if source not in weights)
    share = np.array(
        [
            weights[s] / counts[s] if s in weights else weights.get('*', 0.0) / max(rest, 1)
            for s in sources
        ],
        np.float64,
    )
    if share.sum() <= 0:
        raise ValueError(
            f'no example is ever drawn: sources are {sorted(counts)}, '
            f'weights name {sorted(weights)}'
        )
    return share / share.sum()
