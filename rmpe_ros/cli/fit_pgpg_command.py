# SPDX-License-Identifier: Apache-2.0
"""`rmpe fit-pgpg`: learn how a detector's boxes are off, for training (RMPE sec. 3.3)."""

import argparse
import datetime
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmpe_ros.cli.argument_types import add_size_limit
from rmpe_ros.cli.errors import says_errors, tell
from rmpe_ros.cli.evaluate_command import add_label_options, open_labels
from rmpe_ros.cli.training_options import add_score_threshold
from rmpe_ros.io.extras import how_to_install
from rmpe_ros.io.file_guard import reads, writes

if TYPE_CHECKING:
    from rmpe_ros.evaluation.labels import Labels


def add_parser(subparsers: Any) -> None:
    """Declare the subcommand and its options."""
    parser = subparsers.add_parser(
        'fit-pgpg',
        help='fit the pose-guided proposals generator to a detector',
        description="Fits PGPG: for each atomic pose, a mixture of Gaussians over how a detector's "
        'boxes differ from the true ones. "rmpe train --pgpg FILE" then draws training boxes from '
        'it. '
        f'Needs {how_to_install("train")}.',
    )
    add_label_options(parser)
    parser.add_argument('--out', type=Path, required=True, metavar='FILE', help='JSON to write')
    parser.add_argument('--detector', metavar='MODEL', help='shipped name or .onnx file')
    parser.add_argument('--threads', type=int, metavar='N', help='CPU threads of the detector')
    parser.add_argument(
        '--results',
        type=Path,
        metavar='FILE',
        help='COCO results with the boxes of any other detector, instead of running ours',
    )
    add_score_threshold(parser)
    parser.add_argument(
        '--atoms', type=int, default=16, help='number of atomic poses (default: %(default)s)'
    )
    parser.add_argument(
        '--components',
        type=int,
        default=4,
        help='most Gaussians of a mixture; BIC chooses (default: %(default)s)',
    )
    parser.add_argument('--seed', type=int, default=0, help='of k-means (default: %(default)s)')
    add_size_limit(parser)
    reads(parser, '--detector', '--results')
    writes(parser, '--out')
    parser.set_defaults(run=run)


@says_errors('fit-pgpg', extra='train')
def run(args: argparse.Namespace) -> int:
    """Run the subcommand: 0, or 2 for wrong usage and files that cannot be used."""
    import numpy as np
    import sklearn  # noqa: F401  missing? better known before the work than after

    from rmpe_ros.training.pgpg import box_offsets, fit_proposals, save_proposals

    labels, notes = open_labels(args)
    for note in notes:
        tell(note, 'fit-pgpg')
    detector, boxes = _read_boxes(args, labels) if args.results else _detect(args, labels)
    people_of = labels.people_of()
    offsets, person = [np.zeros((0, 4))], [np.zeros(0, np.intp)]
    for image, found in boxes.items():
        people = people_of[image][labels.counted[people_of[image]]]
        off, index = box_offsets(found, labels.boxes[people])
        offsets.append(off)
        person.append(people[index])
    generator = fit_proposals(
        labels.keypoints,
        labels.labelled,
        labels.boxes,
        labels.skeleton,
        np.concatenate(offsets),
        np.concatenate(person),
        atoms=args.atoms,
        most_components=args.components,
        seed=args.seed,
    )
    count = sum(len(each) for each in offsets)
    provenance = {
        'detector': detector,
        'date': datetime.date.today().isoformat(),
        'annotations': args.annotations.name,
        'pictures': len(labels.images),
        'people': int(labels.counted.sum()),
        'boxes': count,
        'score_threshold': args.score_threshold,
    }
    save_proposals(args.out, generator, provenance)
    overall = generator.mixtures[-1]
    print(f'{count} boxes of {int(labels.counted.sum())} people, {args.atoms} atomic poses')
    print('offset of  x1, y1, x2, y2 in sides of the true box')
    print('mean       ' + ', '.join(f'{value:+.3f}' for value in overall.mean))
    print('deviation  ' + ', '.join(f'{v:.3f}' for v in np.sqrt(np.diag(overall.covariance))))
    return 0


def _detect(args: argparse.Namespace, labels: 'Labels') -> tuple[dict[str, str], dict[int, Any]]:
    """Which detector, and its boxes (D, 4) of each picture."""
    from rmpe_ros.detector import PersonDetector
    from rmpe_ros.engines import open_engine
    from rmpe_ros.evaluation.labels import LabelsError, find_images
    from rmpe_ros.io.images import load_image
    from rmpe_ros.io.progress import Progress
    from rmpe_ros.models import DEFAULT_DETECTOR, find_model

    if args.images is None:
        raise LabelsError('--images DIR is needed, except with --results')
    paths = find_images(labels, args.images)
    file = find_model(args.detector or DEFAULT_DETECTOR)
    engine = open_engine(file, threads=args.threads)
    # Redundant boxes are proposals, too: RMPE wants them.
    detector = PersonDetector(engine, score_threshold=args.score_threshold, nms_iou=0.8)
    boxes = {}
    with Progress(len(labels.images), 'picture') as progress:
        for image in labels.images:
            boxes[image.id] = detector(load_image(paths[image.id]))[0]
            progress.advance()
    engine.close()
    about = {'name': detector.info.name, 'version': detector.info.version}
    return {**about, 'sha256': hashlib.sha256(file.read_bytes()).hexdigest()}, boxes


def _read_boxes(
    args: argparse.Namespace, labels: 'Labels'
) -> tuple[dict[str, str], dict[int, Any]]:
    from rmpe_ros.evaluation.results_file import read_box_results

    known = {image.id for image in labels.images}
    boxes = read_box_results(args.results, known, min_score=args.score_threshold)
    return {'results': args.results.name}, boxes
