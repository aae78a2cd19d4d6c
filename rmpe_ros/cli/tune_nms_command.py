# SPDX-License-Identifier: Apache-2.0
"""`rmpe tune-nms`: the pose NMS parameters of the highest AP on labelled pictures."""

import argparse
import datetime
import hashlib
import json
import math
import shlex
import sys
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from rmpe_ros.cli.errors import says_errors, tell
from rmpe_ros.cli.evaluate_command import (
    add_label_options,
    describe_models,
    open_labels,
    run_models,
)
from rmpe_ros.cli.predict_command import add_pipeline_options, open_pipeline
from rmpe_ros.cli.training_options import add_score_threshold
from rmpe_ros.io.file_guard import Target, derives, writes

if TYPE_CHECKING:
    from rmpe_ros.core.pose_nms import PoseNmsParameters
    from rmpe_ros.evaluation.candidates import Candidates, PoseNmsScenes
    from rmpe_ros.evaluation.labels import Labels
    from rmpe_ros.evaluation.tune_nms import Goal, Tuning


# Poses too many a person that the shipped parameters were allowed.
MOST_DUPLICATES = 0.1


def add_parser(subparsers: Any) -> None:
    """Declare the subcommand and its options."""
    parser = subparsers.add_parser(
        'tune-nms',
        help='find the pose NMS parameters of the highest AP',
        description='Finds sigma1, sigma2, lambda and eta of pose NMS that give the highest OKS AP '
        'on labelled pictures, as the paper does: two at a time on a grid, the other two fixed, in '
        'turn until nothing is gained. Poses are computed once, with redundant boxes, and kept. '
        'Starts from the shipped parameters, or those of --pose-nms, and merges as they do.',
    )
    add_label_options(parser)
    parser.add_argument(
        '--out', type=Path, metavar='FILE', help='write the parameters (JSON, for --pose-nms)'
    )
    parser.add_argument('--plot', type=Path, metavar='FILE', help='write the planes as a PNG')
    parser.add_argument(
        '--html', type=Path, metavar='FILE', help='write a page with the numbers and the planes'
    )
    parser.add_argument(
        '--candidates',
        type=Path,
        metavar='FILE',
        help='keep the poses here for the next time (default: beside --out)',
    )
    parser.add_argument(
        '--box-nms',
        type=float,
        metavar='IOU',
        help="box NMS before pose NMS while tuning (default: the detector's own)",
    )
    add_score_threshold(parser)
    parser.add_argument(
        '--incomplete',
        action='store_true',
        help='use pictures where not everyone is labelled, too; poses away from the labelled '
        'people do not count there (default: leave the pictures out)',
    )
    parser.add_argument(
        '--most-duplicates',
        type=float,
        default=MOST_DUPLICATES,
        metavar='D',
        help='leave at most so many poses too many a person, on average, of those that --min-score '
        'shows (default: %(default)s; inf: AP alone, as in the paper, which hardly minds them)',
    )
    parser.add_argument(
        '--compare',
        action='store_true',
        help='print AP of these and other ways of NMS, over box NMS at several IoUs',
    )
    parser.add_argument(
        '--no-tuning', action='store_true', help='only compare the parameters of --pose-nms'
    )
    parser.add_argument(
        '--variant',
        choices=('paper', 'released'),
        help="the paper's formulas or those of the released code (default: as --pose-nms says)",
    )
    add_pipeline_options(parser, most=None)
    writes(parser, '--out', '--plot', '--html')
    derives(parser, targets=_kept_candidates)
    parser.set_defaults(run=run, gt_boxes=False)


