# SPDX-License-Identifier: Apache-2.0
"""`visualizer_node`: draws poses into their images, and shows them as markers in RViz."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from rmpe_ros.core.camera import PinholeCamera
from rmpe_ros.core.drawing import draw_poses
from rmpe_ros.core.skeletons import SKELETONS, Skeleton
from rmpe_ros.io.files import unused_path, write_file
from rmpe_ros.msg import PersonPoseArray, SkeletonInfo
from rmpe_ros.nodes.annotations import foxglove_classes, image_annotations
from rmpe_ros.nodes.image_subscription import ImageMessage, read_image, subscribe_image
from rmpe_ros.nodes.markers import delete_markers, pose_markers
from rmpe_ros.nodes.node_process import run_node
from rmpe_ros.nodes.parameter_tables import VISUALIZER_NODE
from rmpe_ros.nodes.parameters import declare_parameters
from rmpe_ros.nodes.rclpy_messages import (
    ImageConversionError,
    message_to_poses,
    message_to_skeleton,
    rgb_to_image,
)
from rmpe_ros.nodes.stamp_matcher import StampMatcher, header_key

_WARNING_PERIOD = 5.0
_IMAGE_DEPTH = 5


class VisualizerNode(Node):
    """Subscribes `image_raw`, `poses`, `poses_3d`, `skeleton`, `camera_info`.

    Publishes `poses/image`, `poses/markers`, `poses_3d/markers` and, where foxglove_msgs is
    installed, `poses/annotations`. Works only for those who look: pictures are drawn when somebody
    subscribes or `save_dir` is set, markers and annotations made when somebody subscribes.
    Raises ValueError or OSError when it cannot start.
    """

    def __init__(self) -> None:
        super().__init__('visualizer_node')
        self.exit_code: int | None = None
        self._settings = declare_parameters(self, VISUALIZER_NODE)
        self._save_dir = Path(self._settings['save_dir']) if self._settings['save_dir'] else None
        if self._save_dir is not None:
            self._save_dir.mkdir(parents=True, exist_ok=True)
        self._matcher: StampMatcher[ImageMessage, PersonPoseArray] = StampMatcher(
            self._settings['buffer_size']
        )
        self._skeletons: dict[str, Skeleton] = dict(SKELETONS)
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
        self.create_subscription(
            SkeletonInfo,
            'skeleton',
            self._on_skeleton,
            QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL),
        )
        self.create_subscription(
            CameraInfo, 'camera_info', self._on_camera, qos_profile_sensor_data
        )
        self.create_subscription(PersonPoseArray, 'poses', self._on_poses, _IMAGE_DEPTH)
        self.create_subscription(PersonPoseArray, 'poses_3d', self._on_poses_3d, _IMAGE_DEPTH)
        subscription = subscribe_image(
            self, self._on_image, compressed=self._settings['compressed'], depth=_IMAGE_DEPTH
        )
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
        skeleton = self._skeleton_of(message)
        if skeleton is None:
            return
        camera = self._camera or PinholeCamera.nominal(message.image_width, message.image_height)
        self._show(self._markers, message, skeleton, camera)
        if self._foxglove is not None and self._annotations.get_subscription_count() > 0:
            self._annotations.publish(
                image_annotations(
                    message, skeleton, self._foxglove, min_score=self._settings['min_score']
                )
            )
        if self._somebody_looks():
            self._draw_pair(self._matcher.put_right(header_key(message.header), message))

    def _on_poses_3d(self, message: PersonPoseArray) -> None:
        skeleton = self._skeleton_of(message)
        if skeleton is not None:
            self._show(self._markers_3d, message, skeleton, None)

    def _show(
        self,
        publisher: Publisher,
        message: PersonPoseArray,
        skeleton: Skeleton,
        camera: PinholeCamera | None,
    ) -> None:
        """Publish markers when somebody looks at them."""
        if publisher.get_subscription_count() > 0:
            publisher.publish(
                pose_markers(
                    message,
                    skeleton,
                    camera,
                    depth=self._settings['marker_depth'],
                    min_score=self._settings['min_score'],
                    lifetime=self._settings['marker_lifetime'],
                )
            )

    def _skeleton_of(self, message: PersonPoseArray) -> Skeleton | None:
        skeleton = self._skeletons.get(message.skeleton)
        if skeleton is None:
            self.get_logger().warning(
                f'skeleton {message.skeleton!r} is unknown and not published on topic skeleton',
                throttle_duration_sec=_WARNING_PERIOD,
            )
        return skeleton

    def _on_skeleton(self, message: SkeletonInfo) -> None:
        self._guard(lambda: self._skeletons.update({message.name: message_to_skeleton(message)}))

    def _on_camera(self, message: CameraInfo) -> None:
        def remember() -> None:
            self._camera = PinholeCamera.from_message(message)

        self._guard(remember)

    def _somebody_looks(self) -> bool:
        return self._save_dir is not None or self._image.get_subscription_count() > 0

    def _draw_pair(self, pair: tuple[ImageMessage, PersonPoseArray] | None) -> None:
        if pair is not None:
            self._guard(lambda: self._draw(*pair))

    def _draw(self, image_message: ImageMessage, poses_message: PersonPoseArray) -> None:
        poses = message_to_poses(poses_message, self._skeletons[poses_message.skeleton])
        picture = draw_poses(
            read_image(image_message, max_megapixels=self._settings['max_megapixels']),
            poses,
            min_score=self._settings['min_score'],
            color_by=self._settings['color_by'],
            boxes=self._settings['draw_boxes'],
            labels=self._settings['draw_labels'],
        )
        self._drawn += 1
        if self._image.get_subscription_count() > 0:
            self._image.publish(rgb_to_image(picture, image_message.header))
        if self._save_dir is not None:
            path = self._save_dir / self._file_name(image_message.header)
            # Only what this node wrote itself is replaced, when a stamp comes again.
            save_picture(unused_path(path, since=self._started), picture)

    def _file_name(self, header: Header) -> str:
        """Sorts by time: seconds, nanoseconds of the stamp."""
        return f'{header.stamp.sec:010d}_{header.stamp.nanosec:09d}.{self._settings["save_format"]}'

    def _guard(self, action: Callable[[], object]) -> None:
        """Do it; a message that cannot be used becomes a throttled warning."""
        try:
            action()
        except (ImageConversionError, ValueError, OSError) as error:
            self.get_logger().warning(str(error), throttle_duration_sec=_WARNING_PERIOD)


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
