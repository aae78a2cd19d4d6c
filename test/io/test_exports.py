# SPDX-License-Identifier: Apache-2.0
"""Poses for other tools, by their documented formats, and read back after correction."""

import csv
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import yaml

from rmpe_ros.cli.main import main
from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import BODY19, COCO17
from rmpe_ros.evaluation.coco_file import CocoFile
from rmpe_ros.evaluation.labels import LabelsError
from rmpe_ros.evaluation.labels.label_files import (
    label_files,
    read_label_file,
    read_labels,
)
from rmpe_ros.io.exports import Picture, open_exporters
from rmpe_ros.io.image_decoding import load_image
from rmpe_ros.training.datasets import load_people

SIZE = (200, 100)  # width, height


def two_poses() -> Poses:
    """Two people of body19; a joint of the first is not sure, one of the second is outside."""
    rng = np.random.default_rng(3)
    keypoints = rng.uniform([20, 10], [80, 90], (2, 19, 2)).astype(np.float32)
    keypoints[1, :, 0] += 90
    keypoints[1, 0] = (-5, 20)
    scores = np.full((2, 19), 0.9, np.float32)
    scores[0, 3] = 0.1
    boxes = np.array([[10, 5, 90, 95], [100, 5, 220, 95]], np.float32)
    return Poses(BODY19, keypoints, scores, boxes, np.array([1.0, 0.6], np.float32))


@pytest.fixture
def picture(tmp_path: Path) -> Picture:
    image = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
    file = tmp_path / 'photos' / 'two.png'
    file.parent.mkdir()
    cv2.imwrite(str(file), image)
    return Picture('two.png', image, file=file)


def export(picture: Picture, poses: Poses | None = None, **files: Path) -> None:
    for exporter in open_exporters(COCO17, **files):
        exporter.add(picture, two_poses() if poses is None else poses)
        exporter.close()


def test_csv_long_and_wide(picture: Picture, tmp_path: Path) -> None:
    frame = Picture('clip.mp4#000012', picture.image, frame=12, time=0.48)
    poses = two_poses()
    poses.track_ids[:] = (4, -1)
    export(frame, poses, csv=tmp_path / 'long.csv', csv_wide=tmp_path / 'wide.csv')
    long = list(csv.DictReader((tmp_path / 'long.csv').open()))
    assert len(long) == 2 * 17
    assert [row['joint'] for row in long[:17]] == list(COCO17.keypoints)
    first = long[0]
    assert (first['image'], first['frame'], first['time']) == ('clip.mp4#000012', '12', '0.480000')
    assert (first['track_id'], long[17]['track_id']) == ('4', '')
    assert float(first['x']) == pytest.approx(poses.keypoints[0, 0, 0], abs=0.006)
    wide = list(csv.DictReader((tmp_path / 'wide.csv').open()))
    assert len(wide) == 2 and [row['person'] for row in wide] == ['0', '1']
    for row in wide:
        of_it = [each for each in long if each['person'] == row['person']]
        for each in of_it:
            assert row[f'{each["joint"]}_x'] == each['x']
            assert row[f'{each["joint"]}_score'] == each['joint_score']


def test_a_photo_without_people_has_no_rows_and_empty_labels(
    picture: Picture, tmp_path: Path
) -> None:
    nobody = Poses.empty(BODY19)
    export(picture, nobody, csv=tmp_path / 'x.csv', yolo=tmp_path / 'yolo')
    assert len((tmp_path / 'x.csv').read_text().splitlines()) == 1
    assert (tmp_path / 'yolo' / 'labels' / 'two.txt').read_text() == ''


def test_yolo_pose_labels(picture: Picture, tmp_path: Path) -> None:
    folder = tmp_path / 'yolo'
    export(picture, yolo=folder)
    data = yaml.safe_load((folder / 'data.yaml').read_text())
    assert data['kpt_shape'] == [17, 3] and data['names'] == {0: 'person'}
    left, right = COCO17.keypoints.index('left_wrist'), COCO17.keypoints.index('right_wrist')
    assert data['flip_idx'][left] == right and sorted(data['flip_idx']) == list(range(17))
    assert (folder / 'images' / 'two.png').read_bytes() == picture.file.read_bytes()
    lines = (folder / 'labels' / 'two.txt').read_text().splitlines()
    numbers = np.array([[float(word) for word in line.split()] for line in lines])
    assert numbers.shape == (2, 5 + 3 * 17)
    assert (numbers[:, 1:5] >= 0).all() and (numbers[:, 1:5] <= 1).all()
    np.testing.assert_allclose(numbers[0, :5], [0, 0.25, 0.5, 0.4, 0.9], atol=1e-6)
    np.testing.assert_allclose(numbers[1, :5], [0, 0.75, 0.5, 0.5, 0.9], atol=1e-6)  # cut off
    joints = numbers[:, 5:].reshape(2, 17, 3)
    assert (joints[0, 3] == 0).all() and (joints[1, 0] == 0).all()
    expected = (two_poses().keypoints[0, 1] + 0.5) / SIZE
    np.testing.assert_allclose(joints[0, 1], [*expected, 2], atol=1e-6)


