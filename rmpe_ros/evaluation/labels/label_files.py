# SPDX-License-Identifier: Apache-2.0
"""Files of labels, COCO, MPII or LSP, read into one form and told apart by what is in them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rmpe_ros.core.skeletons import BODY19, COCO17, MPII16, Skeleton
from rmpe_ros.evaluation.labels import LabelledImage, Labels, LabelsError
from rmpe_ros.evaluation.labels.lsp import labels_from_joints
from rmpe_ros.evaluation.labels.mpii import labels_from_people, labels_from_release, read_release

_LAYOUTS = (
    'expected COCO annotations (.json with "images" and "annotations"), MPII (.json or the '
    'release .mat) or LSP (joints.mat)'
)


def read_labels(path: Path) -> Labels:
    """Labels of a COCO, MPII or LSP file, told apart by what is in it.

    Raises LabelsError (a ValueError) naming the file, what is wrong with it and what was expected.
    """
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
