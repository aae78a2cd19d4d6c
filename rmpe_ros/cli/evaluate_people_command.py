# SPDX-License-Identifier: Apache-2.0
"""`rmpe evaluate-people`: how well people are followed in space, in simulated rooms."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rmpe_ros.cli.errors import fail
from rmpe_ros.io.file_guard import writes

# Column heading, key of the summary, digits.
_COLUMNS = (
    ('place m', 'position_rmse_m', 3),
    ('6 cm + 1 %', 'position_allowed_m', 3),
    ('of distance %', 'position_percent', 1),
    ('feet seen', 'position_percent_feet', 1),
    ('not seen', 'position_percent_no_feet', 1),
    ('velocity m/s', 'velocity_rmse', 2),
    ('steady', 'velocity_steady_rmse', 2),
    ('heading °', 'heading_rmse_deg', 0),
    ('NEES', 'nees', 2),
    ('of place', 'nees_position', 2),
    ('of velocity', 'nees_velocity', 2),
    ('of heading', 'nees_heading', 2),
    ('switches', 'id_switches', 0),
    ('merges', 'merges', 0),
    ('lost %', 'lost_percent', 1),
    ('undecided %', 'undecided_percent', 1),
    ('minutes', 'minutes', 1),
)


def add_parser(subparsers: Any) -> None:
    """Declare the subcommand and its options."""
    from rmpe_ros.cli.argument_types import natural_number, share

    parser = subparsers.add_parser(
        'evaluate-people',
        help='errors of people in space (place, velocity, heading, ids) in simulated rooms',
        description='Films simulated people (who walk, cross, sit, leave, before a moving camera) '
        'with three cameras whose errors are those of real ones, follows them as people_node does, '
        'and compares with the truth. Modes: depth, ground and size alone; rgb: ground and size; '
        'rgbd: all. Place and velocity are root mean square errors of who is seen 1 to 5 m away, '
        'velocity of who walks (faster than 0.4 m/s), "steady" of who does not turn or stop within '
        'a second; "feet seen" is of who has both ankles in view; NEES (of all, those out of sight '
        'too) is 1 per degree of freedom where the stated covariance is that of the errors; '
        '"undecided" are sights of which it was not told whose they are.',
    )
    parser.add_argument(
        '--modes', nargs='+', metavar='MODE', help='how people are placed (default: all)'
    )
    parser.add_argument(
        '--scenes', nargs='+', metavar='SCENE', help='what people do (default: all)'
    )
    parser.add_argument(
        '--cameras', nargs='+', metavar='CAMERA', help='where they are filmed from (default: all)'
    )
    parser.add_argument(
        '--seconds',
        type=float,
        default=40.0,
        help='of each scene with each camera (default: 40: ten minutes)',
    )
    parser.add_argument('--seed', type=natural_number, default=0, help='other people, other errors')
    parser.add_argument(
        '--misses',
        type=share,
        default=0.1,
        metavar='SHARE',
        help='of sights that the detector does not find (default: 0.1)',
    )
    parser.add_argument('--by-scene', action='store_true', help='a table for each scene, too')
    parser.add_argument(
        '--cost',
        type=natural_number,
        metavar='PEOPLE',
        help='print what following so many people costs in CPU time, and nothing else',
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the numbers')
    writes(parser, '--json')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand: 0, or 2 when a name is unknown."""
    from rmpe_ros.evaluation.people.evaluate_people import MODES, evaluate_people
    from rmpe_ros.evaluation.people.simulated_rooms import CAMERAS, Errors
    from rmpe_ros.evaluation.people.simulated_scenes import SCENES
    from rmpe_ros.io.files import write_file

    if args.cost is not None:
        return _print_cost(max(args.cost, 1))
    chosen: dict[str, list[str]] = {}
    for option, known in (('modes', MODES), ('scenes', SCENES), ('cameras', CAMERAS)):
        chosen[option] = getattr(args, option) or list(known)
        for name in chosen[option]:
            if name not in known:
                return fail(
                    f'--{option} has no {name!r}; there are {", ".join(known)}',
                    command='evaluate-people',
                )
    if not 1 <= args.seconds < 1e5:
        return fail(
            f'--seconds must be from 1 to 100000, got {args.seconds:g}', command='evaluate-people'
        )
    result = evaluate_people(
        modes=chosen['modes'],
        scenes=chosen['scenes'],
        cameras=chosen['cameras'],
        seconds=args.seconds,
        seed=args.seed,
        errors=Errors(misses=args.misses),
        on_room=lambda room: print(f'filming: {room}', file=sys.stderr),
    )
    print(_table(result['modes'], 'mode'))
    for mode, methods in result['methods'].items():
        shares = ', '.join(f'{name} {percent:.1f} %' for name, percent in methods.items())
        print(f'{mode}: error of the distance when last measured by {shares}')
    print(f'number switches of the image tracker alone: {result["image_tracker_switches"]}')
    if args.by_scene:
        print()
        print(_table(result['scenes'], 'mode: scene'))
    if args.json:
        write_file(args.json, json.dumps(result, indent=1) + '\n')
    return 0


def _print_cost(count: int) -> int:
    from rmpe_ros.core.people.people_state import Axes
    from rmpe_ros.evaluation.people.people_cost import people_cost

    try:
        from std_msgs.msg import Header

        from rmpe_ros.nodes.people.people_messages import PeopleMessages
    except ImportError:
        then = None
    else:
        messages, header, axes = PeopleMessages(), Header(frame_id='map'), Axes.of_map()

        def then(people: Any) -> object:
            return messages.make(people, header, axes)

    cost = people_cost(count, then=then)
    if then is None:
        del cost['message']  # needs ROS
    told = ', '.join(f'{step} {milliseconds:.2f} ms' for step, milliseconds in cost.items())
    print(f'{count} people, CPU time an image: {told}')
    return 0


def _table(summaries: dict[str, dict[str, float]], first: str) -> str:
    from rmpe_ros.evaluation.report import align, number

    rows = [[first, *(heading for heading, _, _ in _COLUMNS)]]
    for name, summary in summaries.items():
        rows.append([name, *(number(summary[key], digits) for _, key, digits in _COLUMNS)])
    return align(rows)
