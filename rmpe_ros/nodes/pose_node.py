# SPDX-License-Identifier: Apache-2.0
"""`pose_node`: images of one or several cameras in, everybody's pose out.

A managed (lifecycle) node with one worker thread; the freshest frame of each camera wins.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from functools import partial

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.timer import Timer
from std_srvs.srv import SetBool

from rmpe_ros.core.clothes import clothes_colours
from rmpe_ros.core.poses import Poses
from rmpe_ros.io.messages import ImageConversionError, message_to_rgb, stamp_nanoseconds
from rmpe_ros.io.pose_messages import serialize_poses
from rmpe_ros.io.process_memory import resident_megabytes, return_freed_memory
from rmpe_ros.msg import PersonPoseArray
from rmpe_ros.nodes.estimation.camera_topics import CameraTopics, camera_names
from rmpe_ros.nodes.estimation.estimate_service import BURST, EstimateService
from rmpe_ros.nodes.estimation.frame_worker import FrameWorker
from rmpe_ros.nodes.estimation.node_pipeline import (
    apply_settings,
    engines_sentence,
    make_pipeline,
)
from rmpe_ros.nodes.health.debug_topics import DebugTopics
from rmpe_ros.nodes.health.diagnostics import (
    IDLE,
    REPLACED,
    TOO_OLD,
    camera_status,
    make_status,
    silence,
)
from rmpe_ros.nodes.health.diagnostics_publisher import DiagnosticsPublisher
from rmpe_ros.nodes.inputs.image_subscription import ImageMessage
from rmpe_ros.nodes.inputs.rclpy_messages import poses_to_message
from rmpe_ros.nodes.lifecycle.managed_node import ManagedNode
from rmpe_ros.nodes.lifecycle.node_process import run_node
from rmpe_ros.nodes.lifecycle.shared_memory import advice_on_lost_images
from rmpe_ros.nodes.settings.parameter_tables import PoseSettings
from rmpe_ros.nodes.settings.parameters import declare_parameters
from rmpe_ros.pipeline import PosePipeline

_WATCH_PERIOD = 1.0
_WARNING_PERIOD = 5.0
_SILENCE_REMINDER = 30.0
# Seconds to read an image, which a camera's usual ones do not take.
_HARD_TO_READ = 0.1
# A frame that takes longer is left to itself when the node is to stop.
_PATIENCE = 3.0
# Latencies beyond this come from stamps of another clock (a bag without /clock), not from delay.
_CREDIBLE_LATENCY_MS = 60_000.0


@dataclass(frozen=True)
class WaitingImage:
    """An image message and when it came (`time.monotonic()`)."""

    message: ImageMessage
    came: float


class PoseNode(ManagedNode):
    """For each camera `image_raw` → `poses` and `skeleton`; for all of them `/diagnostics`.

    Services `~/enable` and `~/estimate_poses`; times of each frame on `~/debug/*_ms`.
    Raises ValueError (ModelError, EngineError, bad parameters) when it cannot start.
    """

    def __init__(self) -> None:
        super().__init__('pose_node')
        self._settings = declare_parameters(self, PoseSettings, self._change)
        self._pipeline: PosePipeline | None = None
        self._worker: FrameWorker[WaitingImage] | None = None
        self._left_behind: FrameWorker[WaitingImage] | None = None
        self._working_timers: list[Timer] = []  # rclpy's own list is self._timers
        self._model = ''
        self._enabled = True
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        compressed = self._settings.compressed
        self._advice = '' if compressed else advice_on_lost_images()
        self._cameras = [
            CameraTopics(self, name, compressed=compressed)
            for name in camera_names(self._settings.cameras)
        ]
        self._debug = DebugTopics(self)
        self.create_service(SetBool, '~/enable', self._enable, qos_profile=BURST)
        self._service = EstimateService(self, lambda: self._worker, self._estimate)
        statuses = {
            camera.name or 'frames': partial(self._camera_status, camera)
            for camera in self._cameras
        }
        self._diagnostics = DiagnosticsPublisher(self, {**statuses, 'node': self._node_status})
        if self._settings.autostart:
            self.start()
        else:
            self.get_logger().info('unconfigured: waits for the lifecycle transition configure')

    # The four transitions, in this order.

    def configure(self) -> None:
        pipeline = self._pipeline = make_pipeline(self._settings, self.get_logger().warning)
        detector, pose = pipeline.detector.info, pipeline.estimator.info
        self._model = f'{detector.name} {detector.version} + {pose.name} {pose.version}'
        for camera in self._cameras:
            camera.advertise(pipeline.skeleton)
        self.get_logger().info(engines_sentence(pipeline))

    def activate(self) -> None:
        if self._left_behind is not None and self._left_behind.alive:
            raise ValueError('a frame of before is still being worked on; try again later')
        self._left_behind = None
        self._worker = FrameWorker(self._process, self._on_error, name='pose_worker')
        self._worker.start()
        self._working_timers = [self.create_timer(_WATCH_PERIOD, self._watch, clock=self._steady)]
        if self._settings.log_period > 0:
            self._working_timers.append(
                self.create_timer(self._settings.log_period, self._log_state, clock=self._steady)
            )
        self._listen()
        topics = ', '.join(camera.topic for camera in self._cameras)
        paused = '' if self._enabled else ' once ~/enable is called'
        self.get_logger().info(f'ready: {self._model}, images from {topics}{paused}')

    def deactivate(self) -> None:
        for camera in self._cameras:
            camera.unsubscribe()
        for timer in self._working_timers:
            self.destroy_timer(timer)
        self._working_timers = []
        worker, self._worker = self._worker, None
        if worker is None:
            return
        if not worker.stop(_PATIENCE):
            self._left_behind = worker
            self.get_logger().warning(
                f'the frame at hand takes more than {_PATIENCE:g} s and is left to itself'
            )
        self._service.worker_stopped()
        self.get_logger().info(f'stopped: {self._sentence()}')

    def cleanup(self) -> None:
        for camera in self._cameras:
            camera.retire()
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is None:
            return
        if self._left_behind is not None and self._left_behind.alive:
            close_later = partial(_close_after, self._left_behind, pipeline)
            threading.Thread(target=close_later, name='closing', daemon=True).start()
            return
        pipeline.close()
        del pipeline
        return_freed_memory()

    # The way of a frame.

    def _listen(self) -> None:
        """Subscribe to the cameras when the node is to work, and only then."""
        for index, camera in enumerate(self._cameras):
            if self._enabled and self._worker is not None:
                camera.subscribe(partial(self._on_image, index, camera))
            else:
                camera.unsubscribe()

    def _on_image(self, index: int, camera: CameraTopics, message: ImageMessage) -> None:
        now = time.monotonic()
        camera.statistics.image_came(now)
        if self._settings.idle_without_subscribers and not (
            camera.has_audience() or self._debug.has_audience()
        ):
            camera.statistics.image_dropped(IDLE)
        elif (
            self._worker is not None
            and self._worker.put(WaitingImage(message, now), index) is not None
        ):
            camera.statistics.image_dropped(REPLACED)

    def _process(self, frames: dict[int, WaitingImage]) -> None:
        """The freshest frames of all cameras that have one, through one pipeline."""
        begun = time.monotonic()
        taken: list[tuple[CameraTopics, WaitingImage, np.ndarray]] = []
        for index, frame in frames.items():
            before = time.monotonic()
            try:
                image = self._readable(self._cameras[index], frame.message)
            except Exception as error:
                self._fail(self._cameras[index], error)
                continue
            finally:
                self._rest(index, time.monotonic() - before)
            if image is not None:
                taken.append((self._cameras[index], frame, image))
        pipeline = self._pipeline
        if not taken or pipeline is None:  # None: the node was told to stop meanwhile
            return
        try:
            boxes = [
                camera.tracking.boxes(frame.message.header, image.shape[:2], self._settings)
                for camera, frame, image in taken
            ]
            found = pipeline.batch([image for *_, image in taken], boxes=boxes)
        except Exception as error:
            for camera, *_ in taken:
                self._fail(camera, error)
            return
        people = zip(found, pipeline.box_scores, strict=True)
        for (camera, frame, image), (poses, sure) in zip(taken, people, strict=True):
            times = {**pipeline.timings, 'queue': (begun - frame.came) * 1e3}
            try:
                header = frame.message.header
                poses = camera.tracking.follow(poses, sure, header, self._settings)
                poses.colours = clothes_colours(image, poses)
                self._answer(camera, frame.message, poses, image.shape[:2], times)
            except Exception as error:
                self._fail(camera, error)

    def _rest(self, index: int, seconds: float) -> None:
        """The other cameras get as much time as it took to read an image that is hard to read."""
        others = len(self._cameras) - 1
        if others and seconds > _HARD_TO_READ and self._worker is not None:
            self._worker.rest(index, seconds * others)

    def _readable(self, camera: CameraTopics, message: ImageMessage) -> np.ndarray | None:
        """The image, or None when it is not to be looked at, which is counted and told."""
        max_age = self._settings.max_age
        if max_age > 0:
            age = self._milliseconds_since(message) / 1e3
            if age > max_age:
                camera.statistics.image_dropped(TOO_OLD)
                self.get_logger().warning(
                    f'images on {camera.topic} are dropped: stamped {age:.1f} s ago, max_age is '
                    f'{max_age:g} s (a bag needs /clock and use_sim_time)',
                    throttle_duration_sec=_WARNING_PERIOD,
                )
                return None
        try:
            return message_to_rgb(
                message,
                max_megapixels=self._settings.max_megapixels,
                warn=lambda text: self.get_logger().warning(
                    f'image on {camera.topic} {text}', throttle_duration_sec=_WARNING_PERIOD
                ),
            )
        except ImageConversionError as error:
            camera.statistics.bad_image(str(error))
            self.get_logger().warning(
                f'image on {camera.topic} cannot be used: {error}',
                throttle_duration_sec=_WARNING_PERIOD,
            )
            return None

    def _answer(
        self,
        camera: CameraTopics,
        image: ImageMessage,
        poses: Poses,
        image_size: tuple[int, ...],
        times: dict[str, float],
    ) -> None:
        """Publish the poses of one image of one camera; times in milliseconds."""
        height, width = image_size
        camera.publish(
            serialize_poses(poses, image.header, image_size=(height, width), timings=times)
        )
        latency = self._milliseconds_since(image)
        if 0 <= latency <= _CREDIBLE_LATENCY_MS:
            times['latency'] = latency
        camera.statistics.frame_done(time.monotonic(), people=len(poses), milliseconds=times)
        self._debug.publish(times)

    def _milliseconds_since(self, message: ImageMessage) -> float:
        """Milliseconds of the node's clock since the image's stamp, whatever that says."""
        now: int = self.get_clock().now().nanoseconds
        return (now - stamp_nanoseconds(message.header)) / 1e6

    def _fail(self, camera: CameraTopics, error: Exception) -> None:
        camera.statistics.frame_failed(f'{type(error).__name__}: {error}')
        self._on_error(error)

    def _on_error(self, error: Exception) -> None:
        self.get_logger().error(
            f'a frame failed: {type(error).__name__}: {error}',
            throttle_duration_sec=_WARNING_PERIOD,
        )

    # Services.

    def _enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = request.data
        self._listen()
        response.success = True
        response.message = 'enabled' if request.data else 'disabled: images are not subscribed to'
        if self.state != 'active':
            response.message += f'; the node is {self.state}, it works once it is active'
        return response

    def _estimate(self, message: ImageMessage) -> PersonPoseArray:
        """The worker's part of `~/estimate_poses`."""
        assert self._pipeline is not None, 'the worker runs only between configure and cleanup'
        image = message_to_rgb(message)
        poses = self._pipeline(image)
        height, width = image.shape[:2]
        return poses_to_message(
            poses, message.header, image_size=(height, width), timings=self._pipeline.timings
        )

    # Parameters, diagnostics, log.

    def _change(self, settings: PoseSettings) -> None:
        if self._pipeline is not None:
            apply_settings(self._pipeline, settings)
            for camera in self._cameras:
                camera.tracking.detect_next()

    def _silence(self, camera: CameraTopics) -> str:
        """Why no image comes, when one should."""
        if not camera.listening:
            return ''
        now = time.monotonic()
        return silence(
            camera.statistics.snapshot(now),
            camera.topic,
            since=now - camera.listening_since,
            image_timeout=self._settings.image_timeout,
            publishers=self.count_publishers(camera.topic),
            advice=self._advice,
        )

    def _watch(self) -> None:
        """Say in the log when a camera is silent, and again as long as it stays so."""
        now = time.monotonic()
        for camera in self._cameras:
            trouble = self._silence(camera)
            if not trouble:
                camera.told_silence = None
            elif camera.told_silence is None or now > camera.told_silence + _SILENCE_REMINDER:
                camera.told_silence = now
                self.get_logger().warning(trouble)

    def _camera_status(self, camera: CameraTopics) -> DiagnosticStatus:
        snapshot = camera.statistics.snapshot(time.monotonic())
        errors = snapshot.bad + snapshot.failed
        trouble = snapshot.last_error if errors > camera.told_errors else ''
        camera.told_errors = errors
        trouble = trouble or self._silence(camera)
        if trouble and snapshot.image_age is None:
            trouble = self.misfits.get(camera.topic) or trouble
        return camera_status(
            snapshot,
            topic=camera.topic,
            state=self._state(),
            model=self._model,
            subscribers=camera.subscribers,
            trouble=trouble,
        )

    def _node_status(self) -> DiagnosticStatus:
        memory = resident_megabytes()
        engines = {} if self._pipeline is None else self._pipeline.engines
        unready = '' if self._pipeline is None else self._pipeline.engine_state
        values = {
            'state': self.state,
            'enabled': self._enabled,
            'cameras': len(self._cameras),
            'model': self._model,
            'engine': '; '.join(f'{name}: {text}' for name, text in engines.items()),
            'memory_mb': '' if memory is None else f'{memory:.0f}',
            **self.faults.values(),
        }
        name = self.get_fully_qualified_name()
        trouble = '; '.join(filter(None, (unready, self.faults.news())))
        level = DiagnosticStatus.WARN if trouble else DiagnosticStatus.OK
        summary = f'{self._state()}; {trouble}' if trouble else self._state()
        return make_status(level, summary, values, hardware_id=name)

    def _state(self) -> str:
        paused = self.state == 'active' and not self._enabled
        return 'disabled by ~/enable' if paused else self.state

    def _sentence(self) -> str:
        now = time.monotonic()
        sentences = [
            (f'{camera.name}: ' if camera.name else '') + camera.statistics.snapshot(now).sentence()
            for camera in self._cameras
        ]
        return ' | '.join(sentences)

    def _log_state(self) -> None:
        snapshots = [camera.statistics.snapshot(time.monotonic()) for camera in self._cameras]
        if any(each.frames or each.bad or each.failed for each in snapshots):
            self.get_logger().info(self._sentence())


def _close_after(worker: FrameWorker, pipeline: PosePipeline) -> None:
    """Free the networks when the worker has finished its last frame with them."""
    worker.join()
    pipeline.close()


def main(args: list[str] | None = None) -> int:
    """Entry point; returns the process exit code."""
    return run_node(PoseNode, 'pose_node', args)


if __name__ == '__main__':
    sys.exit(main())
