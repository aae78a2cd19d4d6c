# SPDX-License-Identifier: Apache-2.0
"""ROS 2 nodes: they move data between topics and the pipeline, and nothing else imports rclpy."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

# Ctrl-C, a service manager, the terminal or connection that was closed. One that is ignored when
# the process starts, as SIGHUP is under nohup, stays so.
ENDING_SIGNALS = tuple(
    number
    for name in ('SIGINT', 'SIGTERM', 'SIGHUP')
    if (number := getattr(signal, name, None)) is not None
    and (name != 'SIGHUP' or signal.getsignal(number) != signal.SIG_IGN)
)


def on_ending_signals(handler: Callable[[int, FrameType | None], None]) -> None:
    """Have `handler` called for ENDING_SIGNALS, also when the parent has blocked them."""
    for number in ENDING_SIGNALS:
        signal.signal(number, handler)
    if hasattr(signal, 'pthread_sigmask'):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(0)


def _runs_a_node() -> bool:
    """Whether this process is `python -m rmpe_ros.nodes.<node>` or an executable of that name."""
    # While Python looks for the module of -m, that is what sys.argv[0] says.
    names = sys.orig_argv if sys.argv[:1] == ['-m'] else sys.argv[:1]
    modules = {Path(name).name.rpartition('.')[2] for name in names}
    folder = Path(__file__).parent
    return any(name.endswith('_node') and (folder / f'{name}.py').is_file() for name in modules)


# A signal that comes while a node is still being imported, half a second at times, ends it at once
# and without a traceback; later on `run_node` takes care of signals.
if _runs_a_node():
    on_ending_signals(_end)