@says_errors('tune-nms', extra='evaluate')
def run(args: argparse.Namespace) -> int:
    """Run the subcommand: 0, or 2 for wrong usage and files that cannot be used."""
    from rmpe_ros.core.pose_nms import DEFAULT_POSE_NMS
    from rmpe_ros.evaluation.candidates import PoseNmsScenes
    from rmpe_ros.evaluation.labels import LabelsError
    from rmpe_ros.evaluation.report import align
    from rmpe_ros.evaluation.tune_nms import Goal, compare, edges, plot_planes
    from rmpe_ros.io.files import write_file
    from rmpe_ros.io.pose_nms_file import save_pose_nms

    if args.images is None:
        raise LabelsError('--images DIR is needed: the folder of the labelled pictures')
    if args.html is not None and args.no_tuning:
        raise LabelsError('--html shows the tuning, so it does not go with --no-tuning')
    if args.plot is not None or args.html is not None:
        import matplotlib  # noqa: F401  missing? better known before the work than after
    labels = _open_labels(args)
    parameters = args.pose_nms or DEFAULT_POSE_NMS
    if args.variant:
        parameters = parameters.with_variant(args.variant)
    candidates, provenance = _find_candidates(args, labels)
    print(
        f'{len(candidates)} poses of {candidates.people} labelled people in '
        f'{len(labels.images)} pictures'
    )
    shown_score = provenance['shown_score']
    if not args.no_tuning:
        scenes = PoseNmsScenes(
            candidates, candidates.after_box_nms(provenance['box_nms']), parameters.variant
        )
        tuning, seconds, held_out = _tune(scenes, parameters, Goal(_limit(args), shown_score))
        parameters = tuning.parameters
        before, after = (_numbers(scenes, each, shown_score) for each in (tuning.start, parameters))
        print(
            f'AP {before["ap"]:.4f} → {after["ap"]:.4f}, duplicates {before["duplicates"]:.3f} → '
            f'{after["duplicates"]:.3f} a person, in {seconds:.0f} s'
        )
        if math.isfinite(held_out):
            print(f'AP {held_out:.4f} on pictures not tuned on (2 folds)')
        print(_describe(parameters))
        for edge in edges(parameters):
            tell(edge, 'tune-nms')
        provenance |= {
            'most_duplicates': _limit(args),
            'ap_before': before['ap'],
            'ap_after': after['ap'],
            'duplicates_before': before['duplicates'],
            'duplicates_after': after['duplicates'],
            'ap_cross_validated': round(held_out, 6) if math.isfinite(held_out) else None,
        }
        if args.out:
            save_pose_nms(args.out, parameters, provenance)
        if args.plot:
            write_file(args.plot, plot_planes(tuning))
        if args.html:
            write_file(args.html, _page(before, after, held_out, parameters, plot_planes(tuning)))
    if args.compare:
        print(align(compare(candidates, parameters, shown_score=shown_score)))
    return 0


def _tune(
    scenes: 'PoseNmsScenes', start: 'PoseNmsParameters', goal: 'Goal'
) -> 'tuple[Tuning, float, float]':
    from rmpe_ros.evaluation.tune_nms import cross_validate, tune
    from rmpe_ros.io.progress import Progress

    began = perf_counter()
    with Progress(None, 'plane') as progress:

        def report(note: str) -> None:
            progress.say(note)
            progress.advance(note)

        tuning = tune(scenes, start, goal, report)
    held_out = cross_validate(scenes.candidates, scenes.among, start, goal)
    return tuning, perf_counter() - began, held_out


def _limit(args: argparse.Namespace) -> float | None:
    most: float = args.most_duplicates
    return most if math.isfinite(most) else None


def _numbers(
    scenes: 'PoseNmsScenes', parameters: 'PoseNmsParameters', shown_score: float
) -> dict[str, float]:
    kept, representative = scenes.leave(parameters)
    return {
        'ap': round(scenes.candidates.average_precision(kept, representative), 6),
        'duplicates': round(scenes.candidates.duplicates(kept, shown_score), 4),
    }


def _page(
    before: dict[str, float],
    after: dict[str, float],
    held_out: float,
    parameters: 'PoseNmsParameters',
    planes: bytes,
) -> str:
    from dataclasses import asdict

    from rmpe_ros.evaluation.page import headline, html_table, page, picture, section
    from rmpe_ros.evaluation.report import number

    rows = [['', 'before', 'after']]
    rows += [[name, number(before[name], 4), number(after[name], 4)] for name in after]
    numbers = [(number(after['ap'], 4), 'AP'), (number(held_out, 4), 'AP, not tuned on')]
    chosen = [['parameter', ''], *([k, f'{v}'] for k, v in asdict(parameters).items())]
    return page(
        'rmpe tune-nms',
        [
            headline(numbers),
            section('Numbers', html_table(rows)),
            section('Parameters', html_table(chosen)),
            section('Planes', picture(planes, 'png', 'AP by two parameters at a time')),
        ],
    )


