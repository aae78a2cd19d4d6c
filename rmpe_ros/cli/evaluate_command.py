# SPDX-License-Identifier: Apache-2.0
"""`rmpe evaluate`: accuracy on labelled pictures (COCO, MPII, LSP), of our models or of results."""

import argparse
import hashlib
import json
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from rmpe_ros.cli.errors import says_errors
from rmpe_ros.cli.predict_command import add_pipeline_options, open_pipeline
from rmpe_ros.io.extras import how_to_install
from rmpe_ros.io.file_guard import reads, writes

if TYPE_CHECKING:
    from collections.abc import Callable

    from rmpe_ros.evaluation.evaluate import Evaluation
    from rmpe_ros.evaluation.found_people import FoundPeople
    from rmpe_ros.evaluation.labels import LabelledImage, Labels
    from rmpe_ros.pipeline import PosePipeline

# AP needs the doubtful people, too: the area under the curve ends where the scores end.
DETECTOR_SCORE_THRESHOLD = 0.05

# COCO counts the 20 best poses of a picture; which these are only the poses tell, and half of them
# are merged into others, which makes those better. More boxes than these change AP by 0.0003.
MOST_PEOPLE = 60


def add_parser(subparsers: Any) -> None:
    """Declare the subcommand and its options."""
    parser = subparsers.add_parser(
        'evaluate',
        help='accuracy on labelled pictures: OKS AP, PCK, PCKh, mAP',
        description='Estimate the poses in labelled pictures and measure OKS AP (pycocotools), '
        "PCK, PCKh and MPII's mAP, and the detector's AP. Labels: COCO (17 or 19 joints), MPII "
        '(.json, .mat) or LSP (joints.mat). '
        f'Needs {how_to_install("evaluate")}.',
    )
    add_label_options(parser)
    parser.add_argument(
        '--results',
        type=Path,
        metavar='FILE',
        help="measure somebody else's COCO results instead of running models",
    )
    parser.add_argument(
        '--gt-boxes',
        action='store_true',
        help='the labelled boxes instead of the detector: the pose network alone',
    )
    add_incomplete_option(parser)
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the numbers')
    parser.add_argument('--html', type=Path, metavar='FILE', help='write a report with pictures')
    add_pipeline_options(parser, most=MOST_PEOPLE)
    add_detector_options(parser)
    reads(parser, '--results')
    writes(parser, '--json', '--html')
    parser.set_defaults(run=run)


def add_label_options(parser: Any) -> None:
    """The options of every command that reads labelled pictures; see `open_labels`."""
    parser.add_argument('--images', type=Path, metavar='DIR', help='folder of the pictures')
    parser.add_argument(
        '--annotations', type=Path, metavar='FILE', required=True, help='the labels'
    )
    parser.add_argument(
        '--sources', nargs='+', metavar='NAME', help='only pictures of these sources'
    )
    parser.add_argument('--limit', type=int, metavar='N', help='only the first N pictures')
    reads(parser, '--images', '--annotations')


def add_incomplete_option(parser: Any) -> None:
    """Of the commands that measure AP and nothing else of it; see `evaluate`."""
    parser.add_argument(
        '--incomplete',
        action='store_true',
        help='count AP also in pictures where not everyone is labelled (default: leave them out)',
    )


def add_detector_options(parser: Any) -> None:
    """How many boxes the detector hands on; see `prepare_pipeline`."""
    parser.add_argument(
        '--score-threshold',
        type=float,
        default=DETECTOR_SCORE_THRESHOLD,
        metavar='S',
        help='least score of a box (default: %(default)s; AP needs the doubtful ones)',
    )
    parser.add_argument(
        '--box-nms', type=float, metavar='IOU', help="box NMS (default: the detector's own)"
    )


@says_errors('evaluate', extra='evaluate')
def run(args: argparse.Namespace) -> int:
    """Run the subcommand: 0, or 2 for wrong usage and files that cannot be evaluated."""
    from rmpe_ros.evaluation.evaluate import evaluate
    from rmpe_ros.evaluation.labels import LabelsError, find_images
    from rmpe_ros.evaluation.report import html_report, text_report
    from rmpe_ros.io.files import write_file

    if args.html is not None:
        import matplotlib  # noqa: F401  missing? better known before the work than after
    if args.images is None and args.results is None:
        raise LabelsError('--images DIR is needed, except with --results')
    labels, notes = open_labels(args)
    paths = find_images(labels, args.images) if args.images else None
    start, entries, models = perf_counter(), None, {}
    if args.results:
        found, entries = _results(args, labels)
    else:
        assert paths is not None
        with open_pipeline(args) as pipeline:
            prepare_pipeline(pipeline, args)
            found = run_models(args, labels, paths, pipeline)
            models = describe_models(args, pipeline)
        notes += [] if args.gt_boxes else _more_people(labels, pipeline.max_people)
    evaluation = evaluate(
        labels,
        found,
        gt_boxes=args.gt_boxes,
        incomplete=args.incomplete,
        coco_results=entries,
    )
    evaluation.models = models
    evaluation.seconds = perf_counter() - start
    evaluation.notes[:0] = notes
    print(text_report(evaluation))
    if args.json:
        write_file(args.json, json.dumps(evaluation.to_json(), indent=1) + '\n')
    if args.html:
        title = f'{args.annotations.name}: {_title(args, evaluation)}'
        write_file(args.html, html_report(evaluation, labels, found, paths, title=title))
    return 0


