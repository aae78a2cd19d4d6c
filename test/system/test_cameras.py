# SPDX-License-Identifier: Apache-2.0
"""One pose_node for several cameras."""

import time

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from rmpe_ros.msg import PersonPoseArray, SkeletonInfo
from sensor_msgs.msg import CompressedImage, Image

from rmpe_ros.nodes.inputs.rclpy_messages import rgb_to_compressed, rgb_to_image
from rmpe_ros.nodes.inputs.stamp_matcher import header_key

from .conftest import PATIENCE, new_header
from .made_models import slow_detector

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
CAMERAS = ('-p', 'cameras:=[fast, slow]')


def test_each_camera_has_its_own_topics(peer, start_node, two_people):
    start_node(
        'pose_node', *CAMERAS, '-r', '__node:=pair', '-r', '__ns:=/robot',
        '-r', 'slow/image_raw:=/driver/image',
    )  # fmt: skip
    one_person = two_people.copy()
    one_person[:, :320] = 0
    pictures = {'fast': two_people, 'slow': one_person}
    topics = {'fast': '/robot/fast/image_raw', 'slow': '/driver/image'}
    cameras = {name: peer.node.create_publisher(Image, topic, 5) for name, topic in topics.items()}
    answers = {name: peer.collect(PersonPoseArray, f'/robot/{name}/poses') for name in topics}
    skeletons = {
        name: peer.collect(SkeletonInfo, f'/robot/{name}/skeleton', LATCHED) for name in topics
    }
    diagnostics = peer.collect(DiagnosticArray, '/diagnostics')
    for people, name in ((2, 'fast'), (1, 'slow'), (2, 'fast')):
        message = rgb_to_image(pictures[name], new_header(name))
        answer = peer.ask(cameras[name], message, answers[name])
        assert len(answer.people) == people
        assert answer.header == message.header
    assert all(each.header.frame_id == name for name in topics for each in answers[name])
    peer.wait_for(lambda: all(skeletons.values()), 'both skeletons')

    def told():
        statuses = {name: peer.diagnostic(diagnostics, f'robot/pair: {name}') for name in topics}
        done = [values.get('frames', '0') for values in statuses.values()]
        return statuses if min(map(int, done)) >= 1 else None

    assert peer.wait_for(told, 'diagnostics of both')['slow']['people'] == '1'
    assert peer.diagnostic(diagnostics, 'robot/pair: node')['cameras'] == '2'


def test_a_flooding_camera_does_not_keep_the_other_from_its_turn(
    peer, start_node, detector_model, tmp_path
):
    detector = slow_detector(detector_model, tmp_path / 'slow.onnx', products=1)
    start_node('pose_node', *CAMERAS, '-r', '__ns:=/fair', detector=str(detector))
    fast = peer.node.create_publisher(Image, '/fair/fast/image_raw', 5)
    slow = peer.node.create_publisher(Image, '/fair/slow/image_raw', 5)
    answers = peer.collect(PersonPoseArray, '/fair/fast/poses', 100)
    rare_answers = peer.collect(PersonPoseArray, '/fair/slow/poses', 100)
    for publisher in (fast, slow):
        peer.wait_for(publisher.get_subscription_count, publisher.topic_name)
    picture = np.full((60, 80, 3), 20, np.uint8)
    sent = 0

    def flood(condition, what, again=lambda: None):
        """Ten images of the fast camera for each look at `condition`."""
        nonlocal sent
        deadline, repeat = time.monotonic() + PATIENCE, time.monotonic() + 10.0
        while not condition():
            assert time.monotonic() < deadline, what
            if time.monotonic() > repeat:  # best effort: it may have been lost
                repeat = time.monotonic() + 10.0
                again()
            fast.publish(rgb_to_image(picture, new_header('fast')))
            sent += 1
            peer.spin_for(0.005)

    flood(lambda: len(answers) > 2, 'the flood is answered')
    for _ in range(3):
        message = rgb_to_image(picture, new_header('slow'))
        key, before = header_key(message.header), len(answers)
        slow.publish(message)
        flood(
            lambda key=key: any(header_key(each.header) == key for each in rare_answers),
            'the slow camera is answered',
            lambda message=message: slow.publish(message),
        )
        # The frame being worked on, the one with ours, and some for a busy machine.
        assert len(answers) - before <= 6
    before = len(answers)
    flood(lambda: len(answers) > before, 'the flood is answered still')
    assert len(answers) < sent, 'the flood was more than the node can do'
    keys = [header_key(each.header) for each in answers]
    assert keys == sorted(set(keys))


