# SPDX-License-Identifier: Apache-2.0
"""When image_source_node publishes the next image; the clock is turned by hand."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')
pytest.importorskip('rmpe_ros.msg', reason='needs the built messages of this package')

from rmpe_ros.io.images import SourceImage
from rmpe_ros.nodes import image_source_node
from rmpe_ros.nodes.image_source_node import Pace

pytestmark = pytest.mark.ros

PIXEL = np.zeros((1, 1, 3), np.uint8)
PHOTO = SourceImage('a.jpg', Path('a.jpg'), PIXEL)
VIDEO = SourceImage('c.mp4#000001', Path('c.mp4'), PIXEL, frame=1, rate=25.0)
SILENT_VIDEO = SourceImage('c.mp4#000001', Path('c.mp4'), PIXEL, frame=1, rate=None)
VARIABLE = [
    SourceImage(f'c.mp4#{n}', Path('c.mp4'), PIXEL, frame=n, rate=25.0, time=time)
    for n, time in enumerate([0.0, 0.04, 0.94])
]
WEBCAM = SourceImage('webcam:0#000001', None, PIXEL, frame=1, rate=30.0)


@pytest.mark.parametrize(
    ('rate', 'item', 'period'),
    [
        (0.0, PHOTO, 1.0),
        (0.0, VIDEO, 0.04),
        (0.0, SILENT_VIDEO, 0.0),
        (0.0, WEBCAM, 0.0),
        (4.0, PHOTO, 0.25),
        (4.0, VIDEO, 0.25),
        (4.0, WEBCAM, 0.25),
    ],
)
def test_images_follow_at_their_period_and_late_ones_at_once(monkeypatch, rate, item, period):
    now = 100.0
    monkeypatch.setattr(image_source_node.time, 'monotonic', lambda: now)
    pace = Pace(rate)
    assert pace.delay(item) == 0.0
    assert pace.delay(item) == pytest.approx(period)
    now = 103.0
    assert pace.delay(item) == 0.0
    # Three seconds late is no reason for a burst.
    assert pace.delay(item) == pytest.approx(period)


def test_a_video_goes_by_the_times_of_its_frames(monkeypatch):
    monkeypatch.setattr(image_source_node.time, 'monotonic', lambda: 100.0)
    pace = Pace(0.0)
    due = [pace.delay(item) for item in [*VARIABLE, VARIABLE[0]]]
    # From the start again, and for a frame that comes twice, by the rate.
    assert due == pytest.approx([0, 0.04, 0.94, 0.98])
