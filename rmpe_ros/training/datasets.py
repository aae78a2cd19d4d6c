# SPDX-License-Identifier: Apache-2.0
"""Labelled people for training: COCO, MPII and LSP files, mixed with weights, teachers told apart
from humans.

All become body19; a joint that a source does not label has weight 0 and carries no loss.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from rmpe_ros.core.skeletons import BODY19, COCO17, MPII16, conversion
from rmpe_ros.evaluation.coco_file import AROUND_JOINTS, CocoFile, CocoPerson
from rmpe_ros.evaluation.labels import Labels
from rmpe_ros.evaluation.labels.label_files import read_label_file
from rmpe_ros.io.image_decoding import ImageError, load_image

Format = Literal['auto', 'coco', 'mpii', 'lsp']
FORMATS: tuple[str, ...] = get_args(Format)
# Of LSP's 2000 pictures the second half is the official test set.
_TEST_SOURCES = frozenset({'lsp_test'})
FACE_JOINTS = slice(0, 5)
_NAMES = {'lsp_train': 'lsp'}
# Scores of models from which on a person is one, or at least not background; and of a teacher's
# joint from which on it is learnt.
_SURE, _DOUBTFUL = 0.5, 0.25
_TEACHER_SURE = 0.6
_LOG = logging.getLogger(__name__)


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


def read_any(path: Path, file_format: Format = 'auto') -> CocoFile | Labels:
    """A COCO file, or the labels of an MPII or LSP file, told apart by what is in it; logs what of
    it was left out.

    Raises ValueError when it is none of them, or not of the format named.
    """
    if file_format not in FORMATS:
        raise ValueError(f'no label format {file_format!r}: there are {", ".join(FORMATS)}')
    content = read_label_file(path)
    layout = content.layout if isinstance(content, Labels) else 'coco'
    if file_format not in ('auto', layout):
        raise ValueError(
            f'{path} holds {layout.upper()} labels, not {file_format.upper()}: '
            f'say format: {layout}, or nothing'
        )
    for note in content.notes:
        _LOG.warning('%s: %s', path, note)
    return content


def load_people(
    annotations: Path,
    images: Path,
    *,
    file_format: Format = 'auto',
    source: str | None = None,
    teacher_weight: float = 0.5,
) -> list[LabelledPerson]:
    """Everyone in a file with enough labelled joints to learn from.

    source: one name for all of them, for the mixture; None for each image's own (COCO), with
    ':teacher' behind it where only a teacher labelled, or the data set's.
    Of the full LSP the official test half is left out.
    Raises ValueError when the file cannot be read or photos are missing, saying what to do.
    """
    content = read_any(annotations, file_format)
    if isinstance(content, Labels):
        people = people_of_labels(content, images, source)
    else:
        people = _people_of_coco(content, images, source, teacher_weight)
    people = [
        person
        for person in people
        if max(person.box[2:] - person.box[:2]) >= 24 and (person.weights > 0).sum() >= 5
    ]
    check_photos((person.image for person in people), images)
    return people


def load_scenes(
    annotations: Path, images: Path, *, file_format: Format = 'auto', source: str | None = None
) -> list[LabelledScene]:
    """Every photo of a file with its boxes; a teacher's doubtful people become regions to ignore.

    MPII and LSP have no boxes: these are drawn around the joints, and since others may be about,
    the rest of their photos is no background.
    """
    content = read_any(annotations, file_format)
    if isinstance(content, Labels):
        scenes = _scenes_of_labels(content, images, source)
    else:
        scenes = _scenes_of_coco(content, images, source)
    check_photos((scene.image for scene in scenes), images)
    return scenes


def people_of_labels(
    labels: Labels, images: Path, source: str | None = None
) -> list[LabelledPerson]:
    """The labelled people of an MPII or LSP file. Joints that are labelled but hidden count as any
    other.
    """
    joints, labelled = body19_labels(labels)
    photos = {image.id: image for image in labels.images}
    people = []
    for index in np.flatnonzero(labels.counted):
        photo = photos[int(labels.image_ids[index])]
        if photo.source not in _TEST_SOURCES:
            people.append(
                LabelledPerson(
                    images / photo.file,
                    labels.boxes[index].astype(np.float32),
                    joints[index].astype(np.float32),
                    labelled[index].astype(np.float32),
                    source or _NAMES.get(photo.source, photo.source),
                )
            )
    return people


def body19_labels(labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    """Joints (N, 19, 2) and which are labelled (N, 19), whatever skeleton the labels have.

    MPII's neck is the middle of its thorax and upper neck. COCO has neither neck nor head top: the
    middle of the shoulders is no label of a neck.
    """
    joints, labelled = conversion(labels.skeleton, BODY19)(
        labels.keypoints, labels.labelled.astype(np.float32)
    )
    if labels.skeleton == COCO17:
        labelled[:, [BODY19.index('neck'), BODY19.index('head_top')]] = 0
    joints[labelled == 0] = 0
    return joints, labelled > 0


def _people_of_coco(
    file: CocoFile, images: Path, source: str | None, teacher_weight: float
) -> list[LabelledPerson]:
    check_joints(file, file.people)
    photos = {image.id: image for image in file.images}
    people = []
    for person in file.people:
        if person.crowd or _score(person) < _SURE:
            continue
        joints, weights = person_joints(person, teacher_weight=teacher_weight)
        photo = photos[person.image]
        teacher = '' if (weights >= 1).any() else ':teacher'
        name = source or (photo.source or file.path.stem) + teacher
        box = np.array(person.box, np.float32)
        people.append(LabelledPerson(images / photo.file, box, joints, weights, name))
    return people


def _score(person: CocoPerson) -> float:
    """How sure a model is that somebody is there; 1 for whom people labelled."""
    return 1.0 if person.score is None else person.score


def _scenes_of_labels(labels: Labels, images: Path, source: str | None) -> list[LabelledScene]:
    nobody = np.zeros((0, 4), np.float32)
    return [
        LabelledScene(
            images / image.file,
            labels.boxes[people].astype(np.float32),
            nobody,
            image.complete and image.drawn_boxes,
            source or _NAMES.get(image.source, image.source),
        )
        for image, people in zip(labels.images, labels.people_of().values(), strict=True)
        if image.source not in _TEST_SOURCES
    ]


def _scenes_of_coco(file: CocoFile, images: Path, source: str | None) -> list[LabelledScene]:
    boxes: dict[int, list[tuple[float, ...]]] = {image.id: [] for image in file.images}
    ignore: dict[int, list[tuple[float, ...]]] = {image.id: [] for image in file.images}
    guessed = {person.image for person in file.people if person.box_from == AROUND_JOINTS}
    for person in file.people:
        score = _score(person)
        if score >= _DOUBTFUL:
            doubtful = person.crowd or score < _SURE
            (ignore if doubtful else boxes)[person.image].append(person.box)
    return [
        LabelledScene(
            images / image.file,
            np.array(boxes[image.id], np.float32).reshape(-1, 4),
            np.array(ignore[image.id], np.float32).reshape(-1, 4),
            image.complete and image.id not in guessed,
            source or image.source or file.path.stem,
        )
        for image in file.images
    ]


def check_photos(photos: Iterable[Path], folder: Path) -> None:
    """Raises ValueError saying how many photos are missing, and the first."""
    wanted = set(photos)
    missing = sorted(photo for photo in wanted if not os.path.isfile(photo))
    if missing:
        raise ValueError(
            f'{len(missing)} of {len(wanted)} labelled photos are not in {folder}, the first is '
            f'{missing[0]}; `images` must be the folder that the file names are relative to'
        )


def read_photo(path: Path) -> np.ndarray:
    """A photo as uint8 RGB (H, W, 3).

    Raises ValueError naming one that is missing, damaged or of more than 50 megapixels: half a
    picture must not be learnt for a whole one.
    """
    try:
        return load_image(path)
    except ImageError as error:
        raise ValueError(f'{error}; repair the photo or take it out of the labels') from error


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
        image = read_photo(path)
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
    counts = Counter(sources)
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


def evenly(count: int, most: int) -> np.ndarray:
    """At most `most` indices of `count` things, spread over all of them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def draw_index(cumulative: np.ndarray, rng: np.random.Generator) -> int:
    """The number of the next example. cumulative: sums of `mixing_probabilities`."""
    return min(int(np.searchsorted(cumulative, rng.random())), len(cumulative) - 1)


