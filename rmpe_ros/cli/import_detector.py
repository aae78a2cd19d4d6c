# SPDX-License-Identifier: Apache-2.0
"""`rmpe import detector`: somebody's YOLO, YOLOX or RTMDet ONNX file to a detector by our contract.

The image input is put before the network, decoding and the choice of the best boxes behind it; NMS
is left to `PersonDetector`, as RMPE wants redundant boxes. What came out is compared with the
original network before it is written.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rmpe_ros.cli.argument_types import natural_number, positive_number, share
from rmpe_ros.cli.errors import says_errors
from rmpe_ros.cli.model_options import (
    add_metadata_options,
    add_normalisation_options,
    model_metadata,
)
from rmpe_ros.io.file_guard import reads, writes
from rmpe_ros.io.files import write_file


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `rmpe import detector`."""
    parser.add_argument('file', type=Path, metavar='FILE', help='the ONNX file of the network')
    parser.add_argument('output', type=Path, metavar='OUT.onnx', help='the model to write')
    parser.add_argument(
        '--format',
        default='auto',
        choices=('auto', 'yolo', 'yolox', 'rtmdet'),
        help='what the network is (default: by its inputs and outputs)',
    )
    parser.add_argument(
        '--long-side',
        type=positive_number,
        metavar='PIXELS',
        help="longer side of the input where the network's size is free (default: what it says, "
        'else 640)',
    )
    parser.add_argument(
        '--person-class',
        type=natural_number,
        metavar='N',
        help='number of the class "person" (default: by name where the file has names, else 0)',
    )
    add_normalisation_options(parser, mean='of the format', std='of the format')
    parser.add_argument(
        '--color',
        choices=('rgb', 'bgr'),
        help='order that the network takes (default: of the format)',
    )
    add_detector_metadata_options(parser)
    reads(parser, 'file')
    writes(parser, 'output')


def add_detector_metadata_options(parser: argparse.ArgumentParser) -> None:
    """How many boxes a detector gives, and what it says of itself; see `detector_metadata`."""
    parser.add_argument(
        '--boxes',
        type=positive_number,
        default=300,
        metavar='Q',
        help='how many boxes it gives, the best ones (default: %(default)s)',
    )
    group = add_metadata_options(parser, unknown=None)
    group.add_argument(
        '--score-threshold',
        type=share,
        default=0.3,
        metavar='S',
        help='least score of a box, a suggestion (default: %(default)s)',
    )
    group.add_argument(
        '--nms-iou',
        type=share,
        default=0.6,
        metavar='IOU',
        help='overlap above which box NMS removes, a suggestion (default: %(default)s)',
    )


def detector_metadata(args: argparse.Namespace) -> dict[str, str]:
    """The metadata that these options ask for, without what is not given."""
    thresholds = {
        'rmpe.score_threshold': str(args.score_threshold),
        'rmpe.nms_iou': str(args.nms_iou),
    }
    return model_metadata(args) | thresholds


@says_errors('import detector', extra='train')
def run(args: argparse.Namespace) -> int:
    """Import one detector: 0, or 1 when it cannot be used."""
    from rmpe_ros.importing.detector_conversion import convert_detector
    from rmpe_ros.importing.graphs import load_network

    network = load_network(args.file)
    try:
        imported = convert_detector(
            network,
            wanted=args.format,
            queries=args.boxes,
            long_side=args.long_side,
            person=args.person_class,
            mean=args.mean,
            deviation=args.std,
            color=args.color,
            metadata=detector_metadata(args),
        )
    except ValueError as error:
        place = '' if str(args.file) in str(error) else f'{args.file}: '
        raise ValueError(f'{place}{error}') from error
    write_file(args.output, imported.model.SerializeToString())
    print('\n'.join(imported.report))
    return 0
