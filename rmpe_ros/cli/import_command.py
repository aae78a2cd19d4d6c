# SPDX-License-Identifier: Apache-2.0
"""`rmpe import detector|pose|torchvision`: other people's networks to models by our contracts."""

from __future__ import annotations

import argparse
from typing import Any

from rmpe_ros.cli import import_detector, import_pose, import_torchvision


def add_parser(subparsers: Any) -> None:
    """Declare the subcommand, its own subcommands and their options."""
    parser = subparsers.add_parser(
        'import',
        help="make a model of somebody else's network",
        description="Makes models that rmpe and the nodes can use out of other people's networks, "
        'and compares them with the original. Exit code 2 when a network cannot be used. The '
        'licence of the weights stays what it was.',
    )
    parser.set_defaults(run=lambda args: _print_help(parser))
    kinds = parser.add_subparsers(title='networks', dest='kind', metavar='KIND')
    ssd = "one of torchvision's SSD detectors, with its official COCO weights"
    for name, module, text in (
        ('detector', import_detector, 'an ONNX file of a YOLO, YOLOX or RTMDet detector'),
        ('pose', import_pose, 'a top-down pose network: RTMPose, HRNet, SimpleBaseline, FastPose'),
        ('torchvision', import_torchvision, ssd),
    ):
        kind = kinds.add_parser(name, help=text, description=f'Imports {text}.')
        module.add_options(kind)
        kind.set_defaults(run=module.run)


def _print_help(parser: argparse.ArgumentParser) -> int:
    parser.print_help()
    return 2
