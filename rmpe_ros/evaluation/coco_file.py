# SPDX-License-Identifier: Apache-2.0
"""The one reader of COCO annotation files: every field checked, oddities understood or refused.

Beyond COCO's fields, pictures may have `source` and `all_persons_labelled`, people `bbox_from`
(other than 'source' where nobody drew the box), `score` (a model saw them), and a teacher's
`teacher_keypoints` (17 × x, y, probability) and `teacher_face_ok`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.person_names import PERSON_NAMES, is_person
from rmpe_ros.core.skeletons import BODY19, COCO17, MPII16, Skeleton
from rmpe_ros.evaluation.labels import LabelsError, boxes_around
from rmpe_ros.evaluation.records import Record, are_places, shown

AROUND_JOINTS = 'joints'
_SKELETONS = {3 * s.num_keypoints: s for s in (COCO17, BODY19, MPII16)}
_BOX = 'the four numbers x, y, width, height'
_JOINTS = 'x, y, v of every joint: 51 numbers (COCO), 57 (body19) or 48 (MPII)'
_MOST_NAMED = 5


@dataclass(frozen=True)
class CocoImage:
    """A picture. source: None where the file does not say. complete: everybody in it is labelled,
    with a box.
    """

    id: int
    file: str
    source: str | None
    complete: bool


@dataclass(frozen=True, eq=False)
class CocoPerson:
    """A person.

    where: the place in the file. box: x1, y1, x2, y2 edge pixels. box_from: 'source' where somebody
    drew it, AROUND_JOINTS where this reader did. area: px², None where the file has none that can
    be used. joints: (K, 3) x, y, v with K of 17, 19 or 16, None without any. score: None where
    people labelled. teacher: (K, 3) x, y, probability.
    """

    where: str
    image: int
    box: tuple[float, float, float, float]
    box_from: str
    area: float | None
    crowd: bool
    joints: NDArray[np.float64] | None
    score: float | None
    teacher: NDArray[np.float64] | None
    teacher_face_ok: bool


@dataclass(frozen=True, eq=False)
class CocoFile:
    """People and pictures of a file. joint_names: those that its categories of people name.
    notes: sentences about what was left out, and what was made of oddities.
    """

    path: Path
    images: tuple[CocoImage, ...]
    people: tuple[CocoPerson, ...]
    joint_names: frozenset[tuple[str, ...]]
    notes: tuple[str, ...]

    def skeleton_of(self, people: Iterable[CocoPerson]) -> Skeleton:
        """The skeleton that these people's joints fit into; COCO's where nobody has joints.

        Raises LabelsError where there is none, or where the file names its joints otherwise.
        """
        first: dict[int, CocoPerson] = {}
        for person in people:
            if person.joints is not None:
                first.setdefault(3 * len(person.joints), person)
        if not first:
            return COCO17
        if 48 in first and len(first) > 1:
            raise LabelsError(
                f'{first[48].where}: "keypoints" has 48 numbers, those of others have '
                f'{max(first)}; expected as many for all'
            )
        skeleton = _SKELETONS[max(first)]
        for names in self.joint_names - {skeleton.keypoints}:
            raise LabelsError(
                f'{self.path} says that its joints are {", ".join(names)}; expected those of '
                f'{skeleton.name} in their order: {", ".join(skeleton.keypoints)}'
            )
        return skeleton


def read_coco(data: Any, path: Path) -> CocoFile:
    """People and pictures of the content of a COCO annotation file; `path` for messages.

    A joint or box with a number that is not finite counts as not labelled; a box that is missing
    is drawn around the joints. People are those of the categories called person, pedestrian and
    the like. Raises LabelsError naming file, picture and field of what cannot be understood.
    """
    file, images = Record.of(data, str(path)), read_images(data, path)
    categories = _Categories(file, path)
    people, told = [], _Told()
    for number, value in enumerate(file.list_of('annotations')):
        record = Record.of(value, f'{path}: annotations[{number}]')
        if not categories.is_person(record):
            continue
        identity = record.identity('image_id')
        if identity not in images:
            raise LabelsError(
                f'{record.where} is in an image that the file does not list: {identity}'
            )
        where = f'{record.where} (image {identity}, {images[identity].file})'
        person = _person(replace(record, where=where), identity, told)
        if person is None:
            # Somebody is there: whoever is found in this picture may be that person.
            images[identity] = replace(images[identity], complete=False)
        else:
            people.append(person)
    return CocoFile(
        path,
        tuple(images.values()),
        tuple(people),
        categories.joint_names,
        (*categories.notes(), *told.notes()),
    )


def read_images(data: Any, path: Path) -> dict[int, CocoImage]:
    """Pictures by id of the content of a COCO file, which may have no annotations."""
    images: dict[int, CocoImage] = {}
    for number, value in enumerate(Record.of(data, str(path)).list_of('images')):
        record = Record.of(value, f'{path}: images[{number}]')
        identity = record.identity('id')
        if identity in images:
            raise record.refusal('id', 'another number for each picture')
        images[identity] = CocoImage(
            identity,
            record.text('file_name'),
            None if record.values.get('source') is None else str(record.values['source']),
            record.flag('all_persons_labelled', True),
        )
    return images


@dataclass
class _Told:
    """How often each oddity was met."""

    no_place: int = 0
    box_around_joints: int = 0
    broken_joints: int = 0

    def notes(self) -> list[str]:
        counts = {
            'people without a box and joints, left out; their pictures count as not labelled in '
            'full': self.no_place,
            'people without a box, who get one around their joints': self.box_around_joints,
            'joints without a finite place, taken as not labelled': self.broken_joints,
        }
        return [f'{what}: {count}' for what, count in counts.items() if count]


def _person(record: Record, image: int, told: _Told) -> CocoPerson | None:
    """None for somebody without a place."""
    joints = _triples(record, 'keypoints', tuple(_SKELETONS), _JOINTS)
    if joints is not None:
        broken = ~are_places(joints).all(axis=1)
        told.broken_joints += int((broken & (joints[:, 2] != 0)).sum())
        joints[broken] = 0
    box, box_from = _box(record), record.text('bbox_from', 'source')
    if box is None and joints is not None and (joints[:, 2] > 0).sum() >= 2:
        around = boxes_around(joints[None, :, :2], joints[None, :, 2] > 0)[0]
        if (around[2:] > around[:2]).all():
            x1, y1, x2, y2 = around.tolist()
            box, box_from = (x1, y1, x2, y2), AROUND_JOINTS
            told.box_around_joints += 1
    teacher = _triples(
        record, 'teacher_keypoints', (51, 57), 'x, y, probability of 17 or 19 joints'
    )
    if teacher is not None:
        teacher[~are_places(teacher).all(axis=1)] = 0
    area = record.number('area')
    person = CocoPerson(
        record.where,
        image,
        box or (0.0, 0.0, 0.0, 0.0),
        box_from,
        area if area is not None and np.isfinite(area) and area > 0 else None,
        record.flag('iscrowd', False),
        joints,
        None if record.values.get('score') is None else record.finite('score'),
        teacher,
        record.flag('teacher_face_ok', False),
    )
    told.no_place += box is None
    return None if box is None else person


def _box(record: Record) -> tuple[float, float, float, float] | None:
    """None for a box that is missing, not finite, beyond a million pixels or without extent."""
    box = record.numbers('bbox', _BOX)
    if box is None:
        return None
    if len(box) != 4:
        raise record.refusal('bbox', _BOX)
    x, y, width, height = box.tolist()
    if not are_places(box).all() or width <= 0 or height <= 0:
        return None
    return x, y, x + width, y + height


def _triples(
    record: Record, name: str, lengths: tuple[int, ...], expected: str
) -> NDArray[np.float64] | None:
    numbers = record.numbers(name, expected)
    if numbers is None:
        return None
    if len(numbers) not in lengths:
        raise LabelsError(
            f'{record.where}: "{name}" has {len(numbers)} numbers; expected {expected}'
        )
    return numbers.reshape(-1, 3)


class _Categories:
    """Which categories are people's, and what else was met."""

    def __init__(self, file: Record, path: Path) -> None:
        self._names: dict[int, str] = {}
        self._others: Counter[str] = Counter()
        self._unnamed: int | None = None
        joints: dict[int, tuple[str, ...]] = {}
        listed = file.values.get('categories')
        for number, value in enumerate([] if listed is None else file.list_of('categories')):
            record = Record.of(value, f'{path}: categories[{number}]')
            identity = record.identity('id')
            self._names[identity] = record.text('name', 'unnamed')
            if record.values.get('keypoints') is not None:
                joints[identity] = tuple(map(str, record.list_of('keypoints')))
        self._people = {identity for identity, name in self._names.items() if is_person(name)}
        if not self._people:
            known = {skeleton.keypoints for skeleton in _SKELETONS.values()}
            self._people = {identity for identity, names in joints.items() if names in known}
        self.joint_names = frozenset(joints.get(identity, ()) for identity in self._people) - {()}
        if self._names and not self._people:
            raise LabelsError(
                f'{path} has no category of people: they are called '
                f'{_listed(self._names.values())}; expected one called '
                f'{", ".join(sorted(PERSON_NAMES))}'
            )

    def is_person(self, record: Record) -> bool:
        """Whether an annotation is of a person; counts the others."""
        only = len(self._names) == len(self._people)  # nothing else, or no categories at all
        if record.values.get('category_id') is None and only:
            return True
        identity = record.identity('category_id')
        if not self._names:
            if self._unnamed not in (None, identity):
                raise record.refusal(
                    'category_id',
                    f'{self._unnamed} as before, or "categories" that say which are people',
                )
            self._unnamed = identity
            return True
        if identity not in self._people:
            self._others[self._names.get(identity, f'category {identity}')] += 1
            return False
        return True

    def notes(self) -> list[str]:
        if not self._others:
            return []
        people = _listed([self._names[identity] for identity in sorted(self._people)])
        others = [f'{name} {count}' for name, count in self._others.most_common()]
        return [
            f'annotations of other things than {people}, left out: {self._others.total()} '
            f'({_listed(others)})'
        ]


def _listed(names: Iterable[str]) -> str:
    names = [name if len(name) <= 40 else shown(name) for name in names]
    more = len(names) - _MOST_NAMED
    return ', '.join(names[:_MOST_NAMED]) + (f' and {more} more' if more > 0 else '')
