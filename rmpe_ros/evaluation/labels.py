# SPDX-License-Identifier: Apache-2.0
"""Labelled pictures in one form, whether they came as COCO, MPII or LSP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.skeletons import BODY19, COCO17, MPII16, Skeleton

Layout = Literal['coco', 'mpii', 'lsp']
_LAYOUTS = (
    'expected COCO annotations (.json with "images" and "annotations"), MPII (.json or the '
    'release .mat) or LSP (joints.mat)'
)


class LabelsError(ValueError):
    """A file does not hold labels that can be read, or pictures are missing; says what to do."""


@dataclass(frozen=True)
class LabelledImage:
    """One picture.

    file: relative to the folder of pictures. source: where it is from, for breakdowns.
    complete: all people in it are labelled, so that whatever else is found there is wrong.
    drawn_boxes: its boxes were drawn by a person, not derived from joints: fit for a detector.
    """

    id: int
    file: str
    source: str
    complete: bool = True
    drawn_boxes: bool = True


@dataclass(frozen=True, eq=False)
class Labels:
    """N labelled people in some pictures.

    image_ids: (N,) int64, the picture each is in. boxes: (N, 4) x1, y1, x2, y2 edge pixels.
    keypoints: (N, K, 2) pixels, (0, 0) the centre of the top-left pixel. labelled: (N, K).
    areas: (N,) px², the scale of OKS. crowd: (N,) groups that are not told apart.
    head_sizes: (N,) px, MPII's 0.6 times the diagonal of the head's box; NaN without one.
    """

    layout: Layout
    skeleton: Skeleton
    images: tuple[LabelledImage, ...]
    image_ids: NDArray[np.int64]
    boxes: NDArray[np.float64]
    keypoints: NDArray[np.float64]
    labelled: NDArray[np.bool_]
    areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    head_sizes: NDArray[np.float64]

    @property
    def counted(self) -> NDArray[np.bool_]:
        """(N,) people that a pose can be compared with: no crowd, one labelled joint or more."""
        return np.asarray(self.labelled.any(axis=1) & ~self.crowd)

    @property
    def sources(self) -> NDArray[np.str_]:
        """(N,) the source of each person's picture."""
        source = {image.id: image.source for image in self.images}
        return np.array([source[i] for i in self.image_ids.tolist()], dtype=str)

    def people_of(self) -> dict[int, NDArray[np.intp]]:
        """Picture id → indices of its people (none for an empty picture)."""
        order = np.argsort(self.image_ids, kind='stable')
        ids, starts = np.unique(self.image_ids[order], return_index=True)
        groups = np.split(order, starts[1:])
        found = dict(zip(ids.tolist(), groups, strict=False))
        nobody = np.zeros(0, np.intp)
        return {image.id: found.get(image.id, nobody) for image in self.images}

    def select(self, wanted: Callable[[LabelledImage], bool]) -> Labels:
        """Only the pictures for which `wanted` is true, and their people."""
        images = tuple(image for image in self.images if wanted(image))
        inside = np.isin(self.image_ids, [image.id for image in images])
        arrays = (
            'image_ids', 'boxes', 'keypoints', 'labelled', 'areas', 'crowd', 'head_sizes'
        )  # fmt: skip
        return replace(
            self, images=images, **{name: getattr(self, name)[inside] for name in arrays}
        )

    def to_coco(self) -> dict[str, Any]:
        """COCO annotations with this skeleton's joints, for `coco.coco_api`."""
        people = []
        for index in range(len(self.image_ids)):
            x1, y1, x2, y2 = self.boxes[index].tolist()
            joints = np.concatenate(
                [self.keypoints[index], 2.0 * self.labelled[index][:, None]], axis=1
            )
            people.append(
                {
                    'id': index + 1,
                    'image_id': int(self.image_ids[index]),
                    'bbox': [x1, y1, x2 - x1, y2 - y1],
                    'area': float(self.areas[index]),
                    'iscrowd': int(self.crowd[index]),
                    'keypoints': joints.ravel().tolist(),
                }
            )
        images = [{'id': image.id, 'file_name': image.file} for image in self.images]
        return {'images': images, 'annotations': people}


def read_labels(path: Path) -> Labels:
    """Labels of a COCO, MPII or LSP file, told apart by what is in it.

    Raises LabelsError (a ValueError) naming the file, what is wrong with it and what was expected.
    """
    from rmpe_ros.evaluation.lsp import labels_from_joints
    from rmpe_ros.evaluation.mpii import labels_from_people, labels_from_release, read_release

    if path.suffix.lower() == '.mat':
        content = read_mat(path)
        if 'joints' in content:
            return labels_from_joints(content['joints'], path)
        if 'RELEASE' in content:
            return labels_from_release(read_release(content['RELEASE']), path)
        names = sorted(name for name in content if not name.startswith('__'))
        raise LabelsError(f'{path} holds {names or "nothing"}; {_LAYOUTS}')
    data = read_json(path)
    if isinstance(data, dict) and {'images', 'annotations'} <= set(data):
        return labels_from_coco(data, path)
    if isinstance(data, dict) and 'annolist' in data:
        return labels_from_release(data['annolist'], path)
    if isinstance(data, list) and data and isinstance(data[0], dict) and 'joints' in data[0]:
        return labels_from_people(data, path)
    if isinstance(data, list) and data and isinstance(data[0], dict) and 'image_id' in data[0]:
        raise LabelsError(f'{path} holds results, not labels: give it with --results; {_LAYOUTS}')
    raise LabelsError(f'{path} is not a labels file; {_LAYOUTS}')


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises LabelsError when it is not there or is none."""
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise LabelsError(f'{path} cannot be read: {error.strerror}') from error
    except ValueError as error:
        raise LabelsError(f'{path} is not JSON: {error}') from error


def read_mat(path: Path) -> dict[str, Any]:
    """The variables of a MATLAB file. Raises LabelsError when it is not there or is none."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise LabelsError(
            f'{path}: .mat files need SciPy: pip install "rmpe_ros[evaluate]"'
        ) from error
    try:
        return dict(loadmat(str(path), squeeze_me=True, struct_as_record=False))
    except OSError as error:
        raise LabelsError(f'{path} cannot be read: {error.strerror or error}') from error
    except Exception as error:  # SciPy raises whatever the broken bytes lead to
        raise LabelsError(f'{path} is not a MATLAB file that can be read: {error}') from error


