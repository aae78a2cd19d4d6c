# SPDX-License-Identifier: Apache-2.0
"""`~/estimate_poses`: the poses of posted images, while everything else of the node goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from functools import partial

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.qos import QoSProfile

from rmpe_ros.io.messages import ImageConversionError
from rmpe_ros.msg import PersonPoseArray
from rmpe_ros.nodes.estimation.frame_worker import FrameWorker
from rmpe_ros.nodes.inputs.image_subscription import ImageMessage
from rmpe_ros.nodes.lifecycle.managed_node import ManagedNode
from rmpe_ros.srv import EstimatePoses

# So many requests of a burst are kept by DDS; the default is ten, and the others never answered.
BURST = QoSProfile(depth=500)
_TIMEOUT = 30.0
# Each request that waits holds its image; this is 1.2 GB of images of 1920x1080.
_MOST_WAITING = 200


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
        self._waiting = 0
        # A request that waits must not keep the other callbacks of its group waiting.
        node.create_service(
            EstimatePoses,
            '~/estimate_poses',
            self._answer,
            qos_profile=BURST,
            callback_group=ReentrantCallbackGroup(),
        )

    async def _answer(
        self, request: EstimatePoses.Request, response: EstimatePoses.Response
    ) -> EstimatePoses.Response:
        response.poses.header = request.image.header
        worker = self._worker()
        if worker is None:
            response.message = f'pose_node is {self._node.state}; activate it first'
            return response
        if self._waiting >= _MOST_WAITING:
            response.message = f'{self._waiting} requests wait already; ask again later'
            return response
        self._waiting += 1
        try:
            poses = await self._result(worker, partial(self._estimate, request.image))
        except ImageConversionError as error:
            response.message = f'the image cannot be used: {error}'
        else:
            if poses is None and worker.closed:
                response.message = f'pose_node is {self._node.state} now; activate it first'
            elif poses is None:
                response.message = f'no result within {_TIMEOUT:.0f} s; see the log'
            else:
                response.poses = poses
                response.success = True
                count = len(poses.people)
                response.message = '1 person' if count == 1 else f'{count} people'
        finally:
            self._waiting -= 1
        return response

    async def _result(
        self, worker: FrameWorker, estimate: Callable[[], PersonPoseArray]
    ) -> PersonPoseArray | None:
        """What the worker makes; None when it takes too long or stops before."""
        executor = self._node.executor
        assert executor is not None, 'services are answered by an executor'
        job = worker.submit(estimate)
        job.add_done_callback(lambda _: executor.wake())
        deadline = time.monotonic() + _TIMEOUT
        while not (job.done() or worker.closed or time.monotonic() > deadline):
            await _NextTurn()
        if job.cancel() or job.cancelled() or not job.done():
            return None
        return job.result()


class _NextTurn:
    """Lets the executor do what else there is, and comes back at its next turn."""

    def __await__(self) -> Generator[None, None, None]:
        yield
