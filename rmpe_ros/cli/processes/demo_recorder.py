# SPDX-License-Identifier: Apache-2.0
"""The demo's own node: records images and poses, keeps the pictures, measures latency."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription
from rclpy.time import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from rmpe_ros.io.bags.writer import BagTopic, BagWriter
from rmpe_ros.io.files import unused_path
from rmpe_ros.io.messages import image_to_rgb
from rmpe_ros.msg import PersonPoseArray, SkeletonInfo
from rmpe_ros.nodes.inputs.stamp_matcher import HeaderKey, header_key
from rmpe_ros.nodes.visualizer_node import save_picture


@dataclass
class Answers:
    """What came back for one photo or video: of each answered frame people, score and latency."""

    people: list[int] = field(default_factory=list)
    best_scores: list[float] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)


class DemoRecorder(Node):
    """Subscribes `image_raw`, `poses`, `skeleton`, `poses/image`, `/diagnostics`.

    bag: an open bag that gets the first three of them, byte by byte as received.
    pictures: folder for annotated pictures. numbered: write every frame of a name (videos), or
    one picture for each name (photos). on_answer: called with name, answers so far of that name.
    on_file: called with each file that has been written. What is in `pictures` already stays.
    """

    def __init__(
        self,
        bag: Path,
        pictures: Path,
        *,
        numbered: bool,
        on_answer: Callable[[str, Answers], None],
        on_file: Callable[[Path], None] = lambda path: None,
    ) -> None:
        super().__init__('demo_recorder')
        self.images: set[HeaderKey] = set()
        self.poses: set[HeaderKey] = set()
        self.skeletons = 0
        self.received = 0  # messages of all topics but diagnostics
        self.answer_subscribers = 0  # of `poses`, as pose_node says
        self.picture_subscribers = 0  # of `poses/image`, as visualizer_node says
        self.answers: dict[str, Answers] = {}
        self.pictures: dict[str, list[Path]] = {}
        self.latencies_ms: list[float] = []
        self._folder = pictures
        self._numbered = numbered
        self._on_answer = on_answer
        self._on_file = on_file
        self._bag_folder = bag
        latched = QoSProfile(
            depth=1,
            durability=DurabilityPolicy.TRANSIENT_LOCAL,
            reliability=ReliabilityPolicy.RELIABLE,
        )
        kinds = {'image_raw': Image, 'poses': PersonPoseArray, 'skeleton': SkeletonInfo}
        topics = [
            BagTopic(self.resolve_topic_name(topic), type_name(kind), latched=topic == 'skeleton')
            for topic, kind in kinds.items()
        ]
        self._bag = BagWriter(bag, topics)
        self._answers = self._subscribe(PersonPoseArray, 'poses', self._on_poses, 10)
        self._subscribe(SkeletonInfo, 'skeleton', self._on_skeleton, latched)
        self.create_subscription(Image, 'poses/image', self._on_picture, 10)
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)

    @property
    def hears_answers(self) -> bool:
        """Whether pose_node is up and what it publishes arrives here."""
        return self.skeletons > 0 and self._answers.get_publisher_count() > 0

    def listen_to_images(self) -> None:
        """Subscribe to `image_raw`, too, which image_source_node waits for before it begins."""
        self._subscribe(Image, 'image_raw', self._on_image, 10)

    def close(self) -> None:
        """Finish the bag."""
        self._bag.close()
        for file in self._bag_folder.iterdir():
            self._on_file(file)

    def _subscribe(
        self, kind: Any, topic: str, callback: Callable[[Any], None], qos: QoSProfile | int
    ) -> Subscription:
        """Bytes go into the bag as they came, then `callback` gets the message."""
        name = self.resolve_topic_name(topic)

        def on_bytes(data: bytes) -> None:
            self._bag.write(name, time.time_ns(), data)
            self.received += 1
            callback(deserialize_message(data, kind))

        return self.create_subscription(kind, topic, on_bytes, qos, raw=True)

    def _on_image(self, message: Image) -> None:
        self.images.add(header_key(message.header))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {each.key: each.value for each in status.values}
            if status.name.endswith('pose_node: frames'):
                self.answer_subscribers = int(values.get('subscribers', 0))
            elif status.name.endswith('visualizer_node: pictures'):
                self.picture_subscribers = int(values.get('subscribers', 0))

    def _on_skeleton(self, _message: SkeletonInfo) -> None:
        self.skeletons += 1

    def _on_poses(self, message: PersonPoseArray) -> None:
        latency = (self.get_clock().now() - Time.from_msg(message.header.stamp)).nanoseconds / 1e6
        self.poses.add(header_key(message.header))
        self.latencies_ms.append(latency)
        name = message.header.frame_id
        answers = self.answers.setdefault(name, Answers())
        answers.people.append(len(message.people))
        answers.best_scores.append(max((person.score for person in message.people), default=0.0))
        answers.latencies_ms.append(latency)
        self._on_answer(name, answers)

    def _on_picture(self, message: Image) -> None:
        self.received += 1
        written = self.pictures.setdefault(message.header.frame_id, [])
        if self._numbered or not written:
            name = self._picture_name(message.header, len(written))
            path = unused_path(self._folder / name)
            save_picture(path, image_to_rgb(message))
            written.append(path)
            self._on_file(path)

    def _picture_name(self, header: Header, number: int) -> str:
        name = Path(header.frame_id).name
        if self._numbered:
            return f'{name}_{number:06d}.jpg'
        # photo.jpg stays photo.jpg; photo.png becomes photo.png.jpg, not to meet another photo.
        return name if name.lower().endswith(('.jpg', '.jpeg', '.png')) else f'{name}.jpg'


def type_name(kind: Any) -> str:
    """ROS name of a message class, such as sensor_msgs/msg/Image."""
    return f'{kind.__module__.split(".")[0]}/msg/{kind.__name__}'
