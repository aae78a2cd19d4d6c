# SPDX-License-Identifier: Apache-2.0
"""pose_node among QoS that does not fit, silence, old images, and peers that hang or die."""

import re
import signal

import cv2
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from rclpy.serialization import serialize_message
from rclpy.time import Time
from rmpe_ros.msg import PersonPoseArray
from rosbags.highlevel import AnyReader
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import Float32

from rmpe_ros.io.bags.writer import BagTopic, BagWriter
from rmpe_ros.nodes.inputs.rclpy_messages import rgb_to_image

from .conftest import new_header
from .made_models import picky_pose
from .test_pose_node import set_parameter


@pytest.fixture
def diagnostics(peer):
    return peer.collect(DiagnosticArray, '/diagnostics')


def named(name, *topics):
    """Arguments that give a node its own name and topics."""
    arguments = ['-r', f'__node:={name}']
    for topic in ('image_raw', 'poses', *topics):
        arguments += ['-r', f'{topic}:=/{name}/{topic}']
    return arguments


def stamped_now(peer, image):
    message = rgb_to_image(image, new_header())
    message.header.stamp = peer.node.get_clock().now().to_msg()
    return message


def test_cameras_and_viewers_whose_qos_does_not_fit_are_named(
    peer, start_node, diagnostics, two_people
):
    override = 'qos_overrides./strict/image_raw.subscription.reliability:=reliable'
    node = start_node('pose_node', *named('strict'), '-p', override, image_timeout=0.5)
    peer.wait_for(lambda: 'nobody publishes it' in node.log_text(), 'the warning of silence')
    camera = peer.node.create_publisher(Image, '/strict/image_raw', qos_profile_sensor_data)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    got_nothing = peer.collect(PersonPoseArray, '/strict/poses', latched)
    pattern = r'\[WARN\].*a publisher of /strict/image_raw does not fit.*reliable subscription'
    peer.wait_for(lambda: re.search(pattern, node.log_text()), 'the warning that names the topic')
    pattern = r'\[WARN\].*a subscriber of /strict/poses asks for another QoS.*transient local'
    peer.wait_for(lambda: re.search(pattern, node.log_text()), 'the warning about the viewer')
    peer.wait_for(
        lambda: 'does not fit' in peer.diagnostic(diagnostics, 'strict: frames').get('message', ''),
        'diagnostics that say it',
    )
    assert peer.diagnostic(diagnostics, 'strict: frames').get('level') == '1'
    # A camera with the right QoS is served all the same.
    answers = peer.collect(PersonPoseArray, '/strict/poses')
    peer.node.destroy_publisher(camera)
    reliable = peer.node.create_publisher(Image, '/strict/image_raw', 5)
    peer.ask(reliable, rgb_to_image(two_people, new_header()), answers)
    assert got_nothing == []


def test_old_images_and_images_for_nobody_are_dropped_and_counted(
    peer, start_node, diagnostics, two_people
):
    node = start_node('pose_node', *named('lazy'), max_age=60.0, idle_without_subscribers=True)
    camera = peer.node.create_publisher(Image, '/lazy/image_raw', 5)

    def count(name):
        return int(peer.diagnostic(diagnostics, 'lazy: frames').get(name, 0))

    fresh = stamped_now(peer, two_people)
    peer.publish_until(camera, fresh, lambda: count('dropped_idle') > 0, 'an image for nobody')
    assert count('frames') == 0

    answers = peer.collect(PersonPoseArray, '/lazy/poses')
    assert len(peer.ask(camera, stamped_now(peer, two_people), answers).people) == 2

    old = rgb_to_image(two_people, new_header('old'))
    peer.publish_until(camera, old, lambda: count('dropped_too_old') > 0, 'the old image')
    assert 'images on /lazy/image_raw are dropped: stamped' in node.log_text()
    assert set_parameter(peer, 'lazy', 'max_age', 0.0).successful
    peer.ask(camera, old, answers)
    assert [each.header.frame_id for each in answers].count('old') >= 1


def test_times_of_each_frame_are_topics(peer, start_node, two_people):
    start_node('pose_node', *named('timed'))
    camera = peer.node.create_publisher(Image, '/timed/image_raw', 5)
    answers = peer.collect(PersonPoseArray, '/timed/poses')
    names = ('detect', 'crop', 'estimate', 'nms', 'total', 'latency')
    times = {name: peer.collect(Float32, f'/timed/debug/{name}_ms') for name in names}
    answer = peer.publish_until(
        camera,
        stamped_now(peer, two_people),
        lambda: all(times.values()) and answers and answers[-1],
        'all times of a frame',
    )
    peer.ask(camera, stamped_now(peer, two_people), answers)
    assert answer.total_ms in [each.data for each in times['total']]
    assert times['latency'][0].data > times['total'][0].data > times['detect'][0].data > 0


