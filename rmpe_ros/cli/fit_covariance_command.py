# SPDX-License-Identifier: Apache-2.0
"""`rmpe fit-covariance`: how unsure each joint is, fitted to labelled people, put into a model."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from rmpe_ros.cli.argument_types import positive_number
from rmpe_ros.cli.errors import says_errors
from rmpe_ros.cli.evaluate_command import add_label_options, open_pictures
from rmpe_ros.io.file_guard import reads, writes


def add_parser(subparsers: Any) -> None:
    """Declare the subcommand and its options."""
    parser = subparsers.add_parser(
        'fit-covariance',
        help='give a pose model the output covariance: how unsure each joint is',
        description='Adds an output covariance to a pose model with heatmaps, fits its size to '
        'labelled people so that 90 % of the labelled joints lie in the 90 % ellipse, and shows '
        'how that holds for people that the fit has not seen (every second one), for each joint, '
        'and from the surest to the least sure. Without --out, a model that has the output is '
        'checked as it is.',
    )
    add_label_options(parser)
    parser.add_argument('--pose', required=True, metavar='MODEL', help='shipped name or .onnx file')
    parser.add_argument('--out', type=Path, metavar='FILE', help='the pose model to write')
    parser.add_argument(
        '--threads', type=positive_number, metavar='N', help='of the model (default: all cores)'
    )
    reads(parser, '--pose')
    writes(parser, '--out')
    parser.set_defaults(run=run)


@says_errors('fit-covariance', extra='train')
def run(args: argparse.Namespace) -> int:
    """Run the subcommand: 0, or 2 for wrong usage and files that cannot be used."""
    import onnx
    import scipy.optimize  # noqa: F401  missing? better known before the work than after

    from rmpe_ros.engines.onnxruntime import OnnxRuntimeEngine
    from rmpe_ros.estimator import PoseEstimator
    from rmpe_ros.evaluation.joint_covariances import coverage, find_joint_errors, fit_scale, scaled
    from rmpe_ros.io.files import write_file
    from rmpe_ros.io.progress import Progress
    from rmpe_ros.models import find_model
    from rmpe_ros.networks.joint_covariance import CovarianceScale, add_covariance

    labels, _, paths = open_pictures(args)

    def measure(model: Any) -> Any:
        engine = OnnxRuntimeEngine(model.SerializeToString(), threads=args.threads)
        with Progress(len(labels.images), 'picture') as progress:
            return find_joint_errors(labels, paths, PoseEstimator(engine), progress.advance)

    model = onnx.load(str(find_model(args.pose)))
    if args.out is None:
        print(_table(coverage(measure(model)), 'labelled joints'))
        return 0
    moments = measure(add_covariance(model))
    seen = moments.people % 2 == 0
    half, held_out = fit_scale(moments[seen]), moments[~seen]
    checked = replace(held_out, covariances=scaled(held_out, *half))
    print(_table(coverage(checked), 'every second person, fitted to the others'))
    fit = CovarianceScale(*fit_scale(moments))
    write_file(args.out, add_covariance(model, fit).SerializeToString())
    print(f'covariance = {fit.to_json()} of {len(moments.errors)} joints, written to {args.out}')
    return 0


def _table(groups: dict[str, tuple[int, float, float]], first: str) -> str:
    from rmpe_ros.evaluation.report import align, number

    rows = [[first, 'joints', 'in the 90 % ellipse', 'radius px']]
    for name, (count, share, radius) in groups.items():
        rows.append([name, str(count), number(share), number(radius, 1)])
    return align(rows)
