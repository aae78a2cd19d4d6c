# SPDX-License-Identifier: Apache-2.0
"""Labels of COCO, MPII, LSP, Label Studio, CVAT and YOLO in one form, told apart by content."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rmpe_ros.core.json_text import parse_json
from rmpe_ros.core.odd_paths import path_hint
from rmpe_ros.core.oks import AREA_OF_BOX
from rmpe_ros.evaluation.coco_file import CocoFile, read_coco
from rmpe_ros.evaluation.labels import LabelledImage, Labels, LabelsError
from rmpe_ros.evaluation.labels.cvat import coco_of_cvat
from rmpe_ros.evaluation.labels.label_studio import coco_of_tasks, is_label_studio
from rmpe_ros.evaluation.labels.lsp import labels_from_joints
from rmpe_ros.evaluation.labels.mpii import labels_from_people, labels_from_release, read_release
from rmpe_ros.evaluation.labels.yolo import coco_of_yolo, files_of_yolo, is_yolo
from rmpe_ros.io.extras import how_to_install

_LAYOUTS = (
    'expected COCO annotations (.json with "images" and "annotations"), MPII (.json or the '
    'release .mat), LSP (joints.mat), the data.yaml of YOLO pose labels, or an export of Label '
    'Studio (JSON) or CVAT (images 1.1, .xml)'
)


def read_labels(path: Path) -> Labels:
    """Labels of a COCO, MPII, LSP, Label Studio, CVAT or YOLO file, told apart by what is in it.

    Raises LabelsError (a ValueError) naming the file, what is wrong with it and what was expected.
    """
    content = read_label_file(path)
    return content if isinstance(content, Labels) else labels_from_coco(content)


def read_label_file(path: Path) -> CocoFile | Labels:
    """A COCO file as it is, for training, or the labels of an MPII or LSP file; raises LabelsError
    as `read_labels` does.
    """
    if path.suffix.lower() == '.mat':
        content = read_mat(path)
        if 'joints' in content:
            return labels_from_joints(content['joints'], path)
        if 'RELEASE' in content:
            return labels_from_release(read_release(content['RELEASE'], path), path)
        names = sorted(name for name in content if not name.startswith('__'))
        raise LabelsError(f'{path} holds {names or "nothing"}; {_LAYOUTS}')
    if path.suffix.lower() == '.xml' and path.is_file():
        return read_coco(coco_of_cvat(path), path)
    if is_yolo(path):
        content, notes = coco_of_yolo(path)
        file = read_coco(content, path)
        return replace(file, notes=(*notes, *file.notes))
    data = read_json(path)
    if isinstance(data, dict) and {'images', 'annotations'} <= set(data):
        return read_coco(data, path)
    if isinstance(data, dict) and 'annolist' in data:
        return labels_from_release(data['annolist'], path)
    if isinstance(data, list) and data and isinstance(data[0], dict) and 'joints' in data[0]:
        return labels_from_people(data, path)
    if is_label_studio(data):
        return read_coco(coco_of_tasks(data, path), path)
    if isinstance(data, list) and data and isinstance(data[0], dict) and 'image_id' in data[0]:
        raise LabelsError(f'{path} holds results, not labels: give it with --results; {_LAYOUTS}')
    raise LabelsError(f'{path} is not a labels file; {_LAYOUTS}')


def label_files(path: Path) -> list[Path]:
    """All files that `read_labels` reads of these labels. Raises LabelsError."""
    return files_of_yolo(path) if is_yolo(path) else [path]


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises LabelsError when it is not there or is none."""
    try:
        return parse_json(path.read_bytes())
    except OSError as error:
        reason = f'{error.strerror}{_hint(path)}'
        raise LabelsError(f'{path} cannot be read: {reason}') from error
    except ValueError as error:
        raise LabelsError(f'{path} is not JSON: {error}') from error


def read_mat(path: Path) -> dict[str, Any]:
    """The variables of a MATLAB file. Raises LabelsError when it is not there or is none."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise LabelsError(f'{path}: .mat files need SciPy: {how_to_install("evaluate")}') from error
    try:
        return dict(loadmat(str(path), squeeze_me=True, struct_as_record=False))
    except OSError as error:
        reason = f'{error.strerror or error}{_hint(path)}'
        raise LabelsError(f'{path} cannot be read: {reason}') from error
    except Exception as error:  # SciPy raises whatever the broken bytes lead to
        raise LabelsError(f'{path} is not a MATLAB file that can be read: {error}') from error


def _hint(path: Path) -> str:
    return '' if path.exists() else path_hint(path)


def labels_from_coco(file: CocoFile) -> Labels:
    """Labels of a COCO file with COCO's 17 joints, body19's or MPII's 16, or boxes alone.

    People whom only a model labelled (a `score` below 1) are no truth and are left out. Where the
    file has no area for a person, it is COCO's mean share of the box.
    Raises LabelsError where a model labelled everybody, or people's joints differ.
    """
    people = [each for each in file.people if each.score is None or each.score >= 1]
    notes = list(file.notes)
    if dropped := len(file.people) - len(people):
        if not people:
            raise LabelsError(
                f'{file.path}: all {dropped} people have a "score" below 1, as of what a model '
                'labelled: they are no truth. Where people labelled them, leave out "score"'
            )
        notes.append(f'people whom a model labelled (a "score" below 1), left out: {dropped}')
    skeleton = file.skeleton_of(people)
    joints = np.zeros((len(people), skeleton.num_keypoints, 3))
    for row, person in zip(joints, people, strict=True):
        if person.joints is not None:
            row[: len(person.joints)] = person.joints
    boxes = np.array([each.box for each in people], np.float64).reshape(-1, 4)
    labelled = joints[..., 2] > 0
    sides = boxes[:, 2:] - boxes[:, :2]
    areas = AREA_OF_BOX * sides[:, 0] * sides[:, 1]
    given = [index for index, each in enumerate(people) if each.area is not None]
    areas[given] = [people[index].area for index in given]
    without = np.delete(labelled.any(axis=1), given).sum()
    if without:
        notes.append(
            f"people without an area that can be used; {AREA_OF_BOX} of their box, COCO's mean, is "
            f'taken: {without}'
        )
    derived = {each.image for each in people if each.box_from != 'source'}
    images = tuple(
        LabelledImage(
            each.id, each.file, each.source or 'all', each.complete, each.id not in derived
        )
        for each in file.images
    )
    return Labels(
        'coco',
        skeleton,
        images,
        np.array([each.image for each in people], np.int64),
        boxes,
        joints[..., :2],
        labelled,
        areas,
        np.array([each.crowd for each in people], bool),
        np.full(len(people), np.nan),
        tuple(notes),
    )
