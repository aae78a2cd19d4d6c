# SPDX-License-Identifier: Apache-2.0
"""`rmpe evaluate-bag`: dropped frames, accuracy and latency of poses recorded on a robot."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmpe_ros.cli.bag_from_images_command import add_schedule_options
from rmpe_ros.cli.errors import says_errors, tell
from rmpe_ros.cli.evaluate_command import add_incomplete_option
from rmpe_ros.cli.replay_command import add_image_topic, tell_warnings
from rmpe_ros.io.extras import how_to_install
from rmpe_ros.io.file_guard import reads, writes

if TYPE_CHECKING:
    from rmpe_ros.evaluation.evaluate_bag import Matching, Recording
    from rmpe_ros.evaluation.labels import Labels
    from rmpe_ros.io.bags.reader import Bag


def add_parser(subparsers: Any) -> None:
    """Declare the subcommand and its options."""
    parser = subparsers.add_parser(
        'evaluate-bag',
        help='accuracy, latency and dropped frames of poses in a bag, against labels',
        description='Compares the poses in a bag (ros2 bag record, or rmpe replay) with labels. '
        'Frames are known by the stamp in the header of their poses: by the table that rmpe '
        'bag-from-images left in the bag or in --frames; else by frame_ids that are names of '
        'labelled pictures; else picture i has the stamp start + i / rate. Exit code 1 when parts '
        'of the bag are lost. '
        f'Needs {how_to_install("evaluate")}.',
    )
    parser.add_argument('bag', type=Path, metavar='BAG', help='folder, .mcap or .db3 file')
    parser.add_argument(
        '--annotations',
        type=Path,
        required=True,
        metavar='FILE',
        help='the labels (COCO, MPII or LSP)',
    )
    add_recording_options(parser)
    parser.add_argument(
        '--deadline',
        type=float,
        metavar='MS',
        help='poses that come later after their stamp are late (default: one frame)',
    )
    add_incomplete_option(parser)
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the numbers')
    parser.add_argument('--html', type=Path, metavar='FILE', help='write a page with the numbers')
    reads(parser, 'bag', '--annotations', '--frames')
    writes(parser, '--json', '--html')
    parser.set_defaults(run=run)


def add_recording_options(parser: argparse.ArgumentParser) -> None:
    """Which topics poses and images are on, and which picture each is of; see `find_frames`."""
    parser.add_argument(
        '--frames', type=Path, metavar='BAG', help='the bag of rmpe bag-from-images that was played'
    )
    parser.add_argument(
        '--poses-topic',
        metavar='TOPIC',
        help='of the poses (default: the only one with PersonPoseArray)',
    )
    add_image_topic(parser)
    add_schedule_options(parser)


@says_errors('evaluate-bag', extra='evaluate')
def run(args: argparse.Namespace) -> int:
    """Run the subcommand: 0, 1 when parts of the bag are lost, 2 when it cannot be evaluated."""
    from rmpe_ros.evaluation.evaluate_bag import find_pose_topic, match_frames, read_recording
    from rmpe_ros.evaluation.labels.label_files import read_labels
    from rmpe_ros.io.bags.reader import Bag
    from rmpe_ros.io.files import write_file

    labels = read_labels(args.annotations)
    files = [image.file for image in labels.images]
    with Bag(args.bag) as bag:
        recording = read_recording(bag, find_pose_topic(bag, args.poses_topic), args.image_topic)
        frames, how = find_frames(args, bag, recording, files)
        matching = match_frames(recording, frames, files, deadline_ms=args.deadline)
        if not matching.answers:
            first = recording.frames[0].stamp
            raise ValueError(
                f'not one of {len(recording.frames)} poses is of a labelled frame; tried {how}, '
                f'and the first stamp is {first / 1e9:.9f}; give the bag that was played with '
                '--frames, or its --rate and --start'
            )
        tell_warnings('evaluate-bag', bag)
        for reason, count in recording.broken.items():
            tell(f'{count} messages left out: {reason}', 'evaluate-bag')
        report, text, page = _report(args, labels, matching, how)
        print(text)
        if args.html:
            write_file(args.html, page)
        if args.json:
            write_file(args.json, json.dumps(report, indent=1) + '\n')
        return 1 if bag.damaged or recording.broken else 0


def find_frames(
    args: argparse.Namespace, bag: Bag, recording: Recording, files: list[str]
) -> tuple[dict[int, str], str]:
    """Stamp → file, and in words where that is known from, by the options --frames, --rate and
    --start.
    """
    from rmpe_ros.evaluation.evaluate_bag import frames_from_names
    from rmpe_ros.io.bags.frames import frame_schedule, frames_from_custom_data
    from rmpe_ros.io.bags.reader import Bag

    if args.frames is not None:
        with Bag(args.frames) as played:
            table = frames_from_custom_data(played.custom_data)
        if table is None:
            raise ValueError(
                f'{args.frames} does not say which picture a stamp is of; expected the folder '
                'that rmpe bag-from-images wrote, with its metadata.yaml'
            )
        return table, f'the table in {args.frames}'
    table = frames_from_custom_data(bag.custom_data)
    if table is not None:
        return table, 'the table in the bag'
    table = frames_from_names(recording, files)
    if table is not None:
        return table, 'frame_ids, which are names of pictures'
    return (
        frame_schedule(files, rate=args.rate, start=args.start),
        f'stamps {args.start:.15g} + i / {args.rate:g} s in the order of the annotations',
    )


def _report(
    args: argparse.Namespace, labels: Labels, matching: Matching, how: str
) -> tuple[dict[str, Any], str, str]:
    """Everything for JSON, as text and as a page."""
    from rmpe_ros.core.json_text import plain
    from rmpe_ros.evaluation.evaluate import evaluate
    from rmpe_ros.evaluation.evaluate_bag import (
        STAGES,
        clock_problem,
        found_people,
        percentiles,
    )
    from rmpe_ros.evaluation.report import align, bag_page, number, text_report

    found = found_people(matching, labels)
    evaluation = evaluate(labels, found, incomplete=args.incomplete)
    evaluation.notes[:0] = labels.notes
    seen = evaluate(
        labels.select(lambda image: image.id in found), found, incomplete=args.incomplete
    )
    problem = clock_problem(matching.answers)
    times = {} if problem else {'stamp to receiving': [e.latency_ms for e in matching.answers]}
    times |= {
        f'{stage} stage': [frame.stages_ms[index] for frame in matching.answers]
        for index, stage in enumerate(STAGES)
        if any(frame.stages_ms[index] for frame in matching.answers)
    }
    summaries = {name: percentiles(values) for name, values in times.items()}
    counts = asdict(matching.counts)
    report = {
        **evaluation.to_json(),
        'bag': str(args.bag),
        'matched_by': how,
        'frames': counts,
        'answered_only': {name: seen.to_json()[name] for name in ('oks', 'pck', 'pckh', 'mpii')},
        'deadline_ms': matching.deadline_ms,
        'latency_ms': summaries.get('stamp to receiving'),
        'latency_problem': problem,
        'stages_ms': {
            stage: summaries[f'{stage} stage'] for stage in STAGES if f'{stage} stage' in summaries
        },
    }
    rows = [list(counts), ['–' if each is None else str(each) for each in counts.values()]]
    parts = [f'Frames, matched by {how}\n{align(rows)}']
    if matching.deadline_ms is not None:
        parts[0] += f'\nlate: more than {matching.deadline_ms:g} ms after the stamp'
    table = [['ms', 'p50', 'p95', 'max']]
    table += [[name, *(number(v, 1) for v in each.values())] for name, each in summaries.items()]
    latency = [align(table)] if summaries else []
    latency += [problem] if problem else []
    parts.append('\n'.join(['Latency', *latency]))
    parts.append(text_report(evaluation))
    if matching.counts.dropped:
        parts.append(
            f'Without the {matching.counts.dropped} dropped frames: '
            + ', '.join(
                f'{name} {number(values[key])}'
                for name, values, key in (
                    ('OKS AP', seen.oks, 'AP'),
                    ('mean OKS', seen.oks, 'mean'),
                    ('mean PCK', seen.pck, 'mean'),
                )
                if values is not None
            )
        )
    page = bag_page(
        args.bag.absolute().name,
        evaluation,
        frames=rows,
        latency=table if summaries else [],
        notes=[f'frames are matched by {how}', *([problem] if problem else [])],
    )
    return plain(report), '\n\n'.join(parts), page
