# SPDX-License-Identifier: Apache-2.0
"""Foxglove annotations, made with classes of foxglove's definitions, not its package."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from std_msgs.msg import Header

from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.nodes.inputs.rclpy_messages import poses_to_message
from rmpe_ros.nodes.views.annotations import image_annotations

pytestmark = pytest.mark.ros

DEFINITIONS = {
    'ImageAnnotations': 'CircleAnnotation[] circles|PointsAnnotation[] points|'
    'TextAnnotation[] texts',
    'CircleAnnotation': 'Point2 position|float64 diameter',
    'PointsAnnotation': 'builtin_interfaces/Time timestamp|uint8 type|Point2[] points|'
    'Color outline_color|Color[] outline_colors|Color fill_color|float64 thickness',
    'TextAnnotation': 'builtin_interfaces/Time timestamp|Point2 position|string text|'
    'float64 font_size|Color text_color|Color background_color',
    'Point2': 'float64 x|float64 y',
    'Color': 'float64 r|float64 g|float64 b|float64 a',
}


@pytest.fixture(scope='module')
def store():
    made = get_typestore(Stores.LATEST)
    for name, fields in DEFINITIONS.items():
        text = fields.replace('|', '\n')
        made.register(get_types_from_msg(text, f'foxglove_msgs/msg/{name}'))
    return made


@pytest.fixture(scope='module')
def classes(store):
    """Like the module foxglove_msgs.msg: fields that are left out are empty."""

    def with_defaults(name):
        kind = store.types[f'foxglove_msgs/msg/{name}']
        return lambda **fields: kind(**{'circles': [], **fields} if 'Image' in name else fields)

    made = SimpleNamespace(**{name: with_defaults(name) for name in DEFINITIONS})
    points = made.PointsAnnotation
    made.PointsAnnotation = lambda **fields: points(outline_colors=[], **fields)
    return made


def message(scores, tracks):
    count = len(tracks)
    poses = Poses(
        BODY19,
        np.random.default_rng(0).uniform(0, 400, (count, 19, 2)),
        np.full((count, 19), 1.0) * np.array(scores).reshape(-1, 1),
        np.tile(np.float32([10, 20, 110, 420]), (count, 1)),
        np.full(count, 0.75),
        np.array(tracks, np.int32),
    )
    return poses_to_message(poses, Header(), image_size=(480, 640))


def test_people_become_limbs_joints_and_a_label(classes, store):
    sent = message([0.9, 0.9], [5, -1])
    annotations = image_annotations(sent, BODY19, classes)
    store.serialize_cdr(annotations, 'foxglove_msgs/msg/ImageAnnotations')  # checks all types
    limbs, joints = annotations.points[:2]
    assert (limbs.type, joints.type) == (4, 1)
    assert len(limbs.points) == 2 * len(BODY19.edges)
    assert len(joints.points) == 19
    first = sent.people[0].keypoints[0]
    # Our (0, 0) is the centre of the top-left pixel, Foxglove's its corner.
    assert (joints.points[0].x, joints.points[0].y) == (first.x + 0.5, first.y + 0.5)
    assert limbs.thickness == pytest.approx(0.012 * 400)
    assert [text.text for text in annotations.texts] == ['5: 0.75', '0.75']
    assert limbs.outline_color != annotations.points[2].outline_color


def test_unsure_joints_are_left_out_and_nobody_clears_the_picture(classes):
    annotations = image_annotations(message([0.1], [0]), BODY19, classes)
    assert annotations.points == []
    assert len(annotations.texts) == 1
    nobody = image_annotations(message([], []), BODY19, classes)
    assert (nobody.points, nobody.texts) == ([], [])


def test_the_real_classes_take_it():
    real = pytest.importorskip('foxglove_msgs.msg', reason='needs foxglove_msgs')
    annotations = image_annotations(message([0.9], [3]), BODY19, real)
    assert isinstance(annotations, real.ImageAnnotations)
    assert annotations.points[0].type == real.PointsAnnotation.LINE_LIST
    assert annotations.points[1].type == real.PointsAnnotation.POINTS
