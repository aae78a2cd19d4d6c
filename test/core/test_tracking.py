# SPDX-License-Identifier: Apache-2.0
"""Numbers that stay with their people: crossing, occlusion, noise, and what starts them anew."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmpe_ros.core.boxes import box_iou
from rmpe_ros.core.one_euro import OneEuroFilter, OneEuroParameters
from rmpe_ros.core.pose_nms import PoseNmsParameters
from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import BODY19, COCO17
from rmpe_ros.core.tracking import PoseTracker, TrackingParameters

from .walkers import Walker, id_switches, walk

CROSSING = [
    Walker((100, 100), (120, 0), phase=0.0),
    Walker((540, 90), (-120, 0), phase=2.0, height=210),
]


def follow(frames, parameters=None):
    """The labels and numbers of each frame."""
    tracker = PoseTracker(parameters)
    return [(frame.labels, tracker.update(frame.poses, frame.stamp).track_ids) for frame in frames]


def numbers(answers):
    """All numbers that each person had."""
    had: dict[int, set[int]] = {}
    for labels, track_ids in answers:
        for label, track_id in zip(labels.tolist(), track_ids.tolist(), strict=True):
            had.setdefault(label, set()).add(track_id)
    return had


def test_people_who_stand_keep_their_numbers():
    people = [Walker((100 + 150 * k, 100), (0, 0)) for k in range(4)]
    answers = follow(walk(people, seconds=3, noise=3))
    assert sorted(map(sorted, numbers(answers).values())) == [[0], [1], [2], [3]]


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('rate', [10, 15, 30])
def test_two_who_cross_keep_their_numbers(rate, seed):
    # The one behind is not found while more than half hidden.
    frames = list(walk(CROSSING, seconds=3.5, rate=rate, noise=2, occlusion=0.5, seed=seed))
    assert any(len(frame.poses) == 1 for frame in frames)
    had = numbers(follow(frames))
    assert len(had[0]) == len(had[1]) == 1
    assert had[0] != had[1]


@pytest.mark.parametrize('seed', range(5))
def test_five_images_a_second_are_enough_to_come_out_right(seed):
    # In the one image in which both are at the same place the number may be the other's.
    answers = follow(walk(CROSSING, seconds=3.5, rate=5, noise=2, occlusion=0.5, seed=seed))
    first = dict(zip(*map(np.ndarray.tolist, answers[0]), strict=True))
    last = dict(zip(*map(np.ndarray.tolist, answers[-1]), strict=True))
    assert last == first
    assert id_switches(answers) <= 2


@pytest.mark.parametrize('velocity', [(0, 0), (150, 0), (90, 30)])
def test_half_a_second_out_of_sight_changes_nothing(velocity):
    people = [Walker((100, 100), velocity), Walker((420, 150), (0, 0))]
    hidden = {0: (1.0, 1.5)}
    frames = list(walk(people, seconds=2.5, noise=2, hidden=hidden))
    assert {len(frame.poses) for frame in frames} == {1, 2}
    assert all(len(each) == 1 for each in numbers(follow(frames)).values())


def test_who_is_away_for_too_long_comes_back_as_somebody_new():
    frames = list(walk(CROSSING[:1], seconds=4, hidden={0: (0.5, 3.0)}))
    assert numbers(follow(frames))[0] == {0, 1}
    assert numbers(follow(frames, TrackingParameters(max_age=3.0)))[0] == {0}


def test_somebody_new_gets_a_new_number():
    frames = list(walk(CROSSING, seconds=2, hidden={1: (0.0, 1.0)}))
    assert numbers(follow(frames)) == {0: {0}, 1: {1}}


def test_a_number_is_never_given_twice():
    tracker = PoseTracker()
    frame = next(walk(CROSSING, seconds=0))
    seen = []
    for second in range(0, 50, 5):
        seen += tracker.update(frame.poses, second).track_ids.tolist()
    tracker.reset()
    seen += tracker.update(frame.poses, 50).track_ids.tolist()
    assert sorted(seen) == list(range(22))


def test_time_that_jumps_back_starts_anew():
    tracker = PoseTracker()
    frames = list(walk(CROSSING, seconds=1))
    before = {id for frame in frames for id in tracker.update(frame.poses, frame.stamp).track_ids}
    after = {id for frame in frames for id in tracker.update(frame.poses, frame.stamp).track_ids}
    assert before == {0, 1}
    assert after == {2, 3}


def test_the_same_stamp_again_keeps_the_numbers():
    tracker = PoseTracker()
    frame = next(walk(CROSSING, seconds=0))
    first = tracker.update(frame.poses, 1.0).track_ids
    np.testing.assert_array_equal(tracker.update(frame.poses, 1.0).track_ids, first)


def test_another_skeleton_starts_anew():
    tracker = PoseTracker()
    frame = next(walk(CROSSING, seconds=0))
    tracker.update(frame.poses, 0.0)
    assert sorted(tracker.update(frame.poses.to_skeleton(COCO17), 0.1).track_ids) == [2, 3]


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.integers(2, 6))
def test_the_order_of_people_does_not_matter(seed, count):
    rng = np.random.default_rng(seed)
    people = [
        Walker(tuple(rng.uniform(50, 600, 2)), tuple(rng.normal(0, 60, 2)), rng.uniform(80, 250))
        for _ in range(count)
    ]
    one, other = PoseTracker(), PoseTracker()
    for frame in walk(people, seconds=1, rate=10, noise=4, misses=0.2, seed=seed):
        shuffled = rng.permutation(len(frame.poses))
        expected = one.update(frame.poses, frame.stamp).track_ids[shuffled]
        np.testing.assert_array_equal(
            other.update(frame.poses[shuffled], frame.stamp).track_ids, expected
        )


@settings(max_examples=30)
@given(st.floats(0.1, 20), st.integers(0, 2**31))
def test_the_size_of_the_picture_does_not_matter(scale, seed):
    small, large = PoseTracker(), PoseTracker()
    for frame in walk(CROSSING, seconds=2, rate=6, noise=3, misses=0.2, seed=seed):
        scaled = replace(
            frame.poses, keypoints=frame.poses.keypoints * scale, boxes=frame.poses.boxes * scale
        )
        np.testing.assert_array_equal(
            large.update(scaled, frame.stamp).track_ids,
            small.update(frame.poses, frame.stamp).track_ids,
        )


def test_nothing_but_numbers_is_changed_without_smoothing():
    frame = next(walk(CROSSING, seconds=0))
    answer = PoseTracker().update(frame.poses, 0.0)
    for name in ('keypoints', 'keypoint_scores', 'boxes', 'scores'):
        np.testing.assert_array_equal(getattr(answer, name), getattr(frame.poses, name))
    assert (frame.poses.track_ids == -1).all()


def test_nobody_is_nobody():
    tracker = PoseTracker()
    assert len(tracker.update(Poses.empty(BODY19), 0.0)) == 0
    frame = next(walk(CROSSING, seconds=0))
    tracker.update(frame.poses, 0.1)
    assert len(tracker.update(Poses.empty(BODY19), 0.2)) == 0
    assert sorted(tracker.update(frame.poses, 0.3).track_ids) == [0, 1]


def test_unsure_people_continue_tracks_and_begin_none():
    frame = next(walk(CROSSING[:1], seconds=0))
    unsure = replace(frame.poses, scores=np.float32([0.15]))
    tracker = PoseTracker(TrackingParameters(start_score=0.2))
    assert tracker.update(unsure, 0.0).track_ids.tolist() == [-1]
    assert tracker.update(frame.poses, 0.1).track_ids.tolist() == [0]
    assert tracker.update(unsure, 0.2).track_ids.tolist() == [0]


CROWD = [
    Walker((60, 80), (95, 5), 210, 0.3),
    Walker((580, 90), (-110, 0), 200, 1.0),
    Walker((320, 60), (5, 15), 190, 4.0),
    Walker((120, 130), (60, -8), 180, 2.2),
    Walker((520, 120), (-70, 4), 195, 5.1),
    Walker((220, 100), (0, 0), 205, 0.0),
]


class BoxTracker(PoseTracker):
    """For comparison: overlap with the last box seen, as simple trackers have it."""

    def _affinity(self, poses, stamp):
        return box_iou(np.array([track.box for track in self._tracks]), poses.boxes)


def test_a_crowd_is_followed_better_than_by_boxes():
    # Measured over ten seeds, in 2966 sights: 36 switches, 122 by boxes.
    switches = {PoseTracker: 0, BoxTracker: 0}
    sights = 0
    for seed in range(3):
        frames = list(
            walk(CROWD, seconds=5, rate=15, noise=3, misses=0.1, occlusion=0.6, seed=seed)
        )
        sights += sum(len(frame.poses) for frame in frames)
        for kind in switches:
            tracker = kind()
            switches[kind] += id_switches(
                [(f.labels, tracker.update(f.poses, f.stamp).track_ids) for f in frames]
            )
    assert switches[PoseTracker] <= 0.6 * switches[BoxTracker]
    assert switches[PoseTracker] <= 0.025 * sights


def shown_and_true(walker, smoothing, *, noise=3.0, rate=30.0, seconds=4.0):
    tracker = PoseTracker(TrackingParameters(smoothing=smoothing))
    frames = list(walk([walker], seconds=seconds, rate=rate, noise=noise))
    shown = np.array([tracker.update(f.poses, f.stamp).keypoints[0] for f in frames])
    return shown, np.array([frame.truth[0] for frame in frames])


def jitter(shown, truth):
    """Root mean square of the error's change from frame to frame, pixels."""
    return float(np.sqrt((np.diff(shown - truth, axis=0) ** 2).mean()))


