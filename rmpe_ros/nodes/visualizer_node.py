# SPDX-License-Identifier: Apache-2.0
"""`visualizer_node`: draws poses into their images, and shows them as markers in RViz."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.publisher import Publisher
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from rmpe_ros.core.camera import PinholeCamera
from rmpe_ros.core.drawing import draw_poses
from rmpe_ros.core.poses import Poses
from rmpe_ros.io.files import unused_path, write_file
from rmpe_ros.io.messages import MessageError, message_to_rgb
from rmpe_ros.msg import PersonPoseArray
from rmpe_ros.nodes.health.diagnostics import make_status
from rmpe_ros.nodes.health.diagnostics_publisher import DiagnosticsPublisher
from rmpe_ros.nodes.inputs.image_subscription import ImageMessage, subscribe_image
from rmpe_ros.nodes.inputs.pose_topics import PoseTopics
from rmpe_ros.nodes.inputs.rclpy_messages import rgb_to_image
from rmpe_ros.nodes.inputs.stamp_matcher import StampMatcher, header_key
from rmpe_ros.nodes.lifecycle.guarded_node import GuardedNode
from rmpe_ros.nodes.lifecycle.node_process import run_node
from rmpe_ros.nodes.settings.parameter_tables import VisualizerSettings
from rmpe_ros.nodes.settings.parameters import declare_parameters
from rmpe_ros.nodes.views.annotations import foxglove_classes, image_annotations
from rmpe_ros.nodes.views.markers import delete_markers, pose_markers

_IMAGE_DEPTH = 5
SizedPoses: TypeAlias = tuple[Poses, tuple[int, int]]


class VisualizerNode(GuardedNode):
    """Subscribes `image_raw`, `poses`, `poses_3d`, `skeleton`, `camera_info`.

    Publishes `poses/image`, `poses/markers`, `poses_3d/markers` and, where foxglove_msgs is
    installed, `poses/annotations`. Works only for those who look: pictures are drawn when somebody
    subscribes or `save_dir` is set, markers and annotations made when somebody subscribes.
    Raises ValueError or OSError when it cannot start.
    """

    def __init__(self) -> None:
        super().__init__('visualizer_node')
        self._settings = declare_parameters(self, VisualizerSettings)
        self._save_dir = Path(self._settings.save_dir) if self._settings.save_dir else None
        if self._save_dir is not None:
            self._save_dir.mkdir(parents=True, exist_ok=True)
        self._matcher: StampMatcher[ImageMessage, SizedPoses] = StampMatcher(
            self._settings.buffer_size
        )
        self._camera: PinholeCamera | None = None
        self._drawn = 0
        self._started = time.time_ns()
        self._image = self.create_publisher(Image, 'poses/image', 5)
        self._markers = self.create_publisher(MarkerArray, 'poses/markers', 5)
        self._markers_3d = self.create_publisher(MarkerArray, 'poses_3d/markers', 5)
        self._foxglove = foxglove_classes()
        if self._foxglove is not None:
            kind = self._foxglove.ImageAnnotations
            self._annotations = self.create_publisher(kind, 'poses/annotations', 5)
        self._people = PoseTopics(self)
        self.create_subscription(
            CameraInfo, 'camera_info', self._on_camera, qos_profile_sensor_data
        )
        self._people.subscribe('poses', self._on_poses, depth=_IMAGE_DEPTH)
        self._people.subscribe('poses_3d', self._on_poses_3d, depth=_IMAGE_DEPTH)
        subscription = subscribe_image(
            self, self._on_image, compressed=self._settings.compressed, depth=_IMAGE_DEPTH
        )
        statuses = {'node': self.faults.status, 'pictures': self._picture_status}
        self._diagnostics = DiagnosticsPublisher(self, statuses)
        self.get_logger().info(f'ready: images from {subscription.topic_name}')

    def stop(self) -> None:
        """Leave nothing in the viewers."""
        for publisher in (self._markers, self._markers_3d):
            publisher.publish(MarkerArray(markers=[delete_markers(Header())]))
        self.get_logger().info(f'stopped after {self._drawn} pictures')

    def _on_image(self, message: ImageMessage) -> None:
        if self._somebody_looks():
            self._draw_pair(self._matcher.put_left(header_key(message.header), message))

    def _on_poses(self, message: PersonPoseArray) -> None:
        shows_markers = self._markers.get_subscription_count() > 0
        annotates = self._foxglove is not None and self._annotations.get_subscription_count() > 0
        if not (shows_markers or annotates or self._somebody_looks()):
            return
        poses = self._people.read(message)
        if shows_markers:
            with self.faults.guard(self._markers.topic_name):
                self._show(self._markers, message, self._camera_of(message))
        if annotates:
            self._annotations.publish(
                image_annotations(
                    message,
                    poses.skeleton,
                    self._foxglove,
                    min_score=self._settings.min_score,
                )
            )
        if self._somebody_looks():
            sized = poses, (message.image_height, message.image_width)
            self._draw_pair(self._matcher.put_right(header_key(message.header), sized))

    def _on_poses_3d(self, message: PersonPoseArray) -> None:
        if self._markers_3d.get_subscription_count() > 0:
            self._people.read(message)
            self._show(self._markers_3d, message, None)

    def _show(
        self, publisher: Publisher, message: PersonPoseArray, camera: PinholeCamera | None
    ) -> None:
        publisher.publish(
            pose_markers(
                message,
                self._people.skeleton_of(message),
                camera,
                depth=self._settings.marker_depth,
                min_score=self._settings.min_score,
                lifetime=self._settings.marker_lifetime,
            )
        )

    def _on_camera(self, message: CameraInfo) -> None:
        self._camera = PinholeCamera.from_message(message, rectified=self._settings.rectified)

    def _camera_of(self, message: PersonPoseArray) -> PinholeCamera:
        """What has taken the image of these people, or a guess; ValueError when it does not fit."""
        if self._camera is None:
            return PinholeCamera.nominal(message.image_width, message.image_height)
        return self._camera.for_image(message.image_height, message.image_width)

    def _somebody_looks(self) -> bool:
        return self._save_dir is not None or self._image.get_subscription_count() > 0

    def _draw_pair(self, pair: tuple[ImageMessage, SizedPoses] | None) -> None:
        if pair is None:
            return
        image_message, (poses, (height, width)) = pair
        image = message_to_rgb(image_message, max_megapixels=self._settings.max_megapixels)
        if image.shape[:2] != (height, width):
            raise MessageError(
                f'the image has {image.shape[1]}x{image.shape[0]} pixels, its poses are of one of '
                f'{width}x{height}; subscribe to the image that pose_node has'
            )
        picture = draw_poses(
            image,
            poses,
            min_score=self._settings.min_score,
            color_by=self._settings.color_by,
            boxes=self._settings.draw_boxes,
            labels=self._settings.draw_labels,
        )
        self._drawn += 1
        if self._image.get_subscription_count() > 0:
            self._image.publish(rgb_to_image(picture, image_message.header))
        if self._save_dir is not None:
            path = self._save_dir / self._file_name(image_message.header)
            # Only what this node wrote itself is replaced, when a stamp comes again.
            save_picture(unused_path(path, since=self._started), picture)

    def _picture_status(self) -> DiagnosticStatus:
        viewers = self._image.get_subscription_count()
        values = {'drawn': self._drawn, 'subscribers': viewers}
        summary = f'{self._drawn} drawn' if self._somebody_looks() else 'nobody looks'
        topic = self._image.topic_name
        return make_status(DiagnosticStatus.OK, summary, values, hardware_id=topic)

    def _file_name(self, header: Header) -> str:
        """Sorts by time: seconds, nanoseconds of the stamp."""
        return f'{header.stamp.sec:010d}_{header.stamp.nanosec:09d}.{self._settings.save_format}'


def save_picture(path: Path, image: np.ndarray) -> None:
    """Write RGB uint8 (H, W, 3) so that a reader never sees half a file.

    The suffix of `path` decides the type. Raises OSError when it cannot be written.
    """
    encoded_well, encoded = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not encoded_well:
        raise OSError(f'a picture of {image.shape} cannot be written as {path.suffix}')
    write_file(path, encoded.tobytes())


def main(args: list[str] | None = None) -> int:
    """Entry point; returns the process exit code."""
    return run_node(VisualizerNode, 'visualizer_node', args)


if __name__ == '__main__':
    sys.exit(main())
