# SPDX-License-Identifier: Apache-2.0
"""Nodes forked from a process that has imported them, since imports are most of what a start takes.

They are processes as others are. `test_starting_and_ending.py` starts nodes as their users do.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from rmpe_ros.cli.processes.child_process import NodeProcess
from rmpe_ros.nodes.lifecycle.parent_process import PARENT_VARIABLE

ROOT = Path(__file__).parents[2]


class Nursery:
    """The process that has imported all nodes, and forks them."""

    def __init__(self, connection: socket.socket) -> None:
        self._lines = connection.makefile('rw', encoding='utf-8')

    def ask(self, **order: Any) -> Any:
        print(json.dumps(order), file=self._lines, flush=True)
        return json.loads(self._lines.readline())


@contextmanager
def nursery(environment: Mapping[str, str]) -> Iterator[Nursery]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            env=environment,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        made = Nursery(ours)
        yield made
        made._lines.close()
    process.wait(30)


class ForkedNode(NodeProcess):
    """As its base, but forked by `place`."""

    def __init__(self, place: Nursery, *arguments: Any, **options: Any) -> None:
        self._place = place
        super().__init__(*arguments, **options)

    def _launch(self, command: list[str], environment: dict[str, str]) -> Any:
        self.log.touch()
        module, *arguments = command[2:]
        return Forked(self._place, module, arguments, str(self.log), environment)


class Forked:
    """What `subprocess.Popen` is to a `NodeProcess`."""

    def __init__(self, place: Nursery, *order: Any) -> None:
        self._place, self._exit_code = place, None
        self.pid = place.ask(order=order)

    def poll(self) -> int | None:
        if self._exit_code is None:
            self._exit_code = self._place.ask(pid=self.pid)
        return self._exit_code

    def wait(self, timeout: float) -> int | None:
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.02)
        return self._exit_code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def serve(connection: socket.socket) -> None:
    """Fork nodes, and say which have ended, until nobody asks any more."""
    cmake = (ROOT / 'CMakeLists.txt').read_text(encoding='utf-8')
    for module in re.findall(r'install_executable\(\w+ (rmpe_ros\.nodes\.\w+)\)', cmake):
        import_module(module)
    with connection.makefile('rw', encoding='utf-8') as lines:
        for line in lines:
            request = json.loads(line)
            answer = None
            if 'order' in request:
                answer = os.fork()
                if not answer:
                    os.close(connection.fileno())
                    run(*request['order'])
            else:
                pid, status = os.waitpid(request['pid'], os.WNOHANG)
                answer = os.waitstatus_to_exitcode(status) if pid else None
            print(json.dumps(answer), file=lines, flush=True)


def run(module: str, arguments: list[str], log: str, environment: dict[str, str]) -> None:
    """Be a node, as `python -m <module>` would be with these arguments, and end."""
    exit_code = 1
    try:
        os.setsid()
        for target, file in ((0, os.devnull), (1, log), (2, log)):
            opened = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND)
            os.dup2(opened, target)
            os.close(opened)
        os.environ.clear()
        os.environ.update({**environment, PARENT_VARIABLE: str(os.getppid())})
        exit_code = import_module(module).main([module, *arguments])
    except SystemExit as end:
        exit_code = 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)


if __name__ == '__main__':
    serve(socket.socket(fileno=int(sys.argv[1])))
