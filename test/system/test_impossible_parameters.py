# SPDX-License-Identifier: Apache-2.0
"""Parameters of a node that the machine, the middleware or a file does not allow."""

import pytest
from lifecycle_msgs.msg import Transition
from rmpe_ros.msg import PersonPoseArray
from sensor_msgs.msg import Image

from rmpe_ros.nodes.inputs.rclpy_messages import rgb_to_image

from .conftest import PATIENCE, new_header
from .made_models import heavy_detector
from .test_lifecycle import Managed

HEAVY_MB = 64


@pytest.mark.parametrize(
    ('name', 'topic', 'policy'),
    [
        ('pose_node', 'image_raw', 'depth:=-1'),
        ('visualizer_node', 'image_raw', 'reliability:=sometimes'),
        ('lift_node', 'depth', 'depth:=deep'),
    ],
)
def test_a_qos_that_cannot_be_is_refused_in_a_sentence(start_node, name, topic, policy):
    node = start_node(name, '-p', f'qos_overrides./{topic}.subscription.{policy}', ready=False)
    assert node.wait(PATIENCE) == 1
    assert f'with the parameters qos_overrides./{topic}.subscription.*' in node.log_text()
    assert 'Traceback' not in node.log_text()


def test_more_threads_than_cpus_are_told_and_not_used(peer, start_node, two_people):
    node = start_node('pose_node', '-r', '__ns:=/crowded', threads=256)
    assert 'parameter threads is 256, but there are' in node.log_text()
    camera = peer.node.create_publisher(Image, '/crowded/image_raw', 5)
    answers = peer.collect(PersonPoseArray, '/crowded/poses')
    assert len(peer.ask(camera, rgb_to_image(two_people, new_header()), answers).people) == 2


def test_a_second_network_that_is_refused_leaves_nothing_of_the_first(
    peer, start_node, detector_model, tmp_path
):
    heavy = heavy_detector(detector_model, tmp_path / 'heavy.onnx', megabytes=HEAVY_MB)
    broken = tmp_path / 'broken.onnx'
    broken.write_bytes(b'no network')
    settings = {'autostart': False, 'detector': str(heavy), 'pose_model': str(broken)}
    node = Managed(peer, start_node, 'half', **settings)
    node.wait_for_log('waits for the lifecycle transition configure')
    memory = [node.memory()]
    for _ in range(3):
        assert not node.change(Transition.TRANSITION_CONFIGURE)
        memory.append(node.memory())
    assert memory[-1] - memory[0] < 0.7 * HEAVY_MB, memory
