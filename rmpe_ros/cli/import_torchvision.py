# SPDX-License-Identifier: Apache-2.0
"""`rmpe import torchvision`: torchvision's SSD detectors with their official COCO weights, by our
contract (`rmpe_ros/networks/torchvision_detectors.py`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rmpe_ros.cli.errors import says_errors
from rmpe_ros.cli.import_detector import add_detector_metadata_options, detector_metadata
from rmpe_ros.io.file_guard import reads, writes

_OFFICIAL = {
    'rmpe.training_data': "COCO train2017 (torchvision's official weights)",
    'rmpe.license': 'BSD-3-Clause (torchvision)',
}
_STATED = {key: 'not stated' for key in _OFFICIAL}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `rmpe import torchvision`."""
    parser.add_argument(
        'network',
        choices=('ssd300_vgg16', 'ssdlite320_mobilenet_v3_large'),
        help="SSD300 with VGG-16 is the paper's family; SSDLite320 is small",
    )
    parser.add_argument('output', type=Path, metavar='OUT.onnx', help='the model to write')
    parser.add_argument(
        '--weights',
        type=Path,
        metavar='FILE',
        help='a .pth file of this network (default: the official weights, which are downloaded)',
    )
    add_detector_metadata_options(parser)
    reads(parser, '--weights')
    writes(parser, 'output')


@says_errors('import torchvision', extra='train')
def run(args: argparse.Namespace) -> int:
    """Export one network: 0, or 1 when it cannot be had."""
    from rmpe_ros.importing.photo_check import try_on_photo
    from rmpe_ros.networks.torchvision_detectors import build_ssd, export_ssd, load_weights

    network = build_ssd(args.network)
    load_weights(network, args.network, args.weights)
    origin = _STATED if args.weights else _OFFICIAL
    metadata = {**origin, **detector_metadata(args)}
    difference = export_ssd(network, args.output, metadata=metadata, queries=args.boxes)
    print(f'{args.output}: {args.network}, largest difference from PyTorch {difference:.1e} px')
    print(try_on_photo(args.output.read_bytes()))
    return 0
