# SPDX-License-Identifier: Apache-2.0
"""Nodes as users start them, and as they end: signals at any time, as PID 1, and twins."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Image

from rmpe_ros.cli.processes.child_process import NodeProcess
from rmpe_ros.nodes.inputs.rclpy_messages import rgb_to_image

from .conftest import PATIENCE, new_header
from .made_models import slow_detector
from .segments import segments_of

CMAKE = (Path(__file__).parents[2] / 'CMakeLists.txt').read_text(encoding='utf-8')
NODES = re.findall(r'install_executable\((\w+) rmpe_ros\.nodes\.\w+\)', CMAKE)


@pytest.fixture
def make_node():
    """As users start them."""
    return NodeProcess


@pytest.mark.parametrize('name', NODES)
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_at_once_ends_it_without_a_traceback(start_node, name, number):
    node = start_node(name, ready=False)
    node.signal(number)
    assert node.wait(PATIENCE) == 0
    assert node.log_text() == ''


@pytest.mark.parametrize('name', ['pose_node', 'visualizer_node', 'lift_node', 'people_node'])
def test_the_end_of_the_terminal_ends_it_cleanly(start_node, name):
    node = start_node(name)
    segments = segments_of(node.pid)
    node.signal(signal.SIGHUP)
    assert node.wait(PATIENCE) == 0
    assert 'stopped' in node.log_text()
    assert segments and not [each for each in segments if each.exists()]


@pytest.mark.parametrize('name', ['pose_node', 'visualizer_node', 'lift_node', 'people_node'])
def test_the_end_of_the_terminal_does_not_end_it_under_nohup(start_node, name):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does, for its children
    try:
        node = start_node(name)
    finally:
        signal.signal(signal.SIGHUP, before)
    status = Path(f'/proc/{node.pid}/status').read_text()
    (ignored,) = re.findall(r'^SigIgn:\s+(\w+)$', status, re.MULTILINE)
    assert int(ignored, 16) >> (signal.SIGHUP - 1) & 1
    node.signal(signal.SIGHUP)
    assert node.wait(0.2) is None
    assert node.stop() == 0


@pytest.mark.parametrize('name', NODES)
def test_a_signal_during_the_imports_ends_it_without_a_traceback(name, environment):
    """As a user starts it; the parent sees by a library that Python itself has started."""
    command = [sys.executable, '-m', f'rmpe_ros.nodes.{name}']
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with open(f'/proc/{process.pid}/maps') as maps:
        while 'rclpy' not in maps.read() and process.poll() is None:
            maps.seek(0)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == (1 if 'cannot start' in output else 0)
    assert 'Traceback' not in output


def test_signals_that_the_parent_has_blocked_end_a_node(environment, tmp_path):
    """Also one that runs under a name that nobody foresaw."""
    program = (
        'import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM]); '
        'from rmpe_ros.nodes.lift_node import main; raise SystemExit(main())'
    )
    with (tmp_path / 'log').open('w+') as log:
        process = subprocess.Popen(
            [sys.executable, '-c', program], env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        while 'ready' not in (tmp_path / 'log').read_text() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


def test_a_long_frame_is_not_waited_for(peer, start_node, two_people, detector_model, tmp_path):
    endless = slow_detector(detector_model, tmp_path / 'slow.onnx', products=400)
    node = start_node('pose_node', '-r', '__ns:=/long', detector=str(endless))
    camera = peer.node.create_publisher(Image, '/long/image_raw', 5)
    peer.wait_for(camera.get_subscription_count, 'the node')
    for _ in range(5):
        camera.publish(rgb_to_image(two_people, new_header()))
        peer.spin_for(0.3)
    segments = segments_of(node.pid)
    node.signal(signal.SIGTERM)
    assert node.wait(PATIENCE) == 0
    assert not [each for each in segments if each.exists()]
    assert 'the frame at hand takes more than 3 s and is left to itself' in node.log_text()
    assert 'Traceback' not in node.log_text()


def test_the_first_process_of_a_container_can_start_nodes(environment, tmp_path):
    """There the parent of each node has the number 1, as a parent that has died seems to have."""
    program = (
        'import os, sys; from pathlib import Path; '
        'from rmpe_ros.cli.processes.child_process import NodeProcess; assert os.getpid() == 1; '
        "node = NodeProcess('image_source_node', Path(sys.argv[1]), environment=os.environ); "
        f'sys.exit(node.wait({PATIENCE}) != 1)'
    )
    inside = ['unshare', '--user', '--map-root-user', '--pid', '--fork', '--mount-proc']
    if subprocess.run([*inside, 'true'], capture_output=True).returncode != 0:
        pytest.skip('this machine gives users no process namespaces')
    log = tmp_path / 'log'
    subprocess.run([*inside, sys.executable, '-c', program, str(log)], env=environment, check=True)
    assert 'parameter source is empty' in log.read_text()


def test_a_node_ends_with_the_process_that_started_it(environment, tmp_path, peer):
    program = (
        'import os, sys; from pathlib import Path; '
        'from rmpe_ros.cli.processes.child_process import NodeProcess; '
        "node = NodeProcess('lift_node', Path(sys.argv[1]), environment=os.environ); "
        'exec("while \'ready\' not in node.log_text(): node.wait(0.05)"); os._exit(0)'
    )
    log = tmp_path / 'log'
    subprocess.run([sys.executable, '-c', program, str(log)], env=environment, check=True)
    peer.wait_for(lambda: 'stopped after 0 messages' in log.read_text(), 'the end of the node')


def test_nodes_of_one_name_are_told(peer, start_node):
    diagnostics = peer.collect(DiagnosticArray, '/diagnostics')
    first = start_node('lift_node', '-r', '__ns:=/twins')
    second = start_node('lift_node', '-r', '__ns:=/twins')
    text = '2 nodes are called /twins/lift_node'
    for node in (first, second):
        peer.wait_for(lambda node=node: text in node.log_text(), 'a warning')
    peer.wait_for(
        lambda: text in peer.diagnostic(diagnostics, 'twins/lift_node: node').get('message', ''),
        'diagnostics that say it',
    )
    assert second.stop() == 0
    peer.wait_for(
        lambda: peer.diagnostic(diagnostics, 'twins/lift_node: node')['message'] == 'running',
        'diagnostics that say that it is over',
    )
    assert first.log_text().count(text) == 1
