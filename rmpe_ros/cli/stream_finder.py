# SPDX-License-Identifier: Apache-2.0
"""People in photos one by one, and in videos and webcams with a detection now and then."""

import argparse
from typing import TYPE_CHECKING

from rmpe_ros.cli.argument_types import positive_number
from rmpe_ros.core.limits import DETECT_EVERY

if TYPE_CHECKING:
    from collections.abc import Callable

    from rmpe_ros.core.poses import Poses
    from rmpe_ros.io.images import SourceImage
    from rmpe_ros.pipeline import PosePipeline


def add_stream_option(parser: argparse.ArgumentParser) -> None:
    """The option of every command that runs the pipeline over videos."""
    parser.add_argument(
        '--detect-every',
        type=positive_number,
        metavar='N',
        help='of a video, detect people in every Nth image, and follow them in the others '
        f'(default: {DETECT_EVERY}; 1 for a bag of photos, made by bag-from-images)',
    )


class StreamFinder:
    """Finds the people in photos, and follows them through each video or webcam."""

    def __init__(
        self, args: argparse.Namespace, pipeline: 'PosePipeline', say: 'Callable[[str], None]'
    ) -> None:
        from rmpe_ros.core.one_euro import OneEuroParameters
        from rmpe_ros.core.tracking import TrackingParameters
        from rmpe_ros.pipeline import PoseStream

        smoothing = OneEuroParameters() if args.smooth else None
        self._tracks = args.track or args.smooth
        self._pipeline, self._say = pipeline, say
        self._people = PoseStream(
            pipeline,
            detect_every=args.detect_every or DETECT_EVERY,
            tracking=TrackingParameters(smoothing=smoothing) if self._tracks else None,
        )
        self._stream: str | None = None
        self._has_told = False

    def find(self, item: 'SourceImage') -> 'Poses':
        from rmpe_ros.io.images import USUAL_RATE

        assert item.image is not None
        if item.frame is None:
            if self._tracks and not self._has_told:
                self._has_told = True
                self._say(
                    '--track and --smooth follow people through videos and webcams; photos are '
                    'left without numbers'
                )
            return self._pipeline(item.image)
        stream = item.name.partition('#')[0]
        if stream != self._stream or item.frame == 0:
            self._people.reset()
            self._stream = stream
        seconds = item.frame / (item.rate or USUAL_RATE) if item.time is None else item.time
        return self._people(item.image, seconds)
