# SPDX-License-Identifier: Apache-2.0
"""`image_source_node`: plays photos, a folder, a video file or a webcam as a camera."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator

from rclpy.duration import Duration
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from rmpe_ros.io.images import SourceImage, is_video, iter_images
from rmpe_ros.msg import PersonPoseArray
from rmpe_ros.nodes.health.diagnostics_publisher import DiagnosticsPublisher
from rmpe_ros.nodes.inputs.pose_topics import subscribe_people
from rmpe_ros.nodes.inputs.rclpy_messages import rgb_to_compressed, rgb_to_image
from rmpe_ros.nodes.inputs.stamp_matcher import HeaderKey, header_key
from rmpe_ros.nodes.lifecycle.guarded_node import GuardedNode
from rmpe_ros.nodes.lifecycle.node_process import run_node
from rmpe_ros.nodes.lifecycle.shared_memory import room_for_images
from rmpe_ros.nodes.settings.parameter_tables import ImageSourceSettings
from rmpe_ros.nodes.settings.parameters import declare_parameters

_ATTEMPTS = 3
_PHOTO_PERIOD = 1.0
# A subscriber that we see may not see us yet, and would miss the first image.
_SETTLING_TIME = 0.5
# How long the last image may take to reach everybody before the process ends.
_LINGERING_TIME = 0.5
_WAITING_NOTICE_PERIOD = 5.0


class ImageSourceNode(GuardedNode):
    """Publishes `image_raw` (or `image_raw/compressed`); subscribes `poses` when it waits for them.

    Ends by itself: exit_code becomes 0 after the last image, 1 when nothing could be read or a
    video ended before its end.
    Raises ValueError when it cannot start.
    """

    def __init__(self) -> None:
        super().__init__('image_source_node')
        self._settings = declare_parameters(self, ImageSourceSettings)
        self._source = os.path.expanduser(self._settings.source)
        if not self._source:
            raise ValueError(
                'parameter source is empty; give a photo, a folder, a video file or a webcam, '
                'for example -p source:=photos/'
            )
        topic = self.resolve_topic_name('image_raw')
        if self._settings.compressed:
            self._publisher = self.create_publisher(CompressedImage, f'{topic}/compressed', 5)
        else:
            self._publisher = self.create_publisher(Image, topic, 5)
        self._check_room = room_for_images(self.faults, self._publisher.topic_name)
        if self._settings.wait_for_answer > 0:
            subscribe_people(self, 'poses', self._on_poses, depth=5)
        self._diagnostics = DiagnosticsPublisher(self, {'node': self.faults.status})
        self._stopping = threading.Event()
        self._answered = threading.Event()
        self._expected: set[HeaderKey] = set()
        self._unreadable = 0
        self._published = 0
        self._pace = Pace(self._settings.rate)
        self._thread = threading.Thread(target=self._run, name='image_source', daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; a webcam that hangs is left behind."""
        self._stopping.set()
        self._answered.set()
        self._thread.join(timeout=5.0)
        self.get_logger().info(
            f'stopped after {self._published} images, {self._unreadable} could not be read'
        )

    def _run(self) -> None:
        try:
            self._wait_for_subscribers()
            exit_code = self._publish_all()
            self._publisher.wait_for_all_acked(Duration(seconds=_LINGERING_TIME))
            self._stopping.wait(_LINGERING_TIME)
            self.exit_code = exit_code
        except Exception as error:
            # Nobody else would hear of it: the thread's error ends the process.
            self.get_logger().fatal(f'{type(error).__name__}: {error}')
            self.exit_code = 1

    def _wait_for_subscribers(self) -> None:
        wanted = self._settings.wait_for_subscribers
        while not self._stopping.is_set() and self._publisher.get_subscription_count() < wanted:
            self.get_logger().info(
                f'waiting for {wanted} subscribers of {self._publisher.topic_name}, '
                f'{self._publisher.get_subscription_count()} are there',
                throttle_duration_sec=_WAITING_NOTICE_PERIOD,
                skip_first=True,
            )
            self._stopping.wait(0.05)
        if wanted > 0:
            self._stopping.wait(_SETTLING_TIME)

    def _publish_all(self) -> int:
        """Everything the source has, again and again when looping; returns the exit code."""
        while not self._stopping.is_set():
            before, is_camera, is_cut = self._published, False, False
            for item in self._items():
                is_camera = item.path is None
                # A video that ends too early says so at its end.
                is_cut = is_video(item.path) and item.image is None
                self._publish_item(item)
                limit = self._settings.max_images
                if self._stopping.is_set() or (limit and self._published >= limit):
                    return 0
            if is_camera:
                retry = self._settings.retry_period
                if retry == 0:
                    self.get_logger().error(f'{self._source} gives no images any more')
                    return 1
                self.get_logger().error(
                    f'{self._source} gives no images any more; trying again in {retry:g} s'
                )
                self._stopping.wait(retry)
            elif self._published == before:
                self.get_logger().error(f'nothing in {self._source} could be read')
                return 1
            elif not self._settings.loop:
                return 1 if is_cut else 0
        return 0

    def _items(self) -> Iterator[SourceImage]:
        return iter_images([self._source], max_megapixels=self._settings.max_megapixels)

    def _publish_item(self, item: SourceImage) -> None:
        """Publish one image as often as `repeat` says, or warn that it cannot be read."""
        if item.image is None:
            self._unreadable += 1
            self.get_logger().warning(
                str(item.error) if is_video(item.path) else f'skipped: {item.error}'
            )
            return
        if item.warning:
            self.get_logger().warning(item.warning)
        for _ in range(self._settings.repeat):
            if self._stopping.wait(self._pace.delay(item)):
                return
            if self._settings.wait_for_answer > 0:
                self._publish_until_answered(item)
            else:
                self._publish(item)
        self._published += 1

    def _publish_until_answered(self, item: SourceImage) -> None:
        self._expected = set()
        self._answered.clear()
        for _ in range(_ATTEMPTS):
            self._publish(item)
            if self._answered.wait(self._settings.wait_for_answer):
                return
        self.get_logger().warning(
            f'no poses came for {item.name}, which was published {_ATTEMPTS} times'
        )

    def _publish(self, item: SourceImage) -> None:
        assert item.image is not None
        header = Header(frame_id=self._frame_id(item), stamp=self.get_clock().now().to_msg())
        self._expected = {*self._expected, header_key(header)}
        to_message = rgb_to_compressed if self._settings.compressed else rgb_to_image
        message = to_message(item.image, header)
        self._check_room(message)
        self._publisher.publish(message)

    def _frame_id(self, item: SourceImage) -> str:
        name = item.path.name if item.path is not None else self._source
        return self._settings.frame_id.replace('{name}', name)

    def _on_poses(self, message: PersonPoseArray) -> None:
        if header_key(message.header) in self._expected:
            self._answered.set()


class Pace:
    """When the next image is due. rate: images per second, 0 for the source's own pace."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._before: SourceImage | None = None
        self._due = time.monotonic()

    def delay(self, item: SourceImage) -> float:
        """Seconds to wait before `item` is published; 0 when it is late."""
        now = time.monotonic()
        gap = self._gap(self._before, item) if self._before is not None else 0.0
        # What is late is not made up for by a burst.
        due = self._due = max(self._due + gap, now)
        self._before = item
        return due - now

    def _gap(self, before: SourceImage, item: SourceImage) -> float:
        """Seconds from one image to the next: of a video by the times of its frames."""
        if self._rate > 0:
            return 1 / self._rate
        if item.frame is None:
            return _PHOTO_PERIOD
        if item.path is None:
            return 0.0
        if before.time is not None and item.time is not None and before.time < item.time:
            return item.time - before.time
        return 1 / item.rate if item.rate else 0.0


def main(args: list[str] | None = None) -> int:
    """Entry point; returns the process exit code."""
    return run_node(ImageSourceNode, 'image_source_node', args)


if __name__ == '__main__':
    sys.exit(main())
