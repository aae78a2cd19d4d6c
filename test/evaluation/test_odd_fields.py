# SPDX-License-Identifier: Apache-2.0
"""Whatever a field of a file holds, there are labels, or there is a sentence."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rmpe_ros.evaluation.found_people import people_of_entries
from rmpe_ros.evaluation.labels import LabelsError
from rmpe_ros.evaluation.labels.label_files import read_labels
from rmpe_ros.evaluation.results_file import read_box_results, read_result_entries
from rmpe_ros.training.data_config import read_data_config
from rmpe_ros.training.datasets import load_people, load_scenes

ODD: tuple[Any, ...] = (
    None, True, 0, -1, 0.5, 1e308, float('nan'), float('-inf'), 2**63, -(2**70), 10**400, '', 'x',
    '5', 'x' * 300, 'person', '\ud800', [], [0], ['1', '2'], [[]], [None] * 4, {}, {'id': 1},
    [1, 2, 3, 4],
)  # fmt: skip
JOINTS = [v for i in range(17) for v in (20.0 + i, 30.0 + 2 * i, 2)]
COCO = {
    'images': [{'id': 4, 'file_name': 'a.jpg', 'source': 'x', 'all_persons_labelled': True}],
    'annotations': [
        {
            'id': 1, 'image_id': 4, 'category_id': 1, 'bbox': [10, 20, 40, 50], 'area': 900,
            'iscrowd': 0, 'keypoints': JOINTS, 'bbox_from': 'source', 'score': 1,
            'teacher_keypoints': [9.0, 9.0, 0.7] * 17, 'teacher_face_ok': True,
        },
        {'id': 2, 'image_id': 4, 'category_id': 18, 'bbox': [1, 1, 4, 5]},
    ],
    'categories': [
        {'id': 1, 'name': 'person', 'keypoints': None}, {'id': 18, 'name': 'dog'},
    ],
}  # fmt: skip
MPII_LIST = [{'image': 'a.jpg', 'joints': [[9, 8]] * 16, 'joints_vis': [1] * 16, 'head_size': 9}]
POINT = {'id': 3, 'x': 4.0, 'y': 5.0}
HEAD = {'x1': 1, 'y1': 1, 'x2': 5, 'y2': 6}
MPII = {
    'annolist': [
        {'image': {'name': 'a.jpg'}, 'annorect': [{**HEAD, 'annopoints': {'point': [POINT]}}]}
    ]
}
RESULTS = [
    {'image_id': 4, 'category_id': 1, 'keypoints': JOINTS, 'score': 0.9, 'bbox': [1, 2, 3, 4]},
    {'image_id': 4, 'keypoints': JOINTS, 'score': 0.5},
]


def places(data: Any, path: tuple = ()) -> Iterator[tuple]:
    """Every place in nested lists and dictionaries; of long lists the first two entries."""
    if path:
        yield path
    entries = data.items() if isinstance(data, dict) else enumerate(data[:2])
    for key, value in entries:
        if isinstance(value, list | dict):
            yield from places(value, (*path, key))
        else:
            yield (*path, key)


def variants(data: Any) -> Iterator[Any]:
    """The data with one place taken away, or holding something odd."""
    for path in places(data):
        for value in (*ODD, KeyError):
            changed = copy.deepcopy(data)
            holder = changed
            for key in path[:-1]:
                holder = holder[key]
            if value is KeyError:
                del holder[path[-1]]
            else:
                holder[path[-1]] = value
            yield changed


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    (tmp_path / 'a.jpg').touch()
    return tmp_path


@pytest.mark.parametrize('data', [COCO, MPII, MPII_LIST], ids=['coco', 'mpii', 'mpii_list'])
def test_odd_labels_are_read_or_refused_in_a_sentence(photo: Path, data: Any) -> None:
    path, read, refused = photo / 'labels.json', 0, 0
    for changed in variants(data):
        path.write_text(json.dumps(changed))
        try:
            labels = read_labels(path)
            assert np.isfinite(labels.boxes).all() and np.isfinite(labels.keypoints).all()
            assert (labels.areas > 0).all() or labels.layout != 'coco'
            json.dumps(labels.to_coco(), allow_nan=False)
            read += 1
        except LabelsError as error:
            assert str(path) in str(error) and len(str(error)) < 1000
            refused += 1
        for load in (load_people, load_scenes):
            try:
                for each in load(path, photo):
                    arrays = (each.box,) if load is load_people else (each.boxes, each.ignore)
                    assert all(np.isfinite(array).all() for array in arrays)
            except ValueError as error:
                assert str(photo) in str(error)
    assert read > 20 and refused > 100


def test_odd_results_are_read_or_refused_in_a_sentence(photo: Path) -> None:
    (photo / 'labels.json').write_text(json.dumps(COCO))
    labels, path = read_labels(photo / 'labels.json'), photo / 'results.json'
    read, refused = 0, 0
    for changed in variants(RESULTS):
        path.write_text(json.dumps(changed))
        try:
            for found in people_of_entries(read_result_entries(path, labels), labels).values():
                assert np.isfinite(found.boxes).all() and np.isfinite(found.scores).all()
                assert np.isfinite(found.keypoints).all()
            read += 1
        except LabelsError as error:
            assert str(path) in str(error) and len(str(error)) < 1000
            refused += 1
        try:
            read_box_results(path, {4}, min_score=0.1)
        except LabelsError as error:
            assert str(path) in str(error)
    assert read > 10 and refused > 60


def test_odd_data_files_are_refused_in_a_sentence(photo: Path) -> None:
    (photo / 'labels.json').write_text(json.dumps(COCO))
    entry = {
        'annotations': 'labels.json',
        'images': '.',
        'format': 'auto',
        'source': 's',
        'weight': 1,
    }
    good = {'train': [entry], 'validation': entry, 'people_mix': {'a': 1.0}, 'teacher_weight': 0.5}
    path, refused = photo / 'data.yaml', 0
    for changed in variants(good):
        path.write_text(json.dumps(changed))
        try:
            read_data_config(path)
        except ValueError as error:
            assert str(photo) in str(error)
            refused += 1
    assert refused > 100
