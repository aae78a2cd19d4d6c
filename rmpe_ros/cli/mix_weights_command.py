# SPDX-License-Identifier: Apache-2.0
"""`rmpe mix-weights`: one pose network of the weighted mean of several."""

import argparse
from pathlib import Path
from typing import Any

from rmpe_ros.cli.errors import says_errors
from rmpe_ros.cli.training_options import add_box_growth, add_data_options
from rmpe_ros.io.extras import how_to_install
from rmpe_ros.io.file_guard import derives, reads, writes


def add_parser(subparsers: Any) -> None:
    """Declare the subcommand and its options."""
    parser = subparsers.add_parser(
        'mix-weights',
        help='average the weights of several trainings of one network',
        description='Writes a checkpoint with the weighted mean of several pose networks that '
        'learned from the same start. It is often better than each of them: what a short training '
        'learned is kept, what it forgot comes back from the start '
        '(Wortsman et al., CVPR 2022 and ICML 2022). '
        f'Needs {how_to_install("train")}.',
    )
    parser.add_argument(
        'parts',
        nargs='+',
        type=_part,
        metavar='CHECKPOINT=SHARE',
        help='such as runs/a/best.pt=0.3',
    )
    parser.add_argument(
        '--pretrained',
        type=_part,
        metavar='ONNX=SHARE',
        help="PP-TinyPose's file; joints that it lacks are those of the first checkpoint",
    )
    refit = parser.add_argument_group(
        'joints that PP-TinyPose lacks',
        "Their part of it is nobody's; fitted to the mean, they are better than in any part.",
    )
    add_data_options(refit, optional='to whose people they are fitted (default: left alone)')
    refit.add_argument('--model', help='lite (default) or standard')
    add_box_growth(refit)
    parser.add_argument('--out', type=Path, required=True, metavar='FILE', help='to write')
    reads(parser, '--data')
    writes(parser, '--out')
    derives(parser, inputs=_read_files)
    parser.set_defaults(run=run)


@says_errors('mix-weights', extra='train')
def run(args: argparse.Namespace) -> int:
    """Run the subcommand: 0, or 2 for wrong usage and files that cannot be used."""
    told = {'--data-root': args.data_root, '--model': args.model, '--box-growth': args.box_growth}
    for option, value in told.items():
        if value is not None and not args.data:
            raise ValueError(
                f'{option} is for the fit to --data, and without that nothing is fitted: give '
                '--data or leave it out'
            )
    from rmpe_ros.training.averaging import mean_weights, with_tinypose
    from rmpe_ros.training.checkpoints import read_checkpoint, write_checkpoint

    states = [read_checkpoint(path) for path, _ in args.parts]
    shares = [share for _, share in args.parts]
    weights = [state['ema'] for state in states]
    if args.pretrained:
        path, share = args.pretrained
        weights.append(with_tinypose(weights[0], path))
        shares.append(share)
    mixed = mean_weights(weights, shares)
    if args.data:
        from rmpe_ros.training.data_config import read_data_config
        from rmpe_ros.training.stages import DEFAULT_MODEL, with_fitted_joints

        data = read_data_config(args.data, root=args.data_root)
        model = args.model or DEFAULT_MODEL
        mixed = with_fitted_joints(mixed, data, model=model, growth=args.box_growth)
    write_checkpoint(args.out, {'ema': mixed, 'step': 0, 'settings': states[0]['settings']})
    return 0


def _read_files(args: argparse.Namespace) -> list[Path]:
    return [path for path, _ in (*args.parts, *([args.pretrained] if args.pretrained else []))]


def _part(text: str) -> tuple[Path, float]:
    path, _, share = text.rpartition('=')
    try:
        value = float(share)
    except ValueError:
        value = 0.0
    if not path or not 0 < value < float('inf'):
        raise argparse.ArgumentTypeError(f'{text!r} is not FILE=SHARE, such as best.pt=0.5')
    return Path(path), value
