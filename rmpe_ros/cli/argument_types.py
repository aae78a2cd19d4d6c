# SPDX-License-Identifier: Apache-2.0
"""Numbers on the command line: types for argparse that say what was expected."""

import argparse
from collections.abc import Callable
from typing import Any


def whole_number(least: int) -> Callable[[str], int]:
    """A whole number of `least` (0 or more) or more."""

    def read(text: str) -> int:
        if not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(
                f'expected a whole number of {least} or more, got {text!r}'
            )
        return int(text)

    return read


def number_between(least: float, most: float, what: str = 'a number') -> Callable[[str], float]:
    """A number from `least` to `most`, both included; `what`: what it is."""

    def read(text: str) -> float:
        value = _number(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(
                f'expected {what} from {least:g} to {most:g}, got {text!r}'
            )
        return value

    return read


def positive_float(text: str) -> float:
    """A number above 0."""
    if not 0 < (value := _number(text)) < float('inf'):
        raise argparse.ArgumentTypeError(f'expected a number above 0, got {text!r}')
    return value


positive_number, natural_number, share = whole_number(1), whole_number(0), number_between(0, 1)


def add_size_limit(parser: Any) -> None:
    """The option of every command that decodes pictures; `rmpe_ros.cli` sees to it."""
    parser.add_argument(
        '--max-megapixels',
        type=positive_float,
        metavar='N',
        help='refuse pictures and videos that declare more pixels, undecoded (default: 50)',
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float('nan')  # which is in no range
