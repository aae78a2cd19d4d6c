# SPDX-License-Identifier: Apache-2.0
"""All nodes, three cameras that they serve, and the odd messages that they may get in between."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from rclpy.qos import qos_profile_sensor_data
from stressed_nodes import Stand
from traffic import (
    LATCHED,
    Camera,
    camera_info,
    compressed_message,
    depth_message,
    image_message,
    jpeg_message,
    skeleton_message,
)

# In the folder of the system tests, whose path stressed_nodes adds.
from odd_messages import odd_message  # isort: skip
from rmpe_ros.msg import PersonPoseArray, PersonStateArray, SkeletonInfo
from sensor_msgs.msg import CameraInfo, Image
from visualization_msgs.msg import MarkerArray

from rmpe_ros.nodes.people.people_bridges import BRIDGES

# Where hri_msgs is installed, hri_bridge_node runs, too, and people_node has the other bridges.
HAS_HRI = find_spec('hri_msgs') is not None


class Scene:
    """Two raw cameras and one of JPEGs; visualizer, lift and people node look at the first one.

    seen: messages of each kind that came out of them.
    """

    def __init__(self, place: Stand, photos: list[np.ndarray], rng: np.random.Generator) -> None:
        self.place, self.photos, self.rng = place, photos, rng
        node = place.node
        self.cameras = {
            'left': Camera(node, '/left/image_raw', '/left/poses'),
            'right': Camera(node, '/right/image_raw', '/right/poses'),
            'jpeg': Camera(node, '/jpeg/image_raw', '/jpeg/poses', compressed=True),
        }
        self.seen = {'pictures': 0, 'markers': 0, 'poses_3d': 0, 'people': 0}
        for name, kind, topic in (
            ('pictures', Image, '/left/poses/image'),
            ('markers', MarkerArray, '/left/poses/markers'),
            ('poses_3d', PersonPoseArray, '/left/poses_3d'),
            ('people', PersonStateArray, '/left/people'),
        ):
            node.create_subscription(kind, topic, lambda _message, name=name: self._saw(name), 50)
        if HAS_HRI:
            ids = import_module('hri_msgs.msg').IdsList
            self.seen['bodies'] = 0
            topic = '/humans/bodies/tracked'
            node.create_subscription(ids, topic, lambda _message: self._saw('bodies'), 50)
        sensor = qos_profile_sensor_data
        self.depth = node.create_publisher(Image, '/left/depth', sensor)
        self.info = node.create_publisher(CameraInfo, '/left/camera_info', sensor)
        self.poses = node.create_publisher(PersonPoseArray, '/left/poses', 10)
        self.poses_3d = node.create_publisher(PersonPoseArray, '/left/poses_3d', 10)
        self.skeleton = node.create_publisher(SkeletonInfo, '/left/skeleton', LATCHED)
        self.odd = 0

    def _saw(self, name: str) -> None:
        self.seen[name] += 1

    def start_nodes(self) -> None:
        """Start all, and wait until they listen."""
        pair = ('-p', 'cameras:=[left, right]')
        self.place.start('pose_node', *pair, threads=1)
        self.place.start(
            'pose_node', '-r', '__ns:=/jpeg', name='jpeg_node', compressed=True, threads=1
        )
        for name in ('visualizer_node', 'lift_node', *(('hri_bridge_node',) if HAS_HRI else ())):
            self.place.start(name, '-r', '__ns:=/left')
        others = [name for name, (package, _) in BRIDGES.items() if find_spec(package)]
        bridges = [name for name in others if name != 'hri_msgs'] or ['']
        self.place.start('people_node', '-r', '__ns:=/left', bridges=bridges)
        for camera in self.cameras.values():
            publisher = camera.publisher
            self.place.wait_for(publisher.get_subscription_count, publisher.topic_name)

    def send(self, name: str) -> None:
        """A frame of one camera; the first one has depth and a calibration."""
        camera = self.cameras[name]
        photo = self.photos[self.rng.integers(len(self.photos))]
        header = camera.header()
        if name == 'left':
            self.info.publish(camera_info(header))
            self.depth.publish(depth_message(header))
        make = jpeg_message if name == 'jpeg' else image_message
        camera.send(make(photo, header))

    def send_odd(self) -> str:
        """A message that no sound publisher sends, on one of the topics in turn; its topic."""
        left, jpeg = self.cameras['left'], self.cameras['jpeg']
        header, small = left.header(), np.ascontiguousarray(self.photos[0][::8, ::8])
        people = left.last_answer or PersonPoseArray(header=header)
        damaged = bytearray(jpeg_message(small, header).data.tobytes())
        for _ in range(self.rng.integers(1, 20)):
            damaged[self.rng.integers(len(damaged))] = self.rng.integers(256)
        cut = bytes(damaged[: self.rng.integers(len(damaged) // 2, len(damaged) + 1)])
        turns: list[tuple[Any, Any]] = [
            (left.publisher, image_message(small, header)),
            (jpeg.publisher, compressed_message(cut, header)),
            (self.info, camera_info(header)),
            (self.depth, image_message(small, header)),
            (self.poses, people),
            (self.poses_3d, people),
            (self.skeleton, skeleton_message(header)),
        ]
        publisher, message = turns[self.odd % len(turns)]
        self.odd += 1
        # One in ten is no message at all, but bytes.
        if self.rng.random() < 0.1:
            noise = self.rng.integers(0, 256, self.rng.integers(4, 400), np.uint8).tobytes()
            publisher.publish(b'\x00\x01\x00\x00' + noise)
        else:
            is_damaged = publisher is jpeg.publisher and self.rng.random() < 0.5
            publisher.publish(message if is_damaged else odd_message(message, self.rng))
        return str(publisher.topic_name)

    def answers(self) -> dict[str, int]:
        """What has come so far from every node."""
        return {name: each.answered for name, each in self.cameras.items()} | self.seen

    def answer_times(self, *cameras: str) -> list[float]:
        return [at for name in cameras for at, _ in self.cameras[name].latencies]

    def silent(self, *, patience: float = 60.0) -> list[str]:
        """What of `answers` does not grow while each camera sends sound frames."""
        before = self.answers()

        def none_is() -> bool:
            for name in self.cameras:
                self.send(name)
            self.place.spin(0.3)
            return all(now > before[name] for name, now in self.answers().items())

        try:
            self.place.wait_for(none_is, 'an answer of every kind', patience)
        except TimeoutError:
            return [name for name, now in self.answers().items() if now == before[name]]
        return []
