# SPDX-License-Identifier: Apache-2.0
"""Makes the pictures of the documentation with the software itself, into docs/images.

    python3 docs/make_pictures.py .build/photos

The photos are those of `make demo` that may be shown: scikit-image's astronaut (NASA, public
domain) and camera (CC0), matplotlib's grace_hopper (US Navy, public domain).
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from rmpe_ros import PosePipeline, load_image
from rmpe_ros.core.drawing import draw_poses
from rmpe_ros.core.tracking import PoseTracker
from rmpe_ros.io.files import write_file

IMAGES = Path(__file__).parent / 'images'
HEIGHT = 420
RATE = 15


def people(pipeline: PosePipeline, photos: list[np.ndarray]) -> np.ndarray:
    """The photos side by side with their skeletons."""
    drawn = [draw_poses(photo, pipeline(photo)) for photo in photos]
    sizes = [(round(each.shape[1] * HEIGHT / each.shape[0]), HEIGHT) for each in drawn]
    pairs = zip(drawn, sizes, strict=True)
    return np.hstack([cv2.resize(d, s, interpolation=cv2.INTER_AREA) for d, s in pairs])


def tracking(pipeline: PosePipeline, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Three images of a sequence in which two photos pass each other, with track numbers."""
    tracker = PoseTracker()
    left, right = cv2.resize(left, (280, 280)), cv2.resize(right, (130, 152))
    shown = []
    for frame in range(46):
        image = np.full((320, 640, 3), 120, np.uint8)
        share = frame / 45
        x = round(20 + 320 * share)
        image[40:320, x : x + 280] = left
        x = round(490 - 470 * share)
        image[168:320, x : x + 130] = right
        poses = tracker.update(pipeline(image), frame / RATE)
        if frame in (4, 22, 41):
            shown.append(draw_poses(image, poses[poses.scores >= 0.2], labels=True))
    return np.hstack([cv2.resize(each, (480, 240), interpolation=cv2.INTER_AREA) for each in shown])


def main(folder: Path) -> int:
    photos = [load_image(folder / n) for n in ('astronaut.png', 'grace_hopper.jpg', 'camera.png')]
    with PosePipeline() as pipeline:
        pictures = {
            'people.png': people(pipeline, photos),
            'tracking.png': tracking(pipeline, photos[0], photos[1]),
        }
    for name, picture in pictures.items():
        encoded = cv2.imencode('.png', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
        write_file(IMAGES / name, encoded.tobytes())
        print(IMAGES / name)
    return 0


if __name__ == '__main__':
    sys.exit(main(Path(sys.argv[1])))
