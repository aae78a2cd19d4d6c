# SPDX-License-Identifier: Apache-2.0
"""Faults are counted all, told once in a while, and reported once."""

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')

from diagnostic_msgs.msg import DiagnosticStatus

from rmpe_ros.nodes.health.faults import Faults

pytestmark = pytest.mark.ros


class Listener:
    """What Faults needs of a node: it keeps the lines of the log."""

    def __init__(self):
        self.lines = []

    def get_logger(self):
        return self

    def warning(self, line):
        self.lines.append(('warning', line))

    def error(self, line):
        self.lines.append(('error', line))

    def get_fully_qualified_name(self):
        return '/robot/node'


def test_the_same_fault_is_told_once_and_counted_always():
    listener = Listener()
    faults = Faults(listener)
    for count in range(50):
        faults.refuse('/poses', f'a person has {count} keypoints')
        faults.refuse('/camera_info', 'not calibrated')
    assert listener.lines == [
        ('warning', '/poses: a person has 0 keypoints'),
        ('warning', '/camera_info: not calibrated'),
    ]
    assert (faults.refused, faults.failed) == (100, 0)


def test_a_flood_of_different_faults_does_not_flood_the_log():
    listener = Listener()
    faults = Faults(listener)
    for letter in 'abcdefghij':
        faults.refuse('/skeleton', f'skeleton {letter!r} is unknown')
    assert len(listener.lines) == 3
    faults.refuse('/poses', 'something else')
    assert len(listener.lines) == 4


def test_what_is_raised_is_counted_by_kind_and_ends_nothing():
    listener = Listener()
    faults = Faults(listener)
    with faults.guard('/poses'):
        raise ValueError('nobody')
    with faults.guard('/poses'):
        raise ZeroDivisionError('division by zero')
    assert (faults.refused, faults.failed) == (1, 1)
    assert listener.lines[0] == ('warning', '/poses: nobody')
    kind, text = listener.lines[1]
    assert kind == 'error'
    assert text.startswith('/poses failed, the node goes on: ZeroDivisionError: division by zero')
    assert 'Traceback' in text
    with pytest.raises(KeyboardInterrupt), faults.guard('/poses'):
        raise KeyboardInterrupt


def test_diagnostics_warn_of_what_is_new_and_of_what_lasts():
    listener = Listener()
    faults = Faults(listener)
    assert faults.status().level == DiagnosticStatus.OK
    faults.refuse('/poses', 'nobody')
    status = faults.status()
    assert (status.level, status.message) == (DiagnosticStatus.WARN, '/poses: nobody')
    values = {pair.key: pair.value for pair in status.values}
    assert values == {'refused': '1', 'callbacks_failed': '0', 'last_error': '/poses: nobody'}
    assert faults.status().level == DiagnosticStatus.OK
    for trouble in ('two nodes', 'two nodes', '', 'two nodes'):
        faults.lasts('name', trouble)
    assert [line for _, line in listener.lines].count('two nodes') == 2
    assert [faults.status().message for _ in range(2)] == ['two nodes'] * 2
    faults.lasts('/image_raw', 'large images')
    assert faults.status().message == 'two nodes; large images'
    faults.lasts('name', '')
    assert faults.status().message == 'large images'


def test_what_lasts_is_told_again_when_it_becomes_another_trouble():
    listener = Listener()
    faults = Faults(listener)
    for trouble in ('images of 12 MB', 'images of 13.5 MB', 'no room', 'no room', 'images of 9 MB'):
        faults.lasts('/image_raw', trouble)
        assert faults.status().message == trouble
    assert [line for _, line in listener.lines] == ['images of 12 MB', 'no room', 'images of 9 MB']
