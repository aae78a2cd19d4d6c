# SPDX-License-Identifier: Apache-2.0
"""Training: what is read and drawn, and what the detector's loss makes of it."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip('torch')

from rmpe_ros.core.boxes import box_iou
from rmpe_ros.evaluation.coco_file import CocoPerson, read_coco
from rmpe_ros.networks.person_detector import DetectorGraph, DetectorNetwork
from rmpe_ros.training.data_config import read_data_config
from rmpe_ros.training.datasets import (
    load_people,
    load_scenes,
    mixing_probabilities,
    person_joints,
)
from rmpe_ros.training.detector_training import (
    SceneExamples,
    assign_cells,
    cell_points,
    detector_loss,
    generalised_iou,
    pairwise_iou,
)


def annotation(**extra) -> dict:
    keypoints = [0.0] * 57
    for joint in range(5, 17):
        keypoints[3 * joint : 3 * joint + 3] = [10.0 * joint, 5.0 * joint, 2]
    teacher = [1.0, 2.0, 0.9] * 17
    return {'bbox': [0, 0, 100, 200], 'keypoints': keypoints, 'teacher_keypoints': teacher, **extra}


def read_person(**extra) -> CocoPerson:
    """The annotation as the reader of labels gives it."""
    images = [{'id': 1, 'file_name': 'a.jpg'}]
    data = {'images': images, 'annotations': [{'image_id': 1, **extra}]}
    return read_coco(data, Path('labels.json')).people[0]


def test_teacher_fills_only_the_face_it_was_right_about():
    _, weights = person_joints(read_person(**annotation(teacher_face_ok=True)), teacher_weight=0.5)
    assert weights[:5] == pytest.approx([0.45] * 5)
    assert (weights[5:17] == 1).all() and (weights[17:] == 0).all()
    _, weights = person_joints(read_person(**annotation(teacher_face_ok=False)), teacher_weight=0.5)
    assert (weights[:5] == 0).all()


def test_without_human_labels_the_teacher_labels_all_it_is_sure_of():
    teacher = [1.0, 2.0, 0.9] * 10 + [1.0, 2.0, 0.3] * 7
    joints, weights = person_joints(
        read_person(bbox=[0, 0, 9, 9], teacher_keypoints=teacher), teacher_weight=0.5
    )
    assert (weights[:10] > 0).all() and (weights[10:] == 0).all()
    assert joints[0].tolist() == [1, 2]


@pytest.fixture
def data_folder(tmp_path):
    """Two photos: one fully labelled, one where others may be about."""
    rng = np.random.default_rng(0)
    (tmp_path / 'images').mkdir()
    for name in ('a.jpg', 'b.jpg'):
        cv2.imwrite(str(tmp_path / 'images' / name), rng.integers(0, 255, (120, 160, 3), np.uint8))
    images = [
        {'id': 1, 'file_name': 'a.jpg', 'source': 'good', 'all_persons_labelled': True},
        {'id': 2, 'file_name': 'b.jpg', 'source': 'poor', 'all_persons_labelled': False},
    ]
    people = [
        annotation(id=1, image_id=1, bbox=[20, 10, 40, 90]),
        annotation(id=2, image_id=2, bbox=[60, 20, 50, 80], score=0.9),
        annotation(id=3, image_id=2, bbox=[5, 5, 40, 60], score=0.3),
    ]
    (tmp_path / 'all.json').write_text(json.dumps({'images': images, 'annotations': people}))
    entry = '{annotations: all.json, images: images}'
    (tmp_path / 'data.yaml').write_text(
        f"train: [{entry}]\nvalidation: {entry}\npeople_mix: {{'*': 1.0}}\n"
    )
    return tmp_path


def test_doubtful_people_are_no_examples_but_regions_to_ignore(data_folder):
    people = load_people(data_folder / 'all.json', data_folder / 'images')
    assert [p.image.name for p in people] == ['a.jpg', 'b.jpg']
    good, poor = load_scenes(data_folder / 'all.json', data_folder / 'images')
    assert good.complete and not poor.complete
    assert len(good.boxes) == 1 and len(poor.boxes) == 1 and len(poor.ignore) == 1
    assert good.boxes[0].tolist() == [20, 10, 60, 100]


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('train: []', 'lacks'),
        ('train: []\nvalidation: {}\nmix: 1', 'unknown keys'),
        ('just words', 'must be a mapping'),
        (
            'train: [{annotations: no.json, images: images}]\n'
            'validation: {annotations: no.json, images: images}',
            'not there',
        ),
    ],
)
def test_bad_data_files_are_explained(data_folder, text, message):
    (data_folder / 'bad.yaml').write_text(text)
    with pytest.raises(ValueError, match=message):
        read_data_config(data_folder / 'bad.yaml')


def test_mixing_gives_sources_their_share():
    sources = ['a'] * 90 + ['b'] * 10 + ['c'] * 5 + ['d'] * 5
    probabilities = mixing_probabilities(sources, {'a': 0.5, 'b': 0.25, '*': 0.25})
    assert probabilities[:90].sum() == pytest.approx(0.5)
    assert probabilities[90:100].sum() == pytest.approx(0.25)
    assert probabilities[100:].sum() == pytest.approx(0.25)
    with pytest.raises(ValueError, match='no example'):
        mixing_probabilities(sources, {'z': 1.0})


def test_scene_examples_have_fixed_shapes_and_boxes_inside(data_folder):
    data = read_data_config(data_folder / 'data.yaml')
    examples = SceneExamples(data.scenes(), {'*': 1.0}, (128, 160), mosaic=0.5)
    for seed in range(20):
        example = examples(np.random.default_rng(seed))
        assert example['images'].shape == (128, 160, 3) and example['images'].dtype == np.uint8
        assert example['background'].shape == (16, 20)
        boxes = example['boxes'][example['boxes'].any(axis=1)]
        assert (boxes >= 0).all() and (boxes <= [160, 128, 160, 128]).all()


def test_giou_worked_values():
    a = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 1, 1]])
    b = torch.tensor([[0.0, 0, 2, 2], [1, 1, 3, 3], [2, 0, 3, 1]])
    # 1; 1/7 - 2/9; 0 - 1/3
    assert generalised_iou(a, b).tolist() == pytest.approx([1, 1 / 7 - 2 / 9, -1 / 3])


def test_pairwise_iou_agrees_with_the_runtimes():
    rng = np.random.default_rng(0)
    a, b = (np.sort(rng.uniform(0, 50, (9, 2, 2)), axis=1).reshape(9, 4) for _ in range(2))
    found = pairwise_iou(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    assert found == pytest.approx(box_iou(a, b), abs=1e-6)


def test_everybody_gets_cells_inside_them():
    """A tall and a small person: each has cells, on a level that fits, and no cell two owners."""
    truth = torch.tensor([[10.0, 4, 90, 124], [100.0, 96, 112, 120]])
    points, strides = cell_points((128, 128), torch.device('cpu'))
    boxes = torch.cat([points - 2 * strides[:, None], points + 2 * strides[:, None]], dim=1)
    owner, iou = assign_cells(torch.zeros(len(points)), boxes, truth, (128, 128))
    for person in (0, 1):
        mine = owner == person
        assert mine.any()
        x, y = points[mine].unbind(1)
        low, high = truth[person, :2], truth[person, 2:]
        assert ((x > low[0]) & (x < high[0]) & (y > low[1]) & (y < high[1])).all()
        assert (iou[mine] > 0).all()
    assert strides[owner == 0].mean() > strides[owner == 1].mean()
    assert (iou[owner < 0] == 0).all()


def tiny_batch(known: bool):
    torch.manual_seed(0)
    return {
        'images': torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8),
        'boxes': torch.zeros(2, 4, 4),
        'ignore': torch.zeros(2, 4, 4),
        'background': torch.full((2, 8, 8), known),
    }


def test_unknown_background_carries_no_loss():
    network = DetectorNetwork(width=4, channels=8)
    assert detector_loss(network, tiny_batch(known=False))['loss'] == 0
    assert detector_loss(network, tiny_batch(known=True))['loss'] > 0


def test_doubtful_people_carry_no_loss():
    batch = tiny_batch(known=True)
    batch['ignore'][:, 0] = torch.tensor([0.0, 0, 64, 64])
    assert detector_loss(DetectorNetwork(width=4, channels=8), batch)['loss'] == 0


def test_detector_learns_one_picture():
    torch.manual_seed(0)
    network = DetectorNetwork(width=4, channels=8)
    batch = tiny_batch(known=True)
    batch['boxes'][:, 0] = torch.tensor([8.0, 8, 40, 56])
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(75):
        optimizer.zero_grad()
        detector_loss(network, batch)['loss'].backward()
        optimizer.step()
    with torch.no_grad():
        boxes, scores = DetectorGraph(network, 5)(batch['images'][:1])
    assert box_iou(boxes[0, :1].numpy(), np.float32([[8, 8, 40, 56]]))[0, 0] > 0.7
    assert scores[0, 0] > 0.25  # without training 0.01
