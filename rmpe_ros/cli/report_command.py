# SPDX-License-Identifier: Apache-2.0
"""`rmpe report`: a recorded bag, or two of them, as one page to look at."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmpe_ros.cli.argument_types import positive_number
from rmpe_ros.cli.errors import fail, says_errors, tell
from rmpe_ros.cli.evaluate_bag_command import add_recording_options, find_frames
from rmpe_ros.cli.replay_command import tell_warnings
from rmpe_ros.io.file_guard import reads, writes

if TYPE_CHECKING:
    from rmpe_ros.evaluation.bag_report.recorded_run import RecordedRun
    from rmpe_ros.io.bags.reader import Bag


def add_parser(subparsers: Any) -> None:
    """Declare the subcommand and its options."""
    parser = subparsers.add_parser(
        'report',
        help='a page with player, latency, drops and worst frames of a bag, or of two side by side',
        description='Writes one HTML file that opens in any browser, without a network: a player '
        'with skeletons and ids, and below it on the same time axis latency by stage, drops and '
        'why, people, scores, id changes; the moments worth a look; with labels the accuracy. Two '
        'bags, such as before and after a change, are shown side by side with their differences '
        'marked. Of long recordings the player shows a part of the frames, the curves all.',
    )
    parser.add_argument(
        'bag', nargs='+', type=Path, metavar='BAG', help='one or two: folder, .mcap or .db3 file'
    )
    parser.add_argument(
        '--out', type=Path, default=Path('report.html'), metavar='FILE',
        help='the page to write (default: report.html)',
    )  # fmt: skip
    parser.add_argument(
        '--annotations', type=Path, metavar='FILE', help='labels (COCO, MPII or LSP), for accuracy'
    )
    add_recording_options(parser)
    parser.add_argument(
        '--max-frames',
        type=positive_number,
        metavar='N',
        help='frames in the player, for all bags together (default: 900)',
    )
    reads(parser, 'bag', '--annotations', '--frames')
    writes(parser, '--out')
    parser.set_defaults(run=run)


@says_errors('report', extra='evaluate')
def run(args: argparse.Namespace) -> int:
    """Run the subcommand: 0, 1 when parts of a bag are lost, 2 when there is nothing to show."""
    from rmpe_ros.evaluation.bag_report.run_moments import compare_runs
    from rmpe_ros.evaluation.bag_report.run_page import run_page
    from rmpe_ros.evaluation.bag_report.shown_run import show_run
    from rmpe_ros.io.bags.reader import Bag
    from rmpe_ros.io.files import write_file

    if len(args.bag) > 2:
        return fail('one bag, or two side by side', 2, 'report')
    shown, damaged = [], False
    for path, name in zip(args.bag, _names(args.bag), strict=True):
        with Bag(path) as bag:
            shown.append(
                show_run(
                    bag,
                    name,
                    poses_topic=args.poses_topic,
                    image_topic=args.image_topic,
                    most=args.max_frames,
                    share=len(args.bag),
                    measure=partial(_measure, args, bag) if args.annotations else None,
                )
            )
            tell_warnings('report', bag)
            damaged |= bag.damaged or bool(shown[-1].run.recording.broken)
    differences = compare_runs(shown[0].run, shown[1].run) if len(shown) == 2 else None
    if differences is not None and not differences:
        tell(
            'warning: not one stamp is in both bags, so their differences cannot be marked',
            'report',
        )
    write_file(args.out, run_page(shown, differences))
    for each in shown:
        print(
            f'{each.name}: {len(each.run.frames)} frames, {len(each.run.answers)} with poses, '
            f'{len(each.frames)} of them in the player'
        )
    return 1 if damaged else 0


def _names(paths: list[Path]) -> list[str]:
    """The bags' own names, with their folders where these are the same."""
    names = [path.absolute().name for path in paths]
    if len(set(names)) < len(names):
        names = ['/'.join(path.absolute().parts[-2:]) for path in paths]
    return (
        names if len(set(names)) == len(names) else [f'{i + 1}: {n}' for i, n in enumerate(names)]
    )


def _measure(args: argparse.Namespace, bag: Bag, run: RecordedRun) -> list[tuple[str, str]]:
    """Numbers against the labels; each labelled frame gets its accuracy."""
    from rmpe_ros.evaluation.bag_report.run_accuracy import measure_run
    from rmpe_ros.evaluation.labels.label_files import read_labels

    labels = read_labels(args.annotations)
    files = [image.file for image in labels.images]
    table, how = find_frames(args, bag, run.recording, files)
    numbers = measure_run(run, labels, table)
    if numbers is None:
        raise ValueError(f'{bag.path}: not one pose is of a labelled frame; tried {how}')
    return numbers