def test_a_camera_whose_images_are_hard_to_read_leaves_the_other_its_share(peer, start_node):
    start_node('pose_node', *CAMERAS, '-r', '__ns:=/share', compressed=True)
    pictures = {'slow': np.full((5000, 5000, 3), 20, np.uint8)}
    pictures['fast'] = pictures['slow'][:60, :80]
    messages = {name: rgb_to_compressed(each, new_header()) for name, each in pictures.items()}
    publishers = {
        name: peer.node.create_publisher(
            CompressedImage, f'/share/{name}/image_raw/compressed', qos_profile_sensor_data
        )
        for name in messages
    }
    answers = []
    for name, publisher in publishers.items():
        peer.node.create_subscription(
            PersonPoseArray,
            f'/share/{name}/poses',
            lambda _message, name=name: answers.append(name),
            100,
        )
        peer.wait_for(publisher.get_subscription_count, publisher.topic_name)

    def enough():
        for name, publisher in publishers.items():
            messages[name].header = new_header(name)
            publisher.publish(messages[name])
        return answers.count('slow') > 2

    peer.wait_for(enough, 'answers to the images that are hard to read')
    # Images of both wait at all times: turn about, each would have as many answers.
    assert answers.count('fast') > 2 * answers.count('slow'), answers


@pytest.mark.parametrize('max_age', [0.0, 5.0])
def test_a_stamp_before_1970_costs_no_frame_of_another_camera(
    peer, start_node, two_people, max_age
):
    node = start_node(
        'pose_node', '-r', '__ns:=/odd', '-p', 'cameras:=[lost, good]', max_age=max_age
    )
    cameras = {
        name: peer.node.create_publisher(Image, f'/odd/{name}/image_raw', 5)
        for name in ('lost', 'good')
    }
    answers = {name: peer.collect(PersonPoseArray, f'/odd/{name}/poses') for name in cameras}
    diagnostics = peer.collect(DiagnosticArray, '/diagnostics')
    for publisher in cameras.values():
        peer.wait_for(publisher.get_subscription_count, publisher.topic_name)

    def told():
        """Publish one image with each camera, again and again."""
        for name, publisher in cameras.items():
            message = rgb_to_image(two_people, new_header(name))
            message.header.stamp = peer.node.get_clock().now().to_msg()
            if name == 'lost':
                message.header.stamp.sec = -np.random.default_rng(0).integers(1, 10**9).item()
            publisher.publish(message)
        peer.spin_for(0.1)
        values = {name: peer.diagnostic(diagnostics, f'odd/pose_node: {name}') for name in cameras}
        lost, good = (values[name] for name in ('lost', 'good'))
        counted = 'dropped_too_old' if max_age else 'frames'
        enough = lost and good and int(good['frames']) > 5 and int(lost[counted]) > 5
        return values if enough else None

    values = peer.wait_for(told, 'both cameras in the diagnostics')
    assert all(each['failed'] == '0' for each in values.values()), node.log_text()
    assert answers['good'] and bool(answers['lost']) == (max_age == 0)
    assert all(each.header.stamp.sec < 0 for each in answers['lost'])


@pytest.mark.parametrize(
    ('cameras', 'reason'),
    [
        ('[left, left]', 'cameras must have different names, got left twice'),
        ('[not a name]', "camera 'not a name' cannot be part of a topic name"),
        ('front', 'cameras must be a string[]'),
    ],
)
def test_impossible_cameras_are_refused(start_node, cameras, reason):
    node = start_node('pose_node', '-p', f'cameras:={cameras}', ready=False)
    assert node.wait(PATIENCE) == 1
    (line,) = [line for line in node.log_text().splitlines() if '[FATAL]' in line]
    assert reason in line
    assert 'Traceback' not in node.log_text()
