# SPDX-License-Identifier: Apache-2.0
"""Cameras that publish, remember what they have sent, and know which images were answered."""

from __future__ import annotations

import array
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from rmpe_ros.msg import PersonPoseArray, SkeletonInfo
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

WIDTH, HEIGHT = 640, 480
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
# Images that may wait for an answer; older ones are given up.
_MOST_PENDING = 300


def pictures(folder: Path | None, *, size: tuple[int, int] = (WIDTH, HEIGHT)) -> list[np.ndarray]:
    """RGB photos of a folder at one size, or drawn ones: two bright figures on a dark ground."""
    files = sorted(folder.glob('*.[jp][pn]g')) if folder is not None else []
    photos = [cv2.resize(cv2.imread(str(file)), size)[:, :, ::-1] for file in files]
    if photos:
        return [np.ascontiguousarray(photo) for photo in photos]
    width, height = size
    drawn = np.full((height, width, 3), 20, np.uint8)
    drawn[height // 8 : height // 2, width // 8 : width // 5] = 255
    drawn[height // 2 : height * 7 // 8, width // 2 : width * 3 // 5] = 204
    return [drawn]


def image_message(picture: np.ndarray, header: Header) -> Image:
    height, width = picture.shape[:2]
    data = array.array('B', picture.tobytes())
    return Image(
        header=header, height=height, width=width, encoding='rgb8', step=width * 3, data=data
    )


def jpeg_message(picture: np.ndarray, header: Header) -> CompressedImage:
    _, encoded = cv2.imencode('.jpg', picture[:, :, ::-1])
    return compressed_message(encoded.tobytes(), header)


def compressed_message(data: bytes, header: Header) -> CompressedImage:
    return CompressedImage(header=header, format='jpeg', data=array.array('B', data))


def depth_message(header: Header) -> Image:
    data = array.array('B', np.full((HEIGHT, WIDTH), 2000, '<u2').tobytes())
    return Image(
        header=header, height=HEIGHT, width=WIDTH, encoding='16UC1', step=2 * WIDTH, data=data
    )


def camera_info(header: Header) -> CameraInfo:
    info = CameraInfo(
        header=header, width=WIDTH, height=HEIGHT, distortion_model='plumb_bob', d=[0.0] * 5
    )
    info.k = [500.0, 0.0, 319.5, 0.0, 500.0, 239.5, 0.0, 0.0, 1.0]
    return info


def skeleton_message(header: Header) -> SkeletonInfo:
    names, sigmas = ['low', 'high'], array.array('f', [0.1, 0.1])
    return SkeletonInfo(
        header=header, name='stick', keypoint_names=names, edges=[0, 1], sigmas=sigmas
    )


class Camera:
    """Publishes on `topic` and listens to the poses on `answers`.

    latencies: (time of the answer, milliseconds from stamp to receipt here) of each answer;
    out_of_order: answers to an image that is older than the one answered before.
    """

    def __init__(self, node: Node, topic: str, answers: str, *, compressed: bool = False) -> None:
        kind = CompressedImage if compressed else Image
        topic = f'{topic}/compressed' if compressed else topic
        self.publisher = node.create_publisher(kind, topic, qos_profile_sensor_data)
        self.sent = self.answered = self.out_of_order = 0
        self.latencies: list[tuple[float, float]] = []
        self.last_answer: Any = None
        self._clock = node.get_clock()
        self._pending: OrderedDict[int, float] = OrderedDict()
        self._newest = 0
        node.create_subscription(PersonPoseArray, answers, self._on_answer, 100)

    def header(self) -> Header:
        """A new one, stamped now."""
        return Header(stamp=self._clock.now().to_msg(), frame_id='stress_camera')

    def send(self, message: Any) -> int:
        """Publish an image with a header of its own; returns its number."""
        self._pending[_stamp(message.header)] = time.monotonic()
        if len(self._pending) > _MOST_PENDING:
            self._pending.popitem(last=False)
        self.sent += 1
        self.publisher.publish(message)
        return self.sent

    def figures(self) -> dict[str, float]:
        return {
            'sent': self.sent,
            'answered': self.answered,
            'dropped': self.sent - self.answered,
            'out_of_order': self.out_of_order,
        }

    def _on_answer(self, message: Any) -> None:
        now, stamp = time.monotonic(), _stamp(message.header)
        begun = self._pending.pop(stamp, None)
        if begun is None:  # to an odd message
            return
        self.answered += 1
        self.out_of_order += stamp < self._newest
        self._newest = max(self._newest, stamp)
        self.last_answer = message
        self.latencies.append((now, (now - begun) * 1e3))


def _stamp(header: Header) -> int:
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)
