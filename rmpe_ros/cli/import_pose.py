# SPDX-License-Identifier: Apache-2.0
"""`rmpe import pose`: somebody's RTMPose, HRNet or FastPose to a pose model by our contract.

The crops go through the network's own normalisation before it, decoding comes behind it, θ is the
identity. What came out is compared with the original network before it is written.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from rmpe_ros.cli.errors import says_errors
from rmpe_ros.cli.model_options import add_metadata_options, add_normalisation_options
from rmpe_ros.io.file_guard import reads, writes

# MMPose, HRNet and AlphaPose all widen boxes by a quarter.
_BOX_GROWTH = 0.25


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `rmpe import pose`."""
    parser.add_argument('file', type=Path, metavar='FILE', help='an ONNX file, or FastPose .pth')
    parser.add_argument('output', type=Path, metavar='OUT.onnx', help='the model to write')
    parser.add_argument(
        '--format',
        default='auto',
        choices=('auto', 'simcc', 'heatmap', 'fastpose'),
        help='what the network is (default: by the file and its outputs)',
    )
    parser.add_argument(
        '--skeleton',
        metavar='NAME|FILE.json',
        help='what its joints are: coco17, mpii16, body19, halpe26, or a JSON file with name, '
        'keypoints, edges, flip_pairs and sigmas (default: by their number)',
    )
    parser.add_argument(
        '--joints',
        type=_indices,
        metavar='LIST',
        help="which of the network's joints to keep, in the skeleton's order, such as 0-16,18,17",
    )
    parser.add_argument(
        '--size',
        type=_size,
        metavar='HxW',
        help='the crop in pixels, where the network takes any (FastPose: 256x192)',
    )
    parser.add_argument(
        '--outputs',
        nargs='+',
        default=(),
        metavar='TENSOR',
        help='decode these tensors instead of the outputs: the heatmaps, or SimCC x and y',
    )
    parser.add_argument(
        '--grid',
        choices=('origin', 'corners', 'centres'),
        default='origin',
        help='heatmaps: where cell i lies; origin: pixel i * stride (HRNet, SimpleBaseline, '
        'AlphaPose), corners: UDP (ViTPose), centres: the middle of its pixels '
        '(default: %(default)s)',
    )
    parser.add_argument(
        '--logits', action='store_true', help='heatmaps: they still need a sigmoid to be scores'
    )
    parser.add_argument(
        '--integral',
        action='store_true',
        help='heatmaps: the mean of all cells, weighted by their sigmoid, as networks trained with '
        "AlphaPose's L1JointRegression want it",
    )
    add_normalisation_options(
        parser, mean="ImageNet's; FastPose: its own", std="ImageNet's; FastPose: 255"
    )
    parser.add_argument(
        '--color',
        choices=('rgb', 'bgr'),
        default='rgb',
        help='order that the network takes (default: %(default)s)',
    )
    parser.add_argument(
        '--box-growth',
        type=float,
        default=_BOX_GROWTH,
        metavar='SHARE',
        help='by how much boxes are widened before they are cropped (default: %(default)s)',
    )
    add_metadata_options(parser)
    reads(parser, 'file', '--skeleton')
    writes(parser, 'output')


@says_errors('import pose', extra='train')
def run(args: argparse.Namespace) -> int:
    """Import one pose network: 0, or 1 when it cannot be used."""
    from rmpe_ros.importing.pose_conversion import build_pose
    from rmpe_ros.io.files import write_file

    model, report = build_pose(args)
    write_file(args.output, model.SerializeToString())
    print('\n'.join(report))
    return 0


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r'(\d+)x(\d+)', text)
    if not match or not int(match[1]) or not int(match[2]):
        raise argparse.ArgumentTypeError(f'{text!r} is no HEIGHTxWIDTH such as 256x192')
    return int(match[1]), int(match[2])


def _indices(text: str) -> list[int]:
    """'0-2,7' → [0, 1, 2, 7]."""
    indices: list[int] = []
    for part in text.split(','):
        match = re.fullmatch(r'(\d+)(?:-(\d+))?', part.strip())
        if not match:
            raise argparse.ArgumentTypeError(f'{text!r} is no list such as 0-16,18,17')
        first = int(match[1])
        indices += range(first, int(match[2] or first) + 1)
    if not indices or len(set(indices)) != len(indices):
        raise argparse.ArgumentTypeError(f'{text!r} names a joint twice, or none')
    return indices