def _open_labels(args: argparse.Namespace) -> 'Labels':
    """Those labels, without pictures where not everyone is labelled unless with --incomplete."""
    from rmpe_ros.evaluation.labels import LabelsError

    labels, notes = open_labels(args)
    for note in notes:
        tell(note, 'tune-nms')
    if labels.layout != 'coco':
        raise LabelsError(
            f'{args.annotations}: pose NMS is tuned for OKS AP, so it needs COCO annotations'
        )
    labels = labels.select(lambda image: image.complete or args.incomplete)
    if not labels.counted.any():
        raise LabelsError(
            f'{args.annotations} has no labelled people in pictures where everyone is labelled; '
            'see --incomplete'
        )
    return labels


def _find_candidates(
    args: argparse.Namespace, labels: 'Labels'
) -> 'tuple[Candidates, dict[str, Any]]':
    """Poses of all boxes, those that --compare needs besides where it is wanted, from the file of
    an earlier run where that fits; and their provenance.
    """
    from rmpe_ros import __version__
    from rmpe_ros.evaluation.candidates import (
        Candidates,
        holds_candidates,
        load_candidates,
        save_candidates,
    )
    from rmpe_ros.evaluation.fingerprints import hash_pictures
    from rmpe_ros.evaluation.labels import LabelsError, find_images
    from rmpe_ros.evaluation.tune_nms import BOX_IOUS

    file = _candidates_file(args)
    if file is not None and file.exists() and not holds_candidates(file):
        raise LabelsError(
            f'{file} is there, but holds no poses that rmpe tune-nms kept; move it away, or name '
            'another file with --candidates'
        )
    paths = find_images(labels, args.images)
    with open_pipeline(args) as pipeline:
        shown_score, pipeline.min_score = pipeline.min_score, 0.0
        pipeline.pose_nms = None
        pipeline.detector.score_threshold = args.score_threshold
        box_nms = pipeline.detector.nms_iou if args.box_nms is None else args.box_nms
        loosest = max(*BOX_IOUS, box_nms) if args.compare else box_nms
        pipeline.detector.nms_iou = loosest
        models = describe_models(args, pipeline)
        provenance: dict[str, Any] = {
            'command': shlex.join(['rmpe', *sys.argv[1:]]),
            'date': datetime.date.today().isoformat(),
            'models': models,
            'annotations': args.annotations.name,
            'annotations_sha256': hashlib.sha256(args.annotations.read_bytes()).hexdigest(),
            'pictures': len(labels.images),
            'people': int(labels.counted.sum()),
            'incomplete': args.incomplete,
            'box_nms': box_nms,
            'score_threshold': args.score_threshold,
            'shown_score': shown_score,
        }
        made_with = {
            'version': __version__,
            'backend': args.backend,
            'precision': args.precision,
            'files': hash_pictures(paths.values()),
            **{part: model['sha256'] for part, model in models.items()},
            'annotations': provenance['annotations_sha256'],
            'pictures': [image.id for image in labels.images],
            'box_nms': loosest,
            'score_threshold': args.score_threshold,
            'detector_size': args.detector_size,
            'max_people': args.max_people,
        }
        key = hashlib.sha256(json.dumps(made_with).encode()).hexdigest()
        found = load_candidates(file, key) if file is not None else None
        if found is None:
            found = run_models(args, labels, paths, pipeline)
            if file is not None:
                save_candidates(file, found, key)
        else:
            print(f'poses are those kept in {file}')
    return Candidates(labels, found), provenance


def _candidates_file(args: argparse.Namespace) -> Path | None:
    file: Path | None = args.candidates
    if file is None and args.out is not None:
        file = args.out.with_name(args.out.name + '.candidates.npz')
    return file


def _kept_candidates(args: argparse.Namespace) -> list[Target]:
    file = _candidates_file(args)
    return [Target(file, '--candidates')] if file is not None else []


def _describe(parameters: 'PoseNmsParameters') -> str:
    return (
        f'sigma1 {parameters.sigma1:g}, sigma2 {parameters.sigma2:g}, lambda '
        f'{parameters.lambda_:g}, eta {parameters.eta:g} (of {parameters.num_keypoints} joints)'
    )
