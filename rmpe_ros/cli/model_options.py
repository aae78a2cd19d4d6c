# SPDX-License-Identifier: Apache-2.0
"""The options that the commands which write a model have in common."""

import argparse


def add_normalisation_options(parser: argparse.ArgumentParser, *, mean: str, std: str) -> None:
    """What a network wants of its pixels. mean, std: what they are when they are not given."""
    for name, what in (
        ('--mean', f'subtracted from values 0-255 (default: {mean})'),
        ('--std', f'divides them afterwards (default: {std})'),
    ):
        parser.add_argument(name, type=float, nargs=3, metavar=('R', 'G', 'B'), help=what)


def add_metadata_options(
    parser: argparse.ArgumentParser, *, unknown: str | None = 'not stated'
) -> argparse._ArgumentGroup:
    """Metadata of any model; the group may get more. unknown: what is said of what is not given."""
    group = parser.add_argument_group('what the model says of itself')
    group.add_argument('--name', help='its name (default: the name of the file)')
    group.add_argument(
        '--model-version', default='1', metavar='VERSION', help='of the weights (default: 1)'
    )
    group.add_argument(
        '--training-data', default=unknown, metavar='TEXT', help='what it was trained on'
    )
    group.add_argument('--license', default=unknown, metavar='TEXT', help='of the weights')
    return group


def model_metadata(args: argparse.Namespace) -> dict[str, str]:
    """The metadata that these options ask for, without what is not given."""
    metadata = {
        'rmpe.name': args.name or args.output.stem,
        'rmpe.version': args.model_version,
        'rmpe.training_data': args.training_data,
        'rmpe.license': args.license,
    }
    return {key: value for key, value in metadata.items() if value is not None}