def person_joints(person: CocoPerson, *, teacher_weight: float) -> tuple[np.ndarray, np.ndarray]:
    """Joints (K, 2) and weights (K,) of a person; the teacher fills what no human labelled.

    The teacher's face is taken only where it was seen to sit on the human's head, or where there is
    no human label.
    """
    count = BODY19.num_keypoints
    joints = np.zeros((count, 2), np.float32)
    weights = np.zeros(count, np.float32)
    human = _float32(person.joints)
    labelled = human[:, 2] > 0
    joints[: len(human)][labelled] = human[labelled, :2]
    weights[: len(human)][labelled] = 1.0
    teacher = _float32(person.teacher)
    if teacher_weight > 0 and len(teacher):
        usable = (teacher[:, 2] > _TEACHER_SURE) & (weights[: len(teacher)] == 0)
        if labelled.any():
            allowed = np.zeros(len(teacher), bool)
            allowed[FACE_JOINTS] = person.teacher_face_ok
            # COCO leaves joints unlabelled where they cannot be seen: the teacher knows no better
            # there.
            usable &= allowed & ~labelled[FACE_JOINTS].any()
        joints[: len(teacher)][usable] = teacher[usable, :2]
        weights[: len(teacher)][usable] = teacher_weight * teacher[usable, 2]
    return joints, weights


def check_joints(file: CocoFile, people: Sequence[CocoPerson]) -> None:
    """Raises ValueError when people's joints are neither COCO's nor body19's."""
    if file.skeleton_of(people) == MPII16:
        raise ValueError(
            f'{file.path} has people of 48 numbers in "keypoints"; expected three for each of '
            '17 (coco17) or 19 (body19) joints'
        )


def _float32(triples: np.ndarray | None) -> np.ndarray:
    return np.zeros((0, 3), np.float32) if triples is None else triples.astype(np.float32)
