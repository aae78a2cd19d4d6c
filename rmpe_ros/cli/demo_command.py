# SPDX-License-Identifier: Apache-2.0
"""`rmpe demo`: the ROS nodes at work on photos, a video or a webcam."""

import argparse
from pathlib import Path

from rmpe_ros.io.file_guard import reads


def add_parser(subparsers: 'argparse._SubParsersAction[argparse.ArgumentParser]') -> None:
    """Declare `rmpe demo` and its options."""
    parser = subparsers.add_parser(
        'demo',
        help='run the ROS 2 nodes on photos, a video or a webcam',
        description='Start source, pose and visualizer nodes as processes of their own, print '
        'people and latency, leave annotated pictures and an mcap bag, and check both.',
    )
    parser.add_argument(
        '--source', required=True, help='photo, folder, video file or webcam (webcam:0)'
    )
    parser.add_argument(
        '--out', type=Path, default=Path('out'), help='folder for the results (default: out)'
    )
    parser.add_argument(
        '--max-images',
        type=int,
        default=300,
        help='end a video or webcam after so many frames, 0: never (default: 300)',
    )
    parser.add_argument('--detector', metavar='MODEL', help='shipped model or path of an ONNX file')
    parser.add_argument('--pose', metavar='MODEL', help='shipped model or path of an ONNX file')
    parser.add_argument('--pose-model', dest='pose', help=argparse.SUPPRESS)
    reads(parser, '--detector', '--pose')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the demo; returns the process exit code."""
    from rmpe_ros.cli.processes.demo import DemoOptions, run_demo

    models = {'detector': args.detector, 'pose_model': args.pose}
    parameters = {name: value for name, value in models.items() if value}
    return run_demo(DemoOptions(args.source, args.out, args.max_images, parameters))
