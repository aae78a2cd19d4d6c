# SPDX-License-Identifier: Apache-2.0
"""pose_node with tracking: numbers stay with people, and parameters change that while it runs."""

import numpy as np
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rmpe_ros.msg import PersonPoseArray
from sensor_msgs.msg import Image

from rmpe_ros.nodes.rclpy_messages import rgb_to_image

from .conftest import new_header


def walkers(step):
    """Two bright rectangles: one walks to the right, the other one to the left."""
    image = np.full((480, 640, 3), 20, np.uint8)
    image[60:210, 50 + 10 * step : 100 + 10 * step] = 255
    image[250:450, 500 - 10 * step : 560 - 10 * step] = 204
    return image


def set_bool(peer, name, value):
    parameter = Parameter(
        name=name, value=ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=value)
    )
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
