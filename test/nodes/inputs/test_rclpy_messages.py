# SPDX-License-Identifier: Apache-2.0
"""Images, poses and skeletons through ROS messages and back, and messages that make no sense."""

import array
import math

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')

from rclpy.serialization import deserialize_message, serialize_message
from rmpe_ros.msg import PersonPoseArray, SkeletonInfo
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import BODY19, COCO17, SKELETONS
from rmpe_ros.io.bags.message_types import POSES, bag_types
from rmpe_ros.io.messages import (
    ENCODINGS,
    ImageConversionError,
    MessageError,
    compressed_to_rgb,
    image_to_rgb,
    message_to_poses,
    message_to_skeleton,
)
from rmpe_ros.io.pose_messages import serialize_poses
from rmpe_ros.nodes.inputs.rclpy_messages import (
    poses_to_message,
    rgb_to_compressed,
    rgb_to_image,
    skeleton_to_message,
)

pytestmark = pytest.mark.ros

ARRAYS = ('skeleton', 'keypoints', 'keypoint_scores', 'boxes', 'scores')
RED, ORANGE = (255, 0, 0), (200, 100, 50)


def image_message(
    pixels: np.ndarray, encoding: str, *, padding: int = 0, big: bool = False
) -> Image:
    """A message with these (H, W, C) values, each row followed by `padding` bytes of rubbish."""
    height, width = pixels.shape[:2]
    if pixels.dtype == np.uint16:
        pixels = pixels.astype('>u2' if big else '<u2')
    rows = np.frombuffer(pixels.tobytes(), np.uint8).reshape(height, -1)
    rows = np.hstack([rows, np.full((height, padding), 99, np.uint8)])
    message = Image(height=height, width=width, encoding=encoding, is_bigendian=int(big))
    message.step = rows.shape[1]
    message.data = array.array('B', rows.tobytes())
    return message


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (6, 5, 3), np.uint8)


@pytest.mark.parametrize('padding', [0, 1, 7])
@pytest.mark.parametrize(
    ('encoding', 'channels'),
    [
        ('rgb8', [0, 1, 2]),
        ('bgr8', [2, 1, 0]),
        ('8UC3', [2, 1, 0]),
        ('rgba8', [0, 1, 2, 0]),
        ('bgra8', [2, 1, 0, 1]),
        ('8UC4', [2, 1, 0, 1]),
    ],
)
def test_colour_encodings_give_rgb(picture, encoding, channels, padding):
    message = image_message(picture[:, :, channels], encoding, padding=padding)
    np.testing.assert_array_equal(image_to_rgb(message), picture)


@pytest.mark.parametrize('encoding', ['mono8', '8UC1'])
def test_grey_fills_all_channels(picture, encoding):
    grey = picture[:, :, :1]
    result = image_to_rgb(image_message(grey, encoding, padding=3))
    np.testing.assert_array_equal(result, np.repeat(grey, 3, axis=2))


@pytest.mark.parametrize('padding', [0, 4])
def test_rgb8_is_a_view_of_the_message(picture, padding):
    message = image_message(picture, 'rgb8', padding=padding)
    result = image_to_rgb(message)
    assert np.shares_memory(result, np.frombuffer(message.data, np.uint8))
    assert not np.shares_memory(
        image_to_rgb(image_message(picture, 'bgr8')), np.frombuffer(message.data, np.uint8)
    )


@pytest.mark.parametrize('big', [False, True])
@pytest.mark.parametrize(
    ('encoding', 'channels'), [('rgb16', [0, 1, 2]), ('bgr16', [2, 1, 0]), ('bgra16', [2, 1, 0, 0])]
)
def test_16_bit_keeps_the_upper_byte(picture, encoding, channels, big):
    wide = picture[:, :, channels].astype(np.uint16) * 256 + 17
    np.testing.assert_array_equal(image_to_rgb(image_message(wide, encoding, big=big)), picture)


@pytest.mark.parametrize('big', [False, True])
@pytest.mark.parametrize('encoding', ['mono16', 'bayer_rggb16', 'rgb16', 'bgra16'])
def test_content_of_12_bits_is_as_bright_as_8(encoding, big):
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (8, 1))[:, :, None]
    channels = ENCODINGS[encoding].channels
    pixels = np.repeat(ramp, channels, axis=2)
    # Alpha, full as it is, is no brightness.
    deep = pixels.astype(np.uint16) * 16
    deep[:, :, 3:] = 0xFFFF
    expected = image_to_rgb(image_message(pixels, encoding.replace('16', '8')))
    result = image_to_rgb(image_message(deep, encoding, big=big))
    stretched = expected.astype(float) * 255 / 252
    np.testing.assert_allclose(result[2:-2, 2:-2], stretched[2:-2, 2:-2], atol=2)


