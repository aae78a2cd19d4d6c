# SPDX-License-Identifier: Apache-2.0
"""`~/estimate_poses`: the poses of posted images, while everything else of the node goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial

from rclpy.clock import Clock, ClockType
from rclpy.qos import QoSProfile

from rmpe_ros.io.messages import ImageConversionError
from rmpe_ros.msg import PersonPoseArray
from rmpe_ros.nodes.estimation.frame_worker import FrameWorker
from rmpe_ros.nodes.inputs.image_subscription import ImageMessage
from rmpe_ros.nodes.lifecycle.managed_node import ManagedNode
from rmpe_ros.srv import EstimatePoses

# So many requests of a burst are kept by DDS; the default is ten, and the others never answered.
BURST = QoSProfile(depth=500)
_NAME = '~/estimate_poses'
_TIMEOUT = 30.0
_LOOK_PERIOD = 1.0
# Each request that waits holds its image; this is 1.2 GB of images of 1920x1080.
_MOST_WAITING = 200


@dataclass(eq=False)
class _Request:
    """One that waits for the worker; since: `time.monotonic()`."""

    response: EstimatePoses.Response
    worker: FrameWorker
    job: Future[PersonPoseArray]
    since: float = field(default_factory=time.monotonic)
    answer: Future[EstimatePoses.Response] = field(default_factory=Future)


class EstimateService:
    """Gives posted images to the node's worker, which does one between two frames.

    worker: gives the worker, None while there is none. estimate: what the worker does.
    """

    def __init__(
        self,
        node: ManagedNode,
        worker: Callable[[], FrameWorker | None],
        estimate: Callable[[ImageMessage], PersonPoseArray],
    ) -> None:
        self._node = node
        self._worker = worker
        self._estimate = estimate
        self._waiting: set[_Request] = set()
        node.create_service(EstimatePoses, _NAME, self._on_request, qos_profile=BURST)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(_LOOK_PERIOD, self._give_up, clock=steady)

    def _on_request(
        self, request: EstimatePoses.Request, response: EstimatePoses.Response
    ) -> EstimatePoses.Response | Future[EstimatePoses.Response]:
        response.poses.header = request.image.header
        worker = self._worker()
        if worker is None:
            response.message = f'pose_node is {self._node.state}; activate it first'
            return response
        if len(self._waiting) >= _MOST_WAITING:
            response.message = f'{len(self._waiting)} requests wait already; ask again later'
            return response
        job = worker.submit(partial(self._estimate, request.image))
        waiting = _Request(response, worker, job)
        self._waiting.add(waiting)
        # Not at once, since that is in the worker's thread, or amid its end.
        job.add_done_callback(lambda _: self._soon(partial(self._finish, waiting)))
        return waiting.answer

    def worker_stopped(self) -> None:
        """Whoever still waits for the worker is told that it stopped, once the node has settled."""
        self._soon(self._give_up)

    def _soon(self, callback: Callable[[], None]) -> None:
        self._node.soon(callback, f'service {_NAME}')

    def _give_up(self) -> None:
        """Answer whoever waits in vain, or for too long."""
        latest = time.monotonic() - _TIMEOUT
        for waiting in list(self._waiting):
            if waiting.worker.closed or waiting.since < latest:
                self._finish(waiting)

    def _finish(self, waiting: _Request) -> None:
        if waiting not in self._waiting:
            return
        self._waiting.remove(waiting)
        response, job = waiting.response, waiting.job
        gives_nothing = job.cancel() or not job.done()
        if gives_nothing and waiting.worker.closed:
            response.message = f'pose_node is {self._node.state} now; activate it first'
        elif gives_nothing:
            response.message = f'no result within {_TIMEOUT:.0f} s; see the log'
        elif isinstance(error := job.exception(), ImageConversionError):
            response.message = f'the image cannot be used: {error}'
        elif error is not None:
            waiting.answer.set_exception(error)
            return
        else:
            response.poses = job.result()
            response.success = True
            count = len(response.poses.people)
            response.message = '1 person' if count == 1 else f'{count} people'
        waiting.answer.set_result(response)
