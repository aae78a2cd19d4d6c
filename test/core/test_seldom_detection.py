# SPDX-License-Identifier: Apache-2.0
"""Detection in every Nth image: when it is due, and where people are looked for meanwhile."""

from dataclasses import replace

import numpy as np
import pytest

from rmpe_ros.core.boxes import box_iou
from rmpe_ros.core.one_euro import OneEuroParameters
from rmpe_ros.core.poses import Poses
from rmpe_ros.core.seldom_detection import SeldomDetection
from rmpe_ros.core.skeletons import BODY19, COCO17
from rmpe_ros.core.tracking import PoseTracker, TrackingParameters

from .walkers import Frame, Walker, walk

SIZE = (480, 640)
WALKERS = [Walker((150, 100), (90, 0)), Walker((400, 120), (-60, 10), phase=2.0, height=230)]


def run(detection: SeldomDetection, frames: list[Frame]) -> list[np.ndarray | None]:
    """What was forecast for each frame; the people of the frames are found in any case."""
    forecasts = []
    for frame in frames:
        forecast = detection.forecast(frame.stamp, SIZE)
        forecasts.append(None if forecast is None else forecast[0])
        detection.update(frame.poses, frame.poses.scores, frame.stamp, detected=forecast is None)
    return forecasts


def detected(forecasts: list[np.ndarray | None]) -> list[int]:
    return [number for number, forecast in enumerate(forecasts) if forecast is None]


@pytest.mark.parametrize(
    ('every', 'images'), [(1, list(range(11))), (2, [0, 2, 4, 6, 8, 10]), (5, [0, 5, 10])]
)
def test_detection_is_due_in_every_nth_image(every: int, images: list[int]) -> None:
    frames = list(walk(WALKERS, seconds=1, rate=10))
    assert detected(run(SeldomDetection(every), frames)) == images


def test_the_number_may_change_at_any_time() -> None:
    detection = SeldomDetection(1)
    frames = list(walk(WALKERS, seconds=1.4, rate=10))
    assert detected(run(detection, frames[:4])) == [0, 1, 2, 3]
    detection.every = 5
    assert detected(run(detection, frames[4:12])) == [
        4,
    ]
    detection.every = 2
    assert detected(run(detection, frames[12:])) == [0, 2]


def test_with_nobody_there_every_image_is_detected_in() -> None:
    frames = [replace(frame, poses=frame.poses[[]]) for frame in walk(WALKERS, seconds=1)]
    forecasts = run(SeldomDetection(5), frames)
    assert forecasts == [None] * len(frames)


def test_it_detects_when_the_last_one_has_gone() -> None:
    frames = list(walk(WALKERS, seconds=1, rate=10))
    frames[2] = replace(frames[2], poses=frames[2].poses[[]])
    assert detected(run(SeldomDetection(5), frames))[:3] == [0, 3, 8]