def test_a_hanging_viewer_and_a_killed_one_leave_the_others_alone(peer, start_node, two_people):
    node = start_node('pose_node', *named('busy'))
    viewer = start_node('visualizer_node', *named('busy', 'skeleton')[2:])
    camera = peer.node.create_publisher(Image, '/busy/image_raw', 5)
    answers = peer.collect(PersonPoseArray, '/busy/poses', 100)
    peer.wait_for(lambda: peer.node.count_subscribers('/busy/poses') == 2, 'both viewers')
    # Far more than the depth of any queue between the two.
    for state, images in (('stopped', 40), ('killed', 10)):
        viewer.signal(signal.SIGSTOP if state == 'stopped' else signal.SIGKILL)
        for _ in range(images):
            message = rgb_to_image(two_people, new_header(state))
            assert len(peer.ask(camera, message, answers).people) == 2
    assert node.exit_code is None
    frames = [each.header.frame_id for each in answers]
    assert frames.count('stopped') >= 40 and frames.count('killed') >= 10


def test_a_killed_camera_can_be_replaced(peer, start_node, two_people, tmp_path):
    start_node('pose_node', *named('spare'))
    answers = peer.collect(PersonPoseArray, '/spare/poses', 100)
    photo = tmp_path / 'photo.png'
    assert cv2.imwrite(str(photo), two_people)
    for frame_id in ('first', 'second'):
        camera = start_node(
            'image_source_node', *named('spare')[2:], ready=False,
            source=str(photo), loop=True, rate=10.0, frame_id=frame_id,
        )  # fmt: skip
        peer.wait_for(
            lambda wanted=frame_id: [a for a in answers if a.header.frame_id == wanted][3:],
            f'answers to the {frame_id} camera',
        )
        camera.signal(signal.SIGKILL)
        camera.wait(10)


def test_latency_of_a_replayed_bag_is_in_its_own_time(peer, start_node, two_people, tmp_path):
    """An image of 2001 that was recorded 250 ms after its stamp, played with /clock."""
    recorded, delay = 10**18, 250_000_000
    topic = BagTopic('/sim/image_raw', 'sensor_msgs/msg/Image')
    with BagWriter(tmp_path / 'bag', [topic]) as bag:
        for index in range(3):
            message = rgb_to_image(two_people, new_header('bag'))
            now = recorded + index * 10**9
            message.header.stamp = Time(nanoseconds=now - delay).to_msg()
            bag.write(topic.name, now, serialize_message(message))

    start_node('pose_node', *named('sim'), use_sim_time=True, max_age=10.0)
    clock = peer.node.create_publisher(Clock, '/clock', 5)
    camera = peer.node.create_publisher(Image, '/sim/image_raw', 5)
    answers = peer.collect(PersonPoseArray, '/sim/poses')
    latencies = peer.collect(Float32, '/sim/debug/latency_ms')
    peer.wait_for(clock.get_subscription_count, 'a node that follows /clock')
    with AnyReader([tmp_path / 'bag']) as reader:
        for _, nanoseconds, data in reader.messages():
            stored = reader.deserialize(data, 'sensor_msgs/msg/Image')
            message = rgb_to_image(two_people, new_header(stored.header.frame_id))
            message.header.stamp.sec = stored.header.stamp.sec
            message.header.stamp.nanosec = stored.header.stamp.nanosec
            now_in_bag = Clock(clock=Time(nanoseconds=nanoseconds).to_msg())

            def answered_in_its_time(now_in_bag=now_in_bag):
                # A /clock that overtakes its image, or is lost, is no fault of the node.
                clock.publish(now_in_bag)
                return latencies and latencies[-1].data == pytest.approx(250.0)

            peer.publish_until(
                camera, message, answered_in_its_time, 'the latency in the time of the bag'
            )
            del latencies[:]
    assert len(answers) >= 3


def test_a_frame_that_fails_is_told_and_the_next_one_answered(
    peer, start_node, diagnostics, two_people, pose_model, tmp_path
):
    picky = picky_pose(pose_model, tmp_path / 'picky.onnx')
    node = start_node('pose_node', *named('fragile'), pose_model=str(picky))
    camera = peer.node.create_publisher(Image, '/fragile/image_raw', 5)
    answers = peer.collect(PersonPoseArray, '/fragile/poses')
    one_person = two_people.copy()
    one_person[:, :320] = 0
    assert len(peer.ask(camera, rgb_to_image(one_person, new_header()), answers).people) == 1

    def told():
        values = peer.diagnostic(diagnostics, 'fragile: frames')
        return values if int(values.get('failed', 0)) > 0 else None

    image = rgb_to_image(two_people, new_header('two'))
    values = peer.publish_until(camera, image, told, 'the count of failed frames')
    assert 'picky.onnx' in values['last_error']
    assert re.search(r'\[ERROR\].*a frame failed: EngineError', node.log_text())
    assert len(peer.ask(camera, rgb_to_image(one_person, new_header()), answers).people) == 1
    assert not [each for each in answers if each.header.frame_id == 'two']
