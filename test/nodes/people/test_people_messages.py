# SPDX-License-Identifier: Apache-2.0
"""People in space as messages, as markers and in the messages of other packages."""

import sys
from dataclasses import fields, replace

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')
pytest.importorskip('rmpe_ros.msg', reason='needs the built messages of this package')

from rclpy.serialization import serialize_message
from rmpe_ros.msg import PersonState
from std_msgs.msg import Header

from rmpe_ros.core.people.people_state import Axes, People, rotation_quaternion
from rmpe_ros.nodes.people.people_bridges import BRIDGES, make_bridges
from rmpe_ros.nodes.people.people_messages import PeopleMessages
from rmpe_ros.nodes.views.people_markers import people_markers

pytestmark = pytest.mark.ros

HEADER = Header(frame_id='odom')
MAP = Axes.of_map()


def people(count=3, yaw=0.5):
    """Somebody tracked, somebody occluded, and somebody of whom little is known."""
    rng = np.random.default_rng(0)
    root = rng.normal(0, 0.1, (count, 12, 12))
    return People(
        stamp=10.0,
        ids=np.arange(count) + 4,
        states=rng.normal(0, 1, (count, 12)),
        covariances=root @ root.transpose(0, 2, 1) + 0.01 * np.eye(12),
        yaws=np.full(count, yaw),
        yaw_variances=np.array([0.04, 0.2, np.inf])[:count],
        first_seen=np.array([1.0, 2.0, 9.9])[:count],
        last_seen=np.array([10.0, 8.5, 9.9])[:count],
        sights=np.array([90, 40, 1])[:count],
        image_ids=np.array([7, -1, 2], np.int32)[:count],
        boxes=rng.uniform(0, 400, (count, 4)).astype(np.float32),
        scores=np.float32([0.9, 0.8, 0.3])[:count],
        methods=np.array([0, 1, -1])[:count],
        missed=np.zeros(count, np.int64),
        strays=np.zeros(count, np.int64),
        heights=np.zeros(count),
        height_variances=np.full(count, np.inf),
        last_heights=np.zeros(count),
        hiders=np.full(count, np.nan),
        doubtful=np.zeros(count, bool),
        colours=np.zeros((count, 6)),
        colour_variances=np.full((count, 6), np.inf),
    )


def crowd(count):
    """So many of the first one."""
    one = people(1)
    rows = {
        each.name: np.repeat(getattr(one, each.name), count, axis=0)
        for each in fields(one)
        if isinstance(getattr(one, each.name), np.ndarray)
    }
    return replace(one, **rows | {'ids': np.arange(count)})


def turned(quaternion, vector):
    """`vector` after the rotation of a message's quaternion."""
    parts = np.array([quaternion.x, quaternion.y, quaternion.z])
    cross = 2 * np.cross(parts, vector)
    return vector + quaternion.w * cross + np.cross(parts, cross)


def test_every_field():
    found = people()
    message = PeopleMessages().make(found, HEADER, MAP, problem='no TF')
    assert (message.header, message.problem) == (HEADER, 'no TF')
    tracked, occluded, tentative = message.people
    assert [each.track_id for each in message.people] == [4, 5, 6]
    assert [each.state for each in message.people] == [
        PersonState.TRACKED,
        PersonState.OCCLUDED,
        PersonState.TENTATIVE,
    ]
    assert [each.method for each in message.people] == ['depth', 'ground', '']
    assert (tracked.age, tracked.unseen) == pytest.approx((9, 0))
    assert (occluded.age, occluded.unseen) == pytest.approx((8, 1.5))
    assert (tracked.image_track_id, occluded.image_track_id) == (7, -1)
    assert tracked.box.tolist() == found.boxes[0].tolist()
    assert (tracked.yaw, tracked.yaw_variance) == pytest.approx((0.5, 0.04))
    assert np.isnan([tentative.yaw, tentative.yaw_variance]).all()
    place, speed = tracked.pose.pose.position, tracked.velocity.twist.linear
    assert [place.x, place.y, place.z, speed.x, speed.y, speed.z] == found.states[0, :6].tolist()
    pose = tracked.pose.covariance.reshape(6, 6)
    assert pose[:3, :3] == pytest.approx(found.covariances[0, :3, :3])
    assert pose[5, 5] == pytest.approx(0.04)
    assert (np.linalg.eigvalsh(pose) > 0).all()
    twist = tracked.velocity.covariance.reshape(6, 6)
    assert twist[:3, :3] == pytest.approx(found.covariances[0, 3:6, 3:6])
    # Each person has numbers of her own.
    assert tracked.pose is not occluded.pose


