# SPDX-License-Identifier: Apache-2.0
"""Start nodes as child processes, keep their output, and end them for certain."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from rmpe_ros.nodes import ENDING_SIGNALS
from rmpe_ros.nodes.lifecycle.parent_process import PARENT_VARIABLE


class NodeProcess:
    """One node, started as `python -m rmpe_ros.nodes.<name>`, its output in a log file.

    parameters: values of ROS parameters; arguments: further `--ros-args`.
    Used as a context manager it stops the node at the end.
    """

    def __init__(
        self,
        name: str,
        log: Path,
        *,
        environment: Mapping[str, str],
        parameters: Mapping[str, object] | None = None,
        arguments: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.log = log
        variables = {**environment, PARENT_VARIABLE: str(os.getpid())}
        command = [sys.executable, '-m', f'rmpe_ros.nodes.{name}', '--ros-args', *arguments]
        for key, value in (parameters or {}).items():
            command += ['-p', f'{key}:={_argument(value)}']
        self._process = self._launch(command, variables)

    def _launch(self, command: list[str], environment: dict[str, str]) -> subprocess.Popen:
        with self.log.open('wb') as output, _later_signals():
            return subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C in the terminal is for the parent, which ends its children in order.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process is still there."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def wait(self, timeout: float) -> int | None:
        """The exit code, or None when it still runs after `timeout` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, timeout: float = 15.0) -> int:
        """SIGINT, after `timeout` seconds SIGTERM, then SIGKILL; returns the exit code."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if self.exit_code is None:
                self.signal(number)
                self.wait(timeout)
        exit_code = self.exit_code
        assert exit_code is not None, 'a killed process has ended'
        return exit_code

    def log_text(self) -> str:
        return self.log.read_text(encoding='utf-8', errors='replace')

    def log_tail(self, lines: int = 15) -> str:
        """The last lines it has written."""
        return '\n'.join(self.log_text().splitlines()[-lines:])

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def _argument(value: object) -> str:
    """A parameter's value as YAML on the command line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # Quoted, or '0' and 'true' would become an integer and a bool.
        return "'" + value.replace("'", "''") + "'"
    return str(value)


@contextlib.contextmanager
def _later_signals() -> Iterator[None]:
    """Children started inside get the signals that end a node when they can deal with them.

    They inherit the mask, and `rmpe_ros.nodes` takes it off: while Python itself starts, it answers
    SIGINT with a traceback.
    """
    if not hasattr(signal, 'pthread_sigmask'):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
