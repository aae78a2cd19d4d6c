# SPDX-License-Identifier: Apache-2.0
"""The one way in which commands say what went wrong: a line on stderr, and an exit code."""

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
    """Say what went wrong, and give back the exit code."""
    tell(message, command)
    return code


def says_errors(command: str, *, extra: str, code: int = 2) -> Callable[[Run], Run]:
    """Decorates the `run` of a command: a missing library, with how to install the `extra` that
    brings it, and what cannot be used (ValueError) are said in a line.
    """

    def decorate(run: Run) -> Run:
        @wraps(run)
        def run_and_say(args: Namespace) -> int:
            try:
                return run(args)
            except ImportError as error:
                missing = isinstance(error, ModuleNotFoundError)
                what = f'needs {error.name}' if missing else f'{error}'
                return fail(f'{what}: {how_to_install(extra)}', code, command)
            except ValueError as error:
                return fail(error, code, command)

        return run_and_say

    return decorate