@pytest.mark.parametrize('big', [False, True])
def test_mono16_honours_byte_order(big):
    message = image_message(np.full((2, 3, 1), 0x12F0, np.uint16), 'mono16', big=big)
    assert (image_to_rgb(message) == 0x12).all()


@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
@pytest.mark.parametrize('bits', [8, 16])
def test_bayer_patterns_give_the_right_colour(pattern, bits):
    red, green, blue = ORANGE
    values = [{'r': red, 'g': green, 'b': blue}[letter] for letter in pattern]
    mosaic = np.tile(np.array(values, np.uint8).reshape(2, 2), (4, 4))[:, :, None]
    if bits == 16:
        mosaic = mosaic.astype(np.uint16) * 256
    result = image_to_rgb(image_message(mosaic, f'bayer_{pattern}{bits}'))
    assert (result[2:-2, 2:-2] == ORANGE).all()


@pytest.mark.parametrize(
    ('encoding', 'order'),
    [('yuv422', 'uyvy'), ('uyvy', 'uyvy'), ('yuv422_yuy2', 'yuyv'), ('yuyv', 'yuyv')],
)
def test_yuv422_gives_the_right_colour(encoding, order):
    # Red in BT.601 with studio swing.
    values = [{'y': 82, 'u': 90, 'v': 240}[letter] for letter in order]
    pixels = np.tile(np.array(values, np.uint8).reshape(1, 2, 2), (4, 3, 1))
    result = image_to_rgb(image_message(pixels, encoding)).astype(int)
    assert np.abs(result - RED).max() <= 3


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        ({'encoding': '32FC1'}, "encoding '32FC1' is not"),
        ({'encoding': ''}, "encoding '' is not"),
        ({'width': 0}, 'the image is empty: width 0, height 6'),
        ({'height': 0}, 'the image is empty: width 5, height 0'),
        ({'step': 14}, 'step is 14 bytes, but a row of 5 rgb8 pixels takes 15 bytes'),
        ({'height': 7}, 'data has 90 bytes, but 5x7 rgb8 with step 15 takes 105 bytes'),
        ({'data': array.array('B')}, 'data has 0 bytes'),
        ({'width': 2**31, 'step': 2**32 - 1}, 'step is 4294967295 bytes'),
        ({'width': 5, 'encoding': 'yuyv'}, 'yuyv needs an even width, this image has 5'),
        ({'width': 5, 'height': 3, 'encoding': 'bayer_rggb8'}, 'needs at least 4x4 pixels'),
    ],
)
def test_contradictions_are_refused_with_the_reason(picture, change, reason):
    message = image_message(picture, 'rgb8')
    for field, value in change.items():
        setattr(message, field, value)
    with pytest.raises(ImageConversionError) as caught:
        image_to_rgb(message)
    assert reason in str(caught.value)


def test_a_last_row_without_padding_is_enough(picture):
    message = image_message(picture, 'rgb8', padding=9)
    del message.data[-9:]
    np.testing.assert_array_equal(image_to_rgb(message), picture)


@pytest.mark.parametrize('encoding', sorted(ENCODINGS))
def test_every_encoding_converts_some_image(encoding):
    kind = ENCODINGS[encoding]
    pixels = np.zeros((4, 4, kind.channels), np.uint16 if kind.depth == 2 else np.uint8)
    result = image_to_rgb(image_message(pixels, encoding))
    assert result.shape == (4, 4, 3)
    assert result.dtype == np.uint8


def test_compressed_png_is_exact(picture):
    _, data = cv2.imencode('.png', picture[:, :, ::-1])
    message = CompressedImage(format='png', data=array.array('B', data.tobytes()))
    np.testing.assert_array_equal(compressed_to_rgb(message), picture)


def test_a_compressed_image_that_declares_too_much():
    _, data = cv2.imencode('.png', np.zeros((200, 300), np.uint8))
    message = CompressedImage(format='png', data=array.array('B', data.tobytes()))
    with pytest.raises(ImageConversionError, match='declares 300x200 pixels'):
        compressed_to_rgb(message, max_megapixels=0.05)


