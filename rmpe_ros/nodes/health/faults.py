# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in a node while it runs: counted, told once in a while, and in `/diagnostics`."""

from __future__ import annotations

import re
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node

from rmpe_ros.nodes.health.diagnostics import make_status

# Seconds between two log lines about the same fault of a topic or service, and how many different
# ones are told of each in that time.
_PERIOD = 5.0
_MOST_TOLD = 3


class Faults:
    """The faults of one node. A message that cannot be used, or a bug, must not end it.

    refused: messages and requests that cannot be used. failed: callbacks that raised something
    unforeseen. last_error: of either, with the topic or service that it came from.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._told: dict[tuple[str, str], float] = {}
        self._reported = 0
        self._lasting: dict[str, str] = {}
        self.refused = 0
        self.failed = 0
        self.last_error = ''

    def refuse(self, source: str, reason: str) -> None:
        """Something that came from `source`, a topic or service, cannot be used."""
        with self._lock:
            self.refused += 1
            self.last_error = f'{source}: {reason}'
        if self._is_due(source, reason):
            self._node.get_logger().warning(f'{source}: {reason}')

    def fail(self, source: str, error: BaseException) -> None:
        """The callback of `source` raised an error that nobody has foreseen."""
        text = f'{type(error).__name__}: {error}'
        with self._lock:
            self.failed += 1
            self.last_error = f'{source}: {text}'
        if self._is_due(source, text):
            trace = ''.join(traceback.format_exception(error)).rstrip()
            self._node.get_logger().error(f'{source} failed, the node goes on: {text}\n{trace}')

    @contextmanager
    def guard(self, source: str) -> Iterator[None]:
        """Count and tell what is raised inside, see `caught`."""
        try:
            yield
        except Exception as error:
            self.caught(source, error)

    def caught(self, source: str, error: Exception) -> None:
        """`source` raised this: ValueError and OSError are refusals, anything else is a bug."""
        if isinstance(error, ValueError | OSError):
            self.refuse(source, str(error))
        else:
            self.fail(source, error)

    def lasts(self, subject: str, trouble: str) -> None:
        """What is wrong with `subject` all the time; nothing when it is well again.

        Told once, again when it is another trouble, and in `/diagnostics` for as long as it lasts.
        """
        with self._lock:
            is_new = bool(trouble) and _kind(trouble) != _kind(self._lasting.get(subject, ''))
            if trouble:
                self._lasting[subject] = trouble
            else:
                self._lasting.pop(subject, None)
        if is_new:
            self._node.get_logger().warning(trouble)

    def values(self) -> dict[str, object]:
        """For a status in `/diagnostics`."""
        return {
            'refused': self.refused,
            'callbacks_failed': self.failed,
            'last_error': self.last_error,
        }

    def news(self) -> str:
        """What is wrong all the time, else the last error if it came after the last call."""
        with self._lock:
            total = self.refused + self.failed
            is_new, self._reported = total > self._reported, total
            return '; '.join(self._lasting.values()) or (self.last_error if is_new else '')

    def status(self) -> DiagnosticStatus:
        """The state of a node that has nothing else to tell."""
        trouble = self.news()
        level = DiagnosticStatus.WARN if trouble else DiagnosticStatus.OK
        name = self._node.get_fully_qualified_name()
        return make_status(level, trouble or 'running', self.values(), hardware_id=name)

    def _is_due(self, source: str, text: str) -> bool:
        now = time.monotonic()
        subject = source, _kind(text)
        with self._lock:
            self._told = {each: at for each, at in self._told.items() if now < at + _PERIOD}
            of_source = sum(each[0] == source for each in self._told)
            if subject in self._told or of_source >= _MOST_TOLD:
                return False
            self._told[subject] = now
            return True


def _kind(text: str) -> str:
    """The same fault with other numbers is the same fault."""
    return re.sub(r'[\d.]+', '#', text)
