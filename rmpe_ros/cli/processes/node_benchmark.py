# SPDX-License-Identifier: Apache-2.0
"""What ROS adds to the pipeline: `rmpe benchmark --ros`, with both transports of Fast DDS.

A camera in this process, `pose_node` in another. Each transport is measured by a child process of
its own, since Fast DDS reads its profile once. The parent needs no ROS.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rmpe_ros.cli.processes.child_process import NodeProcess
from rmpe_ros.cli.processes.dds_environment import local_environment
from rmpe_ros.core.fast_dds_profile import PROFILE_VARIABLES
from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import BODY19

if TYPE_CHECKING:
    from rclpy.node import Node

PEOPLE = 20
_WARM_UP = 5
_START_TIMEOUT = 120.0
_ANSWER_TIMEOUT = 2.0
_END_TIMEOUT = 15.0


def measure_ros(*, size: tuple[int, int], repeat: int, models: dict[str, str]) -> dict[str, Any]:
    """What `measure_transport` gives, by transport.

    size: width and height of the image; models: parameters `detector` and `pose_model` of
    pose_node. Raises ValueError when a measurement fails, with the reason.
    """
    base = {key: value for key, value in os.environ.items() if key not in PROFILE_VARIABLES}
    base.pop('ROS_DOMAIN_ID', None)
    shared = local_environment(base, processes=3, packages=Path(__file__).resolve().parents[3])
    plain = {key: value for key, value in shared.items() if key not in PROFILE_VARIABLES}
    environments = {'default': plain}
    if plain != shared:
        environments['shared memory'] = shared
    options = ['--size', *map(str, size), '--repeat', str(repeat), '--models', json.dumps(models)]
    report = {}
    for transport, environment in environments.items():
        command = [sys.executable, '-m', 'rmpe_ros.cli.processes.node_benchmark', *options]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or ['no output']
            raise ValueError(f'the measurement with ROS 2 failed: {lines[-1]}')
        report[transport] = json.loads(done.stdout.splitlines()[-1])
    return report


def print_ros(report: dict[str, Any]) -> None:
    """The report of `measure_ros` as a table, a transport per column."""
    print('milliseconds, p50 (p95)')
    names = list(dict.fromkeys(name for each in report.values() for name in each['times']))
    width = max(map(len, [*names, 'images lost']))
    print(' ' * width + ''.join(f'{transport:>22}' for transport in report))
    for name in names:
        cells = [
            '{:.2f} ({:.2f})'.format(*each['times'][name]) if name in each['times'] else '-'
            for each in report.values()
        ]
        print(f'{name:<{width}}' + ''.join(f'{cell:>22}' for cell in cells))
    lost = [f'{each["lost"]} of {each["images"]}' for each in report.values()]
    print(f'{"images lost":<{width}}' + ''.join(f'{cell:>22}' for cell in lost))


def measure_transport(size: tuple[int, int], repeat: int, models: dict[str, str]) -> dict[str, Any]:
    """With the transport that the environment chooses: `images` sent, `lost`, and `times`.

    times: (p50, p95) in milliseconds of 'plain subscription', the image's stamp to the callback of
    a process that does nothing else, as rclpy does it unasked; 'node less pipeline', the stamp to
    publication of the poses less the pipeline; 'camera publishing', the part of it that the camera
    takes, which is a Python node here; 'less camera, too', the part that it does not; 'and back',
    the stamp until the poses are received here less the pipeline; 'pipeline', the node's own;
    'message of 20 people', from poses to bytes.
    """
    import rclpy

    rclpy.init(args=[])
    node = rclpy.create_node('benchmark')
    try:
        # First, since it may not start for want of a model.
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / 'pose_node.log'
            with NodeProcess('pose_node', log, environment=os.environ, parameters=models) as child:
                times, lost = _ask(node, child, size, repeat)
        plain = _ask_plain_node(node, size, repeat)
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    times = {'plain subscription': plain, **times}
    times[f'message of {PEOPLE} people'] = _time_message(repeat)
    percentiles = {
        name: (float(np.percentile(values, 50)), float(np.percentile(values, 95)))
        for name, values in times.items()
        if values
    }
    return {'images': repeat, 'lost': lost, 'times': percentiles}


def _image(size: tuple[int, int]) -> Any:
    """A message of noise; size: width and height."""
    from std_msgs.msg import Header

    from rmpe_ros.nodes.inputs.rclpy_messages import rgb_to_image

    image = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return rgb_to_image(image, Header(frame_id='camera'))


def _spin(
    node: Node, alive: Callable[[], bool], condition: Callable[[], object], timeout: float
) -> bool:
    """Until the condition holds, which it returns, the time is over, or the other has died."""
    import rclpy

    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline or not alive():
            return False
        rclpy.spin_once(node, timeout_sec=0.01)
    return True


def _ask_plain_node(node: Node, size: tuple[int, int], repeat: int) -> list[float]:
    """Milliseconds from an image's stamp to the callback of `_run_plain_node` in a process."""
    from sensor_msgs.msg import Image
    from std_msgs.msg import Float32

    latencies: list[float] = []
    camera = node.create_publisher(Image, 'plain/image_raw', 1)
    answers = node.create_subscription(
        Float32, 'plain/latency_ms', lambda message: latencies.append(message.data), 5
    )
    message = _image(size)
    command = [sys.executable, '-m', 'rmpe_ros.cli.processes.node_benchmark', '--plain-node']
    times = []
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as child:
        spin_until = partial(_spin, node, lambda: child.poll() is None)
        try:
            if not spin_until(camera.get_subscription_count, _START_TIMEOUT):
                raise ValueError('a process with a plain subscription did not start')
            spin_until(lambda: False, 1.0)  # the node's side of the discovery
            for turn in range(-_WARM_UP, repeat):
                latencies.clear()
                message.header.stamp = node.get_clock().now().to_msg()
                camera.publish(message)
                if spin_until(lambda: latencies, _ANSWER_TIMEOUT) and turn >= 0:
                    times.append(latencies[-1])
        finally:
            # Killed, it would leave its shared memory behind.
            child.terminate()
            try:
                child.wait(_END_TIMEOUT)
            except subprocess.TimeoutExpired:
                child.kill()
            node.destroy_subscription(answers)
            node.destroy_publisher(camera)
    return times


