# SPDX-License-Identifier: Apache-2.0
"""pose_node as a process: what it answers, what it survives, how it starts and stops."""

import array
import re
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from rmpe_ros.msg import PersonPoseArray, SkeletonInfo
from sensor_msgs.msg import CompressedImage, Image

from rmpe_ros.core.clothes import clothes_colours
from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.io.messages import compressed_to_rgb, message_to_poses, message_to_skeleton
from rmpe_ros.nodes.inputs.rclpy_messages import rgb_to_compressed, rgb_to_image
from rmpe_ros.nodes.inputs.stamp_matcher import header_key

from .conftest import PATIENCE, new_header
from .made_models import slow_detector

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture(scope='module')
def pose_node(start_shared_node):
    """One pose_node for the tests that leave it as it was."""
    return start_shared_node('pose_node')


@pytest.fixture
def camera(peer, pose_node):
    return peer.node.create_publisher(Image, 'image_raw', 5)


@pytest.fixture
def answers(peer, pose_node):
    return peer.collect(PersonPoseArray, 'poses')


def assert_same_poses(message, expected):
    poses = message_to_poses(message, BODY19)
    for field in ('keypoints', 'keypoint_scores', 'boxes', 'scores'):
        np.testing.assert_allclose(getattr(poses, field), getattr(expected, field), rtol=1e-5)
    assert len(poses) == len(expected)


def test_each_image_is_answered_with_the_poses_of_the_pipeline(
    peer, camera, answers, pipeline, two_people
):
    shifts = [0, 7, 15, 30]
    sent = []
    for shift in shifts:
        image = np.roll(two_people, shift, axis=1)
        message = rgb_to_image(image, new_header(f'camera_{shift}'))
        answer = peer.ask(camera, message, answers)
        sent.append(header_key(message.header))
        assert answer.header == message.header
        assert answer.skeleton == 'body19'
        assert (answer.image_width, answer.image_height) == (640, 480)
        expected = pipeline(image)
        assert len(expected) == 2
        assert_same_poses(answer, expected)
        colours = message_to_poses(answer, BODY19).colours
        np.testing.assert_allclose(colours, clothes_colours(image, expected), atol=0.01)
        assert np.isfinite(colours).any()
        assert answer.total_ms >= answer.detector_ms > 0
        assert answer.pose_ms > 0
    assert {header_key(answer.header) for answer in answers} == set(sent)


def test_an_empty_picture_is_answered_with_nobody(peer, camera, answers):
    image = rgb_to_image(np.zeros((120, 160, 3), np.uint8), new_header())
    answer = peer.ask(camera, image, answers)
    assert answer.header == image.header
    assert len(answer.people) == 0
    assert (answer.image_width, answer.image_height) == (160, 120)


def test_encoding_and_step_are_honoured(peer, camera, answers, pipeline, two_people):
    # Only the red channel is bright, so that a swap of channels would change the scores.
    reddish = two_people.copy()
    reddish[:, :, 2] //= 2
    message = rgb_to_image(reddish, new_header())
    message.encoding = 'bgr8'
    padded = np.zeros((480, 640 * 3 + 24), np.uint8)
    padded[:, : 640 * 3] = reddish[:, :, ::-1].reshape(480, -1)
    message.step = padded.shape[1]
    message.data = array.array('B', padded.tobytes())
    assert_same_poses(peer.ask(camera, message, answers), pipeline(reddish))


def test_the_skeleton_waits_for_late_joiners(peer, pose_node):
    messages = peer.collect(SkeletonInfo, 'skeleton', LATCHED)
    peer.wait_for(lambda: messages, 'the latched skeleton')
    skeleton = message_to_skeleton(messages[0])
    assert skeleton.keypoints == BODY19.keypoints
    assert skeleton.edges == BODY19.edges
    assert messages[0].header.stamp.sec > 0


def test_garbage_is_survived_counted_and_explained(
    peer, camera, answers, pose_node, image_message, two_people
):
    peer.ask(camera, image_message, answers)
    diagnostics = peer.collect(DiagnosticArray, '/diagnostics')

    def value(key):
        values = {pair.key: pair.value for pair in diagnostics[-1].status[0].values}
        return values[key]

    def broken(**fields):
        message = rgb_to_image(two_people, new_header('garbage'))
        for name, field in fields.items():
            setattr(message, name, field)
        return message

    reasons = {
        "encoding 'jpeg2000' is not": broken(encoding='jpeg2000'),
        'the message is cut off': broken(data=array.array('B', bytes(1000))),
        'the image is empty': broken(width=0, height=0),
        'data has 0 bytes': broken(data=array.array('B')),
        'step is 3 bytes': broken(step=3),
    }
    peer.wait_for(lambda: diagnostics, 'diagnostics')
    for number, (reason, message) in enumerate(reasons.items()):
        before = int(value('bad'))
        assert before >= number
        peer.publish_until(
            camera,
            message,
            lambda before=before: int(value('bad')) > before,
            f'the count of: {reason}',
        )
        assert reason in value('last_error')
    good = rgb_to_image(two_people, new_header())
    assert len(peer.ask(camera, good, answers).people) == 2
    assert not [answer for answer in answers if answer.header.frame_id == 'garbage']
    assert re.search(
        r'\[WARN\].*image on /image_raw cannot be used: encoding', pose_node.log_text()
    )
    assert pose_node.exit_code is None


