# SPDX-License-Identifier: Apache-2.0
"""The shipped models on real photos: the people are found, and their joints lie where they are.

The photos are those of the demo; `make test` puts them into .build/photos.
"""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from rmpe_ros.core.boxes import box_iou
from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.io.images import load_image
from rmpe_ros.models import SHIPPED_MODELS
from rmpe_ros.pipeline import PosePipeline

ROOT = Path(__file__).parents[1]
MODELS = ROOT / 'models'
PHOTOS = ROOT / '.build' / 'photos'
pytestmark = pytest.mark.skipif(
    not PHOTOS.is_dir(), reason='no photos; python3 scripts/bootstrap.py --with demo brings them'
)

# Labelled by hand, in pixels of the photo.
ASTRONAUT = {
    'nose': (224, 121),
    'left_eye': (243, 101),
    'right_eye': (208, 99),
    'left_shoulder': (320, 268),
    'right_shoulder': (90, 258),
}
BUS_PEOPLE = ([50, 398, 245, 905], [222, 405, 345, 862], [669, 380, 810, 880])


@pytest.fixture(scope='module', params=[name for name in SHIPPED_MODELS if name != 'detector'])
def pipeline(request):
    with PosePipeline(MODELS / 'detector.onnx', MODELS / f'{request.param}.onnx') as pipeline:
        yield pipeline


@pytest.mark.parametrize('name', SHIPPED_MODELS)
def test_models_tell_where_they_come_from(name):
    model = onnx.load(MODELS / f'{name}.onnx')
    metadata = {each.key: each.value for each in model.metadata_props}
    assert metadata['rmpe.name'] == name
    for key in ('rmpe.version', 'rmpe.training_data', 'rmpe.license'):
        assert metadata[key] not in ('', 'not stated')
    card = (MODELS / f'{name}.md').read_text()
    assert metadata['rmpe.version'] in card
    if name != 'detector':
        assert json.loads(metadata['rmpe.skeleton'])['name'] == 'body19'


def test_joints_lie_where_they_are(pipeline):
    poses = pipeline(load_image(PHOTOS / 'astronaut.png'))
    astronaut = poses.keypoints[0]
    for name, truth in ASTRONAUT.items():
        assert np.linalg.norm(astronaut[BODY19.index(name)] - truth) < 30, name


def test_left_and_right_are_the_persons_own(pipeline):
    """A person who faces the camera has her left on the picture's right; mirrored, too."""
    image = load_image(PHOTOS / 'astronaut.png')
    for picture in (image, np.ascontiguousarray(image[:, ::-1])):
        x = pipeline(picture).keypoints[0, :, 0]
        for part in ('eye', 'shoulder', 'elbow'):
            assert x[BODY19.index(f'left_{part}')] > x[BODY19.index(f'right_{part}')], part


def test_everybody_in_the_street_is_found(pipeline):
    poses = pipeline(load_image(PHOTOS / 'bus.jpg'))
    overlap = box_iou(np.float32(BUS_PEOPLE), poses.boxes)
    assert (overlap.max(axis=1) > 0.6).all()
    # One pose each: what is found twice, pose NMS removes.
    assert ((overlap > 0.6).sum(axis=1) == 1).all()
    upright = poses.keypoints[overlap.argmax(axis=1)[:2]]
    heights = [upright[:, BODY19.index(n), 1] for n in ('nose', 'left_hip', 'left_ankle')]
    assert (np.diff(heights, axis=0) > 0).all()


@pytest.mark.parametrize('name', ['camera.png', 'grace_hopper.jpg', 'zidane.jpg'])
def test_every_photo_of_people_has_one(pipeline, name):
    poses = pipeline(load_image(PHOTOS / name))
    assert len(poses) >= 1
    assert poses.scores[0] > 0.2


@pytest.mark.parametrize('value', [0, 114, 255])
def test_nobody_is_seen_where_nothing_is(pipeline, value):
    assert len(pipeline(np.full((480, 640, 3), value, np.uint8))) == 0


def test_theta_is_a_gentle_correction(pipeline):
    """The STN moves and zooms the crop, but it neither flips it nor loses the person."""
    image = load_image(PHOTOS / 'zidane.jpg')
    boxes, _ = pipeline.detector(image)
    crops, _ = pipeline.estimator.crop(image, boxes)
    theta = pipeline.estimator.engine({'crops': crops})['theta']
    determinant = theta[:, 0, 0] * theta[:, 1, 1] - theta[:, 0, 1] * theta[:, 1, 0]
    assert (determinant > 0.2).all() and (determinant < 2.5).all()
