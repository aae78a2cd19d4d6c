# SPDX-License-Identifier: Apache-2.0
"""Readers for training: what COCO, MPII and LSP label becomes body19, and files are mixed."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

scipy_io = pytest.importorskip('scipy.io')

from rmpe_ros.core.skeletons import BODY19, COCO17, MPII16
from rmpe_ros.evaluation.labels.lsp import LSP_JOINTS
from rmpe_ros.training.data_config import read_data_config
from rmpe_ros.training.datasets import load_people, load_scenes, mixing_probabilities, read_photo

# The published order of both, from LSP's and MPII's pages.
LSP_ORDER = (
    'right_ankle right_knee right_hip left_hip left_knee left_ankle right_wrist right_elbow '
    'right_shoulder left_shoulder left_elbow left_wrist neck head_top'
).split()
MPII_ORDER = (
    'right_ankle right_knee right_hip left_hip left_knee left_ankle pelvis thorax upper_neck '
    'head_top right_wrist right_elbow right_shoulder left_shoulder left_elbow left_wrist'
).split()


def photos(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        cv2.imwrite(str(folder / name), np.full((240, 320, 3), 90, np.uint8))
    return folder


def positions(count: int) -> np.ndarray:
    """Where joint i of a made person is: no two alike, pixel 1 the first as in MATLAB."""
    return np.stack([20.0 + 7 * np.arange(count), 30.0 + 10 * np.arange(count)], axis=1)


def lsp_file(path: Path, people: int, *, extended: bool, flags: np.ndarray | None = None) -> Path:
    """A joints.mat of two or more people alike. flags: (people, 14), the third number."""
    joints = np.zeros((people, 14, 3))
    joints[..., :2] = positions(14)
    joints[..., 2] = (1 if extended else 0) if flags is None else flags
    scipy_io.savemat(path, {'joints': joints.transpose((1, 2, 0) if extended else (2, 1, 0))})
    return path


@pytest.mark.parametrize(('extended', 'photo'), [(False, 'im0001.jpg'), (True, 'im00001.jpg')])
def test_lsp_keeps_left_and_right_and_has_no_face(tmp_path, extended, photo):
    folder = photos(tmp_path / 'images', photo, photo.replace('1', '2'))
    person, other = load_people(lsp_file(tmp_path / 'joints.mat', 2, extended=extended), folder)
    assert (person.image.name, other.image.name) == (photo, photo.replace('1', '2'))
    assert LSP_ORDER == list(LSP_JOINTS)
    for number, name in enumerate(LSP_ORDER):
        assert person.joints[BODY19.index(name)].tolist() == (positions(14)[number] - 1).tolist()
    labelled = {BODY19.keypoints[i] for i in np.flatnonzero(person.weights)}
    assert labelled == set(LSP_ORDER)
    assert set(person.weights.tolist()) == {0, 1}
    assert person.source == ('lspet' if extended else 'lsp')
    # The box holds the joints, with a margin, in edge pixels.
    low, high = positions(14).min(0) - 0.5, positions(14).max(0) - 0.5
    assert (person.box[:2] < low - 5).all() and (person.box[2:] > high + 5).all()


def test_lsp_flags_mean_hidden_and_lspet_flags_mean_labelled(tmp_path):
    names = ('im0001.jpg', 'im0002.jpg', 'im00001.jpg', 'im00002.jpg')
    folder = photos(tmp_path / 'images', *names)
    flags = np.zeros((2, 14))
    flags[0, [0, 3]] = 1
    people = load_people(lsp_file(tmp_path / 'a.mat', 2, extended=False, flags=flags), folder)
    assert [p.weights.sum() for p in people] == [14, 14]
    people = load_people(lsp_file(tmp_path / 'b.mat', 2, extended=True, flags=1 - flags), folder)
    assert [p.weights.sum() for p in people] == [12, 14]
    person = people[0]
    unlabelled = [BODY19.index(LSP_ORDER[i]) for i in (0, 3)]
    assert not person.weights[unlabelled].any() and not person.joints[unlabelled].any()


def test_the_test_half_of_lsp_is_not_trained_on(tmp_path):
    path = lsp_file(tmp_path / 'joints.mat', 2000, extended=False)
    folder = photos(tmp_path / 'images')
    for number in range(1, 1001):
        (folder / f'im{number:04d}.jpg').touch()
    people, scenes = load_people(path, folder), load_scenes(path, folder)
    assert len(people) == len(scenes) == 1000
    assert {p.image.name for p in people} == {f'im{n:04d}.jpg' for n in range(1, 1001)}
    assert {p.source for p in people} | {s.source for s in scenes} == {'lsp'}


def mpii_entry(**extra: Any) -> dict[str, Any]:
    return {'image': 'a.jpg', 'joints': positions(16).tolist(), 'joints_vis': [1] * 16, **extra}


def mpii_release(path: Path) -> Path:
    """The official file with one picture of one person, and one of the test set."""

    def structures(entries: list[dict[str, Any]]) -> np.ndarray:
        fields = [(name, object) for name in entries[0]]
        return np.array([tuple(entry.values()) for entry in entries], dtype=fields)

    points = [{'id': i, 'x': x, 'y': y} for i, (x, y) in enumerate(positions(16).tolist())]
    person = {
        'x1': 10.0, 'y1': 10.0, 'x2': 40.0, 'y2': 50.0,
        'annopoints': {'point': structures(points)},
    }  # fmt: skip
    annolist = [
        {'image': {'name': 'a.jpg'}, 'annorect': structures([person])},
        {'image': {'name': 'secret.jpg'}, 'annorect': np.zeros((0, 0))},
    ]
    release = {'annolist': structures(annolist), 'img_train': np.array([1, 0])}
    scipy_io.savemat(path, {'RELEASE': release})
    return path


@pytest.mark.parametrize('kind', ['mpii.mat', 'train.json'])
def test_mpii_keeps_left_and_right(tmp_path, kind):
    folder = photos(tmp_path / 'images', 'a.jpg')
    if kind == 'mpii.mat':
        path = mpii_release(tmp_path / kind)
    else:
        path = tmp_path / kind
        path.write_text(json.dumps([mpii_entry()]))
    (person,) = load_people(path, folder)
    assert MPII_ORDER == list(MPII16.keypoints)
    for number, name in enumerate(MPII_ORDER):
        if name in BODY19.keypoints:
            where = person.joints[BODY19.index(name)]
            assert where.tolist() == (positions(16)[number] - 1).tolist()
    neck = positions(16)[[7, 8]].mean(axis=0) - 1
    assert person.joints[BODY19.index('neck')].tolist() == neck.tolist()
    unlabelled = {BODY19.keypoints[i] for i in np.flatnonzero(person.weights == 0)}
    assert unlabelled == {'nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear'}
    assert person.source == 'mpii'


def test_mpii_joints_that_are_not_labelled_carry_no_loss(tmp_path):
    folder = photos(tmp_path / 'images', 'a.jpg')
    visible = [1] * 16
    visible[7] = visible[11] = 0  # thorax, right_elbow
    (tmp_path / 'train.json').write_text(json.dumps([mpii_entry(joints_vis=visible)]))
    (person,) = load_people(tmp_path / 'train.json', folder)
    for name in ('neck', 'right_elbow'):
        assert person.weights[BODY19.index(name)] == 0
    assert person.weights.sum() == 12


def test_people_of_mpii_and_lsp_are_no_complete_scenes(tmp_path):
    folder = photos(tmp_path / 'images', 'a.jpg')
    (tmp_path / 'train.json').write_text(json.dumps([mpii_entry(), mpii_entry()]))
    (scene,) = load_scenes(tmp_path / 'train.json', folder)
    assert len(scene.boxes) == 2 and scene.boxes.dtype == np.float32
    assert not scene.complete


def coco_file(path: Path, count: int = 17, photo: str = 'a.jpg', **extra: Any) -> Path:
    keypoints = np.concatenate([positions(count), np.full((count, 1), 2.0)], axis=1)
    keypoints[3, 2] = 1
    keypoints[4] = 0
    person = {
        'id': 1, 'image_id': 7, 'category_id': 1, 'bbox': [10, 10, 150, 200], 'area': 9000,
        'num_keypoints': count - 1, 'keypoints': keypoints.ravel().tolist(),
    }  # fmt: skip
    chair = {'id': 2, 'image_id': 7, 'category_id': 62, 'bbox': [5, 5, 100, 100]}
    data = {
        'images': [{'id': 7, 'file_name': photo}],
        'annotations': [person, chair],
        'categories': [{'id': 1, 'name': 'person'}, {'id': 62, 'name': 'chair'}],
        **extra,
    }
    path.write_text(json.dumps(data))
    return path


def test_coco_fills_17_of_19(tmp_path):
    folder = photos(tmp_path / 'images', 'a.jpg')
    path = coco_file(tmp_path / 'instances.json')
    (person,) = load_people(path, folder)
    # The ear (v 1, hidden) counts as any other, the one that is not labelled (v 0) does not.
    assert person.weights.tolist() == [1] * 4 + [0] + [1] * 12 + [0, 0]
    assert person.joints[:4].tolist() == positions(17)[:4].tolist()
    (scene,) = load_scenes(path, folder)
    assert scene.boxes.tolist() == [[10, 10, 160, 210]]


def test_validation_reads_every_format_and_tests_on_lsps_test_half(tmp_path):
    pytest.importorskip('torch')
    from rmpe_ros.training.pose_training import PoseValidation

    folder = photos(tmp_path / 'images', 'a.jpg', 'im0001.jpg')
    coco = PoseValidation(coco_file(tmp_path / 'coco.json'), folder, (64, 48))
    assert coco.joints.shape == (1, 19, 2) and coco.labelled[0].sum() == 16
    assert not coco.labelled[0, 17:].any()
    narrow = PoseValidation(coco_file(tmp_path / 'coco.json'), folder, (64, 48), growth=0.15)
    assert narrow.transforms[0, 0, 0] == pytest.approx(coco.transforms[0, 0, 0] * 1.15 / 1.3)
    (tmp_path / 'valid.json').write_text(json.dumps([mpii_entry()]))
    mpii = PoseValidation(tmp_path / 'valid.json', folder, (64, 48))
    assert mpii.labelled[0].sum() == 14 and mpii.sources.tolist() == ['mpii']
    full = lsp_file(tmp_path / 'joints.mat', 2000, extended=False)
    with pytest.raises(ValueError, match=r'1000 of 1000 labelled photos.*im1001\.jpg'):
        PoseValidation(full, folder, (64, 48))


def data_file(folder: Path, train: str, *more: str) -> Path:
    path = folder / 'data.yaml'
    validation = 'validation: {annotations: coco.json, images: images}'
    path.write_text('\n'.join([f'train: [{train}]', validation, *more]))
    return path


@pytest.fixture
def three_formats(tmp_path):
    """One person of COCO, two of MPII and two of LSP Extended."""
    photos(tmp_path / 'images', 'a.jpg', 'im00001.jpg', 'im00002.jpg')
    coco_file(tmp_path / 'coco.json')
    (tmp_path / 'train.json').write_text(json.dumps([mpii_entry(), mpii_entry()]))
    lsp_file(tmp_path / 'joints.mat', 2, extended=True)
    return tmp_path


def shares(path: Path) -> dict[str, float]:
    """How often each source is drawn."""
    data = read_data_config(path)
    people = data.people()
    total: dict[str, float] = {}
    drawn = mixing_probabilities([p.source for p in people], data.people_mix)
    for person, share in zip(people, drawn, strict=True):
        total[person.source] = total.get(person.source, 0) + share
    return total


def test_files_are_mixed_by_weight(three_formats):
    entries = (
        '{annotations: coco.json, images: images, format: coco, weight: 0.5}, '
        '{annotations: train.json, images: images, weight: 0.3, source: mpii}, '
        '{annotations: joints.mat, images: images, weight: 0.2, source: sports}'
    )
    expected = {'coco': 0.5, 'mpii': 0.3, 'sports': 0.2}
    assert shares(data_file(three_formats, entries)) == pytest.approx(expected)
    data = read_data_config(three_formats / 'data.yaml')
    assert {s.source for s in data.scenes()} == set(expected)
    assert data.scenes_mix['sports'] == 0.2


def test_what_has_no_weight_shares_the_rest(three_formats):
    entries = (
        '{annotations: coco.json, images: images, weight: 1}, '
        '{annotations: train.json, images: images}, {annotations: joints.mat, images: images}'
    )
    found = shares(data_file(three_formats, entries, 'people_mix: {"*": 3.0}'))
    assert found == pytest.approx({'coco': 0.25, 'mpii': 0.375, 'lspet': 0.375})


ENTRY = '{annotations: coco.json, images: images'


@pytest.mark.parametrize(
    ('train', 'more', 'message'),
    [
        ('', '', 'must be a list of files'),
        ('coco.json', '', "lists 'coco.json'"),
        ('{annotations: coco.json}', '', r"lacks \['images'\]"),
        (ENTRY + ', kind: coco}', '', r"unknown keys \['kind'\]"),
        (ENTRY + ', format: yolo}', '', "format 'yolo'.*auto, coco, mpii, lsp"),
        (ENTRY + ', weight: -1}', '', 'weight of coco.json is -1'),
        (ENTRY + ', weight: 1}', 'people_mix: {coco: 0.5}', "'coco' two shares"),
        (f'{ENTRY}, weight: 1}}, {ENTRY}, weight: 2}}', '', "'coco' two shares"),
        (ENTRY + '}', 'people_mix: [coco]', 'each source its share'),
        (ENTRY + ', weight: .nan}', '', 'weight of coco.json is nan; expected a number'),
        (ENTRY + ', weight: .inf}', '', 'weight of coco.json is inf; expected a number'),
        ('[' * 1000, '', 'is no readable data file'),  # deeper than Python reads
        (ENTRY + '}', 'people_mix: {coco: much}', "people_mix of coco is 'much'"),
    ],
)
def test_mistakes_in_the_data_file_are_explained(three_formats, train, more, message):
    with pytest.raises(ValueError, match=message):
        read_data_config(data_file(three_formats, train, more))


@pytest.mark.parametrize(
    ('entry', 'message'),
    [
        ('annotations: train.json, images: images, format: lsp', 'holds MPII labels, not LSP'),
        ('annotations: joints.mat, images: images, format: mpii', 'holds LSP labels, not MPII'),
        ('annotations: train.json, images: images, format: coco', 'holds MPII labels, not COCO'),
        ('annotations: coco.json, images: nothing', r'1 of 1 labelled photos.*a\.jpg.*`images`'),
        ('annotations: nobody.json, images: images', 'five labelled joints'),
        ('annotations: sixteen.json, images: images', r'48 numbers.*17 \(coco17\) or 19'),
        ('annotations: named.json, images: images', 'says that its joints are nose, tail'),
        ('annotations: nameless.json, images: images', r'images\[0\]: "file_name" is missing'),
        ('annotations: broken.mat, images: images', 'is not a MATLAB file'),
    ],
)
def test_files_that_cannot_be_learned_from_are_explained(three_formats, entry, message):
    folder = three_formats
    (folder / 'nothing').mkdir()
    (folder / 'broken.mat').write_bytes(b'MATLAB 5.0' * 30)
    coco_file(folder / 'nobody.json', annotations=[])
    coco_file(folder / 'sixteen.json', 16)
    coco_file(
        folder / 'named.json',
        categories=[{'id': 1, 'name': 'person', 'keypoints': ['nose', 'tail']}],
    )
    coco_file(folder / 'nameless.json', images=[{'id': 7}])
    data = read_data_config(data_file(folder, f'{{{entry}}}'))
    with pytest.raises(ValueError, match=message):
        data.people()


def test_coco_with_its_joints_named_is_read(tmp_path):
    folder = photos(tmp_path / 'images', 'a.jpg')
    category = {'id': 1, 'name': 'person', 'keypoints': list(COCO17.keypoints)}
    assert len(load_people(coco_file(tmp_path / 'a.json', categories=[category]), folder)) == 1


def test_training_takes_the_people_that_evaluation_takes(tmp_path, caplog):
    folder = photos(tmp_path / 'images', 'a.jpg')
    path = coco_file(
        tmp_path / 'street.json',
        categories=[{'id': 1, 'name': 'Pedestrian'}, {'id': 62, 'name': 'dog'}],
    )
    assert len(load_people(path, folder)) == 1
    (scene,) = load_scenes(path, folder)
    assert scene.boxes.tolist() == [[10, 10, 160, 210]] and scene.complete
    assert 'annotations of other things than Pedestrian, left out: 1 (dog 1)' in caplog.text


def test_somebody_without_a_box_makes_a_photo_no_background(tmp_path):
    folder = photos(tmp_path / 'images', 'a.jpg')
    path = coco_file(tmp_path / 'a.json')
    data = json.loads(path.read_text())
    for box in ({}, {'bbox': []}, {'bbox': [float('nan'), 1, 2, 3]}):
        data['annotations'][0] = {**data['annotations'][0], 'bbox': None, **box}
        path.write_text(json.dumps(data))
        (scene,), (person,) = load_scenes(path, folder), load_people(path, folder)
        assert not scene.complete and np.isfinite(person.box).all()
        # Joints from (20, 30) to (132, 190), 16 pixels more on each side.
        assert person.box.tolist() == pytest.approx([4.5, 14.5, 148.5, 206.5])


@pytest.mark.parametrize(
    ('fields', 'says'),
    [
        ({'annotations': None}, '"annotations" is null'),
        ({'annotations': [{'category_id': 1, 'image_id': 7, 'score': 'x'}]}, r'"score" is .x.'),
        ({'images': [{'id': 7, 'file_name': 12}]}, '"file_name" is 12; expected text'),
        ({'images': [{'id': 2**63, 'file_name': 'a'}]}, '"id" is 92233720368547'),
    ],
)
def test_wrong_fields_are_refused_before_training(tmp_path, fields, says):
    folder = photos(tmp_path / 'images', 'a.jpg')
    path = coco_file(tmp_path / 'a.json', **fields)
    for load in (load_people, load_scenes):
        with pytest.raises(ValueError, match=rf'a\.json: .*{says}'):
            load(path, folder)


def test_a_source_may_be_named_for_teachers_people_too(tmp_path):
    folder = photos(tmp_path / 'images', 'a.jpg')
    teacher = [v for x, y in positions(17).tolist() for v in (x, y, 0.8)]
    person = {'id': 1, 'image_id': 7, 'bbox': [10, 10, 150, 200], 'teacher_keypoints': teacher}
    path = coco_file(tmp_path / 'street.json', annotations=[person], categories=[])
    (own,) = load_people(path, folder)
    (named,) = load_people(path, folder, source='x', teacher_weight=0.5)
    assert (own.source, named.source) == ('street:teacher', 'x')
    assert named.weights.tolist() == pytest.approx([0.4] * 17 + [0, 0])


def test_a_photo_is_read_as_predict_reads_it(tmp_path: Path):
    """RGB and upright: 90 red rows stand to the left of the others after a turn to the right."""
    picture = np.zeros((240, 320, 3), np.uint8)
    picture[150:] = 0, 0, 255  # BGR
    done, encoded = cv2.imencode('.jpg', picture)
    assert done
    turned = b'Exif\0\0MM\0*' + bytes([0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0])
    segment = b'\xff\xe1' + (len(turned) + 6).to_bytes(2, 'big') + turned + bytes(4)
    data = encoded.tobytes()
    (tmp_path / 'turned.jpg').write_bytes(data[:2] + segment + data[2:])
    read = read_photo(tmp_path / 'turned.jpg')
    assert read.shape == (320, 240, 3)
    assert (np.abs(read[:, :85].astype(int) - (255, 0, 0)) < 10).all()


def test_photos_that_must_not_be_learnt_are_refused(tmp_path: Path):
    """OpenCV alone fills what is lost with grey, and unpacks whatever a header declares."""
    path = tmp_path / 'photo.jpg'
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    data = cv2.imencode('.jpg', noise)[1].tobytes()
    for spoilt, reason in (
        (data[: len(data) // 2], 'truncated'),
        (data[: len(data) // 2] + b'\xff\xd9', 'a part of the picture is lost'),
        (data.replace(bytes([8, 0, 240, 1, 64]), bytes([8, 78, 32, 78, 32])), '20000x20000 pixels'),
    ):
        path.write_bytes(spoilt)
        with pytest.raises(ValueError, match=rf'photo\.jpg: .*{reason}.*out of the labels'):
            read_photo(path)
    with pytest.raises(ValueError, match='cannot be read: No such file'):
        read_photo(tmp_path / 'none.jpg')