def test_diagnostics_tell_the_state(peer, camera, answers, image_message, pose_node):
    diagnostics = peer.collect(DiagnosticArray, '/diagnostics')
    peer.ask(camera, image_message, answers)

    def healthy():
        values = diagnostics and {pair.key: pair.value for pair in diagnostics[-1].status[0].values}
        return values if values and values['people'] == '2' else None

    values = peer.wait_for(healthy, 'diagnostics with two people')
    assert diagnostics[-1].status[0].name == 'pose_node: frames'
    assert diagnostics[-1].status[0].hardware_id == '/image_raw'
    assert values['model'] == 'blobs 0 + middle 0'
    assert int(values['frames']) >= 1
    assert float(values['total_p95_ms']) >= float(values['total_p50_ms']) > 0


def test_a_flooded_node_answers_the_latest_and_counts_the_rest(
    peer, start_node, detector_model, two_people, tmp_path
):
    detector = slow_detector(detector_model, tmp_path / 'slow.onnx')
    start_node(
        'pose_node', '-r', 'image_raw:=flood', '-r', 'poses:=flood_poses', detector=str(detector)
    )
    camera = peer.node.create_publisher(Image, 'flood', qos_profile_sensor_data)
    answers = peer.collect(PersonPoseArray, 'flood_poses', 100)
    diagnostics = peer.collect(DiagnosticArray, '/diagnostics')
    # On a busy machine it is asked several times, and answered once more later on.
    published, publish = [], camera.publish
    camera.publish = lambda message: (published.append(message), publish(message))
    sent = [header_key(peer.ask(camera, rgb_to_image(two_people, new_header()), answers).header)]
    del answers[:]

    for _ in range(40):
        message = rgb_to_image(two_people, new_header())
        sent.append(header_key(message.header))
        camera.publish(message)
        peer.spin_for(0.02)
    # The last one must be answered without being sent again: the freshest frame wins.
    peer.wait_for(
        lambda: answers and header_key(answers[-1].header) == sent[-1], 'the answer to the last'
    )
    keys = [header_key(answer.header) for answer in answers]
    assert keys == sorted(set(keys)), 'answers are in order, never stale, never twice'
    assert set(keys) <= set(sent)
    assert len(keys) < len(sent)

    def counts():
        statuses = [
            status
            for message in diagnostics
            for status in message.status
            if status.hardware_id == '/flood'
        ]
        values = {pair.key: pair.value for pair in statuses[-1].values} if statuses else {}
        return values if int(values.get('frames', 0)) >= len(keys) + 1 else None

    values = peer.wait_for(counts, 'diagnostics after the flood')
    assert int(values['dropped']) > 0
    assert int(values['frames']) + int(values['dropped']) <= len(published)
    assert values['bad'] == '0'


@pytest.mark.parametrize('name', ['SIGINT', 'SIGTERM'])
@pytest.mark.parametrize('busy', [False, True], ids=['idle', 'busy'])
def test_signals_end_it_cleanly(peer, start_node, two_people, name, busy):
    number = signal.Signals[name]
    node = start_node('pose_node', '-r', 'image_raw:=signals', '-r', 'poses:=signals_poses')
    if busy:
        camera = peer.node.create_publisher(Image, 'signals', 5)
        answers = peer.collect(PersonPoseArray, 'signals_poses')
        peer.ask(camera, rgb_to_image(two_people, new_header()), answers)
        for _ in range(5):
            camera.publish(rgb_to_image(two_people, new_header()))
    node.signal(number)
    # A terminal and a launch system may both send it.
    node.signal(number)
    assert node.wait(PATIENCE) == 0, node.log_text()
    log = node.log_text()
    assert 'Traceback' not in log
    assert 'rosout' not in log
    assert 'stopped: ' in log


@pytest.mark.parametrize(
    ('parameters', 'reason'),
    [
        ({'detector': '{folder}/corrupt.onnx'}, 'corrupt.onnx'),
        ({'pose_model': '{folder}/missing.onnx'}, 'missing.onnx does not exist'),
        ({'detector': 'nonsense'}, "there is no model 'nonsense'"),
        ({'detector': 'lite'}, 'a detector model is needed'),
        ({'min_score': 1}, 'min_score must be a double'),
        ({'backend': 'abacus'}, 'backend must be one of'),
    ],
)
def test_it_says_in_one_line_why_it_cannot_start(start_node, tmp_path, parameters, reason):
    (tmp_path / 'corrupt.onnx').write_bytes(b'\x08\x07this is no model' * 50)
    filled = {
        key: value.format(folder=tmp_path) if isinstance(value, str) else value
        for key, value in parameters.items()
    }
    node = start_node('pose_node', ready=False, **filled)
    assert node.wait(PATIENCE) == 1
    lines = [line for line in node.log_text().splitlines() if '[FATAL]' in line]
    assert len(lines) == 1
    assert reason in lines[0]
    assert 'Traceback' not in node.log_text()


