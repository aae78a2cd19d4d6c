# SPDX-License-Identifier: Apache-2.0
"""Real nodes as processes, and a peer in the test's own process that talks to them over real DDS.

Waits are long, since a loaded machine is slow; nothing is asserted about time.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')
pytest.importorskip('rmpe_ros.msg', reason='needs the built messages of this package')

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import Header

from rmpe_ros.cli.processes.child_process import NodeProcess
from rmpe_ros.cli.processes.dds_environment import local_environment
from rmpe_ros.nodes.inputs.rclpy_messages import rgb_to_image
from rmpe_ros.nodes.inputs.stamp_matcher import header_key
from rmpe_ros.pipeline import PosePipeline

from .forked_nodes import ForkedNode, nursery
from .segments import segments_of

PATIENCE = 90.0
_RETRY_PERIOD = 1.0
_stamps = itertools.count(1_000_000_000, 1_000_003)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.ros)
            item.add_marker(pytest.mark.system)


def new_header(frame_id: str = 'test_camera') -> Header:
    """A header that no other image of this run has, with digits in the nanoseconds to lose."""
    nanoseconds = next(_stamps)
    header = Header(frame_id=frame_id)
    header.stamp.sec, header.stamp.nanosec = divmod(nanoseconds, 10**9)
    return header


class Peer:
    """A node that waits by spinning."""

    def __init__(self) -> None:
        self.node = rclpy.create_node('test_peer')
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()

    def collect(self, kind: Any, topic: str, qos: Any = 20) -> list[Any]:
        """A list that grows with each message on `topic`."""
        messages: list[Any] = []
        self.node.create_subscription(kind, topic, messages.append, qos)
        return messages

    def wait_for(self, condition: Callable[[], Any], what: str, timeout: float = PATIENCE) -> Any:
        """Spin until `condition` gives something true, and return that."""
        deadline = time.monotonic() + timeout
        while not (result := condition()):
            assert time.monotonic() < deadline, f'waited {timeout:.0f} s in vain for {what}'
            self._executor.spin_once(timeout_sec=0.05)
        return result

    def spin_for(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._executor.spin_once(timeout_sec=max(min(deadline - time.monotonic(), 0.05), 0))

    def publish_until(
        self, publisher: Any, message: Any, condition: Callable[[], Any], what: str
    ) -> Any:
        """Publish until `condition` gives something true, and return that.

        Again and again, because a best-effort subscriber may miss a message on a busy machine.
        """
        self.wait_for(publisher.get_subscription_count, f'a reader of {publisher.topic_name}')
        last = 0.0

        def attempt() -> Any:
            nonlocal last
            if time.monotonic() > last + _RETRY_PERIOD:
                last = time.monotonic()
                publisher.publish(message)
            return condition()

        return self.wait_for(attempt, what)

    def ask(self, publisher: Any, message: Any, answers: list[Any]) -> Any:
        """Publish until a message with the same header is among `answers`, and return that."""
        key = header_key(message.header)

        def answer() -> Any:
            return next((each for each in answers if header_key(each.header) == key), None)

        return self.publish_until(publisher, message, answer, f'an answer to {key}')

    def diagnostic(self, messages: list[Any], name: str) -> dict[str, str]:
        """The latest values of a status on /diagnostics, with its level and message; or nothing."""
        for message in reversed(messages):
            for status in message.status:
                if status.name == name:
                    values = {pair.key: pair.value for pair in status.values}
                    return {**values, 'level': str(ord(status.level)), 'message': status.message}
        return {}

    def call(self, kind: Any, service: str, request: Any) -> Any:
        """The response of a service."""
        client = self.node.create_client(kind, service)
        self.wait_for(client.service_is_ready, f'service {service}')
        future = client.call_async(request)
        self.wait_for(future.done, f'the response of {service}')
        self.node.destroy_client(client)
        return future.result()


@pytest.fixture(scope='session')
def environment(
    models_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    choose_domain: Callable[[], str],
) -> dict[str, str]:
    """Of all nodes: a domain of their own, the test models, logs aside."""
    base = {**os.environ, 'ROS_DOMAIN_ID': choose_domain()}
    made = local_environment(base, processes=6, packages=Path(__file__).parents[2])
    made['RMPE_MODELS'] = str(models_folder)
    made['ROS_LOG_DIR'] = str(tmp_path_factory.mktemp('ros_log'))
    made['RCUTILS_COLORIZED_OUTPUT'] = '0'
    return made


@pytest.fixture(autouse=True)
def _same_environment_here(environment: dict[str, str]) -> Iterator[None]:
    """Of the test's own process, too; not of the tests of other folders."""
    with patch.dict(os.environ, environment):
        yield


