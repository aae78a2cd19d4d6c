# SPDX-License-Identifier: Apache-2.0
"""Publish `/diagnostics` once a second, through `diagnostic_updater` where that is installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

_PERIOD = 1.0


class DiagnosticsPublisher:
    """Publishes what some functions say about the node, for as long as the node lives.

    statuses: functions by the name that their status gets after the node's own.
    """

    def __init__(self, node: Node, statuses: Mapping[str, Callable[[], DiagnosticStatus]]) -> None:
        self._node = node
        self._statuses = statuses
        try:
            from diagnostic_updater import Updater
        except ImportError:
            self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
            # Not the node's clock: a node that waits for /clock must say so, too.
            steady = Clock(clock_type=ClockType.STEADY_TIME)
            self._timer = node.create_timer(_PERIOD, self._publish, clock=steady)
            return
        self._updater = Updater(node, _PERIOD)
        self._updater.setHardwareID(node.get_fully_qualified_name())
        for name, make in statuses.items():
            self._updater.add(name, _task(make))

    def _publish(self) -> None:
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        prefix = self._node.get_fully_qualified_name().lstrip('/')
        for name, make in self._statuses.items():
            status = make()
            status.name = f'{prefix}: {name}'
            message.status.append(status)
        self._publisher.publish(message)


def _task(make: Callable[[], DiagnosticStatus]) -> Callable[[Any], Any]:
    """`make` as a task of diagnostic_updater, which names the status and publishes it."""

    def run(status: Any) -> Any:
        made = make()
        status.level, status.message = made.level, made.message
        status.hardware_id, status.values = made.hardware_id, made.values
        return status

    return run
