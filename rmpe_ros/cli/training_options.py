# SPDX-License-Identifier: Apache-2.0
"""The options that the commands which train, and what follows training, have in common."""

from pathlib import Path
from typing import Any

from rmpe_ros.cli.argument_types import natural_number, positive_number, share

# Each takes a parser, or a group of one.


def add_data_options(parser: Any, *, optional: str | None = None) -> None:
    """The file that says what there is to train with. optional: what it is for, where it may be
    left out.
    """
    parser.add_argument(
        '--data',
        type=Path,
        required=optional is None,
        help='YAML file with the data, as config/training/people.yaml'
        if optional is None
        else f'YAML data file, {optional}',
    )
    parser.add_argument(
        '--data-root',
        type=Path,
        help="folder that the data file's paths are relative to (default: its own)",
    )


def add_network_options(parser: Any) -> None:
    """Which network, and what it starts from."""
    parser.add_argument(
        '--model', default='lite', help='of the pose stages: lite, standard, base or paper'
    )
    parser.add_argument(
        '--pretrained',
        type=Path,
        help='ONNX file to start from: PP-TinyPose (lite, standard), RTMDet or an exported '
        'detector (detector)',
    )
    parser.add_argument('--init', type=Path, help='checkpoint.pt of an earlier stage to start from')
    parser.add_argument(
        '--frozen-blocks',
        type=natural_number,
        default=0,
        metavar='N',
        help='keep the first N blocks of the encoder of lite or standard as they are; 2 make '
        'training on a CPU 1.3 times as fast (default: %(default)s)',
    )


def add_stn_pretrained(parser: Any) -> None:
    """Of the localisation stage."""
    parser.add_argument(
        '--stn-pretrained',
        type=Path,
        metavar='FILE',
        help='ONNX file of RTMDet-nano or an exported detector, whose backbone the localisation '
        'network of standard starts from',
    )


def add_box_growth(parser: Any) -> None:
    """Of the pose stages."""
    parser.add_argument(
        '--box-growth',
        type=share,
        metavar='S',
        help='by how much boxes are widened in what the SPPE sees of them, 0 to 1 (default: the '
        "model's)",
    )


def add_schedule_options(parser: Any) -> None:
    """How long it trains, and in what steps."""
    parser.add_argument('--steps', type=positive_number, help='optimiser steps of a whole run')
    parser.add_argument(
        '--minutes', type=float, help='stop a run after this long, with a complete checkpoint'
    )
    parser.add_argument(
        '--batch',
        type=positive_number,
        default=32,
        help='examples of a step (default: %(default)s)',
    )
    parser.add_argument(
        '--learning-rate',
        type=float,
        default=4e-4,
        help='of AdamW, at its highest (default: %(default)g)',
    )
    parser.add_argument(
        '--seed',
        type=natural_number,
        default=0,
        help='another order of examples and other distortions (default: %(default)s)',
    )


def add_score_threshold(parser: Any) -> None:
    """Of the detector, for commands that want its doubtful boxes, too."""
    parser.add_argument(
        '--score-threshold',
        type=float,
        default=0.1,
        metavar='S',
        help='least score of a box (default: %(default)s)',
    )
