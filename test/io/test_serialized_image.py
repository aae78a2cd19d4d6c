# SPDX-License-Identifier: Apache-2.0
"""An image in bytes is the image that `rosbags` made them of; other bytes are no image."""

import numpy as np
import pytest

from rmpe_ros.io.bags.message_types import bag_classes, bag_types
from rmpe_ros.io.messages import image_to_rgb, make_header, rgb_to_image
from rmpe_ros.io.serialized_image import read_image

IMAGE = 'sensor_msgs/msg/Image'
FIELDS = ('header', 'height', 'width', 'encoding', 'is_bigendian', 'step')
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)


def some_image(frame='camera', encoding='rgb8'):
    message = rgb_to_image(PIXELS, empty_header(1_700_000_000_123_456_789, frame), bag_classes())
    message.encoding, message.is_bigendian = encoding, 1
    return message


def empty_header(stamp=0, frame=''):
    return make_header(stamp, frame, bag_classes())


def in_bytes(message, **options):
    return bytes(bag_types().serialize_cdr(message, IMAGE, **options))


# Names of all lengths: what follows them lies at multiples of four.
@pytest.mark.parametrize('frame', ['', 'c', 'cam', 'camera', 'kamera_für_köpfe', 'camera/optical'])
@pytest.mark.parametrize('encoding', ['rgb8', 'mono8', '16UC1', 'bayer_rggb8', 'x', 'xy', ''])
@pytest.mark.parametrize('version', [b'\x00\x01', b'\x00\x07'])
def test_fields_are_those_of_the_message(frame, encoding, version):
    message = some_image(frame, encoding)
    image = read_image(version + in_bytes(message)[2:], empty_header())
    assert [getattr(image, name) for name in FIELDS] == [getattr(message, name) for name in FIELDS]
    assert bytes(image.data) == PIXELS.tobytes()


def test_pixels_are_those_of_the_message():
    message = some_image()
    data = in_bytes(message)
    pixels = image_to_rgb(read_image(data, empty_header()))
    assert np.array_equal(pixels, PIXELS)
    assert np.shares_memory(pixels, np.frombuffer(data, np.uint8)), 'no copy'


def test_what_is_cut_off_is_no_image():
    data = in_bytes(some_image())
    end = len(data.rstrip(b'\x00')) if data.endswith(b'\x00') else len(data)
    for length in range(end - 4):
        assert read_image(data[:length], empty_header()) is None


def test_bytes_of_other_machines_are_left_to_others():
    assert read_image(in_bytes(some_image(), little_endian=False), empty_header()) is None


def test_garbage_is_no_image_and_raises_nothing():
    random = np.random.default_rng(1)
    data = np.frombuffer(in_bytes(some_image()), np.uint8)
    for _ in range(2_000):
        spoiled = data.copy()
        spoiled[random.integers(4, len(data), 4)] = random.integers(0, 256, 4)
        image = read_image(spoiled.tobytes(), empty_header())
        assert image is None or len(image.data) <= len(data)
        noise = bytes(random.integers(0, 256, int(random.integers(0, 200)), np.uint8))
        assert read_image(b'\x00\x01\x00\x00' + noise, empty_header()) is None