@pytest.mark.parametrize('velocity', [(0, 0), (100, 0)])
@pytest.mark.parametrize('rate', [10, 30])
def test_smoothing_takes_jitter_away(velocity, rate):
    walker = Walker((100, 100), velocity)
    plain = jitter(*shown_and_true(walker, None, rate=rate))
    smooth = jitter(*shown_and_true(walker, OneEuroParameters(), rate=rate))
    assert smooth <= 0.7 * plain
    shown, truth = shown_and_true(walker, OneEuroParameters(), rate=rate)
    measured, _ = shown_and_true(walker, None, rate=rate)
    # And it is nearer to the truth as a whole, not only calmer.
    assert np.abs(shown - truth).mean() <= np.abs(measured - truth).mean() * 1.1


@pytest.mark.parametrize('speed', [20, 100, 400, 2000])
def test_the_lag_of_smoothing_is_bounded(speed):
    walker = Walker((0, 100), (speed, 0))
    shown, truth = shown_and_true(walker, OneEuroParameters(), noise=0, rate=60)
    # The neck moves as the person does: no lag. Feet and hands swing besides.
    assert np.abs(truth - shown)[60:, 17].max() <= 0.01 * 210
    assert np.abs(truth - shown)[60:].max() <= 210 / (2 * np.pi * OneEuroParameters().speed_gain)


