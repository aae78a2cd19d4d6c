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


@pytest.fixture
def full(peer, start_node, clients, two_people, detector_model, tmp_path):
    """A node with as many requests as may wait, their client, such a request, and what becomes of
    them all: some were too many, and are told so.
    """
    slow = slow_detector(detector_model, tmp_path / 'slow.onnx')
    node = start_node('pose_node', '-r', '__ns:=/full', detector=str(slow))
    estimate = clients(EstimatePoses, '/full/pose_node/estimate_poses')
    request = EstimatePoses.Request(image=rgb_to_image(two_people[:48, :64].copy(), new_header()))
    jobs = [estimate.call_async(request) for _ in range(300)]

    def refused():
        answers = [each.result() for each in jobs if each.done()]
        return [each.message for each in answers if not each.success]

    peer.wait_for(lambda: len(refused()) >= 90, 'refusals')
    assert set(refused()) == {'200 requests wait already; ask again later'}
    return node, estimate, request, jobs


def test_whoever_waits_at_the_end_is_told_so(peer, full):
    node, _, _, jobs = full
    node.signal(signal.SIGTERM)
    peer.wait_for(lambda: all(each.done() for each in jobs), 'an answer to each')
    assert 'pose_node is finalized now; activate it first' in {j.result().message for j in jobs}
    assert node.wait(PATIENCE) == 0


def test_clients_that_are_gone_are_not_waited_for(peer, full):
    """Fast DDS would wait 0.1 s with each answer to one whose request is taken afterwards."""
    node, estimate, request, _ = full
    for _ in range(60):
        estimate.call_async(request)
    # In this order: a node that knows nothing of its end answers whoever asks, gone or not.
    node.signal(signal.SIGTERM)
    peer.spin_for(0.05)
    peer.node.destroy_client(estimate)
    assert node.wait(PATIENCE) == 0
    assert 'client will not receive response' not in node.log_text()
