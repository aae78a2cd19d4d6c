# SPDX-License-Identifier: Apache-2.0
"""`rmpe replay`: the pipeline over every image of a bag, to a new bag with the poses."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmpe_ros.cli.errors import fail, tell
from rmpe_ros.cli.export_options import add_export_options, export_targets
from rmpe_ros.cli.predict_command import add_pipeline_options, open_pipeline
from rmpe_ros.cli.stream_finder import add_stream_option
from rmpe_ros.core.limits import DETECT_EVERY
from rmpe_ros.io.file_guard import derives, reads, writes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rmpe_ros.core.poses import Poses
    from rmpe_ros.io.bags.reader import Bag, BagMessage, TopicInfo
    from rmpe_ros.pipeline import PosePipeline

_POSES_TOPIC, _SKELETON_TOPIC = '/poses', '/skeleton'


def add_parser(subparsers: Any) -> None:
    """Declare the subcommand and its options."""
    parser = subparsers.add_parser(
        'replay',
        help='run the pipeline over a bag, every frame, and write a bag with the poses',
        description='Runs the pipeline over every image of a bag, without a clock and without ROS, '
        'and writes a bag with poses and skeleton. Poses have the header of their image and its '
        'time of receiving; the stage times in them are 0, so that the same bag gives the same '
        'bytes. Exit code 1 when some of the images could not be used.',
    )
    parser.add_argument('bag', type=Path, metavar='BAG', help='folder, .mcap or .db3 file')
    parser.add_argument('--out', type=Path, required=True, metavar='BAG', help='bag to write')
    add_image_topic(parser)
    parser.add_argument('--with-images', action='store_true', help='copy the images, too')
    add_storage_option(parser)
    add_stream_option(parser)
    add_export_options(parser)
    add_pipeline_options(parser)
    reads(parser, 'bag')
    writes(parser, '--out', folder=True)
    derives(parser, targets=export_targets)
    parser.set_defaults(run=run)


def add_image_topic(parser: argparse.ArgumentParser) -> None:
    """The option of every command that reads images of a bag; see `find_image_topic`."""
    parser.add_argument(
        '--image-topic',
        metavar='TOPIC',
        help='of the images (default: /image_raw, or the only one with images)',
    )


def add_storage_option(parser: argparse.ArgumentParser) -> None:
    """The option of every command that writes a bag."""
    parser.add_argument(
        '--storage',
        choices=('mcap', 'sqlite3'),
        default='mcap',
        help='kind of the bag to write (default: %(default)s)',
    )


def run(args: argparse.Namespace) -> int:
    """Run the subcommand: 0, 1 when something was lost on the way, 2 without a usable bag."""
    from rmpe_ros.io.bags.image_topic import find_image_topic
    from rmpe_ros.io.bags.reader import Bag
    from rmpe_ros.io.bags.storage import BagError
    from rmpe_ros.io.bags.writer import check_is_new
    from rmpe_ros.io.progress import Progress

    check_is_new(args.out)
    try:
        with Bag(args.bag) as bag:
            topic = find_image_topic(bag, args.image_topic)
            with open_pipeline(args) as pipeline, Progress(topic.count, 'image') as progress:
                replay = _Replay(args, bag, topic, pipeline, progress)
                replay.run()
            tell_warnings('replay', bag)
            for reason, count in replay.failures.items():
                tell(f'{count} images left out: {reason}', 'replay')
            for reason, count in replay.oddities.items():
                tell(f'warning: {count} images: {reason}', 'replay')
            print(
                f'{replay.frames} images of {topic.name}, {replay.people} people, '
                f'poses in {args.out}'
            )
            return 1 if bag.damaged or replay.failures else 0
    except BagError as error:
        return fail(error, 2, 'replay')


def tell_warnings(command: str, bag: Bag) -> None:
    """Print what was wrong with a bag."""
    for warning in bag.warnings:
        tell(f'warning: {warning}', command)


class _Replay:
    """One run, and what has been done so far."""

    def __init__(
        self,
        args: argparse.Namespace,
        bag: Bag,
        topic: TopicInfo,
        pipeline: PosePipeline,
        progress: Any,
    ) -> None:
        from rmpe_ros.io.bags.frames import frames_from_custom_data
        from rmpe_ros.io.exports import open_exporters, options_of
        from rmpe_ros.pipeline import PoseStream

        self.args, self.bag, self.topic = args, bag, topic
        self.pipeline, self.progress = pipeline, progress
        self.files = frames_from_custom_data(bag.custom_data) or {}
        # Nobody can be followed from one photo to another one.
        usual = 1 if self.files else DETECT_EVERY
        self.stream = PoseStream(pipeline, detect_every=args.detect_every or usual)
        self.frames = self.people = 0
        self.exporters = open_exporters(pipeline.skeleton, **options_of(vars(args)))
        self.failures: Counter[str] = Counter()
        self.oddities: Counter[str] = Counter()

    def run(self) -> None:
        """Raises BagError when not one image could be used; the output is gone then."""
        from rmpe_ros.io.bags.message_types import POSES, SKELETON
        from rmpe_ros.io.bags.storage import BagError
        from rmpe_ros.io.bags.writer import BagTopic, BagWriter

        topics = [BagTopic(_POSES_TOPIC, POSES), BagTopic(_SKELETON_TOPIC, SKELETON, latched=True)]
        if self.args.with_images:
            topics.append(BagTopic(self.topic.name, self.topic.type))
        with BagWriter(
            self.args.out, topics, storage=self.args.storage, custom_data=self.bag.custom_data
        ) as self.output:
            try:
                for item in self.bag.messages([self.topic]):
                    self._process(item)
            finally:
                for exporter in self.exporters:
                    exporter.close()
            if not self.frames:
                raise BagError(
                    f'{self.bag.path}: not one image on {self.topic.name} can be used: '
                    + '; '.join([*self.failures, *self.bag.warnings])
                )

    def _process(self, item: BagMessage) -> None:
        from rmpe_ros.core.clothes import clothes_colours
        from rmpe_ros.io.messages import (
            NANOSECONDS,
            ImageConversionError,
            message_to_rgb,
            stamp_nanoseconds,
        )
        from rmpe_ros.io.pose_messages import serialize_poses

        try:
            image = message_to_rgb(item.message, warn=lambda text: self.oddities.update([text]))
        except ImageConversionError as error:
            self.failures[str(error)] += 1
            self.progress.advance()
            return
        header = item.message.header
        poses = self.stream(image, stamp_nanoseconds(header) / NANOSECONDS, header.frame_id)
        poses.colours = clothes_colours(image, poses)
        message = serialize_poses(poses, header, image_size=image.shape[:2])
        if not self.frames:
            self._write_skeleton(item)
        if self.args.with_images:
            self.output.write(self.topic.name, item.received, item.data)
        self.output.write(_POSES_TOPIC, item.received, message)
        self._export(item, image, poses)
        self.frames += 1
        self.people += len(poses)
        self.progress.advance(f'{self.people} people')

    def _export(self, item: BagMessage, image: NDArray[np.uint8], poses: Poses) -> None:
        from rmpe_ros.io.exports import Picture
        from rmpe_ros.io.messages import stamp_nanoseconds

        stamp = stamp_nanoseconds(item.message.header)
        file = self.files.get(stamp)
        picture = (
            Picture(file, image)
            if file
            else Picture(f'{self.topic.name.strip("/").replace("/", "_")}#{self.frames:06d}',
                         image, self.frames, stamp / 1e9)
        )  # fmt: skip
        for exporter in self.exporters:
            exporter.add(picture, poses)

    def _write_skeleton(self, first: BagMessage) -> None:
        from rmpe_ros.io.bags.message_types import SKELETON, bag_classes, bag_types
        from rmpe_ros.io.messages import make_header, skeleton_to_message, stamp_nanoseconds

        header = make_header(stamp_nanoseconds(first.message.header), '', bag_classes())
        message = skeleton_to_message(self.pipeline.skeleton, header, bag_classes())
        data = bag_types().serialize_cdr(message, SKELETON)
        self.output.write(_SKELETON_TOPIC, first.received, data)
