# SPDX-License-Identifier: Apache-2.0
"""`rmpe bag-from-images`: a bag made of a folder of (labelled) photos, as if a camera saw them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmpe_ros.cli.argument_types import add_size_limit, number_between
from rmpe_ros.cli.errors import fail
from rmpe_ros.cli.replay_command import add_storage_option
from rmpe_ros.core.odd_paths import path_hint
from rmpe_ros.io.bags.frames import DEFAULT_RATE, DEFAULT_START, LATEST_START
from rmpe_ros.io.file_guard import reads, writes

if TYPE_CHECKING:
    from rmpe_ros.io.images import SourceImage

# What can go into a CompressedImage as it is.
_FORMATS = {'.jpg': 'jpeg', '.jpeg': 'jpeg', '.png': 'png'}


def add_parser(subparsers: Any) -> None:
    """Declare the subcommand and its options."""
    parser = subparsers.add_parser(
        'bag-from-images',
        help='make a bag of a folder of photos, labelled or not',
        description='Writes a bag of image messages. The stamp of a photo is start + number / '
        'rate; photos are numbered from 0 in the order of the annotation file, or else of their '
        'names, frame_2 before frame_10. '
        'Exit code 1 when a photo could not be read; nothing takes its number.',
    )
    parser.add_argument('images', type=Path, metavar='DIR', help='folder of photos')
    parser.add_argument(
        '--annotations',
        type=Path,
        metavar='FILE',
        help='take the photos that it lists, in its order (COCO, MPII or LSP labels)',
    )
    parser.add_argument('--out', type=Path, required=True, metavar='BAG', help='bag to write')
    parser.add_argument(
        '--topic', default='/image_raw', help='of the images (default: %(default)s)'
    )
    parser.add_argument(
        '--frame-id',
        default='camera_optical_frame',
        help='in the headers (default: %(default)s)',
    )
    parser.add_argument(
        '--compressed',
        action='store_true',
        help='CompressedImage on TOPIC/compressed: JPEG and PNG files as they are, others as PNG',
    )
    add_schedule_options(parser)
    add_storage_option(parser)
    add_size_limit(parser)
    reads(parser, 'images', '--annotations')
    writes(parser, '--out', folder=True)
    parser.set_defaults(run=run)


def add_schedule_options(parser: argparse.ArgumentParser) -> None:
    """The two numbers that say which stamp a photo has; see `rmpe_ros/io/bags/frames.py`."""
    parser.add_argument(
        '--rate',
        type=number_between(1e-3, 1000, 'a rate'),
        default=DEFAULT_RATE,
        metavar='HZ',
        help='photos per second (default: %(default)g)',
    )
    parser.add_argument(
        '--start',
        type=number_between(0, LATEST_START, 'seconds since 1970'),
        default=DEFAULT_START,
        metavar='SECONDS',
        help='stamp of photo number 0, since 1970 (default: %(default).0f, the year 2020)',
    )


def run(args: argparse.Namespace) -> int:
    """Run the subcommand: 0, 1 when a photo could not be read, 2 when there is none to read."""
    from rmpe_ros.io.bags.frames import frame_schedule, frames_to_custom_data
    from rmpe_ros.io.bags.message_types import COMPRESSED_IMAGE, IMAGE, bag_types
    from rmpe_ros.io.bags.writer import BagTopic, BagWriter, check_is_new
    from rmpe_ros.io.progress import Progress

    check_is_new(args.out)
    try:
        files = _list_files(args)
    except ValueError as error:
        return fail(error, 2, 'bag-from-images')
    schedule = frame_schedule(files, rate=args.rate, start=args.start)
    topic = BagTopic(
        args.topic + '/compressed' * args.compressed, COMPRESSED_IMAGE if args.compressed else IMAGE
    )
    failures = 0
    with (
        BagWriter(
            args.out, [topic], storage=args.storage, custom_data=frames_to_custom_data(schedule)
        ) as bag,
        Progress(len(files), 'photo') as progress,
    ):
        for stamp, item in zip(schedule, _read(args.images, files), strict=True):
            if item.image is None:
                failures += 1
                progress.say(f'rmpe bag-from-images: error: {item.error}')
            else:
                if item.warning:
                    progress.say(f'rmpe bag-from-images: warning: {item.warning}')
                message = _message(item, stamp, args)
                bag.write(topic.name, stamp, bag_types().serialize_cdr(message, topic.type))
            progress.advance()
        if failures == len(files):
            bag.abort()
            return fail('not one photo could be read', 2, 'bag-from-images')
    print(
        f'{len(files) - failures} photos on {topic.name} at {args.rate:g} Hz'
        + (f', {failures} could not be read' if failures else '')
        + f', bag in {args.out}'
    )
    return 1 if failures else 0


def _list_files(args: argparse.Namespace) -> list[str]:
    """File names relative to the folder; raises ValueError for a bad folder or annotation file."""
    from rmpe_ros.io.images import list_folder

    if not args.images.is_dir():
        hint = '' if args.images.exists() else path_hint(args.images)
        raise ValueError(f'{args.images} is not a folder{hint}')
    if args.annotations:
        from rmpe_ros.evaluation.labels.label_files import read_label_file

        files = [image.file for image in read_label_file(args.annotations).images]
        where = args.annotations
    else:
        files = [path.name for path in list_folder(args.images)]
        where = args.images
    if not files:
        raise ValueError(f'{where}: there are no photos in it')
    return files


def _read(folder: Path, files: list[str]) -> Iterator[SourceImage]:
    """One item for each file."""
    from rmpe_ros.io.images import ImageError, SourceImage, load_image

    for file in files:
        path = folder / file
        warnings: list[str] = []
        try:
            image = load_image(path, warn=warnings.append)
            yield SourceImage(file, path, image, warning='; '.join(warnings) or None)
        except ImageError as error:
            yield SourceImage(file, path, None, str(error))


def _message(item: SourceImage, stamp: int, args: argparse.Namespace) -> Any:
    import cv2
    import numpy as np

    from rmpe_ros.io.bags.message_types import bag_classes
    from rmpe_ros.io.messages import make_header, rgb_to_image

    assert item.image is not None and item.path is not None
    classes = bag_classes()
    header = make_header(stamp, args.frame_id, classes)
    if not args.compressed:
        return rgb_to_image(item.image, header, classes)
    kind = _FORMATS.get(item.path.suffix.lower())
    if kind:
        data = np.frombuffer(item.path.read_bytes(), np.uint8)
    else:
        kind = 'png'
        data = cv2.imencode('.png', cv2.cvtColor(item.image, cv2.COLOR_RGB2BGR))[1].reshape(-1)
    return classes.compressed_image(
        header=header, format=f'rgb8; {kind} compressed bgr8', data=classes.pack(data)
    )
