# SPDX-License-Identifier: Apache-2.0
"""The one way in which commands say what went wrong: a line on stderr, and an exit code.

1: something failed on the way, or is missing on this machine. 2: what was given cannot be used.
"""

import sys
from argparse import Namespace
from collections.abc import Callable
from functools import wraps

from rmpe_ros.io.extras import how_to_install

Run = Callable[[Namespace], int]


def tell(message: object, command: str = '') -> None:
    """Print `rmpe COMMAND: message` to stderr."""
    print(f'{f"rmpe {command}".rstrip()}: {message}', file=sys.stderr)


def fail(message: object, code: int = 2, command: str = '') -> int:
    """Say what went wrong as argparse does, and give back the exit code."""
    tell(f'error: {message}', command)
    return code


def fail_without(error: ImportError, *, extra: str, command: str) -> int:
    """Say which library is missing, and how to install the `extra` that brings it."""
    missing = isinstance(error, ModuleNotFoundError)
    what = f'needs {error.name}' if missing else f'{error}'
    return fail(f'{what}: {how_to_install(extra)}', 1, command)


def says_errors(command: str, *, extra: str) -> Callable[[Run], Run]:
    """Decorates the `run` of a command: a missing library (exit code 1), with how to install the
    `extra` that brings it, and what cannot be used (ValueError, exit code 2) are said in a line.
    """

    def decorate(run: Run) -> Run:
        @wraps(run)
        def run_and_say(args: Namespace) -> int:
            try:
                return run(args)
            except ImportError as error:
                return fail_without(error, extra=extra, command=command)
            except ValueError as error:
                return fail(error, 2, command)

        return run_and_say

    return decorate
