# SPDX-License-Identifier: Apache-2.0
"""`lift_node`: gives joints a position in space, from a depth image registered to the colour."""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from rmpe_ros.core.camera import PinholeCamera
from rmpe_ros.core.lifting import DepthImage, LiftingParameters, lift_poses
from rmpe_ros.io.messages import stamp_nanoseconds
from rmpe_ros.msg import PersonPoseArray
from rmpe_ros.nodes.health.diagnostics_publisher import DiagnosticsPublisher
from rmpe_ros.nodes.inputs.frame_lookup import FrameLookup
from rmpe_ros.nodes.inputs.pose_topics import PoseTopics
from rmpe_ros.nodes.inputs.stamp_matcher import NearestStamp
from rmpe_ros.nodes.lifecycle.guarded_node import GuardedNode
from rmpe_ros.nodes.lifecycle.node_process import run_node
from rmpe_ros.nodes.lifecycle.shared_memory import room_for_images
from rmpe_ros.nodes.settings.parameter_tables import LiftSettings
from rmpe_ros.nodes.settings.parameters import declare_parameters
from rmpe_ros.nodes.views.joint_cloud import joint_cloud

# Of people with all their joints as rclpy has them, 10 kB each; more poses wait where they are few.
_MOST_WAITING_PEOPLE = 2000


class LiftNode(GuardedNode):
    """Subscribes `poses`, `depth`, `camera_info`, `skeleton`.

    Publishes `poses_3d`, the same messages with positions, and `poses_3d/points`, a cloud of the
    joints; works only for those who listen. Raises ValueError when it cannot start.
    """

    def __init__(self) -> None:
        super().__init__('lift_node')
        self._settings = declare_parameters(self, LiftSettings, self._change)
        self._change(self._settings)
        self._frames = FrameLookup(self, 'target_frame') if self._settings.target_frame else None
        self._pairs: NearestStamp[PersonPoseArray, Image] = NearestStamp(
            self._settings.buffer_size,
            int(self._settings.slop * 1e9),
            weigh=lambda message: len(message.people),
            most=_MOST_WAITING_PEOPLE,
        )
        self._camera: PinholeCamera | None = None
        self._lifted = self._told_unmatched = 0
        self._poses = self.create_publisher(PersonPoseArray, 'poses_3d', 5)
        self._points = self.create_publisher(PointCloud2, 'poses_3d/points', 5)
        self._people = PoseTopics(self)
        self.create_subscription(
            CameraInfo, 'camera_info', self._on_camera, qos_profile_sensor_data
        )
        self._source = self._people.subscribe('poses', self._on_poses, depth=10).topic_name
        depth = self.create_subscription(
            Image,
            'depth',
            self._on_depth,
            QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self._check_room = room_for_images(self.faults, depth.topic_name)
        self._diagnostics = DiagnosticsPublisher(self, {'node': self.faults.status})
        self.get_logger().info(f'ready: depth from {depth.topic_name}')

    def stop(self) -> None:
        self.get_logger().info(
            f'stopped after {self._lifted} messages, {self._pairs.unmatched} without depth'
        )

    def _on_poses(self, message: PersonPoseArray) -> None:
        if self._somebody_listens():
            self._lift_all(self._pairs.put_left(stamp_nanoseconds(message.header), message))

    def _on_depth(self, message: Image) -> None:
        self._check_room(message)
        if self._somebody_listens():
            self._lift_all(self._pairs.put_right(stamp_nanoseconds(message.header), message))

    def _on_camera(self, message: CameraInfo) -> None:
        self._camera = PinholeCamera.from_message(message, rectified=self._settings.rectified)

    def _somebody_listens(self) -> bool:
        return any(each.get_subscription_count() > 0 for each in (self._poses, self._points))

    def _lift_all(self, pairs: list[tuple[PersonPoseArray, Image]]) -> None:
        if self._pairs.unmatched > self._told_unmatched and not pairs:
            self.faults.refuse(
                self._source,
                f'{self._pairs.unmatched} poses without a depth image within '
                f'{self._settings.slop:g} s; is `depth` of the same camera? see parameter slop',
            )
            self._told_unmatched = self._pairs.unmatched
        for poses, depth in pairs:
            with self.faults.guard(self._source):
                self._lift(poses, depth)

    def _lift(self, message: PersonPoseArray, depth: Image) -> None:
        if self._camera is None:
            raise ValueError('no camera_info of a calibrated camera yet: positions are unknown')
        poses = self._people.read(message)
        height, width = message.image_height, message.image_width
        positions = lift_poses(
            poses,
            DepthImage.from_message(depth),
            self._camera.for_image(height, width),
            image_size=(height, width),
            parameters=self._lifting,
        )
        if self._frames is not None:
            target, header = self._settings.target_frame, message.header
            positions = self._frames.find(target, header.frame_id, header.stamp).from_camera(
                positions
            )
            header.frame_id = target
        set_positions(message, positions)
        self._lifted += 1
        self._poses.publish(message)
        if self._points.get_subscription_count() > 0:
            self._points.publish(joint_cloud(positions, poses, message.header))

    def _change(self, settings: LiftSettings) -> None:
        self._lifting = LiftingParameters(
            min_score=settings.min_score,
            window=settings.window,
            min_valid=settings.min_valid,
            reach=settings.reach,
        )


def set_positions(message: PersonPoseArray, positions: NDArray[np.float64]) -> None:
    """Write positions (N, K, 3) into the points of a message that came from a topic.

    In one that `poses_to_message` made all joints share a point.
    """
    for person, points in zip(message.people, positions.tolist(), strict=True):
        for keypoint, (x, y, z) in zip(person.keypoints, points, strict=True):
            keypoint.position.x, keypoint.position.y, keypoint.position.z = x, y, z


def main(args: list[str] | None = None) -> int:
    """Entry point; returns the process exit code."""
    return run_node(LiftNode, 'lift_node', args)


if __name__ == '__main__':
    sys.exit(main())
