# SPDX-License-Identifier: Apache-2.0
"""~/estimate_poses: it blocks nothing, bursts are answered, and the end is not waited for."""

import signal

import pytest
from rcl_interfaces.srv import GetParameters
from rclpy.qos import QoSProfile
from rmpe_ros.msg import PersonPoseArray
from rmpe_ros.srv import EstimatePoses
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool

from rmpe_ros.nodes.inputs.rclpy_messages import rgb_to_image

from .conftest import PATIENCE, new_header
from .made_models import slow_detector

MANY = QoSProfile(depth=1000)


@pytest.fixture
def clients(peer):
    """Clients of services that have room for the answers of a burst; closed at the end."""
    made = []

    def make(kind, service):
        made.append(peer.node.create_client(kind, service, qos_profile=MANY))
        peer.wait_for(made[-1].service_is_ready, f'service {service}')
        return made[-1]

    yield make
    for each in made:
        peer.node.destroy_client(each)


def test_bursts_are_answered_all(peer, start_node, clients, two_people):
    start_node('pose_node', '-r', '__ns:=/burst')
    estimate = clients(EstimatePoses, '/burst/pose_node/estimate_poses')
    enable = clients(SetBool, '/burst/pose_node/enable')
    headers = [new_header() for _ in range(60)]
    jobs = [
        estimate.call_async(EstimatePoses.Request(image=rgb_to_image(two_people, header)))
        for header in headers
    ]
    switches = [enable.call_async(SetBool.Request(data=bool(index % 2))) for index in range(300)]
    peer.wait_for(lambda: all(each.done() for each in jobs + switches), 'the answers', 2 * PATIENCE)
    for job, header in zip(jobs, headers, strict=True):
        assert (job.result().success, job.result().message) == (True, '2 people')
        assert job.result().poses.header == header
    messages = {True: 'enabled', False: 'disabled: images are not subscribed to'}
    for index, switch in enumerate(switches):
        assert switch.result().success
        assert switch.result().message == messages[bool(index % 2)]


def test_parameters_cameras_and_the_end_do_not_wait_for_a_burst(
    peer, start_node, clients, two_people, detector_model, tmp_path
):
    slow = slow_detector(detector_model, tmp_path / 'slow.onnx')
    node = start_node('pose_node', '-r', '__ns:=/calm', detector=str(slow))
    estimate = clients(EstimatePoses, '/calm/pose_node/estimate_poses')
    parameters = clients(GetParameters, '/calm/pose_node/get_parameters')
    camera = peer.node.create_publisher(Image, '/calm/image_raw', 5)
    answers = peer.collect(PersonPoseArray, '/calm/poses')
    jobs = [
        estimate.call_async(EstimatePoses.Request(image=rgb_to_image(two_people, new_header())))
        for _ in range(150)
    ]
    asked = parameters.call_async(GetParameters.Request(names=['max_people']))
    peer.wait_for(asked.done, 'the value of a parameter')
    assert asked.result().values[0].integer_value == 30
    peer.ask(camera, rgb_to_image(two_people, new_header()), answers)
    assert not all(each.done() for each in jobs), 'all that came before the burst was over'
    node.signal(signal.SIGTERM)
    assert node.wait(PATIENCE) == 0
    assert 'Traceback' not in node.log_text()


def test_more_requests_than_may_wait_are_told_so(
    peer, clients, start_node, two_people, detector_model, tmp_path
):
    # `clients` before `start_node`: the node ends first, and answers to clients that are gone take
    # it 0.1 s each.
    slow = slow_detector(detector_model, tmp_path / 'slow.onnx')
    start_node('pose_node', '-r', '__ns:=/full', detector=str(slow))
    estimate = clients(EstimatePoses, '/full/pose_node/estimate_poses')
    small = two_people[:48, :64].copy()
    jobs = [
        estimate.call_async(EstimatePoses.Request(image=rgb_to_image(small, new_header())))
        for _ in range(300)
    ]
    refused = peer.wait_for(
        lambda: [each for each in jobs if each.done() and not each.result().success], 'a refusal'
    )
    assert refused[0].result().message == '200 requests wait already; ask again later'
