# SPDX-License-Identifier: Apache-2.0
"""One message must not end a node: odd messages on every subscription, and it still answers."""

import array
import copy
import importlib.util
from functools import partial

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from rmpe_ros.msg import PersonPoseArray, PersonStateArray
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from rmpe_ros.core.skeletons import BODY19, Skeleton
from rmpe_ros.nodes.inputs.rclpy_messages import (
    poses_to_message,
    rgb_to_compressed,
    rgb_to_image,
    skeleton_to_message,
)
from rmpe_ros.nodes.inputs.stamp_matcher import header_key

from .conftest import new_header
from .odd_messages import odd_message

MESSAGES_FOR_A_NODE = 700
# Of every image: odd messages are copies of sound ones, value by value.
HEIGHT, WIDTH = 120, 160
STICK = Skeleton('stick', ('low', 'high'), ((0, 1),), (), (0.1, 0.1))
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def camera_info(**fields):
    info = CameraInfo(width=WIDTH, height=HEIGHT, distortion_model='plumb_bob', d=[0.0] * 5)
    info.k = [125.0, 0.0, 79.5, 0.0, 125.0, 59.5, 0.0, 0.0, 1.0]
    for name, value in fields.items():
        setattr(info, name, value)
    return info


def depth_image(header):
    values = np.full((HEIGHT, WIDTH), 2000, '<u2')
    data = array.array('B', values.tobytes())
    size = {'height': HEIGHT, 'width': WIDTH, 'step': 2 * WIDTH}
    return Image(header=header, encoding='16UC1', data=data, **size)


class Inputs:
    """Sound messages for every topic that a node subscribes to, and publishers of them."""

    def __init__(self, peer, pipeline, image, space):
        self.peer, self.space, self.image = peer, space, image
        self.poses = pipeline(image)
        self._publishers = {}

    def people(self, header):
        return poses_to_message(self.poses, header, image_size=(HEIGHT, WIDTH))

    def sound(self):
        """By topic, with the subscription's QoS."""
        header = new_header()
        skeleton = skeleton_to_message(STICK)
        return {
            'image_raw': (rgb_to_image(self.image, header), qos_profile_sensor_data),
            'image_raw/compressed': (
                rgb_to_compressed(self.image, header),
                qos_profile_sensor_data,
            ),
            'poses': (self.people(header), 10),
            'poses_3d': (self.people(header), 10),
            'depth': (depth_image(header), qos_profile_sensor_data),
            'skeleton': (skeleton, LATCHED),
            'camera_info': (camera_info(header=header), qos_profile_sensor_data),
        }

    def publish(self, topic, message, qos=10):
        if topic not in self._publishers:
            publisher = self.peer.node.create_publisher(
                type(message), f'/{self.space}/{topic}', qos
            )
            self.peer.wait_for(publisher.get_subscription_count, f'a reader of {topic}')
            self._publishers[topic] = publisher
        self._publishers[topic].publish(message)