@pytest.fixture(scope='session')
def ros(environment: dict[str, str]) -> Iterator[None]:
    """rclpy, initialised once."""
    with patch.dict(os.environ, environment):
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    yield
    rclpy.try_shutdown()


@pytest.fixture
def peer(ros: None) -> Iterator[Peer]:
    made = Peer()
    yield made
    made.close()


StartNode = Callable[..., NodeProcess]


def node_starter(
    make_node: Callable[..., NodeProcess],
    environment: dict[str, str],
    folder: Path,
    started: list[NodeProcess],
) -> StartNode:
    """A function that starts a node, and waits until it says that it is ready."""

    def start(
        name: str,
        *arguments: str,
        ready: bool = True,
        variables: dict[str, str] | None = None,
        **parameters: object,
    ) -> NodeProcess:
        if name == 'pose_node':
            # The test network sees the middle of its crop, and cannot follow anybody.
            parameters.setdefault('detect_every', 1)
        dotted = {key.replace('__', '.'): value for key, value in parameters.items()}
        # What the variables change may be read before a node's own code is.
        make = NodeProcess if variables else make_node
        node = make(
            name,
            folder / f'{name}_{len(started)}.log',
            environment={**environment, **(variables or {})},
            parameters=dotted,
            arguments=arguments,
        )
        started.append(node)
        deadline = time.monotonic() + PATIENCE
        while ready and 'ready' not in node.log_text():
            assert node.exit_code is None, f'{name} ended:\n{node.log_text()}'
            assert time.monotonic() < deadline, f'{name} is not ready:\n{node.log_text()}'
            time.sleep(0.05)
        return node

    return start


@pytest.fixture(scope='session')
def forked_node(environment: dict[str, str]) -> Iterator[Callable[..., NodeProcess]]:
    """Makes nodes that have been imported already."""
    with nursery(environment) as place:
        yield partial(ForkedNode, place)


@pytest.fixture
def make_node(forked_node: Callable[..., NodeProcess]) -> Callable[..., NodeProcess]:
    """How `start_node` makes nodes."""
    return forked_node


@pytest.fixture
def start_node(
    make_node: Callable[..., NodeProcess], environment: dict[str, str], tmp_path: Path
) -> Iterator[StartNode]:
    """Start a node for one test; it is stopped afterwards, and leaves no shared memory then."""
    started: list[NodeProcess] = []
    yield node_starter(make_node, environment, tmp_path, started)
    for node in started:
        segments = segments_of(node.pid)
        if node.stop() == 0:
            assert not [each for each in segments if each.exists()], node.log_text()


@pytest.fixture(scope='module')
def start_shared_node(
    forked_node: Callable[..., NodeProcess],
    environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[StartNode]:
    """Start a node for all tests of a module; it must end cleanly."""
    started: list[NodeProcess] = []
    yield node_starter(forked_node, environment, tmp_path_factory.mktemp('nodes'), started)
    for node in started:
        assert node.stop() == 0, node.log_text()


@pytest.fixture(scope='session')
def pipeline(environment: dict[str, str]) -> Iterator[PosePipeline]:
    """The pipeline that the nodes run, in this process."""
    models = Path(environment['RMPE_MODELS'])
    with PosePipeline(models / 'detector.onnx', models / 'lite.onnx') as made:
        yield made


@pytest.fixture
def image_message(two_people: np.ndarray) -> Any:
    """`two_people` as a message with a new header."""
    return rgb_to_image(two_people, new_header())
