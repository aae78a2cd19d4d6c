# SPDX-License-Identifier: Apache-2.0
"""`people_node`: where people are, where they go and how sure that is, in the robot's frame."""

from __future__ import annotations

import sys
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from rmpe_ros.core.camera import PinholeCamera
from rmpe_ros.core.people.people_filter import CameraPose
from rmpe_ros.core.people.people_state import Axes
from rmpe_ros.core.people.people_tracker import PeopleParameters, PeopleTracker
from rmpe_ros.core.people.sights import Ground, SightParameters, observe
from rmpe_ros.io.messages import NANOSECONDS, stamp_nanoseconds
from rmpe_ros.msg import PersonPoseArray, PersonStateArray
from rmpe_ros.nodes.health.diagnostics import make_status
from rmpe_ros.nodes.health.diagnostics_publisher import DiagnosticsPublisher
from rmpe_ros.nodes.inputs.frame_lookup import FrameLookup
from rmpe_ros.nodes.inputs.pose_topics import PoseTopics
from rmpe_ros.nodes.lifecycle.guarded_node import GuardedNode
from rmpe_ros.nodes.lifecycle.node_process import run_node
from rmpe_ros.nodes.people.people_bridges import make_bridges
from rmpe_ros.nodes.people.people_input import joint_positions, usable_poses
from rmpe_ros.nodes.people.people_messages import PeopleMessages
from rmpe_ros.nodes.settings.parameter_tables import PeopleSettings
from rmpe_ros.nodes.settings.parameters import declare_parameters
from rmpe_ros.nodes.views.people_markers import people_markers