@pytest.fixture
def inputs(peer, pipeline, two_people, request):
    image = cv2.resize(two_people, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return Inputs(peer, pipeline, image, f'odd{abs(hash(request.node.name)) % 10**6}')


def answers(peer, received, publish, what):
    """Publish sound messages until one of them is answered."""
    keys = set()

    def answer():
        header = new_header()
        keys.add(header_key(header))
        publish(header)
        peer.spin_for(0.2)
        return next((each for each in received if header_key(each.header) in keys), None)

    return peer.wait_for(answer, what)


def fuzz(inputs, topics, seed):
    rng = np.random.default_rng(seed)
    sound = inputs.sound()
    for index in range(MESSAGES_FOR_A_NODE):
        topic = topics[index % len(topics)]
        message, qos = sound[topic]
        inputs.publish(topic, odd_message(message, rng), qos)
        if (index + 1) % len(topics) == 0:  # a burst that no queue holds would be lost
            inputs.peer.spin_for(max(0.01, 0.005 * len(topics)))


def start(start_node, name, inputs, **parameters):
    return start_node(name, '-r', f'__ns:=/{inputs.space}', **parameters)


def told(peer, diagnostics, inputs, name):
    """The last values of the node's own status, once some were refused."""

    def values():
        found = peer.diagnostic(diagnostics, f'{inputs.space}/{name}: node')
        return found if found and int(found['refused']) else None

    return peer.wait_for(values, 'a status that tells of refused messages')


def test_visualizer_node_outlives_odd_messages(peer, start_node, inputs):
    node = start(start_node, 'visualizer_node', inputs)
    space = inputs.space
    markers = peer.collect(MarkerArray, f'/{space}/poses/markers')
    peer.collect(MarkerArray, f'/{space}/poses_3d/markers')
    pictures = peer.collect(Image, f'/{space}/poses/image')
    diagnostics = peer.collect(DiagnosticArray, '/diagnostics')
    fuzz(inputs, ('image_raw', 'poses', 'poses_3d', 'skeleton', 'camera_info'), 1)
    del pictures[:], markers[:]

    def publish(header):
        inputs.publish('camera_info', camera_info())
        inputs.publish('image_raw', rgb_to_image(inputs.image, header))
        inputs.publish('poses', inputs.people(header))

    answers(peer, pictures, publish, 'a picture after the odd messages')
    peer.wait_for(lambda: markers, 'markers after the odd messages')
    values = told(peer, diagnostics, inputs, 'visualizer_node')
    assert values['callbacks_failed'] == '0', node.log_text()
    assert node.stop() == 0


def test_lift_node_outlives_odd_messages(peer, start_node, inputs):
    node = start(start_node, 'lift_node', inputs)
    lifted = peer.collect(PersonPoseArray, f'/{inputs.space}/poses_3d')
    diagnostics = peer.collect(DiagnosticArray, '/diagnostics')
    fuzz(inputs, ('poses', 'depth', 'skeleton', 'camera_info'), 2)
    del lifted[:]

    def publish(header):
        inputs.publish('camera_info', camera_info())
        inputs.publish('depth', depth_image(header))
        inputs.publish('poses', inputs.people(header))

    answer = answers(peer, lifted, publish, 'poses in space after the odd messages')
    assert answer.people[0].keypoints[0].position.z == pytest.approx(2.0)
    values = told(peer, diagnostics, inputs, 'lift_node')
    assert values['callbacks_failed'] == '0', node.log_text()
    assert node.stop() == 0


def test_people_node_outlives_odd_messages(peer, start_node, inputs):
    node = start(start_node, 'people_node', inputs)
    people = peer.collect(PersonStateArray, f'/{inputs.space}/people')
    diagnostics = peer.collect(DiagnosticArray, '/diagnostics')
    fuzz(inputs, ('poses_3d', 'skeleton', 'camera_info'), 7)
    del people[:]

    def publish(header):
        inputs.publish('camera_info', camera_info())
        inputs.publish('poses_3d', inputs.people(header))

    answer = answers(peer, people, publish, 'people after the odd messages')
    assert answer.problem == ''
    values = told(peer, diagnostics, inputs, 'people_node')
    assert values['callbacks_failed'] == '0', node.log_text()
    assert node.stop() == 0


@pytest.mark.parametrize('compressed', [False, True])
def test_pose_node_outlives_odd_messages(peer, start_node, inputs, compressed):
    node = start(start_node, 'pose_node', inputs, compressed=compressed, max_age=3600.0)
    topic = 'image_raw/compressed' if compressed else 'image_raw'
    poses = peer.collect(PersonPoseArray, f'/{inputs.space}/poses')
    fuzz(inputs, (topic,), 3 + compressed)

    def publish(header):
        header.stamp = peer.node.get_clock().now().to_msg()
        keys.add(header_key(header))
        convert = rgb_to_compressed if compressed else rgb_to_image
        inputs.publish(topic, convert(inputs.image, header), qos_profile_sensor_data)

    keys = set()

    def answered():
        publish(new_header())
        peer.spin_for(0.2)
        return [each for each in poses if header_key(each.header) in keys]

    assert len(peer.wait_for(answered, 'poses after the odd messages')[0].people) == 2
    assert node.stop() == 0


def test_image_source_node_outlives_odd_messages(peer, start_node, inputs, two_people, tmp_path):
    from rmpe_ros.nodes.visualizer_node import save_picture

    save_picture(tmp_path / 'photo.png', two_people)
    settings = {'source': str(tmp_path), 'loop': True, 'wait_for_answer': 0.2}
    node = start(start_node, 'image_source_node', inputs, ready=False, **settings)
    images = peer.collect(Image, f'/{inputs.space}/image_raw', qos_profile_sensor_data)
    peer.wait_for(lambda: images, 'images')
    fuzz(inputs, ('poses',), 5)
    del images[:]
    peer.wait_for(lambda: images, 'images after the odd messages')
    assert node.stop() == 0


@pytest.mark.skipif(importlib.util.find_spec('hri_msgs') is None, reason='needs hri_msgs')
def test_hri_bridge_node_outlives_odd_messages(peer, start_node, inputs):
    from hri_msgs.msg import IdsList, NormalizedRegionOfInterest2D

    node = start(start_node, 'hri_bridge_node', inputs)
    tracked = peer.collect(IdsList, '/humans/bodies/tracked')
    regions = peer.collect(NormalizedRegionOfInterest2D, '/humans/bodies/body_7/roi')
    diagnostics = peer.collect(DiagnosticArray, '/diagnostics')
    inputs.poses.track_ids[:] = 7, 8
    fuzz(inputs, ('poses', 'skeleton'), 6)
    del tracked[:]
    answers(peer, tracked, lambda header: inputs.publish('poses', inputs.people(header)), 'bodies')
    assert np.isfinite([(each.xmin, each.ymax) for each in regions]).all()
    values = told(peer, diagnostics, inputs, 'hri_bridge_node')
    assert values['callbacks_failed'] == '0', node.log_text()
    assert node.stop() == 0


@pytest.mark.skipif(importlib.util.find_spec('hri_msgs') is None, reason='needs hri_msgs')
def test_hri_bridge_node_has_so_many_topics_and_no_more(peer, start_node, inputs):
    from hri_msgs.msg import IdsList

    node = start(start_node, 'hri_bridge_node', inputs)
    tracked = peer.collect(IdsList, '/humans/bodies/tracked', 50)
    sent = 0

    def crowd(count):
        nonlocal sent
        message = inputs.people(Header())
        message.people = [copy.copy(message.people[0]) for _ in range(count)]
        for person in message.people:
            person.track_id, sent = sent, sent + 1
        inputs.publish('poses', message)
        peer.spin_for(0.5)
        return tracked

    peer.wait_for(lambda: crowd(150), 'a list of bodies')
    assert len(tracked[0].ids) == 100
    assert '150 people, the first 100 become bodies' in node.log_text()
    for _ in range(3):
        crowd(60)
    peer.wait_for(lambda: len(tracked) > 3, 'more lists')

    def bodies():
        topics = [name for name, _ in peer.node.get_topic_names_and_types()]
        return sum(name.endswith('/roi') and '/bodies/' in name for name in topics)

    peer.wait_for(lambda: 60 <= bodies() <= 100, 'no more topics than for 100 bodies')
    assert node.stop() == 0


def five_joints(message):
    message.people[0].keypoints = message.people[0].keypoints[:5]


def no_size(message):
    message.image_width = 0


def a_crowd(message):
    message.people = [copy.copy(message.people[0]) for _ in range(6_000)]


PEOPLE = [
    (five_joints, 'a person has 5 keypoints'),
    (no_size, f'image_width and image_height are 0 and {HEIGHT}'),
    (a_crowd, 'people in an image take less'),
]
CAMERAS = [
    ({'distortion_model': 'equidistant', 'd': [0.1] * 5}, "'equidistant' has 4"),
    ({'d': [0.1] * 6}, "'plumb_bob' has 4 or 5"),
    ({'distortion_model': 'double_sphere', 'd': [0.1] * 2}, "model 'double_sphere', known are"),
    ({'k': np.eye(3).ravel()}, 'not calibrated: K has focal lengths 1 and 1'),
]


@pytest.mark.parametrize('name', ['visualizer_node', 'lift_node'])
def test_what_cannot_be_is_refused_with_a_sentence(peer, start_node, inputs, name):
    node = start(start_node, name, inputs)
    peer.collect(MarkerArray, f'/{inputs.space}/poses/markers')
    peer.collect(PersonPoseArray, f'/{inputs.space}/poses_3d')

    def publish_until_told(publish, sentence):
        def told():
            publish()
            peer.spin_for(0.3)
            assert node.exit_code is None, node.log_text()
            return sentence in node.log_text()

        peer.wait_for(told, sentence)

    for fields, sentence in CAMERAS:
        broken = camera_info(**fields)
        publish_until_told(partial(inputs.publish, 'camera_info', broken), sentence)
    for spoil, sentence in PEOPLE:

        def publish(spoil=spoil):
            header = new_header()
            message = inputs.people(header)
            spoil(message)
            inputs.publish('camera_info', camera_info())
            if name == 'lift_node':
                inputs.publish('depth', depth_image(header))
            inputs.publish('poses', message)

        publish_until_told(publish, sentence)
    assert 'Traceback' not in node.log_text()
    assert node.stop() == 0


@pytest.mark.parametrize('name', ['pose_node', 'visualizer_node', 'lift_node', 'people_node'])
def test_a_parameter_of_an_unknown_type_is_answered(peer, start_node, inputs, name):
    node = start(start_node, name, inputs)

    def results(kind, service, value):
        request = kind.Request(parameters=[Parameter(name='min_score', value=value)])
        response = peer.call(kind, f'/{inputs.space}/{name}/{service}', request)
        return response.results if kind is SetParameters else [response.result]

    for kind, service in (
        (SetParameters, 'set_parameters'),
        (SetParametersAtomically, 'set_parameters_atomically'),
    ):
        (result,) = results(kind, service, ParameterValue(type=200))
        assert not result.successful
        assert 'type 200' in result.reason
        sound = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=0.4)
        assert results(kind, service, sound)[0].successful
    assert node.stop() == 0


