# SPDX-License-Identifier: Apache-2.0
"""Images that are too large: for shared memory they are told, as bombs they starve nobody."""

import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import qos_profile_sensor_data
from rmpe_ros.msg import PersonPoseArray
from sensor_msgs.msg import CompressedImage, Image

from rmpe_ros.nodes.inputs.rclpy_messages import rgb_to_compressed, rgb_to_image
from rmpe_ros.nodes.visualizer_node import save_picture

from .conftest import new_header

# Of decoding 20000x20000 pixels at least 1200 MB are left, of refusing them nothing.
MOST_MB = 600
PROFILE = Path(__file__).resolve().parents[2] / 'config' / 'fastdds_shared_memory.xml'


@pytest.fixture
def small_segment(tmp_path, monkeypatch):
    """Variables with a profile whose 2 MB hold two pictures of 640x480, but not three."""
    copy = tmp_path / 'small.xml'
    copy.write_text(PROFILE.read_text().replace('33554432', '2000000'))
    return {'FASTDDS_DEFAULT_PROFILES_FILE': str(copy), 'FASTRTPS_DEFAULT_PROFILES_FILE': str(copy)}


@pytest.mark.parametrize(
    ('name', 'topic'),
    [('pose_node', 'image_raw'), ('visualizer_node', 'image_raw'), ('lift_node', 'depth')],
)
def test_images_that_do_not_fit_into_shared_memory_are_told(
    peer, start_node, two_people, small_segment, name, topic
):
    space = f'/large_{name}'
    node = start_node(name, '-r', f'__ns:={space}', variables=small_segment)
    diagnostics = peer.collect(DiagnosticArray, '/diagnostics')
    camera = peer.node.create_publisher(Image, f'{space}/{topic}', qos_profile_sensor_data)
    sentence = f'images on {space}/{topic} have 1 MB, the shared memory of a process has 2 MB'

    def status():
        return peer.diagnostic(diagnostics, f'{space[1:]}/{name}: node').get('message', '')

    peer.publish_until(
        camera,
        rgb_to_image(two_people, new_header()),
        lambda: sentence in status(),
        'diagnostics that say it',
    )
    assert node.log_text().count(sentence) == 1
    assert f'set segment_size in a copy of fastdds_shared_memory.xml to {3 * 921600}' in status()
    small = rgb_to_image(np.ascontiguousarray(two_people[::2, ::2]), new_header())
    peer.publish_until(
        camera, small, lambda: sentence not in status(), 'diagnostics that say that it is over'
    )
    assert node.stop() == 0


def test_a_source_of_large_images_tells(start_node, two_people, small_segment, tmp_path):
    save_picture(tmp_path / 'photo.png', two_people)
    node = start_node(
        'image_source_node',
        ready=False,
        variables=small_segment,
        source=str(tmp_path / 'photo.png'),
        wait_for_subscribers=0,
    )
    assert node.wait(60) == 0
    assert 'image_raw have 1 MB, the shared memory of a process has 2 MB' in node.log_text()


def bomb(suffix, side):
    """A picture of 8x8 pixels that declares side x side."""
    data = cv2.imencode(suffix, np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    start = data.index(b'\xff\xc0') + 5 if suffix == '.jpg' else 16
    size = struct.pack('>HH' if suffix == '.jpg' else '>II', side, side)
    return data[:start] + size + data[start + len(size) :]


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
@pytest.mark.parametrize('side', [20_000, 32_000])
def test_bombs_on_one_camera_leave_the_other_its_answers(
    peer, start_node, two_people, suffix, side
):
    node = start_node(
        'pose_node', '-r', '__ns:=/bombed', '-p', 'cameras:=[bad, good]', compressed=True
    )
    bad, good = (
        peer.node.create_publisher(
            CompressedImage, f'/bombed/{name}/image_raw/compressed', qos_profile_sensor_data
        )
        for name in ('bad', 'good')
    )
    answers = peer.collect(PersonPoseArray, '/bombed/good/poses')
    diagnostics = peer.collect(DiagnosticArray, '/diagnostics')
    message = CompressedImage(format='jpeg', data=bomb(suffix, side))
    peer.wait_for(bad.get_subscription_count, bad.topic_name)
    answered = 0

    def refused():
        """A bomb a second, and what the camera says of them."""
        nonlocal answered
        message.header = new_header('bad')
        bad.publish(message)
        for _ in range(5):
            peer.ask(good, rgb_to_compressed(two_people, new_header('good')), answers)
            answered += 1
        peer.spin_for(0.5)
        return int(peer.diagnostic(diagnostics, 'bombed/pose_node: bad').get('bad', 0)) >= 3

    peer.wait_for(refused, 'three bombs that are counted as bad')
    assert len({each.header.stamp.nanosec for each in answers}) >= answered
    assert f'declares {side}x{side} pixels' in node.log_text()
    status = Path(f'/proc/{node.pid}/status').read_text()
    (peak,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith('VmHWM'))
    assert peak / 1e3 < MOST_MB
    assert node.stop() == 0


def test_the_memory_of_a_large_image_is_given_back(peer, start_node, two_people):
    """60 MB of pixels, and as much again while they are decoded."""
    node = start_node('pose_node', '-r', '__ns:=/huge', compressed=True)
    camera = peer.node.create_publisher(
        CompressedImage, '/huge/image_raw/compressed', qos_profile_sensor_data
    )
    answers = peer.collect(PersonPoseArray, '/huge/poses')

    def memory_after(picture, count):
        for _ in range(count):
            peer.ask(camera, rgb_to_compressed(picture, new_header()), answers)
        pages = int(Path(f'/proc/{node.pid}/statm').read_text().split()[1])
        return pages * os.sysconf('SC_PAGE_SIZE') / 1e6

    before = memory_after(two_people, 5)
    memory_after(cv2.resize(two_people, (5000, 4000)), 2)
    assert memory_after(two_people, 3) - before < 60
    assert node.stop() == 0