@pytest.mark.parametrize(
    ('arguments', 'reason'),
    [(('-p', 'no_value'), 'no_value'), (('--params-file', '/nowhere.yaml'), '/nowhere.yaml')],
)
def test_it_says_what_is_wrong_with_its_ros_arguments(start_node, arguments, reason):
    node = start_node('pose_node', *arguments, ready=False)
    assert node.wait(PATIENCE) == 1
    assert reason in next(line for line in node.log_text().splitlines() if '[FATAL]' in line)
    assert 'Traceback' not in node.log_text()


def set_parameter(peer, node, name, value):
    kinds = {float: ('double_value', ParameterType.PARAMETER_DOUBLE),
             int: ('integer_value', ParameterType.PARAMETER_INTEGER),
             bool: ('bool_value', ParameterType.PARAMETER_BOOL)}  # fmt: skip
    field, kind = kinds[type(value)]
    parameter = Parameter(name=name, value=ParameterValue(type=kind, **{field: value}))
    request = SetParameters.Request(parameters=[parameter])
    return peer.call(SetParameters, f'/{node}/set_parameters', request).results[0]


def test_parameters_change_the_answers_while_it_runs(peer, start_node, two_people):
    start_node(
        'pose_node', '-r', '__node:=tuned', '-r', 'image_raw:=tune', '-r', 'poses:=tune_poses'
    )
    camera = peer.node.create_publisher(Image, 'tune', 5)
    answers = peer.collect(PersonPoseArray, 'tune_poses')

    def people():
        return len(peer.ask(camera, rgb_to_image(two_people, new_header()), answers).people)

    assert people() == 2
    # The detector is sure of one with 1.0 and of the other with 0.8.
    for name, value, back in [
        ('score_threshold', 0.9, -1.0),
        ('min_score', 0.9, 0.1),
        ('max_people', 1, 30),
    ]:
        assert set_parameter(peer, 'tuned', name, value).successful
        assert people() == 1, name
        assert set_parameter(peer, 'tuned', name, back).successful
        assert people() == 2, name
    # Without box NMS and pose NMS the redundant box of each person gets through.
    assert set_parameter(peer, 'tuned', 'box_nms_iou', 1.0).successful
    assert people() == 2
    assert set_parameter(peer, 'tuned', 'pose_nms.enabled', False).successful
    assert people() == 4
    assert set_parameter(peer, 'tuned', 'pose_nms.enabled', True).successful
    assert set_parameter(peer, 'tuned', 'pose_nms.eta', 1000.0).successful
    assert people() == 4

    for name, value, reason in [
        ('min_score', 1.5, 'min_score'),
        ('min_score', 1, 'type'),
        ('compressed', True, 'read-only'),
        ('no_such_parameter', 1, 'undeclared'),
    ]:
        result = set_parameter(peer, 'tuned', name, value)
        assert not result.successful
        assert reason in result.reason
    assert people() == 4


def test_compressed_images(peer, start_node, pipeline, two_people):
    start_node(
        'pose_node', '-r', 'image_raw:=front/image', '-r', 'poses:=front/poses', compressed=True
    )
    camera = peer.node.create_publisher(CompressedImage, 'front/image/compressed', 5)
    answers = peer.collect(PersonPoseArray, 'front/poses')
    jpeg = rgb_to_compressed(two_people, new_header('front'))
    answer = peer.ask(camera, jpeg, answers)
    assert answer.header == jpeg.header
    assert_same_poses(answer, pipeline(compressed_to_rgb(jpeg)))

    camera.publish(CompressedImage(header=new_header('garbage'), format='jpeg'))
    _, encoded = cv2.imencode('.png', two_people[:, :, ::-1])
    png = CompressedImage(header=new_header('front'), format='png')
    png.data = array.array('B', encoded.tobytes())
    assert_same_poses(peer.ask(camera, png, answers), pipeline(two_people))
    assert not [answer for answer in answers if answer.header.frame_id == 'garbage']


def test_namespace_and_parameters_file(peer, start_node, two_people, tmp_path):
    shipped = Path(__file__).parents[2] / 'config' / 'rmpe.yaml'
    edited = tmp_path / 'edited.yaml'
    text = shipped.read_text()
    assert text.count('max_people: 30') == 1
    edited.write_text(text.replace('max_people: 30', 'max_people: 1'))
    start_node('pose_node', '-r', '__ns:=/robot/left', '--params-file', str(edited))
    camera = peer.node.create_publisher(Image, '/robot/left/image_raw', 5)
    answers = peer.collect(PersonPoseArray, '/robot/left/poses')
    answer = peer.ask(camera, rgb_to_image(two_people, new_header()), answers)
    assert len(answer.people) == 1