def test_bytes_that_are_no_message_are_refused(peer, start_node, inputs):
    node = start(start_node, 'visualizer_node', inputs)
    markers = peer.collect(MarkerArray, f'/{inputs.space}/poses/markers')
    diagnostics = peer.collect(DiagnosticArray, '/diagnostics')
    rng = np.random.default_rng(8)
    inputs.publish('poses', inputs.people(new_header()))
    inputs.publish('skeleton', skeleton_to_message(BODY19), LATCHED)
    inputs.publish('camera_info', camera_info(), qos_profile_sensor_data)
    inputs.publish('image_raw', rgb_to_image(inputs.image, new_header()), qos_profile_sensor_data)
    for _ in range(100):
        for topic in ('poses', 'skeleton', 'camera_info', 'image_raw'):
            noise = rng.integers(0, 256, rng.integers(4, 400), np.uint8).tobytes()
            inputs.publish(topic, b'\x00\x01\x00\x00' + noise)
        peer.spin_for(0.01)
    inputs.publish('camera_info', camera_info())
    del markers[:]

    def publish():
        inputs.publish('poses', inputs.people(new_header()))
        peer.spin_for(0.2)
        return markers

    peer.wait_for(publish, 'markers after the noise')
    values = told(peer, diagnostics, inputs, 'visualizer_node')
    assert 'bytes that are no Image' in node.log_text()
    # No bug of the node: a message that cannot be used, as others.
    assert values['callbacks_failed'] == '0', node.log_text()
    assert 'Traceback' not in node.log_text()
    assert node.stop() == 0
