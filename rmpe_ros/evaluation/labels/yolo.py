# SPDX-License-Identifier: Apache-2.0
"""A data set of YOLO's pose training (data.yaml, images/, labels/), as the content of a COCO file.

Format: https://docs.ultralytics.com/datasets/pose/. `rmpe predict --yolo` writes it, and CVAT
exports it as "Ultralytics YOLO Pose 1.0".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rmpe_ros.core.person_names import person_numbers
from rmpe_ros.core.skeletons import BODY19, COCO17, MPII16, Skeleton
from rmpe_ros.evaluation.labels import LabelsError, coco_content
from rmpe_ros.io.exports.yolo_labels import PREDICTED
from rmpe_ros.io.image_decoding import ImageError, load_image
from rmpe_ros.io.image_headers import read_upright_size

_SUFFIXES = frozenset('.jpg .jpeg .png .bmp .webp .tif .tiff'.split())
_SKELETONS = {each.num_keypoints: each for each in (COCO17, BODY19, MPII16)}
_SPLITS = ('train', 'val', 'test')
_ROUNDING = 1e-3


def is_yolo(path: Path) -> bool:
    """Whether a path can be a data set of YOLO: its data.yaml, or a folder of labels below one."""
    return path.is_dir() or path.suffix.lower() in ('.yaml', '.yml')


def coco_of_yolo(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The content of a COCO file, and sentences about it.

    path: data.yaml, for the pictures of all its splits, or a folder of labels such as labels/val,
    for those of that one. Names of pictures are relative to the data set's folder, that of
    data.yaml. A picture without a file of labels shows nobody. Raises LabelsError.
    """
    data_set = _DataSet.read(path)
    images: list[dict[str, Any]] = []
    people: list[dict[str, Any]] = []
    for picture in data_set.pictures():
        labels = _labels_of(picture)
        if path.is_dir() and path.resolve() not in labels.parents:
            continue
        name = picture.relative_to(data_set.root).as_posix()
        images.append({'id': len(images) + 1, 'file_name': name, 'source': data_set.root.name})
        lines = labels.read_text(encoding='utf-8').splitlines() if labels.is_file() else []
        size = _size(picture) if lines else (0, 0)
        for number, line in enumerate(lines, start=1):
            person = data_set.person(line, size, f'{labels}, line {number}')
            if person is not None:
                people.append({'id': len(people) + 1, 'image_id': len(images), **person})
    if not images:
        raise LabelsError(
            f'{path}: none of its pictures is there; expected them in {data_set.expected}'
        )
    return coco_content(images, people, data_set.skeleton), data_set.notes


def files_of_yolo(path: Path) -> list[Path]:
    """The files that `coco_of_yolo` reads beside the pictures. Raises LabelsError."""
    data_set = _DataSet.read(path)
    labels = (_labels_of(picture) for picture in data_set.pictures())
    return [data_set.path, *(each for each in labels if each.is_file())]