def test_the_next_message_is_as_if_it_were_the_first():
    messages = PeopleMessages()
    for count, yaw in ((3, 0.5), (1, -2.0), (2, 1.0)):
        found = people(count, yaw)
        made = messages.make(found, HEADER, MAP, problem=f'{count}')
        expected = PeopleMessages().make(found, HEADER, MAP, problem=f'{count}')
        assert str(made) == str(expected)  # NaN is not equal to itself


@pytest.mark.parametrize(
    'axes', [MAP, Axes.of_optical(), Axes.of_optical(np.array([0, -0.8, -0.6]))]
)
@pytest.mark.parametrize('yaw', [-3.0, -1.0, 0.0, 2.0])
def test_the_orientation_faces_where_the_yaw_says(axes, yaw):
    (person,) = PeopleMessages().make(people(1, yaw), HEADER, axes).people
    forward = turned(person.pose.pose.orientation, np.array([1.0, 0, 0]))
    assert axes.yaw(forward) == pytest.approx(yaw)
    assert turned(person.pose.pose.orientation, np.array([0, 0, 1.0])) == pytest.approx(axes.up)


def test_quaternions_of_rotations():
    rng = np.random.default_rng(1)
    for vector in [np.zeros(3), np.array([np.pi, 0, 0]), *rng.normal(0, 2, (20, 3))]:
        matrix, _ = cv2.Rodrigues(vector)
        x, y, z, w = rotation_quaternion(matrix)
        half = np.linalg.norm(vector) / 2
        assert abs(w) == pytest.approx(abs(np.cos(half)), abs=1e-6)
        again, _ = cv2.Rodrigues(
            2
            * np.arctan2(np.hypot(np.hypot(x, y), z), w)
            * np.array([x, y, z])
            / max(np.hypot(np.hypot(x, y), z), 1e-12)
        )
        assert again == pytest.approx(matrix, abs=1e-6)


def test_markers_begin_by_deleting_and_show_each_person():
    message = PeopleMessages().make(people(), HEADER, MAP)
    markers = people_markers(message).markers
    assert markers[0].action == markers[0].DELETEALL
    names = {(each.ns, each.id) for each in markers[1:]}
    assert {('position', 4), ('velocity', 4), ('heading', 4), ('id', 4)} <= names
    assert ('heading', 6) not in names
    assert all(each.header == HEADER for each in markers)
    ellipsoid = next(each for each in markers if each.ns == 'position')
    sizes = (np.array([ellipsoid.scale.x, ellipsoid.scale.y, ellipsoid.scale.z]) - 0.02) / 5.6
    matrix = np.stack([turned(ellipsoid.pose.orientation, axis) for axis in np.eye(3)], axis=1)
    covariance = message.people[0].pose.covariance.reshape(6, 6)[:3, :3]
    assert matrix @ np.diag(sizes**2) @ matrix.T == pytest.approx(covariance, abs=1e-9)
    assert len(people_markers(PeopleMessages().make(People.nobody(0.0), HEADER, MAP)).markers) == 1


class Recorder:
    """A node's publishers, as far as bridges need them, that keep what is published."""

    def __init__(self, to_bytes):
        self.topics, self.published, self._to_bytes = set(), {}, to_bytes

    def create_publisher(self, _kind, topic, _qos):
        recorder = self
        self.topics.add(topic)

        class Publisher:
            def publish(self, message):
                # The types of geometry_msgs are checked here, those of made messages now.
                assert len(recorder._to_bytes(message)) > 0
                recorder.published[topic] = message

        Publisher.topic = topic
        return Publisher()

    def destroy_publisher(self, publisher):
        self.topics.remove(publisher.topic)
        return True


@pytest.fixture
def bridged(foreign_messages, monkeypatch):
    """Gives a bridge of a name with its recorder, and a function that makes it publish people."""

    def to_bytes(message, made):
        kind = type(message)
        return (
            made(message) if kind.__module__.startswith('rosbags') else serialize_message(message)
        )

    def make(name):
        package = BRIDGES[name][0]
        module, made = foreign_messages(package)
        monkeypatch.setitem(sys.modules, f'{package}.msg', module)
        node = Recorder(lambda message: to_bytes(message, made))
        (bridge,) = make_bridges(node, [name])

        def publish(found, axes=MAP):
            image = Header(frame_id='camera')
            bridge.publish(PeopleMessages().make(found, HEADER, axes), image)
            return node.published

        return bridge, node, publish

    return make