@pytest.mark.parametrize('speed', [0.1, 0.5, 2.0, 10.0])
def test_a_single_joint_lags_within_the_bound(speed):
    # speed: of the joint, in sizes of the person per second, while the person stands.
    parameters = OneEuroParameters()
    smooth = OneEuroFilter(parameters)
    for frame in range(120):
        point = np.array([[speed * 200 * frame / 60, 0.0]])
        shown = smooth(point, frame / 60, size=200, velocity=np.zeros(2))
    behind = (point - shown)[0, 0]
    assert 0 < behind <= 200 / (2 * np.pi * parameters.speed_gain)
    assert behind / (speed * 200) <= 1 / (2 * np.pi * parameters.min_cutoff)


def test_the_filter_starts_anew_when_time_does_not_go_on():
    smooth = OneEuroFilter(OneEuroParameters())
    for stamp in (1.0, 1.1):
        smooth(np.zeros((3, 2)), stamp, size=100, velocity=np.zeros(2))
    moved = np.full((3, 2), 50.0)
    np.testing.assert_array_equal(smooth(moved, 1.1, size=100, velocity=np.zeros(2)), moved)


def test_a_bad_stamp_and_bad_parameters_are_refused():
    with pytest.raises(ValueError, match='stamp must be a number of seconds, got nan'):
        PoseTracker().update(Poses.empty(BODY19), float('nan'))
    with pytest.raises(ValueError, match='max_age must be a positive'):
        TrackingParameters(max_age=0)
    with pytest.raises(ValueError, match='min_affinity must be in'):
        TrackingParameters(min_affinity=1.5)
    with pytest.raises(ValueError, match='min_cutoff must be a positive'):
        OneEuroParameters(min_cutoff=0)
    with pytest.raises(ValueError, match='speed_gain must be at least 0'):
        OneEuroParameters(speed_gain=-1)


def test_with_lambda_0_who_has_no_joint_that_is_seen_is_followed_by_the_box():
    """Similarity and its greatest value are 0 then; their share was 0/0."""
    pose = PoseNmsParameters(sigma2=6.0, lambda_=0.0)
    tracker = PoseTracker(TrackingParameters(pose=pose, min_affinity=0.1))
    unseen = Poses(
        BODY19,
        np.full((1, 19, 2), 50.0),
        np.zeros((1, 19)),
        np.array([[0.0, 0.0, 100.0, 100.0]]),
        np.array([0.9]),
    )
    with np.errstate(all='raise'):
        ids = [tracker.update(unseen, stamp).track_ids.tolist() for stamp in (0.0, 0.1, 0.2)]
    assert ids == [[0], [0], [0]]


def test_numbers_start_again_after_the_largest_that_a_message_can_hold():
    tracker = PoseTracker()
    here, there = (
        Poses(
            BODY19,
            np.full((1, 19, 2), x),
            np.ones((1, 19)),
            np.array([[x - 50, 0.0, x + 50, 100.0]]),
            np.array([0.9]),
        )
        for x in (50.0, 5000.0)
    )
    assert tracker.update(here, 0.0).track_ids.tolist() == [0]
    tracker._next_id = 2**31 - 1
    both = Poses(
        BODY19,
        np.concatenate([here.keypoints, there.keypoints]),
        np.ones((2, 19)),
        np.concatenate([here.boxes, there.boxes]),
        np.array([0.9, 0.9]),
    )
    assert sorted(tracker.update(both, 0.1).track_ids.tolist()) == [0, 2**31 - 1]
    tracker.reset()
    assert sorted(tracker.update(both, 0.2).track_ids.tolist()) == [0, 1]
