# SPDX-License-Identifier: Apache-2.0
"""`rmpe export pose|detector`: a trained checkpoint to an ONNX file by the contract (needs the
[train] extra).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rmpe_ros.cli.argument_types import share
from rmpe_ros.cli.errors import fail, fail_without
from rmpe_ros.cli.model_options import add_metadata_options, model_metadata
from rmpe_ros.cli.training_options import add_data_options
from rmpe_ros.io.file_guard import reads, writes

_STRIDES = (8, 16, 32)  # of the detector's cells; its input grows in steps of the last


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        'export',
        help='make an ONNX model of a training run',
        description='Exports the averaged (EMA) weights of a run, calibrates the keypoint scores '
        'on validation data, compares the ONNX file with PyTorch, and writes it with metadata.',
    )
    parser.add_argument('task', choices=('pose', 'detector'), help='which network it is')
    parser.add_argument('checkpoint', type=Path, help='checkpoint.pt of `rmpe train`')
    parser.add_argument('output', type=Path, help='the ONNX file to write')
    parser.add_argument(
        '--model', default='lite', help='which pose network the checkpoint is of (default: lite)'
    )
    add_data_options(parser, optional='whose validation part calibrates the keypoint scores')
    parser.add_argument(
        '--long-side',
        type=int,
        help="pixels of a detector's input: more find smaller people (default: as shipped)",
    )
    parser.add_argument(
        '--precision',
        choices=('fp32', 'fp16'),
        default='fp32',
        help='of the convolutions: fp16 is for TensorRT (default: %(default)s)',
    )
    parser.add_argument(
        '--box-growth',
        type=share,
        metavar='S',
        help='by how much boxes are widened in what the SPPE sees of them, 0 to 1 (default: as it '
        'was trained with)',
    )
    add_metadata_options(parser)
    reads(parser, 'checkpoint', '--data')
    writes(parser, 'output')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Export one model; returns the exit code."""
    try:
        from rmpe_ros.networks.export import DETECTOR_LONG_SIDE, export_detector, export_pose
        from rmpe_ros.networks.person_detector import DetectorNetwork
        from rmpe_ros.training.data_config import read_data_config
        from rmpe_ros.training.pose_training import PoseValidation, calibrate_scores
        from rmpe_ros.training.stages import load_checkpoint, open_pose_network
    except ImportError as error:
        return fail_without(error, extra='train', command='export')
    if args.long_side is not None and (problem := _long_side_problem(args.long_side)):
        return fail(problem, 2, 'export')
    try:
        data = read_data_config(args.data, root=args.data_root) if args.data else None
        if args.task == 'detector':
            detector = DetectorNetwork()
            load_checkpoint(detector, args.checkpoint)
            long_side = args.long_side or DETECTOR_LONG_SIDE
            parity = export_detector(
                detector.eval(),
                args.output,
                metadata=model_metadata(args),
                long_side=long_side,
                queries=_count_boxes(long_side),
                precision=args.precision,
            )
            print(f'{args.output}: person detector, {args.precision}; {parity}')
            return 0
        network = open_pose_network(args.model, args.checkpoint, growth=args.box_growth)
        calibration = (1.0, 0.0)
        if data:
            validation = PoseValidation(
                data.validation.annotations,
                data.validation.images,
                network.size,
                growth=network.growth,
            )
            print(
                'validation  '
                + '  '.join(f'{name} {value:.4f}' for name, value in validation(network).items())
            )
            calibration = calibrate_scores(validation, network)
            print(f'score = sigmoid({calibration[0]:.3f} logit(mass) + {calibration[1]:.3f})')
        parity = export_pose(
            network,
            args.output,
            calibration=calibration,
            metadata=model_metadata(args),
            precision=args.precision,
        )
        print(f'{args.output}: pose network, {args.precision}; {parity}')
    except ValueError as error:
        return fail(error, 2, 'export')
    except (OSError, RuntimeError, KeyError) as error:
        return fail(error, 1, 'export')
    return 0


def _long_side_problem(pixels: int) -> str:
    """What is wrong with --long-side, empty where nothing is."""
    from rmpe_ros.detector import FEWEST_STEPS
    from rmpe_ros.models import LARGEST_SIDE

    step = max(_STRIDES)
    if pixels % step == 0 and FEWEST_STEPS * step <= pixels <= LARGEST_SIDE:
        return ''
    return (
        f'--long-side {pixels}: expected a multiple of {step} pixels from {FEWEST_STEPS * step} '
        f'to {LARGEST_SIDE}'
    )


def _count_boxes(long_side: int) -> int:
    """How many boxes a detector hands on: no more than it has cells in the flattest picture."""
    from rmpe_ros.detector import FEWEST_STEPS
    from rmpe_ros.networks.person_detector import QUERIES

    short = FEWEST_STEPS * max(_STRIDES)
    cells = sum((short // stride) * (long_side // stride) for stride in _STRIDES)
    return min(QUERIES, cells)
