# SPDX-License-Identifier: Apache-2.0
"""pose_node with tracking: numbers stay with people, and parameters change that while it runs."""

from pathlib import Path

import numpy as np
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rmpe_ros.msg import PersonPoseArray
from sensor_msgs.msg import Image

from rmpe_ros.engines.example_pictures import example_photo
from rmpe_ros.nodes.inputs.rclpy_messages import rgb_to_image

from .conftest import new_header


def walkers(step):
    """Two bright rectangles: one walks to the right, the other one to the left."""
    image = np.full((480, 640, 3), 20, np.uint8)
    image[60:210, 50 + 10 * step : 100 + 10 * step] = 255
    image[250:450, 500 - 10 * step : 560 - 10 * step] = 204
    return image


def set_bool(peer, name, value):
    set_parameter(peer, name, type=ParameterType.PARAMETER_BOOL, bool_value=value)


def set_parameter(peer, name, **value):
    parameter = Parameter(name=name, value=ParameterValue(**value))
    request = SetParameters.Request(parameters=[parameter])
    result = peer.call(SetParameters, '/walk/pose_node/set_parameters', request).results[0]
    assert result.successful, result.reason


def test_numbers_follow_the_people(peer, start_node):
    start_node('pose_node', '-r', '__ns:=/walk')
    images = peer.node.create_publisher(Image, '/walk/image_raw', 5)
    answers = peer.collect(PersonPoseArray, '/walk/poses')

    def see(step, seconds):
        header = new_header()
        header.stamp.sec = int(seconds)
        header.stamp.nanosec += round(seconds % 1 * 1e9) - header.stamp.nanosec % 10**8
        message = peer.ask(images, rgb_to_image(walkers(step), header), answers)
        return {
            'bright' if person.box[1] < 230 else 'dark': person.track_id
            for person in message.people
        }

    first = see(0, 100.0)
    assert sorted(first.values()) == [0, 1]
    for step in range(1, 8):
        assert see(step, 100.0 + 0.1 * step) == first
    set_bool(peer, 'tracking.enabled', False)
    assert set(see(8, 100.8).values()) == {-1}
    set_bool(peer, 'tracking.enabled', True)
    assert sorted(see(9, 100.9).values()) == [2, 3]
    # The bag starts again.
    assert sorted(see(0, 90.0).values()) == [4, 5]


def test_people_are_detected_in_every_nth_image(peer, start_node):
    """Who comes is found at the next detection, whose number changes while the node runs."""
    models = Path(__file__).parents[2] / 'models'
    networks = {
        'detector': str(models / 'detector.onnx'), 'pose_model': str(models / 'lite.onnx')
    }  # fmt: skip
    start_node('pose_node', '-r', '__ns:=/walk', min_score=0.3, detect_every=1000, **networks)
    images = peer.node.create_publisher(Image, '/walk/image_raw', 5)
    answers = peer.collect(PersonPoseArray, '/walk/poses')
    one = np.full((360, 680, 3), 127, np.uint8)
    one[20:340, 10:330] = example_photo()
    both = one.copy()
    both[20:340, 350:670] = example_photo()

    def see(image, seconds):
        header = new_header()
        header.stamp.sec, header.stamp.nanosec = divmod(round(seconds * 1e9), 10**9)
        return len(peer.ask(images, rgb_to_image(image, header), answers).people)

    assert [see(one, 100.0), see(both, 100.1)] == [1, 1]
    number = {'type': ParameterType.PARAMETER_INTEGER, 'integer_value': 1}
    set_parameter(peer, 'detect_every', **number)
    assert [see(both, 100.2), see(one, 100.3), see(both, 100.4)] == [2, 1, 2]
