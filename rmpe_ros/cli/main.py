# SPDX-License-Identifier: Apache-2.0
"""The `rmpe` command: one subcommand for each `*_command.py` beside this file."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules

from rmpe_ros import __version__, cli
from rmpe_ros.cli.errors import fail
from rmpe_ros.io.interruption import interrupted_by_signals


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `rmpe` and return its exit code.

    0: all well. 1: something failed on the way. 2: wrong usage, a model that cannot be used and an
    output that would replace an input included. 130: interrupted by Ctrl-C, SIGTERM or SIGHUP; what
    was written is complete.
    """
    try:
        with interrupted_by_signals():
            return _run(arguments)
    except KeyboardInterrupt:
        return fail('interrupted', 130)


def _run(arguments: Sequence[str] | None) -> int:
    parser = make_parser()
    args = parser.parse_args(arguments)
    if args.run is None:
        parser.print_help()
        return 2
    # Here, because `rmpe --help` and `rmpe doctor` must do without numpy, too.
    try:
        from rmpe_ros.engines import EngineError
        from rmpe_ros.io.file_guard import TargetError, check_command
        from rmpe_ros.io.image_decoding import MAX_MEGAPIXELS, pixel_limit
        from rmpe_ros.models import ModelError
    except ImportError as error:
        if args.command != 'doctor':
            return fail(f'{error}; run "rmpe doctor" to see what is missing', 1)
        return int(args.run(args))
    try:
        check_command(args)
        with pixel_limit(getattr(args, 'max_megapixels', None) or MAX_MEGAPIXELS):
            return int(args.run(args))
    except (EngineError, ModelError, TargetError) as error:
        return fail(error)
    except BrokenPipeError:
        # The reader (`| head`) has gone: nothing to say, and nothing to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return fail(f'{error.filename or ""}: {error.strerror or error}'.lstrip(': '), 1)


def make_parser() -> argparse.ArgumentParser:
    """The parser with all subcommands.

    Their modules import what is slow or optional only when they run.
    """
    parser = argparse.ArgumentParser(
        prog='rmpe', description='Multi-person pose estimation (RMPE) for ROS 2, and without it.'
    )
    parser.add_argument('--version', action='version', version=f'rmpe {__version__}')
    parser.set_defaults(run=None)
    subparsers = parser.add_subparsers(title='commands', dest='command', metavar='COMMAND')
    names = [module.name for module in iter_modules(cli.__path__)]
    for name in sorted(n.removesuffix('_command') for n in names if n.endswith('_command')):
        import_module(f'{cli.__name__}.{name}_command').add_parser(subparsers)
    return parser


if __name__ == '__main__':
    sys.exit(main())
