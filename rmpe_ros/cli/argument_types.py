# SPDX-License-Identifier: Apache-2.0
"""Numbers on the command line: types for argparse that say what was expected."""

import argparse
from typing import Any


def positive_number(text: str) -> int:
    """A whole number of 1 or more."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'expected a whole number of 1 or more, got {text!r}')
    return int(text)


def natural_number(text: str) -> int:
    """A whole number of 0 or more."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f'expected a whole number of 0 or more, got {text!r}')
    return int(text)


def positive_float(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 < value < float('inf'):
        raise argparse.ArgumentTypeError(f'expected a number above 0, got {text!r}')
    return value


def add_size_limit(parser: Any) -> None:
    """The option of every command that decodes pictures; `rmpe_ros.cli` sees to it."""
    parser.add_argument(
        '--max-megapixels',
        type=positive_float,
        metavar='N',
        help='refuse pictures and videos that declare more pixels, undecoded (default: 50)',
    )


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'expected a number from 0 to 1, got {text!r}')
    return value