def open_labels(args: argparse.Namespace) -> 'tuple[Labels, list[str]]':
    """The labels that the options of `add_label_options` ask for, and notes on what was left out.

    Raises LabelsError.
    """
    from rmpe_ros.evaluation.labels import LabelsError
    from rmpe_ros.evaluation.labels.label_files import read_labels

    labels = read_labels(args.annotations)
    notes = list(labels.notes)
    sources = set(args.sources or ())
    present = {image.source for image in labels.images}
    if sources - present:
        raise LabelsError(
            f'no picture of {args.annotations} has the source {min(sources - present)!r}; it has '
            f'{", ".join(sorted(present))}'
        )
    if not sources and labels.layout == 'lsp' and 'lsp_test' in present:
        sources = {'lsp_test'}
        notes.append("LSP's official test half, pictures 1001 to 2000 (--sources lsp_train: rest)")
    if sources:
        labels = labels.select(lambda image: image.source in sources)
    if args.limit is not None:
        first = {image.id for image in labels.images[: max(args.limit, 0)]}
        labels = labels.select(lambda image: image.id in first)
    if not labels.images:
        raise LabelsError(f'{args.annotations}: no pictures are left to evaluate')
    return labels, notes


def open_pictures(
    args: argparse.Namespace, wanted: 'Callable[[LabelledImage], bool]' = lambda image: True
) -> 'tuple[Labels, list[str], dict[int, Path]]':
    """As `open_labels`, of the pictures that are wanted, and their files by id: for commands that
    cannot do without --images.
    """
    from rmpe_ros.evaluation.labels import LabelsError, find_images

    if args.images is None:
        raise LabelsError('--images DIR is needed: the folder of the labelled pictures')
    labels, notes = open_labels(args)
    labels = labels.select(wanted)
    return labels, notes, find_images(labels, args.images)


def prepare_pipeline(pipeline: 'PosePipeline', args: argparse.Namespace) -> None:
    """Let everybody through whom the detector finds at all, as AP wants it."""
    pipeline.detector.score_threshold = args.score_threshold
    if args.box_nms is not None:
        pipeline.detector.nms_iou = args.box_nms
    pipeline.min_score = args.min_score or 0.0


def run_models(
    args: argparse.Namespace, labels: 'Labels', paths: dict[int, Path], pipeline: 'PosePipeline'
) -> 'dict[int, FoundPeople]':
    """People found by the pipeline, or poses in true boxes with --gt-boxes."""
    from rmpe_ros.evaluation.found_people import find_people
    from rmpe_ros.io.progress import Progress

    with Progress(len(labels.images), 'picture') as progress:
        return find_people(
            labels, paths, pipeline, gt_boxes=args.gt_boxes, progress=progress.advance
        )


def describe_models(
    args: argparse.Namespace, pipeline: 'PosePipeline'
) -> dict[str, dict[str, str]]:
    """Name, version, file and SHA-256 of the detector and of the pose network."""
    from rmpe_ros.models import DEFAULT_DETECTOR, DEFAULT_POSE, find_model

    parts = {
        'detector': (pipeline.detector.info, args.detector or DEFAULT_DETECTOR),
        'pose': (pipeline.estimator.info, args.pose or DEFAULT_POSE),
    }
    return {
        part: {
            'name': info.name,
            'version': info.version,
            'file': find_model(model).name,
            'sha256': hashlib.sha256(find_model(model).read_bytes()).hexdigest(),
        }
        for part, (info, model) in parts.items()
    }


def _results(
    args: argparse.Namespace, labels: 'Labels'
) -> 'tuple[dict[int, FoundPeople], list[dict[str, Any]]]':
    from rmpe_ros.evaluation.found_people import people_of_entries
    from rmpe_ros.evaluation.labels import LabelsError
    from rmpe_ros.evaluation.labels.label_files import read_labels
    from rmpe_ros.evaluation.results_file import read_result_entries

    if args.gt_boxes:
        raise LabelsError('--gt-boxes runs models, so it does not go with --results')
    # All pictures, because results for those that --sources or --limit leave out are no mistake.
    everything = read_result_entries(args.results, read_labels(args.annotations))
    wanted = {image.id for image in labels.images}
    entries = [entry for entry in everything if entry['image_id'] in wanted]
    return people_of_entries(entries, labels), entries


def _more_people(labels: 'Labels', most: int | None) -> list[str]:
    """A note where more people are labelled in a picture than are looked at."""
    people = labels.people_of().values()
    crowded = 0 if most is None else sum(labels.counted[here].sum() > most for here in people)
    if not crowded:
        return []
    return [
        f'{crowded} pictures have more than {most} labelled people: no more than {most} were '
        'looked for (--max-people 0: all)'
    ]


def _title(args: argparse.Namespace, evaluation: 'Evaluation') -> str:
    if args.results:
        return args.results.name
    return ' + '.join(each['name'] for each in evaluation.models.values())
