# SPDX-License-Identifier: Apache-2.0
"""Run one node as a process: clean start, clean stop on signals, an honest exit code."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from types import FrameType

import rclpy
from rclpy.logging import get_logger
from rclpy.signals import SignalHandlerOptions

from rmpe_ros.io.process_memory import reuse_freed_memory
from rmpe_ros.nodes import on_ending_signals
from rmpe_ros.nodes.lifecycle.executors import NodeExecutor
from rmpe_ros.nodes.lifecycle.guarded_node import GuardedNode
from rmpe_ros.nodes.lifecycle.managed_node import ManagedNode
from rmpe_ros.nodes.lifecycle.parent_process import end_with_parent

# How long a signal or the end of the work may go unnoticed, in seconds.
_WAKE_UP = 0.2
# How long answers that wait are given after the node has stopped, in seconds.
_LAST_ANSWERS = 3.0


def run_node(
    make_node: Callable[[], GuardedNode | ManagedNode], name: str, args: list[str] | None = None
) -> int:
    """Initialise ROS, run the node that `make_node` gives, and return the exit code.

    0 after SIGINT, SIGTERM, SIGHUP or when the node has finished its work; 1, with one line that
    says why, when the node could not start (ValueError, OSError). What callbacks raise ends
    nothing, see `Faults`.
    """
    stopping = False

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    # rclpy's own handlers invalidate the context at once; with ours the frame at hand is still
    # published and the last words still reach /rosout. A second signal changes nothing.
    on_ending_signals(on_signal)
    end_with_parent()
    reuse_freed_memory()
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except (RuntimeError, ValueError) as error:
        get_logger(name).fatal(f'{name} cannot start: {error}')
        return 1
    try:
        try:
            node = make_node()
        except (ValueError, OSError) as error:
            get_logger(name).fatal(f'{name} cannot start: {error}')
            return 1
        executor = NodeExecutor(node)
        try:
            while not stopping and node.exit_code is None and rclpy.ok():
                executor.spin_once(timeout_sec=_WAKE_UP)
        finally:
            with node.faults.guard('stop'):
                node.stop()
            # Whoever still waits for the answer of a service gets it.
            node.ending = True
            executor.finish(_LAST_ANSWERS)
            executor.shutdown()
            exit_code = node.exit_code or 0
            node.destroy_node()
    finally:
        rclpy.try_shutdown()
    if threading.active_count() > 1:
        # A thread that hangs in a network or a camera would crash the interpreter as it ends.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)
    return exit_code