def test_pre_labels_are_no_truth_before_somebody_has_seen_them(
    picture: Picture, tmp_path: Path
) -> None:
    export(picture, cvat=tmp_path / 'cvat.json', label_studio=tmp_path / 'ls.json')
    with pytest.raises(LabelsError, match='they are no truth'):
        read_labels(tmp_path / 'cvat.json')
    with pytest.raises(LabelsError, match='nobody has annotated any of its 1 tasks'):
        read_labels(tmp_path / 'ls.json')


def test_yolo_round_trip(picture: Picture, tmp_path: Path) -> None:
    folder = tmp_path / 'yolo'
    export(picture, yolo=folder)
    for path in (folder / 'data.yaml', folder / 'labels'):
        read = read_label_file(path)
        assert isinstance(read, CocoFile) and 'made by rmpe predict' in read.notes[0]
    # Somebody moves the nose by 3 pixels, and says that the labels are right.
    labels, data = folder / 'labels' / 'two.txt', folder / 'data.yaml'
    words = labels.read_text().split(' ')
    words[5] = f'{float(words[5]) + 3 / SIZE[0]:.6f}'
    labels.write_text(' '.join(words))
    data.write_text(data.read_text().partition('\n')[2])
    read = read_label_file(data)
    check_people(read, file='images/two.png', moved=3)
    assert not read.notes and [image.source for image in read.images] == ['yolo']
    boxes = np.array([person.box for person in read.people])
    np.testing.assert_allclose(boxes, [[10, 5, 90, 95], [100, 5, 200, 95]], atol=0.001)
    (person, _) = load_people(data, folder)
    np.testing.assert_allclose(person.joints[5], two_poses().keypoints[0, 5], atol=0.011)


def make_cvat_yolo(folder: Path, image: np.ndarray, lines: list[str]) -> Path:
    """An export "Ultralytics YOLO Pose 1.0" of CVAT of two subsets, as its page documents it."""
    for subset, name in (('train', 'a.jpg'), ('val', 'deep/b.jpg')):
        for kind in ('images', 'labels'):
            (folder / kind / subset / name).parent.mkdir(parents=True)
        cv2.imwrite(str(folder / 'images' / subset / name), image)
        (folder / f'{subset}.txt').write_text(f'images/{subset}/{name}\n')
    (folder / 'labels/train/a.txt').write_text('\n'.join(lines) + '\n')
    (folder / 'data.yaml').write_text(
        'path: ./ # dataset root dir\ntrain: train.txt # train images (relative to path)\n'
        'val: val.txt\nkpt_shape: [17, 3]\nnames:\n  0: bicycle\n  1: person\n'
    )
    return folder / 'data.yaml'


def test_cvat_yolo_is_read_by_subset(picture: Picture, tmp_path: Path) -> None:
    export(picture, yolo=tmp_path / 'pre')
    lines = (tmp_path / 'pre/labels/two.txt').read_text().splitlines()
    lines = ['0 0.5 0.5 0.1 0.1' + 51 * ' 0', *(f'1{line[1:]}' for line in lines)]
    data = make_cvat_yolo(tmp_path / 'cvat', picture.image, lines)
    file = read_label_file(data)
    assert isinstance(file, CocoFile)
    assert [each.file for each in file.images] == ['images/train/a.jpg', 'images/val/deep/b.jpg']
    assert [person.image for person in file.people] == [1, 1]  # the bicycle is nobody
    labels = data.parent / 'labels'
    check_people(read_label_file(labels / 'train'), file='images/train/a.jpg')
    validation = read_label_file(labels / 'val')
    assert isinstance(validation, CocoFile)
    assert [each.file for each in validation.images] == ['images/val/deep/b.jpg']
    assert not validation.people and validation.images[0].complete
    assert set(label_files(data)) == {data, labels / 'train/a.txt'}


