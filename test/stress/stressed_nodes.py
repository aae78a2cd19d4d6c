# SPDX-License-Identifier: Apache-2.0
"""Real nodes as processes, watched from outside: alive, memory of /proc, what their logs say."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.append(str(ROOT / 'test' / 'system'))

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

# In the folder of the system tests.
from forked_nodes import ForkedNode, nursery  # isort: skip
from rmpe_ros.cli.processes.child_process import NodeProcess
from rmpe_ros.cli.processes.dds_environment import local_environment
from rmpe_ros.io.process_memory import resident_megabytes

_START_TIMEOUT = 180.0
# Seconds between looks at the memory of the nodes.
_SAMPLE_PERIOD = 2.0


class Stand:
    """The nodes under stress, and a peer in this process that talks to them over DDS.

    fork: makes nodes that have been imported already. Those that are not waited for are started as
    users do, so that what meets them while they start is met, too.
    """

    def __init__(
        self,
        environment: dict[str, str],
        folder: Path,
        fork: Callable[..., NodeProcess],
        stack: ExitStack,
    ) -> None:
        self.node = rclpy.create_node('stress')
        self.nodes: dict[str, NodeProcess] = {}
        self.memory: dict[str, list[tuple[float, float]]] = {}
        self.cpu: dict[str, list[tuple[float, float]]] = {}
        self.statuses: dict[str, dict[str, str]] = {}
        self._environment, self._folder = environment, folder
        self._fork, self._stack = fork, stack
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._next_sample = 0.0
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 50)

    def start(
        self, kind: str, *arguments: str, name: str = '', ready: bool = True, **parameters: object
    ) -> NodeProcess:
        """Start a node as `name`, and wait until it says that it is ready."""
        name = name or kind
        log = self._folder / f'{name}_{len(list(self._folder.iterdir()))}.log'
        make = self._fork if ready else NodeProcess
        process = make(
            kind,
            log,
            environment=self._environment,
            parameters=parameters,
            arguments=('-r', f'__node:={name}', *arguments),
        )
        self._stack.callback(process.stop)
        self.nodes[name] = process
        self.memory[name], self.cpu[name] = [], []
        if ready:
            self.wait_for(
                lambda: 'ready' in process.log_text() or process.exit_code is not None,
                f'{name} to be ready',
            )
            if process.exit_code is not None:
                raise RuntimeError(f'{name} did not start: {process.log_tail(3)}')
        return process

    def spin(self, seconds: float) -> None:
        """Work on what comes for so long, and measure the nodes."""
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            self._executor.spin_once(timeout_sec=max(min(left, 0.05), 0))
            if time.monotonic() > self._next_sample:
                self._next_sample = time.monotonic() + _SAMPLE_PERIOD
                self._measure()
            if left <= 0:
                return

    def settle(self, count: Callable[[], int], *, quiet: float = 2.0, most: float = 5.0) -> None:
        """Spin until `count` has stayed the same for `quiet` seconds, `most` of them at most."""
        end, last = time.monotonic() + most, count()
        since = time.monotonic()
        while (now := time.monotonic()) < min(end, since + quiet):
            self.spin(0.1)
            if count() != last:
                last, since = count(), now

    def wait_for(self, condition: Any, what: str, timeout: float = _START_TIMEOUT) -> Any:
        """Spin until `condition` gives something true, and return that."""
        deadline = time.monotonic() + timeout
        while not (result := condition()):
            if time.monotonic() > deadline:
                raise TimeoutError(f'waited {timeout:.0f} s in vain for {what}')
            self.spin(0.1)
        return result

    def dead(self) -> list[str]:
        """The nodes that have ended, with the last words of each."""
        return [
            f'{name} ended with {node.exit_code}: {node.log_tail(3)}'
            for name, node in self.nodes.items()
            if node.exit_code is not None
        ]

    def alive(self) -> str:
        return f'{len(self.nodes) - len(self.dead())} of {len(self.nodes)}'

    def counts(self) -> dict[str, int]:
        """What the nodes say in /diagnostics that they could not use, or failed on."""
        return {
            key: sum(int(values.get(key) or 0) for values in self.statuses.values())
            for key in ('bad', 'failed', 'refused', 'callbacks_failed')
        }

    def faults(self) -> list[str]:
        """Sentences on nodes that have ended, callbacks that raised, and tracebacks in a log."""
        found = self.dead()
        for name, values in self.statuses.items():
            for key in ('failed', 'callbacks_failed'):
                if int(values.get(key) or 0):
                    found.append(f'{name}: {key} {values[key]}, {values.get("last_error")}')
        for name, node in self.nodes.items():
            if 'Traceback' in (text := node.log_text()):
                found.append(f'{name}: {text[text.index("Traceback") :][:2000]}')
        return found

    def _measure(self) -> None:
        now = time.monotonic()
        for name, node in self.nodes.items():
            if (resident := resident_megabytes(node.pid)) is not None:
                self.memory[name].append((now, resident))
                self.cpu[name].append((now, cpu_seconds(node.pid)))

    def _on_diagnostics(self, message: Any) -> None:
        for status in message.status:
            self.statuses[status.name] = {pair.key: pair.value for pair in status.values}


def cpu_seconds(pid: int) -> float:
    """Time that a process has computed, which a busy machine does not lengthen."""
    try:
        fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


@contextmanager
def stand(*, processes: int = 8) -> Iterator[Stand]:
    """A stand whose nodes end with it; ROS_DOMAIN_ID is a free one unless it is set."""
    environment = local_environment(os.environ, processes=processes, packages=ROOT)
    environment['RCUTILS_COLORIZED_OUTPUT'] = '0'
    with tempfile.TemporaryDirectory(prefix='rmpe_stress_') as folder:
        (logs := Path(folder) / 'logs').mkdir()
        environment.setdefault('ROS_LOG_DIR', folder)
        os.environ.update(environment)
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        try:
            with nursery(environment) as place, ExitStack() as stack:
                yield Stand(environment, logs, partial(ForkedNode, place), stack)
        finally:
            rclpy.try_shutdown()