class PeopleNode(GuardedNode):
    """Subscribes `poses_3d` or `poses`, `camera_info`, `skeleton`.

    Publishes `people`, one message for each of the poses', `people/markers` while somebody listens,
    and what the parameter `bridges` asks for. Raises ValueError when it cannot start.
    """

    def __init__(self) -> None:
        super().__init__('people_node')
        self._settings = declare_parameters(self, PeopleSettings, self._change)
        self._sights, self._tracker = SightParameters(), PeopleTracker()
        self._change(self._settings)
        wanted = [n for n in ('target_frame', 'ground_frame') if getattr(self._settings, n)]
        self._frames = FrameLookup(self, wanted[0]) if wanted else None
        self._messages = PeopleMessages()
        self._camera: PinholeCamera | None = None
        self._camera_frame = self._frame = self._problem = ''
        self._count = self._problems = self._people = 0
        self._publisher = self.create_publisher(PersonStateArray, 'people', 5)
        self._markers = self.create_publisher(MarkerArray, 'people/markers', 1)
        self._bridges = make_bridges(self, self._settings.bridges)
        self.create_subscription(
            CameraInfo, 'camera_info', self._on_camera, qos_profile_sensor_data
        )
        self._poses = PoseTopics(self)
        self._topic = self._poses.subscribe(
            self._settings.source, self._on_poses, depth=10
        ).topic_name
        self._diagnostics = DiagnosticsPublisher(
            self, {'people': self._status, 'node': self.faults.status}
        )
        self.get_logger().info(f'ready: people from {self._topic}')

    def stop(self) -> None:
        for bridge in self._bridges:
            bridge.stop()
        self.get_logger().info(
            f'stopped after {self._count} messages, {self._problems} of them with a problem'
        )

    def _on_camera(self, message: CameraInfo) -> None:
        self._camera = PinholeCamera.from_message(message, rectified=self._settings.rectified)
        self._camera_frame = message.header.frame_id

    def _on_poses(self, message: PersonPoseArray) -> None:
        self._count += 1
        stamp = stamp_nanoseconds(message.header) / NANOSECONDS
        target = self._settings.target_frame or message.header.frame_id
        if target != self._frame:  # another camera: the places of before mean nothing here
            self._tracker.reset()
            self._frame = target
        sights, view, axes, problem = None, CameraPose.identity(), self._axes(target, None), ''
        try:
            view, ground = self._view(message.header)
            axes = self._axes(target, ground)
            poses, positions, warnings = self._read(message)
            sights = observe(
                poses,
                self._checked_camera().for_image(message.image_height, message.image_width),
                image_size=(message.image_height, message.image_width),
                positions=positions,
                ground=ground,
                parameters=self._sights,
            )
            for warning in warnings:
                self.faults.refuse(self._topic, warning)
        except ValueError as error:
            problem = str(error)
            self._problems += 1
            self.faults.refuse(self._topic, problem)
        self._problem = problem
        people = self._tracker.update(sights, stamp, view, axes)
        self._people = len(people)
        header = Header(stamp=message.header.stamp, frame_id=target)
        made = self._messages.make(people, header, axes, problem=problem)
        self._publisher.publish(made)
        if self._markers.get_subscription_count() > 0:
            self._markers.publish(people_markers(made))
        for bridge in self._bridges:
            bridge.publish(made, message.header)

    def _checked_camera(self) -> PinholeCamera:
        if self._camera is None:
            raise ValueError(
                'no camera_info of a calibrated camera yet: lines of sight are unknown'
            )
        return self._camera

    def _read(self, message: PersonPoseArray) -> tuple[Any, Any, list[str]]:
        """The poses, the positions of the joints in the optical frame or None, and warnings."""
        skeleton = self._poses.skeleton_of(message)
        poses, kept, warnings = usable_poses(message, skeleton)
        if self._settings.source != 'poses_3d':
            return poses, None, warnings
        self._checked_camera()
        way = None
        if self._camera_frame and message.header.frame_id != self._camera_frame:
            if self._frames is None:
                raise ValueError(
                    f'poses_3d is in frame {message.header.frame_id!r}, camera_info in '
                    f'{self._camera_frame!r}: leave target_frame of lift_node empty, or set '
                    'target_frame here, too'
                )
            way = self._frames.find(
                self._camera_frame, message.header.frame_id, message.header.stamp
            )
        positions, more = joint_positions(message, kept, skeleton, way)
        return poses, positions, warnings + more

    def _view(self, header: Header) -> tuple[CameraPose, Ground | None]:
        """Where the camera is in the target frame, and the ground as the camera sees it."""
        settings, view, ground = self._settings, CameraPose.identity(), None
        optical = self._camera_frame or header.frame_id
        target = settings.target_frame or header.frame_id
        if self._frames is not None and target != optical:
            view = self._frames.find(target, optical, header.stamp)
        if self._frames is not None and settings.ground_frame:
            floor = self._frames.find(settings.ground_frame, optical, header.stamp)
            height = float(floor.translation[2])
            if height <= 0:
                raise ValueError(
                    f'the camera is {height:.2f} m above the ground of ground_frame '
                    f'{settings.ground_frame!r}: it must be above it'
                )
            ground = Ground(floor.rotation[2], height)
        elif settings.camera_height > 0:
            ground = Ground.from_tilt(settings.camera_height, settings.camera_tilt)
        return view, ground

    def _axes(self, target: str, ground: Ground | None) -> Axes:
        optical = not self._settings.target_frame or target.rstrip('_').endswith('optical_frame')
        if not optical:
            return Axes.of_map()
        return Axes.of_optical() if ground is None else Axes.of_optical(ground.up)

    def _change(self, settings: PeopleSettings) -> None:
        if settings.method == 'ground' and not (
            settings.ground_frame or settings.camera_height > 0
        ):
            raise ValueError('method ground needs ground_frame or camera_height')
        if settings.method == 'depth' and settings.source != 'poses_3d':
            raise ValueError('method depth needs source poses_3d')
        self._sights = SightParameters(
            method=settings.method,
            min_score=settings.min_score,
            depth_noise=settings.depth_noise,
            stature=settings.stature,
        )
        self._tracker.parameters = PeopleParameters(
            max_occlusion=settings.max_occlusion, start_score=settings.start_score
        )

    def _status(self) -> DiagnosticStatus:
        level, summary = DiagnosticStatus.OK, f'{self._people} people'
        if self._problem:
            level, summary = DiagnosticStatus.WARN, self._problem
        elif not self._count:
            level = DiagnosticStatus.WARN
            number = self.count_publishers(self._topic)
            summary = f'nothing on {self._topic} yet: {number} publish it'
            if not number and self._settings.source == 'poses_3d':
                summary += '; start lift_node, or set source to poses without a depth camera'
        values = {
            'messages': self._count,
            'people': self._people,
            'problems': self._problems,
            'last_problem': self._problem,
        }
        return make_status(level, summary, values, hardware_id=self._topic)


def main(args: list[str] | None = None) -> int:
    """Entry point; returns the process exit code."""
    return run_node(PeopleNode, 'people_node', args)


if __name__ == '__main__':
    sys.exit(main())