def test_people_msgs(bridged):
    _, _, publish = bridged('people_msgs')
    found = people()
    message = publish(found)['people/people_msgs']
    assert message.header == HEADER
    assert [person.name for person in message.people] == ['4', '5']
    person = message.people[0]
    place, speed = person.position, person.velocity
    assert [place.x, place.y, place.z, speed.x, speed.y, speed.z] == found.states[0, :6].tolist()
    assert person.reliability == pytest.approx(0.9)


def test_vision_msgs(bridged):
    _, _, publish = bridged('vision_msgs')
    found = people()
    published = publish(found)
    message = published['people/detections_3d']
    assert message.header == HEADER
    assert [(each.id, each.header) for each in message.detections] == [
        ('4', HEADER),
        ('5', HEADER),
    ]
    (result,) = message.detections[0].results
    assert result.hypothesis.class_id == 'person'
    assert result.hypothesis.score == pytest.approx(0.9)
    assert result.pose.pose.position.z == found.states[0, 2]
    covariance = np.reshape(result.pose.covariance, (6, 6))[:3, :3]
    assert covariance == pytest.approx(found.covariances[0, :3, :3])
    message = published['people/detections_2d']
    assert message.header.frame_id == 'camera'
    (flat,) = message.detections
    assert (flat.id, flat.header.frame_id) == ('4', 'camera')
    x1, _, x2, _ = found.boxes[0]
    assert flat.bbox.center.position.x == pytest.approx((x1 + x2) / 2)
    assert flat.bbox.size_x == pytest.approx(x2 - x1)


def test_a_detection_in_the_image_has_no_pose_of_another_frame(bridged):
    _, _, publish = bridged('vision_msgs')
    (flat,) = publish(people())['people/detections_2d'].detections
    (result,) = flat.results
    assert result.hypothesis.score == pytest.approx(0.9)
    place = result.pose.pose.position
    assert (place.x, place.y, place.z) == (0, 0, 0)
    assert not np.any(result.pose.covariance)


@pytest.mark.parametrize('axes', [MAP, Axes.of_optical()])
def test_the_box_in_space_is_around_somebody_who_stands(bridged, axes):
    _, _, publish = bridged('vision_msgs')
    (solid,) = publish(people(1), axes)['people/detections_3d'].detections
    trunk, center = solid.results[0].pose.pose, solid.bbox.center
    assert (center.orientation, solid.bbox.size.z) == (trunk.orientation, 1.7)
    lower = np.array([getattr(trunk.position, k) - getattr(center.position, k) for k in 'xyz'])
    # The trunk's middle is 1.15 m above the floor: half of 1.7 m, and this.
    assert lower == pytest.approx(0.3 * axes.up)


def test_hri_msgs(bridged):
    bridge, node, publish = bridged('hri_msgs')
    found = people()
    published = publish(found)
    assert list(published['/humans/bodies/tracked'].ids) == ['body_4', 'body_5']
    assert published['/humans/bodies/tracked'].header == HEADER
    place = published['/humans/bodies/body_4/position']
    assert (place.header, place.point.x) == (HEADER, found.states[0, 0])
    assert published['/humans/bodies/body_5/velocity'].twist.linear.x == found.states[1, 3]
    assert len(node.topics) == 5
    publish(People.nobody(11.0))
    assert list(published['/humans/bodies/tracked'].ids) == []
    assert node.topics == {'/humans/bodies/tracked'}
    publish(found)
    bridge.stop()
    assert list(published['/humans/bodies/tracked'].ids) == []


def test_a_crowd_has_so_many_topics_of_bodies_and_no_more(bridged):
    _, node, publish = bridged('hri_msgs')
    published = publish(crowd(300))
    assert len(published['/humans/bodies/tracked'].ids) == 100
    assert len(node.topics) == 201


def test_tf_frames(bridged):
    _, _, publish = bridged('tf')
    found = people()
    first, second = publish(found)['/tf'].transforms
    assert (first.child_frame_id, second.child_frame_id) == ('person_4', 'person_5')
    assert first.header == HEADER
    assert first.transform.translation.y == found.states[0, 1]
    forward = turned(first.transform.rotation, np.array([1.0, 0, 0]))
    assert np.arctan2(forward[1], forward[0]) == pytest.approx(0.5)


def test_no_bridges_and_unknown_ones():
    assert make_bridges(Recorder(len), ['']) == []
    with pytest.raises(ValueError, match="unknown bridge 'sonar'; known are people_msgs"):
        make_bridges(Recorder(len), ['sonar'])