def test_yolo_labels_of_a_turned_photo(picture: Picture, tmp_path: Path) -> None:
    export(picture, yolo=tmp_path / 'pre')
    lines = (tmp_path / 'pre/labels/two.txt').read_text().splitlines()
    data = make_cvat_yolo(tmp_path / 'cvat', picture.image, [f'1{line[1:]}' for line in lines])
    photo = data.parent / 'images/train/a.jpg'
    turned = np.rot90(picture.image)  # as the sensor has it; the photo says how to hold it
    jpeg = cv2.imencode('.jpg', turned)[1].tobytes()
    exif = b'Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\x06\0\0\0\0\0\0\0'
    photo.write_bytes(jpeg[:2] + b'\xff\xe1' + (len(exif) + 2).to_bytes(2, 'big') + exif + jpeg[2:])
    assert load_image(photo).shape == picture.image.shape
    check_people(read_label_file(data.parent / 'labels/train'), file='images/train/a.jpg')


@pytest.mark.parametrize(
    ('line', 'yaml_text', 'complaint'),
    [
        ('1 2 3', '', 'a.txt, line 1: 3 numbers; expected 56'),
        ('1 0.5 0.5 x 0.2', '', "a.txt, line 1: expected numbers, could not .* 'x'"),
        ('1 320 240 60 200', '', 'from 0 to 1, not pixels'),
        ('', 'kpt_shape: [33, 3]', r'"kpt_shape" is \[33, 3\]; expected .* coco17 \(17\)'),
        ('', 'names: [dog, cat]', 'no class of people: "names" are dog, cat'),
        ('', 'train: gone\nval: gone', 'none of its pictures is there'),
        ('', 'names:', 'no data.yaml of YOLO'),
        ('', 'names: [', 'cannot be read as YAML'),
        ('', 'train: /etc/hostname', 'which is not in'),
    ],
)
def test_yolo_labels_that_cannot_be(
    picture: Picture, tmp_path: Path, line: str, yaml_text: str, complaint: str
) -> None:
    data = make_cvat_yolo(tmp_path / 'cvat', picture.image, [line])
    key = yaml_text.partition(':')[0]
    kept = [each for each in data.read_text().splitlines() if not each.startswith(key or '?')]
    kept = [each for each in kept if key != 'names' or not each.startswith(' ')]
    data.write_text('\n'.join([*kept, yaml_text]))
    with pytest.raises(LabelsError, match=complaint):
        read_label_file(data)


def test_a_folder_that_holds_no_labels(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match='is a folder; expected a file of labels'):
        read_label_file(tmp_path)


def as_cvat_exports_coco(pre: Any) -> Any:
    """What CVAT's "COCO Keypoints 1.0" makes of it: it knows no score, and adds attributes."""
    people = []
    for person in pre['annotations']:
        kept = {key: value for key, value in person.items() if key not in ('score', 'track_id')}
        people.append({**kept, 'attributes': {'occluded': False, 'keyframe': False}})
    head = {'licenses': [{'name': '', 'id': 0, 'url': ''}], 'info': {'contributor': ''}}
    images = [{**i, 'license': 0, 'flickr_url': '', 'coco_url': ''} for i in pre['images']]
    return {**head, **pre, 'images': images, 'annotations': people}


def check_people(labels: Any, *, file: str = 'two.png', moved: float = 0.0) -> None:
    """That what was read is `two_poses` in COCO's joints, its first nose moved to the right."""
    assert isinstance(labels, CocoFile)
    assert [image.file for image in labels.images] == [file]
    poses = two_poses().to_skeleton(COCO17)
    expected = np.concatenate([poses.keypoints, np.full((2, 17, 1), 2, np.float32)], axis=2)
    expected[0, 0, 0] += moved
    expected[0, 3] = 0
    for person, joints in zip(labels.people, expected, strict=True):
        assert person.joints is not None and person.score is None
        seen = person.joints[:, 2] > 0
        assert seen.sum() >= 16
        np.testing.assert_allclose(person.joints[seen], joints[seen], atol=0.011)
    assert not labels.people[0].joints[3].any()


def test_cvat_coco_round_trip(picture: Picture, tmp_path: Path) -> None:
    export(picture, cvat=tmp_path / 'pre.json')
    pre = json.loads((tmp_path / 'pre.json').read_text())
    assert pre['categories'][0]['keypoints'] == list(COCO17.keypoints)
    assert min(min(edge) for edge in pre['categories'][0]['skeleton']) == 1
    exported = as_cvat_exports_coco(pre)
    exported['annotations'][0]['keypoints'][0] += 3  # corrected by hand
    path = tmp_path / 'person_keypoints_default.json'
    path.write_text(json.dumps(exported))
    check_people(read_label_file(path), moved=3)