def labels_from_coco(data: Mapping[str, Any], path: Path) -> Labels:
    """Labels of COCO annotations with COCO's 17 joints, body19's or MPII's 16, or boxes alone.

    Beyond COCO, pictures may have `source` and `all_persons_labelled`, people `bbox_from` (other
    than 'source' where nobody drew the box). People that only a model labelled (those with a
    `score`) are no truth and are left out.
    """
    try:
        persons = _person_categories(data)
        people = [
            a
            for a in data['annotations']
            if 'score' not in a and (not persons or a.get('category_id', 1) in persons)
        ]
        skeleton = _coco_skeleton(data, people)
        count = skeleton.num_keypoints
        joints = np.array(
            [a.get('keypoints') or [0] * 3 * count for a in people], np.float64
        ).reshape(len(people), count, 3)
        extents = np.array([a['bbox'] for a in people], np.float64).reshape(-1, 4)
        image_ids = np.array([a['image_id'] for a in people], np.int64)
        derived = {a['image_id'] for a in people if a.get('bbox_from', 'source') != 'source'}
        images = tuple(
            LabelledImage(
                image['id'],
                image['file_name'],
                str(image.get('source', 'all')),
                bool(image.get('all_persons_labelled', True)),
                image['id'] not in derived,
            )
            for image in data['images']
        )
        areas = [a.get('area', a['bbox'][2] * a['bbox'][3]) for a in people]
    except (KeyError, TypeError, AttributeError) as error:
        raise LabelsError(
            f'{path} is no COCO annotation file: {type(error).__name__} {error}; images need id '
            'and file_name, annotations image_id and bbox'
        ) from error
    except ValueError as error:
        raise LabelsError(f'{path}: {error}') from error
    unknown = set(image_ids.tolist()) - {image.id for image in images}
    if unknown:
        raise LabelsError(f'{path} labels people in images that it does not list: {min(unknown)}')
    return Labels(
        'coco',
        skeleton,
        images,
        image_ids,
        np.concatenate([extents[:, :2], extents[:, :2] + extents[:, 2:]], axis=1),
        joints[..., :2],
        joints[..., 2] > 0,
        np.array(areas, np.float64),
        np.array([bool(a.get('iscrowd', 0)) for a in people], bool),
        np.full(len(people), np.nan),
    )


def _person_categories(data: Mapping[str, Any]) -> set[int]:
    """Ids of the category "person", for files with other things, too; empty without any."""
    return {c['id'] for c in data.get('categories', ()) if c.get('name') == 'person'}


def _coco_skeleton(data: Mapping[str, Any], people: Iterable[Mapping[str, Any]]) -> Skeleton:
    lengths = {len(a['keypoints']) for a in people if a.get('keypoints')}
    known = {3 * skeleton.num_keypoints: skeleton for skeleton in (COCO17, BODY19, MPII16)}
    if not lengths:
        return COCO17
    if len(lengths) > 1 or not lengths <= set(known):
        raise ValueError(
            f'people have {sorted(lengths)} numbers in "keypoints"; expected 51 (COCO), 57 '
            '(body19) or 48 (MPII) for all'
        )
    skeleton = known[lengths.pop()]
    for category in data.get('categories', ()):
        names = tuple(category.get('keypoints', ()))
        if category.get('name') == 'person' and names and names != skeleton.keypoints:
            raise ValueError(
                f'its joints are {", ".join(names)}; expected {", ".join(skeleton.keypoints)}'
            )
    return skeleton


def boxes_around(
    keypoints: NDArray[np.float64], labelled: NDArray[np.bool_], margin: float = 0.1
) -> NDArray[np.float64]:
    """(N, 4) boxes of labelled joints, widened on each side by `margin` of the longer side.

    Joints lie inside the body's outline, so their extent alone is too tight for a person's box.
    People without labelled joints get a box without extent.
    """
    masked = np.where(labelled[..., None], keypoints, np.nan)
    boxes = np.zeros((len(keypoints), 4))
    some = labelled.any(axis=1)
    low, high = np.nanmin(masked[some], axis=1), np.nanmax(masked[some], axis=1)
    reach = margin * (high - low).max(axis=1, initial=0)[:, None]
    # Joints are in pixel centres, boxes in edge coordinates: half a pixel further.
    boxes[some] = np.concatenate([low - reach, high + reach], axis=1) + 0.5
    return boxes


def find_images(labels: Labels, folder: Path) -> dict[int, Path]:
    """The file of each picture. Raises LabelsError saying how many are missing, and the first."""
    if not folder.is_dir():
        raise LabelsError(f'{folder} is not a folder; --images is the folder of the pictures')
    paths = {image.id: folder / image.file for image in labels.images}
    missing = [path for path in paths.values() if not path.is_file()]
    if missing:
        raise LabelsError(
            f'{len(missing)} of {len(paths)} labelled pictures are not in {folder}, the first is '
            f'{missing[0]}; give the folder that the file names are relative to'
        )
    return paths
