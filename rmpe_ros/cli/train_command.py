# SPDX-License-Identifier: Apache-2.0
"""`rmpe train sppe|sstn|detector`: train the networks, stage by stage (needs the [train] extra)."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmpe_ros.cli.argument_types import natural_number, positive_number
from rmpe_ros.cli.errors import fail, fail_without
from rmpe_ros.cli.training_options import (
    add_box_growth,
    add_data_options,
    add_network_options,
    add_schedule_options,
    add_stn_pretrained,
)
from rmpe_ros.io.file_guard import Target, derives, reads, writes

if TYPE_CHECKING:
    import torch

    from rmpe_ros.training.distributed import Processes
    from rmpe_ros.training.trainer import Trainer


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        'train',
        help='train the pose network or the detector',
        description='Trains one stage: sppe (the pose estimator alone), localisation (the '
        'spatial transformer alone, from a trained sppe), sstn (the transformers and the parallel '
        'SPPE around it) or detector. A run '
        'can be stopped at any time; the same command given again goes on where it stopped. '
        'Several GPUs or machines: torchrun --nproc-per-node N -m rmpe_ros.cli train ...',
    )
    parser.add_argument(
        'stage',
        choices=('sppe', 'localisation', 'sstn', 'detector'),
        help='what is trained; the pose network learns in the order sppe, localisation, sstn',
    )
    parser.add_argument(
        '--out', type=Path, required=True, help='folder of the run: checkpoint.pt, tensorboard/'
    )
    parser.add_argument(
        '--html',
        type=Path,
        metavar='FILE',
        help='write a page with the best step, what each source scored, and the curves',
    )
    data = parser.add_argument_group('data')
    add_data_options(data)
    data.add_argument(
        '--pgpg',
        type=Path,
        help='file of "rmpe fit-pgpg": draw the boxes of the pose stages from it (default: jitter)',
    )
    network = parser.add_argument_group('network')
    add_network_options(network)
    add_box_growth(network)
    add_stn_pretrained(network)
    network.add_argument(
        '--teacher',
        type=Path,
        help='ONNX file of PP-TinyPose whose heatmaps the sppe stage keeps to, so that it forgets '
        'nothing (default: none)',
    )
    network.add_argument(
        '--parallel',
        type=Path,
        metavar='CHECKPOINT',
        help="of a trained sppe of any model, the sstn stage's frozen parallel SPPE "
        '(default: a copy of what --init holds)',
    )
    schedule = parser.add_argument_group('schedule')
    add_schedule_options(schedule)
    schedule.add_argument(
        '--encoder-factor',
        type=float,
        help="learning rate of the encoder against the rest's (default: 0.25)",
    )
    schedule.add_argument(
        '--warmup',
        type=natural_number,
        default=300,
        metavar='STEPS',
        help='steps in which the learning rate rises to its peak (default: %(default)s)',
    )
    schedule.add_argument(
        '--evaluate-every', type=positive_number, default=400, help='steps between two validations'
    )
    schedule.add_argument(
        '--validation-people',
        type=positive_number,
        metavar='N',
        help='validate the pose stages on N people of each source at most (default: all)',
    )
    schedule.add_argument(
        '--allow-changes',
        action='store_true',
        help='go on from the checkpoint in --out although it was made with other settings',
    )
    machine = parser.add_argument_group('machine')
    machine.add_argument('--device', default='auto', help='auto, cpu or cuda')
    machine.add_argument(
        '--precision',
        choices=('auto', 'fp32', 'bf16', 'fp16'),
        default='auto',
        help='what the network computes in (default: bf16 where the device can, else fp16 on a '
        'GPU and fp32 on a CPU)',
    )
    machine.add_argument('--threads', type=positive_number, help='CPU threads (default: all cores)')
    reads(
        parser,
        '--data',
        '--pgpg',
        '--pretrained',
        '--stn-pretrained',
        '--init',
        '--parallel',
        '--teacher',
    )
    writes(parser, '--html')
    derives(parser, targets=lambda args: [Target(args.out / 'checkpoint.pt', '--out')])
    parser.set_defaults(run=run, model=None)  # the detector is none of the pose networks


def run(args: argparse.Namespace) -> int:
    """Train one stage: 0 when it is complete, 130 when it was stopped, 1 when it failed."""
    try:
        import torch

        from rmpe_ros.training.distributed import joined_processes
        from rmpe_ros.training.stages import build_stage  # noqa: F401 (for what it needs)
    except ImportError as error:
        return fail_without(error, extra='train', command='train')
    try:
        if args.threads:
            torch.set_num_threads(args.threads)
        with joined_processes(_device(args.device)) as (processes, device):
            return _train(args, processes, device)
    except ValueError as error:
        return fail(error, 2, 'train')
    except (OSError, RuntimeError, FloatingPointError) as error:
        return fail(error, 1, 'train')


def _train(args: argparse.Namespace, processes: Processes, device: torch.device) -> int:
    import torch

    from rmpe_ros.training.data_config import read_data_config
    from rmpe_ros.training.pgpg import load_proposals
    from rmpe_ros.training.schedule import Schedule, trains_encoder
    from rmpe_ros.training.stages import build_stage
    from rmpe_ros.training.trainer import Trainer
    from rmpe_ros.training.training_progress import TrainingProgress

    progress = TrainingProgress() if processes.main else None
    log = progress.say if progress else lambda line: None  # of the main process alone
    try:
        schedule = Schedule(
            args.steps,
            args.minutes,
            batch=args.batch,
            learning_rate=args.learning_rate,
            warmup_steps=args.warmup,
            encoder_factor=Schedule.encoder_factor
            if args.encoder_factor is None
            else args.encoder_factor,
            seed=args.seed,
        )
        torch.manual_seed(args.seed)
        stage = build_stage(
            args.stage,
            read_data_config(args.data, root=args.data_root),
            model=args.model,
            pretrained=args.pretrained,
            stn_pretrained=args.stn_pretrained,
            init=args.init,
            propose=load_proposals(args.pgpg).propose if args.pgpg else None,
            parallel=args.parallel or True,
            teacher=args.teacher,
            validation_people=args.validation_people,
            frozen_blocks=args.frozen_blocks,
            growth=args.box_growth,
            device=device,
            validate=processes.main,
        )
        if args.encoder_factor is not None and not trains_encoder(stage.network):
            raise ValueError(
                '--encoder-factor is for networks that start from a published one, and here no '
                'encoder is trained: leave it out'
            )
        trainer = Trainer(
            stage.network,
            stage.loss,
            stage.batches,
            schedule,
            args.out,
            evaluate=stage.evaluate,
            pictures=stage.pictures,
            evaluate_every=args.evaluate_every,
            device=device,
            precision=args.precision,
            processes=processes,
            settings=_settings(args, stage.data, processes.count),
            progress=progress,
            log=log,
        )
        if trainer.resume(allow_changes=args.allow_changes):
            log(f'goes on from step {trainer.step} of {trainer.checkpoint}')
        together = f', {processes.count} processes' if processes.count > 1 else ''
        log(f'trains {args.stage} on {device} in {trainer.precision}{together}: {stage.data}')
        trainer.run()
        log(f'{trainer.checkpoint} holds step {trainer.step}')
        if args.html and processes.main:
            _write_page(args, trainer)
        return 130 if trainer.stopping else 0
    finally:
        if progress:
            progress.close()


def _write_page(args: argparse.Namespace, trainer: Trainer) -> None:
    from rmpe_ros.io.files import write_file
    from rmpe_ros.training.training_page import training_page

    text = training_page(
        f'rmpe train: {args.stage} in {trainer.folder.name}',
        trainer.curves,
        step=trainer.step,
        seconds=trainer.elapsed,
        settings=trainer.settings,
        pictures=trainer.pictures(trainer.ema) if trainer.pictures else {},
        notes=['stopped before its end'] if trainer.stopping else [],
    )
    write_file(args.html, text)


def _device(name: str) -> torch.device:
    import torch

    if name == 'auto':
        name = 'cuda' if torch.cuda.is_available() else 'cpu'
    unknown = f'no training on {name!r}: --device is auto, cpu or cuda'
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(unknown) from error
    if device.type not in ('cpu', 'cuda'):
        raise ValueError(unknown)
    if device.type == 'cuda' and not torch.cuda.is_available():
        raise ValueError(
            'PyTorch finds no GPU: is its build one for CUDA, is the driver there (nvidia-smi)? '
            '--device cpu trains without'
        )
    return device


def _settings(args: argparse.Namespace, data: str, processes: int) -> dict[str, Any]:
    """What makes this run another one than its neighbours, for the checkpoint."""
    from rmpe_ros.training.stages import DEFAULT_MODEL

    names = ('stage', 'frozen_blocks', 'batch', 'learning_rate', 'seed', 'steps', 'minutes',
             'precision')  # fmt: skip
    files = ('parallel', 'init', 'teacher', 'pretrained', 'stn_pretrained')
    return {
        **{name: getattr(args, name) for name in names},
        'growth': args.box_growth,
        'model': (args.model or DEFAULT_MODEL) if args.stage != 'detector' else None,
        **{name: _file_name(getattr(args, name)) for name in files},
        'pgpg': hashlib.sha256(args.pgpg.read_bytes()).hexdigest()[:8] if args.pgpg else None,
        'data': data,
        'processes': processes,
    }


def _file_name(path: Path | None) -> str | None:
    """With its folder's name, since all checkpoints are called the same; not where that lies."""
    return '/'.join(path.absolute().parts[-2:]) if path else None