def _run_plain_node() -> None:
    """Answer each image with the milliseconds since its stamp, until SIGTERM comes."""
    import rclpy
    from rclpy.executors import ExternalShutdownException
    from rclpy.qos import qos_profile_sensor_data
    from rclpy.time import Time
    from sensor_msgs.msg import Image
    from std_msgs.msg import Float32

    rclpy.init(args=[])
    node = rclpy.create_node('plain')
    answers = node.create_publisher(Float32, 'plain/latency_ms', 5)

    def on_image(message: Any) -> None:
        age = node.get_clock().now() - Time.from_msg(message.header.stamp)
        answers.publish(Float32(data=age.nanoseconds / 1e6))

    node.create_subscription(Image, 'plain/image_raw', on_image, qos_profile_sensor_data)
    try:
        with suppress(ExternalShutdownException):
            while True:  # rclpy.spin may miss the signal for good, up to Jazzy
                rclpy.spin_once(node, timeout_sec=0.5)
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def _ask(
    node: Node, child: NodeProcess, size: tuple[int, int], repeat: int
) -> tuple[dict[str, list[float]], int]:
    """Publish one image after the other and wait for its answer; times, and how many were lost."""
    from sensor_msgs.msg import Image
    from std_msgs.msg import Float32

    from rmpe_ros.msg import PersonPoseArray

    answers: list[tuple[int, Any]] = []
    latencies: list[float] = []

    def on_answer(message: Any) -> None:
        answers.append((node.get_clock().now().nanoseconds, message))

    camera = node.create_publisher(Image, 'image_raw', 1)
    node.create_subscription(PersonPoseArray, 'poses', on_answer, 5)
    node.create_subscription(
        Float32, 'pose_node/debug/latency_ms', lambda message: latencies.append(message.data), 5
    )

    spin_until = partial(_spin, node, lambda: child.exit_code is None)
    ready = spin_until(
        lambda: (
            camera.get_subscription_count()
            and node.count_publishers('pose_node/debug/latency_ms')
            and node.count_publishers('poses')
        ),
        _START_TIMEOUT,
    )
    if not ready:
        raise ValueError(f'pose_node did not start: {child.log_tail(1)}')
    spin_until(lambda: False, 1.0)  # the node's side of the discovery
    message = _image(size)
    names = 'node less pipeline', 'camera publishing', 'less camera, too', 'and back', 'pipeline'
    times: dict[str, list[float]] = {name: [] for name in names}
    lost = 0
    for turn in range(-_WARM_UP, repeat):
        answers.clear()
        latencies.clear()
        stamp = node.get_clock().now()
        message.header.stamp = stamp.to_msg()
        camera.publish(message)
        publishing = (node.get_clock().now() - stamp).nanoseconds / 1e6
        if not spin_until(lambda: answers and latencies, _ANSWER_TIMEOUT):
            if child.exit_code is not None:
                raise ValueError(f'pose_node ended: {child.log_tail(1)}')
            lost += turn >= 0
            continue
        received, answer = answers[-1]
        if turn >= 0 and answer.header == message.header:
            overhead = latencies[-1] - answer.total_ms
            back = (received - stamp.nanoseconds) / 1e6 - answer.total_ms
            values = overhead, publishing, overhead - publishing, back, answer.total_ms
            for name, value in zip(names, values, strict=True):
                times[name].append(value)
    return times, lost


def _time_message(repeat: int) -> list[float]:
    """Milliseconds that it takes to turn the poses of 20 people into the bytes of a message."""
    from std_msgs.msg import Header

    from rmpe_ros.io.pose_messages import serialize_poses

    random = np.random.default_rng(0)
    joints = BODY19.num_keypoints
    poses = Poses(
        BODY19,
        random.uniform(0, 480, (PEOPLE, joints, 2)).astype(np.float32),
        random.uniform(0, 1, (PEOPLE, joints)).astype(np.float32),
        np.tile(np.array([0, 0, 100, 200], np.float32), (PEOPLE, 1)),
        random.uniform(0, 1, PEOPLE).astype(np.float32),
    )
    times = []
    for turn in range(-_WARM_UP, max(repeat, 100)):
        start = time.perf_counter()
        serialize_poses(poses, Header(), image_size=(480, 640))
        if turn >= 0:
            times.append((time.perf_counter() - start) * 1e3)
    return times


def main(arguments: list[str]) -> int:
    """The child process of `measure_ros`: print one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--size', type=int, nargs=2, default=(640, 480), metavar=('W', 'H'))
    parser.add_argument('--repeat', type=int, default=50)
    parser.add_argument('--models', type=json.loads, default={})
    parser.add_argument('--plain-node', action='store_true')
    options = parser.parse_args(arguments)
    if options.plain_node:
        _run_plain_node()
        return 0
    try:
        report = measure_transport(tuple(options.size), options.repeat, options.models)
    except (ImportError, ValueError, OSError) as error:
        print(str(error), file=sys.stderr)
        return 1
    print(json.dumps(report))
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
