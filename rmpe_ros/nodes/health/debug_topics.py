# SPDX-License-Identifier: Apache-2.0
"""`~/debug/<name>_ms`: the times of each frame as topics, for rqt_plot, PlotJuggler and bags."""

from __future__ import annotations

from collections.abc import Mapping

from rclpy.node import Node
from std_msgs.msg import Float32

from rmpe_ros.pipeline import STAGES

DEBUG_NAMES = (*STAGES, 'total', 'latency')


class DebugTopics:
    """Publishers of milliseconds; each costs nothing while nobody subscribes to it."""

    def __init__(self, node: Node) -> None:
        self._publishers = {
            name: node.create_publisher(Float32, f'~/debug/{name}_ms', 10) for name in DEBUG_NAMES
        }

    def has_audience(self) -> bool:
        return any(each.get_subscription_count() > 0 for each in self._publishers.values())

    def publish(self, milliseconds: Mapping[str, float]) -> None:
        for name, publisher in self._publishers.items():
            if name in milliseconds and publisher.get_subscription_count() > 0:
                publisher.publish(Float32(data=float(milliseconds[name])))
