# SPDX-License-Identifier: Apache-2.0
"""pose_node as a managed node: its transitions through the real services, and what they free."""

import os
import re
import shutil
from pathlib import Path

import pytest
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rmpe_ros.msg import PersonPoseArray, SkeletonInfo
from rmpe_ros.srv import EstimatePoses
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool

from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.io.messages import message_to_poses
from rmpe_ros.nodes.inputs.rclpy_messages import rgb_to_image

from .conftest import PATIENCE, new_header
from .made_models import heavy_detector

README = Path(__file__).parents[2] / 'README.md'
OF_EVERY_NODE = {
    *('/clock', '/rosout', '/parameter_events', '~/transition_event', '~/get_type_description'),
    *('~/change_state', '~/get_state', '~/get_available_states'),
    *('~/get_available_transitions', '~/get_transition_graph'),
}
ROUND_TRIPS = 20
WEIGHTS_MB = 32


class Managed:
    """A pose_node of its own name and topics, and the services that move it."""

    def __init__(self, peer, start_node, name, **parameters):
        self.peer, self.name = peer, name
        remap = ('-r', f'__node:={name}', '-r', f'__ns:=/{name}')
        self.process = start_node('pose_node', *remap, ready=False, **parameters)
        self.camera = peer.node.create_publisher(Image, f'/{name}/image_raw', 5)
        self.answers = peer.collect(PersonPoseArray, f'/{name}/poses')

    def change(self, transition):
        request = ChangeState.Request(transition=Transition(id=transition))
        service = f'/{self.name}/{self.name}/change_state'
        return self.peer.call(ChangeState, service, request).success

    def state(self):
        service = f'/{self.name}/{self.name}/get_state'
        return self.peer.call(GetState, service, GetState.Request()).current_state.id

    def people(self, image):
        message = rgb_to_image(image, new_header())
        return len(self.peer.ask(self.camera, message, self.answers).people)

    def memory(self):
        """Resident megabytes."""
        statm = Path(f'/proc/{self.process.pid}/statm').read_text()
        return int(statm.split()[1]) * os.sysconf('SC_PAGE_SIZE') / 1e6

    def wait_for_log(self, text):
        self.peer.wait_for(lambda: text in self.process.log_text(), f'{text!r} in the log')


@pytest.mark.skipif(not Path('/proc/self/statm').exists(), reason='memory is read from /proc')
def test_round_trips_free_the_networks_and_leak_nothing(
    peer, start_node, two_people, detector_model, tmp_path
):
    heavy = heavy_detector(detector_model, tmp_path / 'heavy.onnx', megabytes=WEIGHTS_MB)
    node = Managed(peer, start_node, 'trips', autostart=False, detector=str(heavy))
    assert node.state() == State.PRIMARY_STATE_UNCONFIGURED
    loaded, cleaned = [], []
    for trip in range(ROUND_TRIPS):
        assert node.change(Transition.TRANSITION_CONFIGURE)
        assert node.change(Transition.TRANSITION_ACTIVATE)
        if trip in (0, ROUND_TRIPS - 1):
            assert node.state() == State.PRIMARY_STATE_ACTIVE
            assert node.people(two_people) == 2
        loaded.append(node.memory())
        assert node.change(Transition.TRANSITION_DEACTIVATE)
        peer.wait_for(lambda: node.camera.get_subscription_count() == 0, 'no subscription')
        assert node.change(Transition.TRANSITION_CLEANUP)
        cleaned.append(node.memory())
    assert node.state() == State.PRIMARY_STATE_UNCONFIGURED
    report = f'MB loaded {[*map(round, loaded)]}, cleaned {[*map(round, cleaned)]}'
    assert min(a - b for a, b in zip(loaded, cleaned, strict=True)) > 0.7 * WEIGHTS_MB, report
    # The first trips warm up libraries; a leaked network would be WEIGHTS_MB each time.
    assert cleaned[-1] - cleaned[4] < 15, report
    assert node.process.stop() == 0
    assert 'Traceback' not in node.process.log_text()


def test_a_failed_transition_is_explained_and_can_be_repeated(
    peer, start_node, two_people, detector_model, tmp_path
):
    path = tmp_path / 'late.onnx'
    node = Managed(peer, start_node, 'failing', autostart=False, detector=str(path))
    node.wait_for_log('waits for the lifecycle transition configure')
    assert not node.change(Transition.TRANSITION_CONFIGURE)
    assert node.state() == State.PRIMARY_STATE_UNCONFIGURED
    log = node.process.log_text()
    assert f'configure failed: model file {path} does not exist' in log
    assert 'Traceback' in log and 'make_pipeline' in log
    assert not node.change(Transition.TRANSITION_ACTIVATE), 'it is not configured'

    shutil.copy(detector_model, path)
    assert node.change(Transition.TRANSITION_CONFIGURE)
    assert node.state() == State.PRIMARY_STATE_INACTIVE
    # Configured it tells its skeleton, but does not listen. The answer may come before discovery.
    peer.wait_for(lambda: peer.node.count_publishers('/failing/skeleton'), 'a publisher')
    assert peer.node.count_publishers('/failing/skeleton') == 1
    assert node.camera.get_subscription_count() == 0
    assert node.change(Transition.TRANSITION_ACTIVATE)
    assert node.people(two_people) == 2

    assert node.change(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert node.state() == State.PRIMARY_STATE_FINALIZED
    peer.wait_for(lambda: peer.node.count_publishers('/failing/skeleton') == 0, 'no publisher')
    assert node.process.stop() == 0


def test_the_models_can_be_changed_while_unconfigured(peer, start_node, two_people, detector_model):
    node = Managed(peer, start_node, 'changing', autostart=False, detector='no_such_model')

    def choose(model):
        value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=model)
        request = SetParameters.Request(parameters=[Parameter(name='detector', value=value)])
        service = f'/{node.name}/{node.name}/set_parameters'
        return peer.call(SetParameters, service, request).results[0]

    assert not node.change(Transition.TRANSITION_CONFIGURE)
    assert choose(str(detector_model)).successful
    assert node.change(Transition.TRANSITION_CONFIGURE)
    refused = choose('detector')
    assert not refused.successful and 'cleanup first' in refused.reason
    assert node.change(Transition.TRANSITION_ACTIVATE)
    assert node.people(two_people) == 2
    log = node.process.log_text()
    assert "parameter detector: 'no_such_model' → " in log
    assert log.count('the models run on') == 1
    assert node.process.stop() == 0