@pytest.mark.parametrize('rate', [10, 30])
@pytest.mark.parametrize('smoothing', [None, OneEuroParameters()])
def test_boxes_are_where_people_go(rate: int, smoothing: OneEuroParameters | None) -> None:
    """Of people whose motion is known, the forecast is the box of their joints."""
    tracker = PoseTracker(TrackingParameters(smoothing=smoothing))
    frames = list(walk(WALKERS, seconds=2, rate=rate, noise=1))
    forecasts = run(SeldomDetection(5, tracker), frames)
    for frame, forecast in list(zip(frames, forecasts, strict=True))[rate // 2 :]:
        if forecast is None:
            continue
        truth = np.concatenate([frame.truth.min(axis=1), frame.truth.max(axis=1)], axis=1)
        # 3 % of the height on each side of the joints.
        margin = np.ptp(frame.truth, axis=1).max(axis=1, keepdims=True) * 0.03
        wanted = truth + margin * np.array([-1, -1, 1, 1])
        assert box_iou(wanted, forecast).max(axis=1).min() > 0.7


def test_a_head_without_a_top_gets_more_room_above() -> None:
    (frame,) = walk(WALKERS[:1], seconds=0)
    points, scores = frame.poses.keypoints[:, :17], frame.poses.keypoint_scores[:, :17]
    poses = Poses(COCO17, points, scores, frame.poses.boxes, frame.poses.scores)
    detection = SeldomDetection(5)
    for stamp in (0.0, 0.05):  # standing still
        detection.forecast(stamp, SIZE)
        detection.update(poses, poses.scores, stamp, detected=True)
    forecast = detection.forecast(0.1, SIZE)
    assert forecast is not None
    height = np.ptp(points[0, :, 1])
    low, high = points[0, :, 1].min() + 0.5, points[0, :, 1].max() + 0.5
    around = np.array([low - 0.12 * height, high + 0.03 * height])
    expected = (frame.poses.boxes[0, [1, 3]] + around) / 2
    np.testing.assert_allclose(forecast[0][0, [1, 3]], expected, rtol=1e-4)


def test_of_whose_joints_are_unsure_the_box_stays() -> None:
    (frame,) = walk(WALKERS[:1], seconds=0)
    scores = np.where(np.arange(19) < 3, 0.9, 0.1)[None]
    poses = replace(frame.poses, keypoint_scores=scores)
    detection = SeldomDetection(5)
    for stamp in (0.0, 0.05):  # standing still
        detection.forecast(stamp, SIZE)
        detection.update(poses, poses.scores, stamp, detected=True)
    forecast = detection.forecast(0.1, SIZE)
    assert forecast is not None
    np.testing.assert_allclose(forecast[0], poses.boxes, rtol=1e-6)


def test_the_detectors_scores_stay_with_their_people() -> None:
    detection = SeldomDetection(5)
    frames = list(walk(WALKERS, seconds=1, rate=10))
    for frame in frames[:5]:
        forecast = detection.forecast(frame.stamp, SIZE)
        # Who is on the left has a box of score 0.9.
        left = frame.poses.boxes[:, 0] == frame.poses.boxes[:, 0].min()
        scores = np.where(left, 0.9, 0.6).astype(np.float32)
        if forecast is not None:
            first = forecast[0][:, 0].argmin()
            np.testing.assert_allclose(forecast[1][[first, 1 - first]], [0.9, 0.6])
        detection.update(frame.poses, scores, frame.stamp, detected=forecast is None)


def test_boxes_are_within_the_image_and_nobody_is_looked_for_outside() -> None:
    """One person walks out on the right, and when that one has gone a detection is due."""
    frames = list(walk([Walker((560, 100), (400, 0))], seconds=0.6, rate=20))
    forecasts = run(SeldomDetection(1000), frames)
    boxes = np.concatenate([forecast for forecast in forecasts if forecast is not None])
    assert (boxes >= 0).all() and (boxes[:, [0, 2]] <= 640).all()
    assert forecasts[0] is None and forecasts[-1] is None and forecasts[1] is not None


def test_who_was_seen_once_may_have_gone_anywhere() -> None:
    """Her next box reaches further, the same on all sides, until it is known where she goes."""
    still = [Walker((150, 100), (0, 0)), Walker((400, 120), (0, 0), phase=2.0)]
    first, second, third = (
        replace(frame, poses=next(walk(still, seconds=1)).poses)
        for frame in list(walk(still, seconds=1, rate=10))[:3]
    )
    forecasts = run(SeldomDetection(5), [first, second, third])
    new, known = (each[:, 2:] - each[:, :2] for each in forecasts[1:])
    np.testing.assert_allclose(new, 1.1 * known, rtol=1e-5)
    centres = [(each[:, 2:] + each[:, :2]) / 2 for each in forecasts[1:]]
    np.testing.assert_allclose(*centres, atol=0.01)


@pytest.mark.parametrize('stamp', [-1.0, 0.0, 5.0])
def test_a_gap_or_a_jump_back_in_time_asks_for_a_detection(stamp: float) -> None:
    detection = SeldomDetection(5)
    run(detection, list(walk(WALKERS, seconds=0.2, rate=10)))
    assert detection.forecast(stamp, SIZE) is None


@pytest.mark.parametrize(('size', 'source'), [((240, 320), ''), (SIZE, 'another')])
def test_an_image_of_another_size_or_source_shows_other_people(
    size: tuple[int, int], source: str
) -> None:
    detection = SeldomDetection(5)
    run(detection, list(walk(WALKERS, seconds=0.2, rate=10)))
    assert detection.forecast(0.25, SIZE) is not None
    assert detection.forecast(0.3, size, source) is None
    assert np.isnan(detection.tracker.velocities(np.arange(2))).all()


def test_cameras_without_a_clock_are_followed_too() -> None:
    """All stamps are 0: nobody is moved on, and detections are as seldom."""
    frames = [replace(frame, stamp=0.0) for frame in walk(WALKERS, seconds=1, rate=10)]
    assert detected(run(SeldomDetection(5), frames)) == [0, 5, 10]


def test_the_answer_has_numbers_and_is_as_smooth_as_the_tracker() -> None:
    smooth = PoseTracker(TrackingParameters(smoothing=OneEuroParameters()))
    alone = PoseTracker(TrackingParameters(smoothing=OneEuroParameters()))
    detection = SeldomDetection(5, smooth)
    for frame in walk(WALKERS, seconds=1, noise=2):
        forecast = detection.forecast(frame.stamp, SIZE)
        answer = detection.update(
            frame.poses, frame.poses.scores, frame.stamp, detected=forecast is None
        )
        expected = alone.update(frame.poses, frame.stamp)
        np.testing.assert_array_equal(answer.keypoints, expected.keypoints)
        np.testing.assert_array_equal(answer.track_ids, expected.track_ids)
    assert BODY19 == answer.skeleton
