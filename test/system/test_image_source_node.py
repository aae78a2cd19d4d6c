# SPDX-License-Identifier: Apache-2.0
"""image_source_node as a process: every readable image arrives, and it ends by itself."""

import signal
import time

import cv2
import numpy as np
import pytest
from rmpe_ros.msg import PersonPoseArray
from sensor_msgs.msg import CompressedImage, Image

from rmpe_ros.io.images import load_image
from rmpe_ros.io.messages import compressed_to_rgb, image_to_rgb
from rmpe_ros.nodes.inputs.stamp_matcher import header_key

from .conftest import PATIENCE


@pytest.fixture
def photos(tmp_path):
    """Three photos of different sizes, and three files that are none."""
    folder = tmp_path / 'photos'
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(3):
        picture = rng.integers(0, 255, (40 + index, 60, 3), np.uint8)
        cv2.imwrite(str(folder / f'{index}.png'), picture)
    (folder / 'a_broken.jpg').write_bytes(b'\xff\xd8\xff\xe0 no more')
    (folder / 'b_empty.png').write_bytes(b'')
    (folder / 'notes.txt').write_text('not a picture')
    return folder


def start(start_node, *arguments, **parameters):
    return start_node(
        'image_source_node', '-r', '__ns:=/src', *arguments, ready=False, **parameters
    )


def finish(peer, node):
    """The exit code, after spinning until there is one."""
    peer.wait_for(lambda: node.exit_code is not None, f'the end of {node.name}')
    return node.exit_code


def test_all_photos_of_a_folder_arrive_whole(peer, start_node, photos):
    images = peer.collect(Image, '/src/image_raw')
    node = start(start_node, source=str(photos), rate=20.0, repeat=2, frame_id='cam/{name}')
    assert finish(peer, node) == 0, node.log_text()
    peer.wait_for(lambda: len(images) == 6, 'the last image')
    names = [message.header.frame_id for message in images]
    assert names == [f'cam/{index}.png' for index in (0, 0, 1, 1, 2, 2)]
    for message in images:
        path = photos / message.header.frame_id.removeprefix('cam/')
        np.testing.assert_array_equal(image_to_rgb(message), load_image(path))
    keys = [header_key(message.header)[:2] for message in images]
    assert keys == sorted(set(keys))
    log = node.log_text()
    for name in ('a_broken.jpg', 'b_empty.png', 'notes.txt'):
        assert log.count(name) == 1
    assert 'stopped after 3 images, 3 could not be read' in log
    assert 'Traceback' not in log


def test_frames_of_a_video_and_a_limit(peer, start_node, tmp_path):
    video = tmp_path / 'clip.avi'
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*'MJPG'), 20.0, (64, 48))
    for level in range(12):
        writer.write(np.full((48, 64, 3), level * 20, np.uint8))
    writer.release()
    images = peer.collect(Image, '/src/image_raw')
    node = start(start_node, source=str(video), max_images=10)
    assert finish(peer, node) == 0, node.log_text()
    peer.wait_for(lambda: len(images) == 10, 'the last frame')
    levels = [float(image_to_rgb(message).mean()) for message in images]
    np.testing.assert_allclose(levels, np.arange(10) * 20, atol=6)
    assert {message.header.frame_id for message in images} == {'camera_optical_frame'}


def test_it_waits_for_answers_and_asks_again(peer, start_node, photos):
    images = peer.collect(Image, '/src/image_raw')
    answers = peer.node.create_publisher(PersonPoseArray, '/src/poses', 5)
    node = start(
        start_node, source=str(photos), rate=1000.0, frame_id='{name}', wait_for_answer=1.0
    )
    # 0.png is answered at once, 1.png the second time, 2.png never.
    peer.wait_for(lambda: len(images) == 1, 'the first image')
    peer.wait_for(answers.get_subscription_count, 'a reader of the answers')
    # A stranger's answer does not count.
    answers.publish(PersonPoseArray())
    answers.publish(PersonPoseArray(header=images[0].header))
    peer.wait_for(lambda: len(images) >= 3, 'the second try')
    answers.publish(PersonPoseArray(header=images[-1].header))
    assert finish(peer, node) == 0, node.log_text()
    names = [message.header.frame_id for message in images]
    assert names.count('2.png') == 3
    assert names.count('1.png') in (2, 3)
    assert 'no poses came for 2.png, which was published 3 times' in node.log_text()
    assert 'no poses came for 0.png' not in node.log_text()


def test_compressed_images(peer, start_node, photos):
    images = peer.collect(CompressedImage, '/src/image_raw/compressed')
    node = start(start_node, source=str(photos / '1.png'), compressed=True)
    assert finish(peer, node) == 0, node.log_text()
    peer.wait_for(lambda: images, 'the image')
    assert compressed_to_rgb(images[0]).shape == (41, 60, 3)


def test_nothing_is_published_before_all_subscribers_are_there(peer, start_node, photos):
    images = peer.collect(Image, '/src/image_raw')
    node = start(start_node, source=str(photos), rate=50.0, wait_for_subscribers=2)
    peer.wait_for(
        lambda: peer.node.count_publishers('/src/image_raw') == 1, 'the publisher of the source'
    )
    peer.spin_for(1.5)
    assert not images
    assert node.exit_code is None
    others = peer.collect(Image, '/src/image_raw')
    assert finish(peer, node) == 0, node.log_text()
    peer.wait_for(lambda: len(images) == len(others) == 3, 'all images at both')


def test_a_loop_ends_with_a_signal(peer, start_node, photos):
    images = peer.collect(Image, '/src/image_raw')
    node = start(start_node, source=str(photos / '0.png'), rate=50.0, loop=True)
    peer.wait_for(lambda: len(images) > 4, 'a few rounds')
    node.signal(signal.SIGINT)
    assert node.wait(PATIENCE) == 0
    assert 'Traceback' not in node.log_text()


@pytest.mark.parametrize(
    ('source', 'reason'),
    [
        ('', 'parameter source is empty'),
        ('{folder}/notes.txt', 'nothing in'),
        ('{folder}/missing.jpg', 'missing.jpg'),
        ('webcam:97', 'no such camera'),
    ],
)
def test_it_fails_when_there_is_nothing_to_read(start_node, photos, source, reason):
    node = start(
        start_node,
        source=source.format(folder=photos),
        wait_for_subscribers=0,
        retry_period=0.0,
    )
    assert node.wait(PATIENCE) == 1, node.log_text()
    assert reason in node.log_text()
    assert 'Traceback' not in node.log_text()


def test_a_webcam_is_tried_again(start_node, photos):
    node = start(start_node, source='webcam:97', wait_for_subscribers=0, retry_period=0.05)
    deadline = time.monotonic() + PATIENCE
    while node.log_text().count('trying again in 0.05 s') < 2:
        assert time.monotonic() < deadline, node.log_text()
        assert node.exit_code is None
        time.sleep(0.05)
    node.signal(signal.SIGTERM)
    assert node.wait(PATIENCE) == 0


def test_a_video_that_was_cut_short_ends_with_1(peer, start_node, tmp_path):
    path = tmp_path / 'clip.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 50, (320, 240))
    for _ in range(20):
        writer.write(np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    images = peer.collect(Image, '/src/image_raw')
    node = start(start_node, source=str(path))
    assert finish(peer, node) == 1
    assert 'of 20 frames: cut short, or damaged there' in node.log_text()
    assert images
