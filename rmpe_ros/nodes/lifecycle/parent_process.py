# SPDX-License-Identifier: Apache-2.0
"""A node that another process has started ends with it."""

import ctypes
import os
import signal
import sys

# The variable by which the process that starts a node gives its number.
PARENT_VARIABLE = 'RMPE_PARENT_PID'

_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


def end_with_parent() -> None:
    """Ask Linux for SIGTERM when the parent dies without a goodbye.

    Called by the child itself: code between fork and exec, in a process with threads of DDS, may
    wait for ever for a lock that one of them held. Exits when the parent has died already; it may
    well have the number 1, as the first process of a container.
    """
    parent = os.environ.pop(PARENT_VARIABLE, '')
    if not parent.isdigit() or sys.platform != 'linux':
        return
    ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGTERM)
    if os.getppid() != int(parent):
        sys.exit(f'process {parent}, which has started this one, is gone')
