# SPDX-License-Identifier: Apache-2.0
"""What runs a node's callbacks, and outlives whatever rclpy itself raises while it does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from rclpy.executors import Executor, SingleThreadedExecutor

from rmpe_ros.nodes.health.faults import Faults
from rmpe_ros.nodes.lifecycle.guarded_node import Guarded

try:
    from rclpy.experimental import EventsExecutor
except ImportError:  # ROS 2 Humble
    EventsExecutor = None

# Set to `wait_set`, nodes run as on ROS 2 Humble: rclpy calls its executor of events experimental.
EXECUTOR_VARIABLE = 'RMPE_EXECUTOR'
WAIT_SET = 'wait_set'
# Seconds of rest after a failure of rclpy's own, lest one that comes again and again takes a core.
_PAUSE = 0.01
# Seconds within which what is ready is run.
_GLANCE = 0.002
_RCLPY = 'rclpy'


class NodeExecutor:
    """Runs one node, whose callbacks raise nothing; what rclpy raises is counted and told.

    By events where rclpy can: its other executors put together anew, for every message, a set of
    all that a node waits for, and an image is answered 0.4 ms later.
    """

    def __init__(self, node: Guarded) -> None:
        self._node = node
        by_events = EventsExecutor is not None and os.environ.get(EXECUTOR_VARIABLE) != WAIT_SET
        self._executor: Executor = EventsExecutor() if by_events else _WaitSet(node.faults)
        self._executor.add_node(node)

    def spin_once(self, timeout_sec: float) -> None:
        """Run the next callback, or wait for one for so many seconds."""
        try:
            self._executor.spin_once(timeout_sec)
        except Exception as error:
            self._node.faults.caught(_RCLPY, error)
        else:
            return
        time.sleep(_PAUSE)

    def finish(self, seconds: float) -> None:
        """Run what is ready and nothing else, for so long at most."""
        end = time.monotonic() + seconds
        idle = 0
        while idle < 2 and time.monotonic() < end:
            calls = self._node.calls
            self.spin_once(_GLANCE)
            idle = idle + 1 if self._node.calls == calls else 0

    def shutdown(self) -> None:
        """Run nothing any more."""
        self._executor.shutdown()


class _WaitSet(SingleThreadedExecutor):
    """Does not raise for a message that cannot be deserialized: rclpy would never look at that
    subscription again, nor at any other of its group.
    """

    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self._faults = faults

    def _make_handler(self, entity: Any, node: Any, take: Callable[..., Any], *rest: Any) -> Any:
        def guarded_take(entity: Any) -> Any:
            try:
                return take(entity)
            except Exception as error:
                self._faults.refuse(_name(entity), f'what came cannot be read: {error}')
                return None

        return super()._make_handler(entity, node, guarded_take, *rest)


def _name(entity: Any) -> str:
    """What the log calls a subscription, service, client, timer or waitable."""
    for attribute in ('topic_name', 'service_name', 'srv_name'):
        name = getattr(entity, attribute, None)
        if isinstance(name, str):
            return name if attribute == 'topic_name' else f'service {name}'
    return f'a {type(entity).__name__.lower()}'
