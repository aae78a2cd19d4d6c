# SPDX-License-Identifier: Apache-2.0
# PYTHON_ARGCOMPLETE_OK
"""The `rmpe` command: one subcommand for each `*_command.py` beside this file."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from rmpe_ros import __version__, cli
from rmpe_ros.cli.errors import fail, tell
from rmpe_ros.cli.parsing import CommandGroups, Parser
from rmpe_ros.io.interruption import interrupted_by_signals

# What `rmpe --help` shows, in the order of somebody who is new here.
COMMAND_GROUPS = {
    'See it work': ('predict', 'demo', 'doctor'),
    'Recorded bags': ('report', 'replay', 'evaluate-bag', 'bag-from-images'),
    'Measure': ('evaluate', 'benchmark', 'evaluate-people'),
    'Other models': ('import', 'compile', 'tune-nms', 'fit-score', 'fit-covariance'),
    'Train your own': ('train', 'mix-weights', 'export', 'fit-pgpg', 'ablate'),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `rmpe` and return its exit code.

    0: all well. 1: something failed on the way, or is missing on this machine. 2: wrong usage, and
    a file or model that cannot be used, an output that would replace an input included.
    130: interrupted by Ctrl-C, SIGTERM or SIGHUP; what was written is complete.
    """
    try:
        with interrupted_by_signals():
            return _run(arguments)
    except KeyboardInterrupt:
        tell('interrupted')
        return 130


def _run(arguments: Sequence[str] | None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    parser = make_parser(given[0] if given else '')
    if '_ARGCOMPLETE' in os.environ:  # a shell asks what could come next
        import argcomplete

        argcomplete.autocomplete(parser)
    args = parser.parse_args(given)
    if args.run is None:
        parser.print_help()
        return 2
    # Here, because `rmpe --help` and `rmpe doctor` must do without numpy, too.
    try:
        from rmpe_ros.engines import EngineError
        from rmpe_ros.io.file_guard import TargetError, check_command, written_files
        from rmpe_ros.io.image_decoding import MAX_MEGAPIXELS, pixel_limit
        from rmpe_ros.models import ModelError
    except ImportError as error:
        if args.command != 'doctor':
            return fail(f'{error}; run "rmpe doctor" to see what is missing', 1, args.command)
        return int(args.run(args))
    try:
        check_command(args)
        _bound_threads(args)
        with (
            pixel_limit(getattr(args, 'max_megapixels', None) or MAX_MEGAPIXELS),
            written_files(args) as written,
        ):
            code = int(args.run(args))
        if written:
            print(f'wrote {", ".join(map(str, written))}')
        return code
    except (EngineError, ModelError, TargetError) as error:
        return fail(error, 2, args.command)
    except BrokenPipeError:
        # The reader (`| head`) has gone: nothing to say, and nothing to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        what = f'{error.filename or ""}: {error.strerror or error}'.lstrip(': ')
        return fail(what, 1, args.command)


def _bound_threads(args: argparse.Namespace) -> None:
    """Say that more threads than CPUs are not used."""
    if not getattr(args, 'threads', None):
        return
    from rmpe_ros.engines.onnxruntime import usable_cpus

    if args.threads > (most := usable_cpus()):
        tell(
            f'warning: --threads {args.threads}, but there are {most} CPUs here: {most} are used',
            args.command,
        )
        args.threads = most


def make_parser(wanted: str = '') -> Parser:
    """The parser with all subcommands, or with the wanted one alone: all take 0.1 s to declare.

    Their modules import what is slow or optional only when they run.
    """
    parser = Parser(
        prog='rmpe',
        description='Multi-person pose estimation (RMPE) for ROS 2, and without it.',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--version', action='version', version=f'rmpe {__version__}')
    parser.set_defaults(run=None)
    commands: Any = CommandGroups(parser, COMMAND_GROUPS)
    modules = {
        module.name.removesuffix('_command').replace('_', '-'): module.name
        for module in iter_modules(cli.__path__)
        if module.name.endswith('_command')
    }
    if wanted in modules:
        modules = {wanted: modules[wanted]}
    for _, name in sorted(modules.items()):
        import_module(f'{cli.__name__}.{name}').add_parser(commands)
    parser.epilog = (
        f'{commands.text()}\n\n"rmpe COMMAND --help" tells the options of a command. Exit codes: '
        '0 well, 1 something failed\non the way, 2 what was given cannot be used, 130 interrupted.'
    )
    return parser


if __name__ == '__main__':
    sys.exit(main())