def test_an_unknown_parameter_is_refused_at_start(start_node):
    node = start_node('pose_node', ready=False, min_scor=0.2)
    assert node.wait(PATIENCE) == 1
    assert 'pose_node has no parameter min_scor (did you mean min_score?)' in node.log_text()


def test_services_of_an_active_node(peer, start_node, two_people, pipeline):
    node = Managed(peer, start_node, 'served')
    node.wait_for_log('ready')

    def enable(data):
        return peer.call(SetBool, '/served/served/enable', SetBool.Request(data=data))

    def estimate(message):
        request = EstimatePoses.Request(image=message)
        return peer.call(EstimatePoses, '/served/served/estimate_poses', request)

    assert node.people(two_people) == 2
    assert enable(False).success
    peer.wait_for(lambda: node.camera.get_subscription_count() == 0, 'no subscription')

    # On demand only: the topics are silent, the service answers.
    image = rgb_to_image(two_people, new_header('posted'))
    response = estimate(image)
    assert (response.success, response.message) == (True, '2 people')
    assert response.poses.header == image.header
    assert (response.poses.image_width, response.poses.image_height) == (640, 480)
    expected = pipeline(two_people)
    poses = message_to_poses(response.poses, BODY19)
    assert poses.keypoints == pytest.approx(expected.keypoints, rel=1e-5)
    assert response.poses.total_ms > 0
    image.encoding = 'jpeg2000'
    response = estimate(image)
    assert not response.success
    assert "encoding 'jpeg2000' is not" in response.message
    assert response.poses.header == image.header

    assert enable(True).success
    assert node.people(two_people) == 2

    # Deactivated it refuses, and remembers what ~/enable said.
    assert node.change(Transition.TRANSITION_DEACTIVATE)
    response = estimate(rgb_to_image(two_people, new_header()))
    assert not response.success
    assert 'pose_node is inactive' in response.message
    response = enable(False)
    assert response.success and 'inactive' in response.message
    assert node.change(Transition.TRANSITION_ACTIVATE)
    assert estimate(rgb_to_image(two_people, new_header())).success
    assert node.camera.get_subscription_count() == 0
    assert enable(True).success
    assert node.people(two_people) == 2


def test_skeletons_are_latched_again_after_a_round_trip(peer, start_node):
    node = Managed(peer, start_node, 'again')
    node.wait_for_log('ready')
    for transition in (
        Transition.TRANSITION_DEACTIVATE,
        Transition.TRANSITION_CLEANUP,
        Transition.TRANSITION_CONFIGURE,
    ):
        assert node.change(transition)
    from rclpy.qos import DurabilityPolicy, QoSProfile

    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    skeletons = peer.collect(SkeletonInfo, '/again/skeleton', latched)
    peer.wait_for(lambda: skeletons, 'the skeleton', PATIENCE)
    assert skeletons[0].name == 'body19'


def test_the_readme_names_every_topic_and_service(peer, start_node):
    node = Managed(peer, start_node, 'listed')
    node.wait_for_log('ready')
    table = README.read_text().split('| `pose_node` |', 1)[1].split('| `visualizer_node` |', 1)[0]
    cells = [line.lstrip('| ').split('|')[0] for line in table.splitlines()]
    written = {name for cell in cells for name in re.findall(r'`([^`]+)`', cell)}
    written.remove('image_raw/compressed')  # instead of image_raw, with compressed: true

    def existing():
        """Names as the README writes them, without those that every lifecycle node has."""
        if ('listed', '/listed') not in peer.node.get_node_names_and_namespaces():
            return set()
        graph = [
            peer.node.get_subscriber_names_and_types_by_node,
            peer.node.get_publisher_names_and_types_by_node,
            peer.node.get_service_names_and_types_by_node,
        ]
        names = [name for get in graph for name, _ in get('listed', '/listed')]
        relative = {name.replace('/listed/listed/', '~/').replace('/listed/', '') for name in names}
        return {name for name in relative if name not in OF_EVERY_NODE and '_parameter' not in name}

    peer.wait_for(lambda: '~/estimate_poses' in existing(), 'the node in the graph')
    peer.spin_for(1.0)
    assert existing() == written