def test_compressed_jpeg_keeps_colours():
    picture = np.full((16, 24, 3), ORANGE, np.uint8)
    message = rgb_to_compressed(picture, Header(frame_id='camera'))
    assert message.header.frame_id == 'camera'
    assert np.abs(compressed_to_rgb(message).astype(int) - ORANGE).max() <= 4


@pytest.mark.parametrize(
    ('data', 'image_format', 'reason'),
    [
        (b'', 'jpeg', 'empty'),
        (b'no picture', 'jpeg', 'not an image'),
        (b'anything', '16UC1; compressedDepth png', 'compressed depth image'),
    ],
)
def test_broken_compressed_images_are_refused(data, image_format, reason):
    message = CompressedImage(format=image_format, data=array.array('B', data))
    with pytest.raises(ImageConversionError, match=reason):
        compressed_to_rgb(message)


def test_half_a_jpeg_is_refused():
    message = rgb_to_compressed(np.full((64, 64, 3), ORANGE, np.uint8), Header())
    message.data = message.data[: len(message.data) // 2]
    with pytest.raises(ImageConversionError, match='truncated'):
        compressed_to_rgb(message)


def test_image_round_trip(picture):
    header = Header(frame_id='camera')
    header.stamp.sec, header.stamp.nanosec = 12, 34
    message = rgb_to_image(picture[:, ::2], header)
    assert (message.height, message.width, message.step) == (6, 3, 9)
    assert message.header == header
    assert isinstance(message.data, array.array)
    np.testing.assert_array_equal(image_to_rgb(message), picture[:, ::2])


@pytest.mark.parametrize('wrong', [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_only_rgb_becomes_an_image(wrong):
    with pytest.raises(ValueError, match='expected RGB uint8'):
        rgb_to_image(wrong, Header())


def some_poses(people: int) -> Poses:
    rng = np.random.default_rng(3)
    return Poses(
        BODY19,
        rng.uniform(-20, 700, (people, 19, 2)).astype(np.float32),
        rng.random((people, 19), np.float32),
        rng.uniform(0, 600, (people, 4)).astype(np.float32),
        rng.random(people, np.float32),
        np.arange(people, dtype=np.int32) - 1,
    )


@pytest.mark.parametrize('people', [0, 1, 7])
def test_poses_round_trip_exactly(people):
    poses = some_poses(people)
    message = poses_to_message(poses, Header(), image_size=(480, 640))
    back = message_to_poses(message, BODY19)
    for field in ('keypoints', 'keypoint_scores', 'boxes', 'scores', 'track_ids'):
        np.testing.assert_array_equal(getattr(back, field), getattr(poses, field), field)


@pytest.mark.parametrize('people', [0, 1, 7])
def test_rclpy_reads_the_bytes_that_are_made_at_once(people):
    poses, header = some_poses(people), Header(frame_id='camera')
    made = serialize_poses(poses, header, image_size=(480, 640))
    again = serialize_message(deserialize_message(made, PersonPoseArray))
    # rclpy leaves what comes to hand in the gaps between numbers, rosbags zeros.
    read = bag_types().deserialize_cdr(again, POSES)
    assert bytes(bag_types().serialize_cdr(read, POSES)) == made


def test_covariances_go_through_messages_where_they_are_known():
    covariances = np.random.default_rng(0).uniform(1, 9, (2, 19, 3)).astype(np.float32)
    covariances[1, 3] = np.nan
    poses = Poses(
        BODY19,
        np.zeros((2, 19, 2)),
        np.full((2, 19), 0.5),
        np.tile([0.0, 0.0, 9.0, 9.0], (2, 1)),
        np.full(2, 0.5),
        covariances=covariances,
    )
    message = poses_to_message(poses, Header(), image_size=(480, 640))
    np.testing.assert_array_equal(message_to_poses(message, BODY19).covariances, covariances)
    # What a sender leaves at its default is not known to a hair.
    message.people[0].keypoints[5].covariance[:] = 0
    assert np.isnan(message_to_poses(message, BODY19).covariances[0, 5]).all()
    untold = poses_to_message(
        Poses(*(getattr(poses, name) for name in ARRAYS)), Header(), image_size=(480, 640)
    )
    assert np.isnan(untold.people[0].keypoints[0].covariance).all()
    assert message_to_poses(untold, BODY19).covariances is None


def test_colours_go_through_messages_where_they_are_known():
    poses = some_poses(3)
    poses.colours = np.random.default_rng(0).uniform(-90, 90, (3, 6)).astype(np.float32)
    poses.colours[1, 3:] = np.nan
    message = poses_to_message(poses, Header(), image_size=(480, 640))
    np.testing.assert_array_equal(message_to_poses(message, BODY19).colours, poses.colours)
    # What a sender leaves at its default, what is infinite and what no screen can show.
    message.people[0].colours[:] = 0
    message.people[2].colours[:] = [np.inf, 1e30, -151, 5, 6, 7]
    back = message_to_poses(message, BODY19).colours
    assert np.isnan(back[0]).all() and np.isnan(back[2, :3]).all()
    assert back[2, 3:].tolist() == [5, 6, 7]
    untold = poses_to_message(some_poses(2), Header(), image_size=(480, 640))
    assert np.isnan(untold.people[0].colours).all()
    assert message_to_poses(untold, BODY19).colours is None


def test_pose_message_says_all_about_the_frame():
    header = Header(frame_id='camera')
    header.stamp.sec, header.stamp.nanosec = 3, 999_999_999
    timings = {'detect': 1.0, 'crop': 2.0, 'estimate': 3.5, 'nms': 0.25, 'total': 7.0}
    message = poses_to_message(some_poses(2), header, image_size=(480, 640), timings=timings)
    assert message.header == header
    assert message.skeleton == 'body19'
    assert (message.image_width, message.image_height) == (640, 480)
    assert message.detector_ms == 1.0
    assert message.pose_ms == 5.5
    assert message.nms_ms == 0.25
    assert message.total_ms == 7.0
    for person in message.people:
        for joint in person.keypoints:
            assert math.isnan(joint.position.x + joint.position.y + joint.position.z)
            assert math.isnan(joint.position.z)


def test_poses_of_another_skeleton_are_refused():
    message = poses_to_message(some_poses(1), Header(), image_size=(480, 640))
    with pytest.raises(ValueError, match="skeleton 'body19', 'coco17' is expected"):
        message_to_poses(message, COCO17)
    message.people[0].keypoints = message.people[0].keypoints[:-1]
    with pytest.raises(ValueError, match="18 keypoints, skeleton 'body19' has 19"):
        message_to_poses(message, BODY19)


@pytest.mark.parametrize(
    ('spoil', 'reason'),
    [
        (lambda m: setattr(m, 'image_width', 0), 'image_width and image_height are 0 and 480'),
        (lambda m: setattr(m, 'people', m.people * 600), '1200 people in one image, 1000 at most'),
        (lambda m: setattr(m.people[0].keypoints[3], 'x', 2e6), 'more than 1000000 pixels away'),
        (lambda m: setattr(m.people[1].keypoints[3], 'y', math.nan), 'keypoints must be finite'),
        (lambda m: setattr(m.people[0], 'box', [0.0, 0.0, math.inf, 1.0]), 'pixels away'),
        (lambda m: setattr(m.people[0], 'score', 1.5), r'scores must be in \[0, 1\]'),
    ],
)
def test_people_who_cannot_be_are_refused(spoil, reason):
    message = poses_to_message(some_poses(2), Header(), image_size=(480, 640))
    spoil(message)
    with pytest.raises(MessageError, match=reason):
        message_to_poses(message, BODY19)


@pytest.mark.parametrize('name', sorted(SKELETONS))
def test_skeleton_round_trip(name):
    skeleton = SKELETONS[name]
    back = message_to_skeleton(skeleton_to_message(skeleton))
    assert back.keypoints == skeleton.keypoints
    assert back.edges == skeleton.edges
    assert back.flip_pairs == skeleton.flip_pairs
    assert back.name == name
    assert back.sigmas == pytest.approx(skeleton.sigmas)


def test_a_skeleton_with_half_an_edge_is_refused():
    message = skeleton_to_message(COCO17)
    message.edges.pop()
    with pytest.raises(ValueError, match='edges has 31 values'):
        message_to_skeleton(message)


def test_the_name_of_a_skeleton_means_one_thing():
    message = skeleton_to_message(COCO17)
    message.name = 'body19'
    with pytest.raises(MessageError, match="'body19' with other joints"):
        message_to_skeleton(message)
    with pytest.raises(MessageError, match='a skeleton without a name'):
        message_to_skeleton(SkeletonInfo())