@dataclass(frozen=True)
class _DataSet:
    """What data.yaml says. people: the numbers of the classes that are people."""

    path: Path
    root: Path
    splits: tuple[str, ...]
    skeleton: Skeleton
    numbers: int  # of a joint: 2, or 3 with its visibility
    people: frozenset[int]
    notes: list[str]

    @staticmethod
    def read(path: Path) -> _DataSet:
        file = _find_yaml(path)
        try:
            text = file.read_text(encoding='utf-8')
            data = yaml.safe_load(text)
        except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
            raise LabelsError(f'{file} cannot be read as YAML: {error}') from error
        if not isinstance(data, dict) or not isinstance(data.get('names'), list | dict):
            raise LabelsError(f'{file} is no data.yaml of YOLO: it has no "names" of classes')
        root = file.parent / str(data.get('path') or '')
        names = data['names']
        classes = dict(enumerate(names)) if isinstance(names, list) else names
        people = person_numbers({number: str(name) for number, name in classes.items()})
        if not people:
            raise LabelsError(
                f'{file} has no class of people: "names" are '
                f'{", ".join(map(str, classes.values()))}; expected person among them'
            )
        skeleton, numbers = _shape(data, file)
        entries = [data.get(split) or () for split in _SPLITS]
        listed = [each if isinstance(each, list) else [each] for each in entries if each]
        predicted = PREDICTED in text
        return _DataSet(
            path=file,
            # The folder that it names may be one of the machine on which it was written.
            root=(root if root.is_dir() else file.parent).resolve(),
            splits=tuple(str(split) for each in listed for split in each),
            skeleton=skeleton,
            numbers=numbers,
            people=frozenset(people),
            notes=[f'{PREDICTED}: labels only once people have gone over them']
            if predicted
            else [],
        )

    @property
    def expected(self) -> str:
        return ', '.join(str(self.root / split) for split in self.splits) or '"train", which lacks'

    def pictures(self) -> list[Path]:
        """All pictures of the splits, each once. Raises LabelsError for one outside of the root."""
        found: dict[Path, None] = {}
        for split in self.splits:
            place = (self.root / split).resolve()
            found |= dict.fromkeys(sorted(_pictures_in(place, self.root)))
        for picture in found:
            if self.root not in picture.parents:
                raise LabelsError(f'{self.path} lists {picture}, which is not in {self.root}')
        return list(found)

    def person(self, line: str, size: tuple[int, int], where: str) -> dict[str, Any] | None:
        """Box and joints in pixels of a line; None for a blank one and for other classes."""
        words = line.split()
        if not words:
            return None
        joints = self.skeleton.num_keypoints
        expected = 5 + self.numbers * joints
        try:
            numbers = [float(word) for word in words]
        except ValueError as error:
            raise LabelsError(f'{where}: expected numbers, {error}') from error
        if int(numbers[0]) not in self.people:
            return None
        if len(numbers) not in (5, expected):
            raise LabelsError(
                f'{where}: {len(numbers)} numbers; expected {expected}: class, box of 4, and '
                f'{self.numbers} for each of {joints} joints'
            )
        triples = _triples(numbers[5:], self.numbers)
        places = [*numbers[1:5], *(v for x, y, _ in triples for v in (x, y))]
        if not all(-_ROUNDING <= each <= 1 + _ROUNDING for each in places):
            raise LabelsError(
                f"{where}: expected shares of the picture's sides, from 0 to 1, not pixels"
            )
        width, height = size
        x, y, wide, high = numbers[1:5]
        box = ((x - wide / 2) * width, (y - high / 2) * height, wide * width, high * height)
        # Shares are counted from the edge, keypoints here are at pixel centres.
        flat = [n for x, y, v in triples for n in _joint(x * width - 0.5, y * height - 0.5, v)]
        return {'category_id': 1, 'bbox': list(box), **({'keypoints': flat} if flat else {})}


def _find_yaml(path: Path) -> Path:
    """The data.yaml of a folder of labels, in it or above it; a file itself."""
    if not path.is_dir():
        return path
    folders = [path.resolve(), *path.resolve().parents][:4]
    found = next((each / 'data.yaml' for each in folders if (each / 'data.yaml').is_file()), None)
    if found is None:
        raise LabelsError(
            f'{path} is a folder; expected a file of labels, or the labels of YOLO with the '
            "data set's data.yaml in the folder above"
        )
    return found


def _shape(data: dict[str, Any], file: Path) -> tuple[Skeleton, int]:
    shape = data.get('kpt_shape')
    count, numbers = shape if isinstance(shape, list) and len(shape) == 2 else (None, None)
    skeleton = _SKELETONS.get(count) if isinstance(count, int) else None
    if skeleton is None or numbers not in (2, 3):
        raise LabelsError(
            f'{file}: "kpt_shape" is {shape}; expected [joints, 2 or 3] with as many joints as '
            + ', '.join(f'{each.name} ({count})' for count, each in _SKELETONS.items())
        )
    return skeleton, numbers


def _pictures_in(place: Path, root: Path) -> Iterator[Path]:
    """Of a folder, a picture, or a list (.txt) of pictures, one a line."""
    if place.is_dir():
        yield from (
            each for each in place.rglob('*') if each.suffix.lower() in _SUFFIXES and each.is_file()
        )
    elif place.suffix == '.txt' and place.is_file():
        for line in place.read_text(encoding='utf-8').splitlines():
            if line.strip():
                yield (root / line.strip()).resolve()
    elif place.is_file():
        yield place


def _labels_of(picture: Path) -> Path:
    """labels/a.txt of images/a.jpg, by the last folder called images; beside it without one."""
    before, folder, after = picture.as_posix().rpartition('/images/')
    return Path(f'{before}/labels/{after}' if folder else picture).with_suffix('.txt')


def _size(picture: Path) -> tuple[int, int]:
    """Width and height as the picture is shown. Raises LabelsError."""
    try:
        size = read_upright_size(picture.read_bytes())
        return size or load_image(picture).shape[1::-1]
    except OSError as error:
        raise LabelsError(f'{picture} cannot be read: {error.strerror}') from error
    except ImageError as error:
        raise LabelsError(f'{error}; its labels are in shares of its sides') from error


def _triples(numbers: list[float], count: int) -> list[tuple[float, float, float]]:
    """x, y, v of each joint; without visibility those at 0, 0 are not labelled."""
    if count == 3:
        return list(zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True))
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    return [(x, y, 2.0 if x > 0 or y > 0 else 0.0) for x, y in pairs]


def _joint(x: float, y: float, v: float) -> tuple[float, float, float]:
    return (x, y, v) if v > 0 else (0.0, 0.0, 0.0)