def test_cvat_images_xml_is_read(picture: Picture, tmp_path: Path) -> None:
    export(picture, cvat=tmp_path / 'pre.json')
    pre = json.loads((tmp_path / 'pre.json').read_text())
    root = ElementTree.Element('annotations')
    ElementTree.SubElement(root, 'version').text = '1.1'
    image = ElementTree.SubElement(root, 'image', id='0', name='two.png', width='200', height='100')
    ElementTree.SubElement(image, 'skeleton', label='car', source='manual')
    for person in pre['annotations']:
        skeleton = ElementTree.SubElement(image, 'skeleton', label='person', source='manual')
        triples = np.reshape(person['keypoints'], (17, 3)).tolist()
        for name, (x, y, v) in zip(COCO17.keypoints, triples, strict=True):
            ElementTree.SubElement(
                skeleton, 'points', label=name, source='manual', occluded='0',
                outside='0' if v else '1', points=f'{x:.2f},{y:.2f}',
            )  # fmt: skip
    path = tmp_path / 'annotations.xml'
    ElementTree.ElementTree(root).write(path)
    check_people(read_label_file(path))
    path.write_text(path.read_text().replace('label="nose"', 'label="snout"'))
    with pytest.raises(LabelsError, match='points called snout'):
        read_label_file(path)
    path.write_text('<!DOCTYPE x [<!ENTITY a "b">]><annotations/>')
    with pytest.raises(LabelsError, match='declares a document type'):
        read_label_file(path)


def test_label_studio_round_trip(picture: Picture, tmp_path: Path) -> None:
    path = tmp_path / 'tasks.json'
    export(picture, label_studio=path)
    interface = ElementTree.parse(tmp_path / 'tasks.xml').getroot()
    names = [each.get('value') for each in interface.iter('Label')]
    assert names == ['person', *COCO17.keypoints]
    task = json.loads(path.read_text())[0]
    assert task['data'] == {'image': '/data/local-files/?d=two.png'}
    results = task['predictions'][0]['result']
    tags = {each.get('name') for each in interface} - {'image'}
    assert {each['from_name'] for each in results} == tags
    # A person opens the task, moves the nose by 3 pixels and submits.
    results[1]['value']['x'] += 100 * 3 / SIZE[0]
    exported = [
        {
            'id': 7,
            'data': task['data'],
            'annotations': [{'id': 1, 'was_cancelled': False, 'result': results}],
            'predictions': [],
        },
        {'id': 8, 'data': {'image': '/data/upload/1/0a1b2c3d-x.jpg'}, 'annotations': []},
    ]
    path.write_text(json.dumps(exported))
    check_people(read_label_file(path), moved=3)
    # Points drawn by hand have no parentID: the rectangle around them is theirs.
    for result in results:
        result.pop('parentID', None)
    path.write_text(json.dumps(exported))
    check_people(read_label_file(path), moved=3)
    with pytest.raises(LabelsError, match=r'task 7.*belongs to no rectangle'):
        results[1]['value']['x'] = 99.9
        results[1]['value']['y'] = 99.9
        path.write_text(json.dumps(exported))
        read_label_file(path)
    exported[0]['data'] = {'image': '/data/upload/1/0a1b2c3d-two%20people.png'}
    exported[0]['annotations'][0]['result'] = results[:1]
    path.write_text(json.dumps(exported))
    assert read_label_file(path).images[0].file == 'two people.png'


def test_predict_writes_them_all_and_video_frames_carry_time(
    tmp_path: Path, models_folder: Path, monkeypatch: pytest.MonkeyPatch,
    two_people: np.ndarray, capsys: pytest.CaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setenv('RMPE_MODELS', str(models_folder))
    clip = tmp_path / 'clip.avi'
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*'MJPG'), 10, (640, 480))
    for _ in range(3):
        writer.write(two_people)
    writer.release()
    names = {'json': 'p.json', 'csv': 'p.csv', 'csv-wide': 'w.csv', 'cvat': 'c.json',
             'label-studio': 'l.json', 'yolo': 'yolo'}  # fmt: skip
    options = [each for name, file in names.items() for each in (f'--{name}', str(tmp_path / file))]
    assert main(['predict', str(clip), *options]) == 0
    said = capsys.readouterr().out
    assert all(str(tmp_path / file) in said for file in names.values())
    results = json.loads((tmp_path / 'p.json').read_text())
    assert [(r['frame'], r['time']) for r in results[::2]] == [(0, 0.0), (1, 0.1), (2, 0.2)]
    rows = list(csv.DictReader((tmp_path / 'p.csv').open()))
    assert {(row['frame'], row['time']) for row in rows} == {
        ('0', '0.000000'), ('1', '0.100000'), ('2', '0.200000'),
    }  # fmt: skip
    images = sorted(path.name for path in (tmp_path / 'yolo' / 'images').iterdir())
    assert images == [f'clip_{n:06d}.jpg' for n in range(3)]
    cvat = json.loads((tmp_path / 'c.json').read_text())
    assert [image['file_name'] for image in cvat['images']] == images
