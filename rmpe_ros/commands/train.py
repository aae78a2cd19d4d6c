# SPDX-License-Identifier: Apache-2.0
"""`rmpe train sppe|sstn|detector`: train the networks, stage by stage (needs the [train] extra)."""

from __future__ import annotations

import argparse
import time
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        'train',
        help='train the pose network or the detector',
        description='Trains one stage: sppe (the pose estimator alone), sstn (the spatial '
        'transformers and the parallel SPPE around it, from a trained sppe) or detector. A run '
        'can be stopped at any time; the same command given again goes on where it stopped.',
    )
    parser.add_argument('stage', choices=('sppe', 'sstn', 'detector'))
    parser.add_argument(
        '--data',
        type=Path,
        required=True,
        help='YAML file with the data, as config/training/people.yaml',
    )
    parser.add_argument(
        '--data-root',
        type=Path,
        help="folder that the data file's paths are relative to (default: its own)",
    )
    parser.add_argument('--out', type=Path, required=True, help='folder of the run: checkpoint.pt')
    parser.add_argument(
        '--model', default='lite', help='lite or standard (pose stages; default: lite)'
    )
    parser.add_argument(
        '--pretrained',
        type=Path,
        help='ONNX file of MoveNet (pose stages) or RTMDet (detector) to start from',
    )
    parser.add_argument('--init', type=Path, help='checkpoint.pt of an earlier stage to start from')
    parser.add_argument(
        '--pgpg',
        type=Path,
        help='file of "rmpe fit-pgpg": draw the boxes of the pose stages from it (default: jitter)',
    )
    parser.add_argument(
        '--frozen-blocks',
        type=int,
        default=0,
        metavar='N',
        help="keep the first N blocks of the pose network's encoder as they are; 3 make training "
        'on a CPU about 1.7 times as fast (default: %(default)s)',
    )
    parser.add_argument('--steps', type=int, help='optimiser steps of the whole run')
    parser.add_argument(
        '--minutes', type=float, help='stop after this long, with a complete checkpoint'
    )
    parser.add_argument('--batch', type=int, default=32)
    parser.add_argument('--learning-rate', type=float, default=4e-4)
    parser.add_argument(
        '--evaluate-every', type=int, default=400, help='steps between two validations'
    )
    parser.add_argument('--threads', type=int, help='CPU threads (default: all cores)')
    parser.add_argument('--device', default='auto', help='auto, cpu or cuda')
    parser.add_argument('--seed', type=int, default=0)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train one stage; returns the exit code."""
    try:
        import torch

        from rmpe_ros.training.data_config import read_data_config
        from rmpe_ros.training.pgpg import load_proposals
        from rmpe_ros.training.stages import build_stage
        from rmpe_ros.training.trainer import Schedule, Trainer
    except ImportError as error:
        print(f'rmpe train needs {error.name}: pip install "rmpe_ros[train]"')
        return 1
    try:
        data = read_data_config(args.data, root=args.data_root)
        schedule = Schedule(
            args.steps,
            args.minutes,
            batch=args.batch,
            learning_rate=args.learning_rate,
            warmup_steps=300,
            seed=args.seed,
        )
        torch.manual_seed(args.seed)
        if args.threads:
            torch.set_num_threads(args.threads)
        device = (
            ('cuda' if torch.cuda.is_available() else 'cpu')
            if args.device == 'auto'
            else args.device
        )
        stage = build_stage(
            args.stage,
            data,
            model=args.model,
            pretrained=args.pretrained,
            init=args.init,
            propose=load_proposals(args.pgpg).propose if args.pgpg else None,
            frozen_blocks=args.frozen_blocks,
        )
    except (ValueError, OSError, RuntimeError) as error:
        print(f'error: {error}')
        return 1
    trainer = Trainer(
        stage.network,
        stage.loss,
        stage.examples,
        schedule,
        args.out,
        evaluate=stage.evaluate,
        evaluate_every=args.evaluate_every,
        device=device,
        log=lambda line: print(time.strftime('%H:%M:%S'), line, flush=True),
    )
    if trainer.resume():
        print(f'goes on from step {trainer.step} of {trainer.checkpoint}')
    trainer.run()
    print(f'{trainer.checkpoint} holds step {trainer.step}')
    return 130 if trainer.stopping else 0
