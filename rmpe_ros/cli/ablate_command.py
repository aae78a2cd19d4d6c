# SPDX-License-Identifier: Apache-2.0
"""`rmpe ablate`: what each part of RMPE is worth, the paper's Table 3 on your data."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmpe_ros.cli.errors import says_errors
from rmpe_ros.cli.evaluate_command import MOST_PEOPLE, add_label_options, open_pictures
from rmpe_ros.cli.predict_command import add_pipeline_options, open_pipeline
from rmpe_ros.cli.training_options import (
    add_box_growth,
    add_data_options,
    add_network_options,
    add_schedule_options,
    add_score_threshold,
    add_stn_pretrained,
)
from rmpe_ros.evaluation.fingerprints import hash_settings
from rmpe_ros.io.extras import how_to_install
from rmpe_ros.io.file_guard import Target, derives, reads, writes

if TYPE_CHECKING:
    from rmpe_ros.evaluation.ablation import Detections, Row
    from rmpe_ros.training.data_config import DataConfig
    from rmpe_ros.training.pgpg import ProposalGenerator

# So many training pictures are enough to learn how the detector's boxes are off.
_PGPG_PICTURES = 1000


def add_parser(subparsers: Any) -> None:
    """Declare the subcommand and its options."""
    parser = subparsers.add_parser(
        'ablate',
        help="train and measure RMPE without each of its parts (the paper's Table 3)",
        description='Trains the pose network in the ways that the rows need, evaluates each row on '
        "labelled pictures, and prints the table beside the paper's numbers. What is done is kept "
        'in --out: the same command on the same files goes on where it was stopped, and says so. '
        'Each stage of each network is a run of so many --steps or --minutes: sppe, localisation '
        'for the rows with an SSTN, and the one that the rows differ in. --init, of a trained '
        'sppe, takes the place of the first, --init-stn that of the second. '
        f'Needs {how_to_install("train")}.',
    )
    add_data_options(parser)
    add_label_options(parser)
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='runs and results')
    parser.add_argument(
        '--rows', nargs='+', metavar='ROW', help='only some, such as no-sstn jitter (see the docs)'
    )
    add_network_options(parser)
    add_box_growth(parser)
    add_stn_pretrained(parser)
    parser.add_argument(
        '--init-stn',
        type=Path,
        metavar='FILE',
        help='checkpoint.pt of a localisation or sstn stage: rows with an SSTN start from it',
    )
    add_schedule_options(parser)
    parser.add_argument('--device', default='cpu', help='cpu or cuda (default: %(default)s)')
    parser.add_argument(
        '--pgpg',
        type=Path,
        help='file of "rmpe fit-pgpg" (default: fitted to the detector and its noise)',
    )
    parser.add_argument(
        '--incomplete',
        action='store_true',
        help='count AP also in pictures where not everyone is labelled, there of the boxes near '
        'labelled people only',
    )
    parser.add_argument(
        '--detector-noise',
        type=float,
        default=0.0,
        metavar='S',
        help="move the edges of detected boxes by N(0, S) of the side, as a worse detector's",
    )
    parser.add_argument('--box-nms', type=float, default=0.8, metavar='IOU', help='of the detector')
    add_score_threshold(parser)
    parser.add_argument('--html', type=Path, metavar='FILE', help='write a page with the table')
    parser.add_argument(
        '--plot',
        type=Path,
        metavar='FILE',
        help="draw what each row loses, beside the paper's (.png, .svg, .pdf)",
    )
    add_pipeline_options(parser, most=MOST_PEOPLE)
    reads(parser, '--data', '--pretrained', '--stn-pretrained', '--init', '--init-stn', '--pgpg')
    writes(parser, '--html', '--plot')
    derives(parser, targets=lambda args: [Target(args.out / 'results.json', '--out')])
    parser.set_defaults(run=run)


@says_errors('ablate', extra='train')
def run(args: argparse.Namespace) -> int:
    """Run the subcommand: 0, 130 when training was stopped, 2 for what cannot be used."""
    return _Ablation(args).run()


class _Ablation:
    """One call of the command."""

    def __init__(self, args: argparse.Namespace) -> None:
        import torch

        from rmpe_ros import __version__
        from rmpe_ros.core.pose_nms import DEFAULT_POSE_NMS
        from rmpe_ros.evaluation.ablation import KeptResults, choose_rows
        from rmpe_ros.evaluation.fingerprints import hash_file, hash_files, hash_pictures
        from rmpe_ros.evaluation.labels.label_files import label_files
        from rmpe_ros.models import DEFAULT_DETECTOR, find_model
        from rmpe_ros.training.data_config import read_data_config

        if args.steps is None and args.minutes is None:
            raise ValueError('give --steps or --minutes: how long each network trains')
        if args.stn_pretrained is not None:
            _check_start(args)  # the stage that needs it comes after another one
        if args.plot is not None:
            import matplotlib  # noqa: F401  missing? better known before the work than after
        if args.threads:
            torch.set_num_threads(args.threads)
        self.args = args
        self.rows = choose_rows(args.rows)
        self.data: DataConfig = read_data_config(args.data, root=args.data_root)
        self.labels, self.notes, self.paths = open_pictures(args)
        self.parameters = args.pose_nms or DEFAULT_POSE_NMS
        # Everything that makes a network or a score another one. Not the device nor the number of
        # threads: a run may go on on another machine.
        self.training = {
            'version': __version__,
            **_options('model', 'steps', 'minutes', 'batch', 'learning_rate', 'seed',
                       'frozen_blocks', 'box_growth', args=args),
            'data': self.data.fingerprint(),
            **{
                name: hash_file(getattr(args, name)) if getattr(args, name) else None
                for name in ('pretrained', 'stn_pretrained', 'init', 'init_stn')
            },
        }  # fmt: skip
        self.detection = {
            'detector': hash_file(find_model(args.detector or DEFAULT_DETECTOR)),
            **_options('detector_size', 'detector_noise', 'box_nms', 'score_threshold', 'backend',
                       'precision', args=args),
        }  # fmt: skip
        self.pgpg = hash_file(args.pgpg) if args.pgpg else {**self.detection, 'seed': args.seed}
        settings = {
            **self.training,
            **self.detection,
            'pgpg': self.pgpg,
            **_options('sources', 'limit', 'incomplete', 'min_score', 'max_people', args=args),
            'annotations': hash_files(label_files(args.annotations)),
            'pictures': hash_pictures(self.paths.values()),
            'pose_nms': str(self.parameters),
        }
        self.kept = KeptResults(args.out / 'results.json', settings)
        self.generator: ProposalGenerator | None = None
        self.detections: Detections | None = None

    def run(self) -> int:
        from rmpe_ros.evaluation.ablation import ablation_table
        from rmpe_ros.evaluation.ablation_plot import draw_ablation
        from rmpe_ros.evaluation.report import align
        from rmpe_ros.io.files import write_file

        kept = [row for row in self.rows if row.name in self.kept.scores]
        if kept:
            self._tell(f'{len(kept)} of {len(self.rows)} rows', self.args.out / 'results.json')
        # By network, so that each is trained once and its poses are computed once.
        for training in dict.fromkeys(row.training for row in self.rows):
            rows = [
                row
                for row in self.rows
                if row.training == training and row.name not in self.kept.scores
            ]
            if not rows:
                continue
            model = self._train(rows[0])
            if model is None:
                return 130
            self.kept.add(self._evaluate(rows, model))
        for note in self.notes:
            print(f'- {note}')
        table = ablation_table(self.rows, self.kept.scores)
        print(align(table))
        if self.args.plot:
            draw_ablation(self.rows, self.kept.scores, self.args.plot)
        if self.args.html:
            write_file(self.args.html, _page(table, self.notes))
        return 0

    def _train(self, row: 'Row') -> Path | None:
        """The ONNX file of the row's network; None when training was stopped."""
        model = self.args.out / self._name(row.training, row) / 'pose.onnx'
        if model.is_file():
            self._tell(f'the network {row.training}', model)
            return model
        start = self._start(row)
        if start is None:
            return None
        stage = 'sppe' if row.network == 'sppe' else 'sstn'
        checkpoint = self._stage(stage, row.training, row, start)
        if checkpoint is None:
            return None
        self._export(checkpoint, model)
        return model

    def _start(self, row: 'Row') -> Path | None:
        """The checkpoint that the row's last stage starts from; None when training was stopped."""
        if row.network != 'sppe' and self.args.init_stn:
            return Path(self.args.init_stn)
        first = self.args.init or self._stage('sppe', f'sppe-{row.proposals}-first', row, None)
        if first is None or row.network == 'sppe':
            return first
        # An STN does not find its way from the identity by the parallel SPPE's loss alone.
        return self._stage('localisation', f'localisation-{row.proposals}', row, first)

    def _name(self, training: str, row: 'Row') -> str:
        """Of the folder of one training run: equal only where its network would be."""
        return f'{training}-{hash_settings(self._training_of(row))[:8]}'

    def _training_of(self, row: 'Row') -> dict[str, Any]:
        """What the networks of a row depend on."""
        return {**self.training, 'pgpg': self.pgpg if row.proposals == 'pgpg' else None}

    def _tell(self, what: str, file: Path) -> None:
        print(f'{what}: taken from an earlier run with the same settings and files, {file}')

    def _stage(self, stage: str, name: str, row: 'Row', init: Path | None) -> Path | None:
        """Train one stage; its checkpoint, or None when it was stopped."""
        import torch

        from rmpe_ros.training.schedule import Schedule
        from rmpe_ros.training.stages import build_stage
        from rmpe_ros.training.trainer import Trainer
        from rmpe_ros.training.training_progress import TrainingProgress

        args = self.args
        torch.manual_seed(args.seed)
        built = build_stage(
            stage,
            self.data,
            model=args.model,
            pretrained=None if init else args.pretrained,
            stn_pretrained=args.stn_pretrained if stage == 'localisation' else None,
            init=init,
            propose=self._propose(row),
            parallel=row.network == 'sstn',
            frozen_blocks=0 if stage == 'localisation' else args.frozen_blocks,
            growth=args.box_growth,
            device=args.device,
            validate=False,
        )
        schedule = Schedule(
            args.steps,
            args.minutes,
            batch=args.batch,
            learning_rate=args.learning_rate,
            seed=args.seed,
        )
        progress = TrainingProgress(title=name)
        trainer = Trainer(
            built.network,
            built.loss,
            built.batches,
            schedule,
            args.out / self._name(name, row),
            device=args.device,
            settings={'stage': stage, **self._training_of(row)},
            progress=progress,
        )
        try:
            if trainer.resume():
                progress.say(f'goes on from step {trainer.step} of {trainer.checkpoint}')
            trainer.run()
        finally:
            progress.close()
        return None if trainer.stopping else trainer.checkpoint

    def _propose(self, row: 'Row') -> Any:
        if row.proposals == 'true':
            return lambda person, rng: person.box
        if row.proposals == 'jitter':
            return None  # PoseExamples' own default
        if self.generator is None:
            from rmpe_ros.training.pgpg import load_proposals

            key = hash_settings(self._training_of(row))[:8]
            file = self.args.pgpg or self.args.out / f'pgpg-{key}.json'
            if not self.args.pgpg and not file.is_file():
                self._fit_pgpg(file)
            self.generator = load_proposals(file)
        return self.generator.propose

    def _fit_pgpg(self, file: Path) -> None:
        """Fit PGPG to the detector's boxes of training people, noise included."""
        import numpy as np

        from rmpe_ros.core.skeletons import BODY19
        from rmpe_ros.evaluation.ablation import move_edges
        from rmpe_ros.io.progress import Progress
        from rmpe_ros.training.datasets import ImageCache, LabelledPerson
        from rmpe_ros.training.pgpg import box_offsets, fit_proposals, save_proposals

        pictures: dict[Path, list[LabelledPerson]] = {}
        for person in self.data.people():
            pictures.setdefault(person.image, []).append(person)
        rng = np.random.default_rng(self.args.seed)
        order = rng.permutation(len(pictures))[:_PGPG_PICTURES]
        chosen = [list(pictures.items())[i] for i in order]
        people: list[LabelledPerson] = []
        offsets, index = [np.zeros((0, 4))], [np.zeros(0, np.intp)]
        cache = ImageCache(limit_bytes=0)
        with self._open() as pipeline, Progress(len(chosen), 'picture') as progress:
            for path, here in chosen:
                boxes, _ = pipeline.detector(cache.read(path))
                boxes = move_edges(boxes, self.args.detector_noise, rng)
                off, person_index = box_offsets(boxes, np.stack([p.box for p in here]))
                offsets.append(off)
                index.append(len(people) + person_index)
                people += here
                progress.advance()
        generator = fit_proposals(
            np.stack([p.joints for p in people]),
            np.stack([p.weights for p in people]) > 0,
            np.stack([p.box for p in people]),
            BODY19,
            np.concatenate(offsets),
            np.concatenate(index),
            seed=self.args.seed,
        )
        save_proposals(file, generator, {'pictures': len(chosen), 'fitted_by': 'rmpe ablate'})

    def _open(self, model: Path | None = None) -> Any:
        """The pipeline with a loose detector, and a trained network for pose."""
        values = {**vars(self.args), 'pose': str(model) if model else self.args.pose}
        pipeline = open_pipeline(argparse.Namespace(**values))
        pipeline.detector.score_threshold = self.args.score_threshold
        pipeline.detector.nms_iou = self.args.box_nms
        return pipeline

    def _export(self, checkpoint: Path, model: Path) -> None:
        from rmpe_ros.networks.export import export_pose
        from rmpe_ros.training.pose_training import PoseValidation, calibrate_scores
        from rmpe_ros.training.stages import open_pose_network

        network = open_pose_network(self.args.model, checkpoint, growth=self.args.box_growth)
        files = self.data.validation
        validation = PoseValidation(
            files.annotations, files.images, network.size, growth=network.growth
        )
        calibration = calibrate_scores(validation, network)
        metadata = {'rmpe.name': model.parent.name, 'rmpe.version': 'ablation'}
        export_pose(network, model, calibration=calibration, metadata=metadata)

    def _evaluate(self, rows: 'list[Row]', model: Path) -> dict[str, dict[str, float]]:
        from rmpe_ros.evaluation.ablation import detect, evaluate_rows
        from rmpe_ros.io.progress import Progress

        with self._open(model) as pipeline, Progress(None, 'picture') as progress:
            if self.detections is None:  # the same for every network
                self.detections = detect(
                    self.labels,
                    self.paths,
                    pipeline.detector,
                    noise=self.args.detector_noise,
                    seed=self.args.seed,
                    progress=progress.advance,
                )
            return evaluate_rows(
                rows,
                self.labels,
                self.paths,
                self.detections,
                pipeline,
                self.parameters,
                progress.advance,
                incomplete=self.args.incomplete,
            )


def _check_start(args: argparse.Namespace) -> None:
    """Raises ValueError where --stn-pretrained is of no use."""
    from rmpe_ros.training.pose_training import build_pose_network, start_localisation

    if args.init_stn is not None:
        raise ValueError(
            f'the localisation network is in {args.init_stn}, and nothing would be left of '
            f'{args.stn_pretrained}: give --init-stn or --stn-pretrained'
        )
    start_localisation(build_pose_network(args.model, sstn=True), args.model, args.stn_pretrained)


def _options(*names: str, args: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(args, name) for name in names}


def _page(table: list[list[str]], notes: Sequence[str]) -> str:
    """The table, and its first column of scores as bars."""
    from rmpe_ros.evaluation.page import html_table, notes_list, page, section
    from rmpe_ros.evaluation.page.charts import bars

    scores = [(row[0], {table[0][1]: float(row[1])}) for row in table[1:]]
    return page(
        "rmpe ablate: the paper's Table 3",
        [
            section(table[0][1], bars(scores, 'points')),
            section('Scores', html_table(table)),
            notes_list(notes),
        ],
    )
