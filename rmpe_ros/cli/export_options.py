# SPDX-License-Identifier: Apache-2.0
"""The options of the commands that write poses for other tools; see `rmpe_ros.io.exports`."""

import argparse
from pathlib import Path

from rmpe_ros.io.file_guard import Target, writes


def add_export_options(parser: argparse.ArgumentParser) -> None:
    """Declare them, and that they are files to write."""
    group = parser.add_argument_group('for other tools')
    group.add_argument(
        '--csv', type=Path, metavar='FILE', help='write a table with a row for each joint'
    )
    group.add_argument(
        '--csv-wide', type=Path, metavar='FILE', help='write a table with a row for each person'
    )
    group.add_argument(
        '--yolo',
        type=Path,
        metavar='DIR',
        help='write a data set as YOLO trains on: pictures, labels and data.yaml',
    )
    group.add_argument(
        '--cvat',
        type=Path,
        metavar='FILE',
        help='write a start for labelling that CVAT imports as "COCO Keypoints 1.0"',
    )
    group.add_argument(
        '--label-studio',
        type=Path,
        metavar='FILE',
        help='write tasks with predictions (.json) and the labelling interface (.xml)',
    )
    writes(parser, '--csv', '--csv-wide', '--cvat', '--label-studio')


def export_targets(args: argparse.Namespace) -> list[Target]:
    """The files whose names follow from these options."""
    from rmpe_ros.io.exports.pre_labels import interface_file

    targets = []
    if args.label_studio is not None:
        targets.append(Target(interface_file(args.label_studio), '--label-studio', derived=True))
    if args.yolo is not None:
        targets.append(Target(args.yolo / 'data.yaml', '--yolo'))
    return targets
