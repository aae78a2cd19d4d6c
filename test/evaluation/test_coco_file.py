# SPDX-License-Identifier: Apache-2.0
"""COCO files with oddities: each is understood and said, or refused by file, picture and field."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rmpe_ros.core.skeletons import BODY19, COCO17
from rmpe_ros.evaluation.labels import Labels, LabelsError
from rmpe_ros.evaluation.labels.label_files import read_labels

NAN = float('nan')
JOINTS = [v for i in range(17) for v in (20.0 + i, 30.0 + 2 * i, 2)]
# Written as text, for Python does not write what it would not read.
NAN_JOINTS = [NAN, *JOINTS[1:]]
PERSON = {'id': 1, 'image_id': 4, 'category_id': 1, 'bbox': [10, 20, 40, 50], 'keypoints': JOINTS}
IMAGES = [{'id': 4, 'file_name': 'a.jpg'}, {'id': 5, 'file_name': 'b.jpg'}]
CATEGORIES = [{'id': 1, 'name': 'person'}, {'id': 18, 'name': 'dog'}]


def read(folder: Path, *people: Any, **fields: Any) -> Labels:
    """Labels of a file of these annotations, after it went through a file."""
    data = {'images': IMAGES, 'annotations': list(people), 'categories': CATEGORIES, **fields}
    (folder / 'labels.json').write_text(json.dumps(data))
    return read_labels(folder / 'labels.json')


@pytest.mark.parametrize('area', [{}, {'area': 0}, {'area': None}, {'area': NAN}, {'area': -3.5}])
def test_an_area_that_cannot_be_used_is_cocos_mean_share_of_the_box(
    tmp_path: Path, area: dict[str, Any]
) -> None:
    labels = read(tmp_path, {**PERSON, **area}, {**PERSON, 'id': 2, 'area': 700})
    assert labels.areas.tolist() == pytest.approx([0.53 * 40 * 50, 700])
    assert labels.notes == (
        "people without an area that can be used; 0.53 of their box, COCO's mean, is taken: 1",
    )


@pytest.mark.parametrize('name', ['Person', ' PERSON', 'pedestrian', 'people', 'human'])
def test_dogs_are_no_people_whatever_people_are_called(tmp_path: Path, name: str) -> None:
    dogs = [{**PERSON, 'id': n, 'category_id': 18, 'keypoints': [1] * 60} for n in range(2, 5)]
    categories = [{'id': 7, 'name': name}, {'id': 18, 'name': 'dog'}]
    labels = read(tmp_path, *dogs, {**PERSON, 'category_id': 7}, categories=categories)
    assert labels.boxes.tolist() == [[10, 20, 50, 70]]
    assert labels.notes[0] == f'annotations of other things than {name}, left out: 3 (dog 3)'


def test_a_category_of_another_name_with_a_persons_joints_is_people(tmp_path: Path) -> None:
    player = {'id': 1, 'name': 'player', 'keypoints': list(COCO17.keypoints)}
    labels = read(tmp_path, PERSON, categories=[player, {'id': 2, 'name': 'ball'}])
    assert len(labels.boxes) == 1


def test_ids_may_be_written_as_text(tmp_path: Path) -> None:
    images = [{'id': '000004', 'file_name': 'a.jpg'}, {'id': 5.0, 'file_name': 'b.jpg'}]
    people = [PERSON, {**PERSON, 'image_id': '5', 'category_id': '1'}]
    labels = read(tmp_path, *people, images=images)
    assert [image.id for image in labels.images] == [4, 5]
    assert labels.image_ids.tolist() == [4, 5]


def test_only_what_models_labelled_is_left_out(tmp_path: Path) -> None:
    labels = read(tmp_path, {**PERSON, 'score': 0.7}, {**PERSON, 'score': 1.0}, PERSON)
    assert len(labels.boxes) == 2
    assert labels.notes[0].startswith('people whom a model labelled')
    with pytest.raises(LabelsError, match=r'labels\.json: all 2 people have a "score" below 1'):
        read(tmp_path, {**PERSON, 'score': 0.7}, {**PERSON, 'score': 0.9})


def test_a_joint_that_is_not_finite_is_not_labelled(tmp_path: Path) -> None:
    hole = [None, *JOINTS[1:3], *JOINTS[3:]]
    labels = read(tmp_path, {**PERSON, 'keypoints': NAN_JOINTS}, {**PERSON, 'keypoints': hole})
    assert labels.labelled.sum(axis=1).tolist() == [16, 16]
    assert np.isfinite(labels.keypoints).all()
    assert 'joints without a finite place, taken as not labelled: 2' in labels.notes


@pytest.mark.parametrize(
    'box', [{'bbox': []}, {'bbox': None}, {'bbox': [NAN, 1, 2, 3]}, {'bbox': [3, 3, 0, 9]}]
)
def test_a_box_that_is_none_is_drawn_around_the_joints(tmp_path: Path, box: dict) -> None:
    labels = read(tmp_path, {**PERSON, **box}, {**PERSON, 'image_id': 5})
    # Joints from (20, 30) to (36, 62): 3.2 pixels more on each side, and edges are half a pixel on.
    assert labels.boxes[0].tolist() == pytest.approx([17.3, 27.3, 39.7, 65.7])
    assert [image.drawn_boxes for image in labels.images] == [False, True]
    assert [image.complete for image in labels.images] == [True, True]
    assert 'people without a box, who get one around their joints: 1' in labels.notes


def test_somebody_without_a_place_is_left_out_and_the_picture_is_not_complete(
    tmp_path: Path,
) -> None:
    nobody = {'id': 2, 'image_id': 5, 'category_id': 1, 'bbox': []}
    labels = read(tmp_path, PERSON, nobody)
    assert labels.image_ids.tolist() == [4]
    assert [image.complete for image in labels.images] == [True, False]
    assert labels.notes[0].startswith('people without a box and joints, left out')


def test_people_of_17_and_of_19_joints_are_body19(tmp_path: Path) -> None:
    more = {**PERSON, 'keypoints': [*JOINTS, 1, 2, 2, 3, 4, 0]}
    labels = read(tmp_path, PERSON, more)
    assert labels.skeleton == BODY19
    assert labels.labelled.sum(axis=1).tolist() == [17, 18]


def test_sources_are_taken_as_text(tmp_path: Path) -> None:
    images = [{**IMAGES[0], 'source': 3}, IMAGES[1]]
    assert [image.source for image in read(tmp_path, PERSON, images=images).images] == ['3', 'all']


def test_a_byte_order_mark_is_no_part_of_the_labels(tmp_path: Path) -> None:
    text = json.dumps({'images': IMAGES, 'annotations': [PERSON]})
    for encoding in ('utf-8-sig', 'utf-16'):
        (tmp_path / 'labels.json').write_text(text, encoding)
        assert len(read_labels(tmp_path / 'labels.json').boxes) == 1


@pytest.mark.parametrize(
    ('annotation', 'says'),
    [
        (None, r'annotations\[1\] is null; expected an object'),
        ({'image_id': [4]}, r'annotations\[1\]: "image_id" is \[4\]; expected a whole number'),
        ({'image_id': True}, '"image_id" is True'),
        ({'image_id': 2**63}, f'"image_id" is {2**63}; expected a whole number of less than 64'),
        ({'image_id': '4a'}, '"image_id" is \'4a\''),
        ({'category_id': 'person'}, '"category_id" is \'person\'; expected a whole'),
        (
            {'bbox': ['10', 20, 40, 50]},
            r'\(image 4, a\.jpg\): "bbox" is \[\'10\', 20.*four num',
        ),
        ({'bbox': [10, 20, 40]}, r'\(image 4, a\.jpg\): "bbox" is \[10, 20, 40\]'),
        ({'bbox': {'x': 1}}, r'"bbox" is \{'),
        ({'bbox': [10**400, 2, 3, 4]}, r'"bbox" is \[1000'),
        ({'area': '700'}, r'\(image 4, a\.jpg\): "area" is \'700\'; expected a number'),
        ({'iscrowd': 'no'}, '"iscrowd" is \'no\'; expected true, false, 0 or 1'),
        ({'score': 'high'}, '"score" is \'high\'; expected a number'),
        ({'score': NAN}, '"score" is nan; expected a number'),
        ({'keypoints': [[1, 2, 2]] * 17}, r'"keypoints" is \[\[1, 2, 2\].*48 \(MPII\)'),
        ({'keypoints': [1, 2, 2] * 14}, r'\(image 4, a\.jpg\): "keypoints" has 42 numbers'),
        ({'keypoints': [1, 2, 2] * 16}, '"keypoints" has 48 numbers, those of others have 51'),
        ({'teacher_keypoints': [1, 2]}, '"teacher_keypoints" has 2 numbers; expected x, y, prob'),
    ],
)
def test_what_cannot_be_understood_is_refused(
    tmp_path: Path, annotation: dict[str, Any] | None, says: str
) -> None:
    with pytest.raises(LabelsError, match=rf'labels\.json: .*{says}'):
        read(tmp_path, PERSON, annotation and {**PERSON, **annotation})


@pytest.mark.parametrize(
    ('fields', 'says'),
    [
        ({'annotations': None}, '"annotations" is null; expected a list'),
        ({'images': {}}, '"images" is {}; expected a list'),
        ({'images': [{'id': 4, 'file_name': 12}]}, r'images\[0\]: "file_name" is 12; expected'),
        (
            {'images': [{'id': 2**63, 'file_name': 'a'}]},
            r'images\[0\]: "id" is 92233720368547',
        ),
        ({'images': [*IMAGES, IMAGES[0]]}, r'images\[2\]: "id" is 4; expected another number'),
        ({'images': [None]}, r'images\[0\] is null'),
        ({'categories': 3}, '"categories" is 3; expected a list'),
        ({'categories': [{'id': 1, 'name': 5}]}, r'categories\[0\]: "name" is 5'),
        ({'categories': [{'id': 1, 'name': 'dog'}]}, 'no category of people: they are called dog'),
        ({'categories': [{'id': 1, 'name': 'person', 'keypoints': 7}]}, '"keypoints" is 7'),
    ],
)
def test_files_that_cannot_be_understood_are_refused(
    tmp_path: Path, fields: dict[str, Any], says: str
) -> None:
    with pytest.raises(LabelsError, match=rf'labels\.json:? .*{says}'):
        read(tmp_path, PERSON, **fields)


def test_without_names_several_categories_are_not_guessed_at(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match='"category_id" is 18; expected 1 as before, or'):
        read(tmp_path, PERSON, {**PERSON, 'category_id': 18}, categories=[])


def test_labels_nested_without_end_are_refused(tmp_path: Path) -> None:
    (tmp_path / 'labels.json').write_text('[' * 100_000 + ']' * 100_000)
    with pytest.raises(LabelsError, match=r'labels\.json is not JSON: it is nested too deeply'):
        read_labels(tmp_path / 'labels.json')
    (tmp_path / 'labels.json').write_bytes(b'{"images": "\xff\xfe\xfa"}')
    with pytest.raises(LabelsError, match='is not JSON: it is no text in UTF-8'):
        read_labels(tmp_path / 'labels.json')
