# SPDX-License-Identifier: Apache-2.0
"""Labels files of COCO, MPII and LSP as they are published, and files that are none of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

scipy_io = pytest.importorskip('scipy.io')

from rmpe_ros.core.skeletons import BODY19, MPII16
from rmpe_ros.evaluation.labels import LabelsError, find_images
from rmpe_ros.evaluation.labels.label_files import read_labels
from rmpe_ros.evaluation.labels.lsp import LSP_JOINTS


def body19_file(path: Path) -> Path:
    joints = np.zeros((19, 3))
    joints[[5, 18]] = [[30, 40, 2], [35, 20, 1]]
    data = {
        'images': [
            {'id': 4, 'file_name': 'a/b.jpg', 'source': 'street', 'all_persons_labelled': False},
            {'id': 5, 'file_name': 'c.jpg', 'source': 'home'},
        ],
        'annotations': [
            {
                'id': 1, 'image_id': 4, 'bbox': [20, 10, 30, 60], 'area': 900.0,
                'keypoints': joints.ravel().tolist(), 'bbox_from': 'keypoint_extent',
            },
            {'id': 2, 'image_id': 5, 'bbox': [1, 2, 3, 4], 'iscrowd': 1},
            {'id': 3, 'image_id': 5, 'bbox': [1, 2, 3, 4], 'score': 0.9},
        ],
    }  # fmt: skip
    path.write_text(json.dumps(data))
    return path


def test_coco_with_19_joints_and_sources(tmp_path: Path) -> None:
    labels = read_labels(body19_file(tmp_path / 'labels.json'))
    assert labels.skeleton == BODY19
    assert [(i.source, i.complete, i.drawn_boxes) for i in labels.images] == [
        ('street', False, False),
        ('home', True, True),
    ]
    # The third has a score, so a model labelled it.
    assert len(labels.image_ids) == 2
    np.testing.assert_array_equal(labels.boxes[0], [20, 10, 50, 70])
    assert np.flatnonzero(labels.labelled[0]).tolist() == [5, 18]
    assert labels.counted.tolist() == [True, False]
    street = labels.select(lambda image: image.source == 'street')
    assert len(street.images) == 1 and street.areas.tolist() == [900]


def test_missing_pictures_are_counted_and_one_is_named(tmp_path: Path) -> None:
    labels = read_labels(body19_file(tmp_path / 'labels.json'))
    (tmp_path / 'c.jpg').touch()
    with pytest.raises(LabelsError, match=r'1 of 2 labelled pictures.*b\.jpg'):
        find_images(labels, tmp_path)


def test_lsp(tmp_path: Path) -> None:
    joints = np.arange(3 * 14 * 2000, dtype=float).reshape(3, 14, 2000) % 200 + 1
    joints[2] = 0
    joints[2, 3, 5] = 1
    scipy_io.savemat(tmp_path / 'joints.mat', {'joints': joints})
    labels = read_labels(tmp_path / 'joints.mat')
    assert labels.layout == 'lsp'
    assert (labels.images[0].file, labels.images[1999].file) == ('im0001.jpg', 'im2000.jpg')
    assert {image.source for image in labels.images[1000:]} == {'lsp_test'}
    # The flag is "hidden" here: such joints are labelled all the same.
    assert labels.labelled[5].sum() == 14
    ankle = BODY19.index(LSP_JOINTS[0])
    np.testing.assert_array_equal(labels.keypoints[7, ankle], joints[:2, 0, 7] - 1)


def test_lsp_extended(tmp_path: Path) -> None:
    joints = np.full((14, 3, 30), 50.0)
    joints[2, 2, 4] = 0
    scipy_io.savemat(tmp_path / 'joints.mat', {'joints': joints})
    labels = read_labels(tmp_path / 'joints.mat')
    # The flag is "labelled" here.
    assert labels.labelled[4].sum() == 13
    assert labels.images[4].file == 'im00005.jpg'


def annorect(shift: float, joints: int = 16) -> dict[str, Any]:
    points = [{'id': i, 'x': 10.0 * i + shift, 'y': 5.0 * i + 1} for i in range(joints)]
    head = {'x1': 10.0, 'y1': 10.0, 'x2': 40.0, 'y2': 50.0}
    return {**head, 'annopoints': {'point': points}, 'scale': 1.0}


def release(as_list: Any) -> list[dict[str, Any]]:
    return [
        {'image': {'name': 'two.jpg'}, 'annorect': as_list([annorect(1), annorect(200, 9)])},
        {'image': {'name': 'one.jpg'}, 'annorect': annorect(5)},
        {'image': {'name': 'nobody.jpg'}, 'annorect': []},
        {'image': {'name': 'part.jpg'}, 'annorect': as_list([annorect(1), {'scale': 1.0}])},
    ]


@pytest.mark.parametrize('kind', ['mat', 'json'])
def test_mpii_release(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f'mpii.{kind}'
    if kind == 'mat':
        # Arrays of structures need equal fields: the last picture goes into JSON only.
        def structures(people: list[dict[str, Any]]) -> np.ndarray:
            fields = [(name, object) for name in people[0]]
            filled = [tuple(p.get(name, np.zeros((0, 0))) for name, _ in fields) for p in people]
            return np.array(filled, dtype=fields)

        entries = release(structures)
        for entry in entries[:2]:
            for person in np.atleast_1d(entry['annorect']):
                points = person['annopoints']['point']
                person['annopoints']['point'] = structures(points)
        entries[3]['annorect'][0]['annopoints']['point'] = structures(
            entries[3]['annorect'][0]['annopoints']['point']
        )
        scipy_io.savemat(path, {'RELEASE': {'annolist': structures(entries)}})
    else:
        path.write_text(json.dumps({'annolist': release(list)}))
    labels = read_labels(path)
    assert labels.skeleton == MPII16
    assert [image.file for image in labels.images] == ['two.jpg', 'one.jpg', 'part.jpg']
    assert [image.complete for image in labels.images] == [True, True, False]
    assert labels.labelled.sum(axis=1).tolist() == [16, 9, 16, 16]
    np.testing.assert_array_equal(labels.keypoints[1, 2], [219, 10])
    # 0.6 of the diagonal of 30 x 40 pixels.
    np.testing.assert_allclose(labels.head_sizes, 30)


def test_mpii_list_of_people(tmp_path: Path) -> None:
    joints = [[10.0 * i, 20.0] for i in range(16)]
    entry = {'image': 'x.jpg', 'joints': joints, 'joints_vis': [1] * 16, 'center': [1, 2]}
    entries = [entry, {**entry, 'joints_vis': [1] * 8 + [0] * 8}, {**entry, 'head_size': 12.0}]
    (tmp_path / 'mpii.json').write_text(json.dumps(entries))
    labels = read_labels(tmp_path / 'mpii.json')
    assert len(labels.images) == 1
    # upper_neck and head_top are 8 and 9; nobody knows the second one's head.
    np.testing.assert_array_equal(labels.head_sizes, [10, np.nan, 12])


@pytest.mark.parametrize(
    ('content', 'says'),
    [
        ('{"images": []}', 'expected COCO annotations'),
        ('not json', 'is not JSON'),
        ('[{"image_id": 1, "keypoints": []}]', '--results'),
        ('[]', 'is not a labels file'),
        ('{"images": [{"id": 1}], "annotations": []}', 'file_name'),
        ('{"images": [], "annotations": [{"image_id": 3, "bbox": [0, 0, 1, 1]}]}', 'list: 3'),
        (
            '{"images": [{"id": 3, "file_name": "a.jpg"}], '
            '"annotations": [{"image_id": 3, "bbox": [0, 0, 1, 1], '
            '"keypoints": [1, 2, 3]}]}',
            'has 3 numbers; expected x, y, v of every joint: 51',
        ),
        ('{"annolist": [{"annorect": [{"annopoints": {"point": [{"x": 1}]}}]}]}', 'no MPII'),
    ],
)
def test_files_that_hold_no_labels(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / 'labels.json'
    path.write_text(content)
    with pytest.raises(LabelsError, match=r'labels\.json') as error:
        read_labels(path)
    assert says in str(error.value)


def test_mat_files_that_hold_no_labels(tmp_path: Path) -> None:
    broken = tmp_path / 'broken.mat'
    broken.write_bytes(b'MATLAB 5.0' * 30)
    with pytest.raises(LabelsError, match=r'broken\.mat'):
        read_labels(broken)
    scipy_io.savemat(tmp_path / 'other.mat', {'x': np.ones(3)})
    with pytest.raises(LabelsError, match=r"holds \['x'\]"):
        read_labels(tmp_path / 'other.mat')
    scipy_io.savemat(tmp_path / 'flat.mat', {'joints': np.ones((3, 5))})
    with pytest.raises(LabelsError, match='expected 3 x 14 x N'):
        read_labels(tmp_path / 'flat.mat')
    with pytest.raises(LabelsError, match='cannot be read'):
        read_labels(tmp_path / 'none.mat')
    scipy_io.savemat(tmp_path / 'text.mat', {'joints': np.full((3, 14, 2), 'x', object)})
    with pytest.raises(LabelsError, match='of object; expected 3 x 14 x N'):
        read_labels(tmp_path / 'text.mat')
    for empty in (np.zeros((0, 0)), {'version': 12}):
        scipy_io.savemat(tmp_path / 'empty.mat', {'RELEASE': empty})
        with pytest.raises(LabelsError, match=r'empty\.mat: RELEASE is empty or no structure'):
            read_labels(tmp_path / 'empty.mat')


@pytest.mark.parametrize(
    ('change', 'says'),
    [
        ({'joints': [['1', 2]] * 16}, 'numbers are expected'),
        ({'joints': [[1, None]] * 16}, 'numbers are expected'),
        ({'joints': [[1, 2]] * 14}, r'\(x\.jpg\) has ValueError'),
        ({'joints_vis': None}, 'numbers are expected'),
        ({'image': 7}, 'a picture called 7'),
        ({'head_size': '12'}, 'numbers are expected'),
        ({'headbox': [1, 2, 3]}, 'ValueError'),
    ],
)
def test_mpii_lists_with_wrong_fields_are_refused(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    entry = {'image': 'x.jpg', 'joints': [[10.0, 20]] * 16, 'joints_vis': [1] * 16}
    (tmp_path / 'mpii.json').write_text(json.dumps([entry, {**entry, **change}]))
    with pytest.raises(LabelsError, match=rf'mpii\.json is no MPII list: entry 1.*{says}'):
        read_labels(tmp_path / 'mpii.json')


def test_mpii_joints_that_are_not_finite_are_not_labelled(tmp_path: Path) -> None:
    joints = [[10.0 * i, 20.0] for i in range(16)]
    joints[9][1] = float('nan')
    entry = {'image': 'x.jpg', 'joints': joints, 'joints_vis': [1] * 16, 'head_size': 0}
    (tmp_path / 'mpii.json').write_text(json.dumps([entry]))
    labels = read_labels(tmp_path / 'mpii.json')
    assert labels.labelled.sum() == 15 and np.isfinite(labels.boxes).all()
    assert np.isnan(labels.head_sizes).all()
    assert labels.notes == ('joints without a finite place, taken as not labelled: 1',)


def test_mpii_joint_ids_do_not_count_from_the_end(tmp_path: Path) -> None:
    wrong = annorect(1)
    wrong['annopoints']['point'][3]['id'] = -1
    content = {'annolist': [{'image': {'name': 'a.jpg'}, 'annorect': [wrong]}]}
    (tmp_path / 'mpii.json').write_text(json.dumps(content))
    with pytest.raises(LabelsError, match=r'entry 1 of annolist \(a\.jpg\).*the id -1'):
        read_labels(tmp_path / 'mpii.json')
    (tmp_path / 'mpii.json').write_text('{"annolist": 5}')
    with pytest.raises(LabelsError, match='no list of pictures'):
        read_labels(tmp_path / 'mpii.json')


def test_of_all_things_only_people_are_taken(tmp_path: Path) -> None:
    boxes = [{'id': i, 'image_id': 1, 'category_id': i, 'bbox': [i, 1, 2, 3]} for i in (3, 7)]
    names = [{'id': 3, 'name': 'person'}, {'id': 7, 'name': 'train'}]
    images = [{'id': 1, 'file_name': 'a.jpg'}]
    data = {'images': images, 'annotations': boxes, 'categories': names}
    (tmp_path / 'instances.json').write_text(json.dumps(data))
    labels = read_labels(tmp_path / 'instances.json')
    assert labels.boxes.tolist() == [[3, 1, 5, 4]] and not labels.counted.any()
