# SPDX-License-Identifier: Apache-2.0
"""`PoseStream`: the images of one camera or video to poses, with a detection now and then."""

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.core.limits import DETECT_EVERY
from rmpe_ros.core.poses import Poses
from rmpe_ros.core.seldom_detection import SeldomDetection
from rmpe_ros.core.tracking import PoseTracker, TrackingParameters
from rmpe_ros.pipeline import PosePipeline


class PoseStream:
    """A pipeline over the images of one camera or video, in their order.

    detect_every: detect people in every such image; in the others they are looked for where they
        should have gone. 1 is what the pipeline does by itself.
    tracking: give people their `track_ids`; None leaves them out.
    Raises ValueError when detect_every is less than 1.
    """

    def __init__(
        self,
        pipeline: PosePipeline,
        *,
        detect_every: int = DETECT_EVERY,
        tracking: TrackingParameters | None = None,
    ) -> None:
        if detect_every < 1:
            raise ValueError(f'detect_every must be 1 or more, got {detect_every}')
        self.pipeline = pipeline
        self._tracking = tracking
        self._detection = SeldomDetection(detect_every, PoseTracker(tracking))

    def reset(self) -> None:
        """Forget everybody, for another video; numbers go on."""
        self._detection.reset()

    def __call__(self, image: NDArray[np.uint8], stamp_seconds: float) -> Poses:
        """The people in the next image, uint8 (H, W, 3) RGB, best first.

        stamp_seconds: time of the image, see `PoseTracker.update`. Raises ValueError as that and
        the pipeline do.
        """
        if self._detection.every == 1 and self._tracking is None:
            return self.pipeline(image)
        height, width = image.shape[:2]
        boxes = self._detection.forecast(stamp_seconds, (height, width))
        poses = self.pipeline.batch([image], boxes=[boxes])[0]
        numbered = self._detection.update(
            poses, self.pipeline.box_scores[0], stamp_seconds, detected=boxes is None
        )
        return poses if self._tracking is None else numbered
