# SPDX-License-Identifier: Apache-2.0
"""Recorded poses against labels: matching by stamp, what is counted, and latency."""

from collections import Counter

import numpy as np
import pytest

from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import COCO17
from rmpe_ros.evaluation.evaluate_bag import (
    PoseFrame,
    Recording,
    clock_problem,
    frames_from_names,
    match_frames,
    percentiles,
)

MS = 1_000_000
FILES = [f'{letter}.jpg' for letter in 'abcde']
# 100 ms apart.
FRAMES = {(1000 + 100 * index) * MS: file for index, file in enumerate(FILES)}
WORKING = (1.0, 2.0, 0.5, 4.0)


def answer(index: float, latency_ms: float = 20, *, score: float = 0.5, stages=WORKING):
    """Poses of frame number `index`; `score` tells answers to the same frame apart."""
    poses = Poses(COCO17, np.zeros((1, 17, 2)), np.ones((1, 17)), np.zeros((1, 4)), [score])
    stamp = round((1000 + 100 * index) * MS)
    return PoseFrame(stamp, 'camera', stamp + round(latency_ms * MS), poses, stages)


def recording(*frames: PoseFrame, images: dict[int, str] | None = None) -> Recording:
    return Recording(list(frames), images, Counter(broken=2))


def test_everything_is_counted_once():
    matching = match_frames(
        recording(
            answer(0, 20),
            answer(2, 101),  # late
            answer(0, 25, score=0.9),  # again
            answer(2.5),  # of no frame
            answer(1, 100),  # just in time
            answer(2, 300, score=0.9),  # again
            answer(17),  # of no frame
            images={stamp: 'camera' for stamp in list(FRAMES)[:4]} | {5: 'camera'},
        ),
        FRAMES,
        FILES,
    )
    counts = matching.counts
    assert (counts.labelled, counts.recorded, counts.answered, counts.dropped) == (5, 4, 3, 2)
    assert (counts.late, counts.duplicate, counts.unmatched, counts.broken) == (1, 2, 2, 2)
    assert matching.deadline_ms == 100
    assert sorted(matching.by_file) == ['a.jpg', 'b.jpg', 'c.jpg']
    # The first answer counts.
    assert {float(each.poses.scores[0]) for each in matching.by_file.values()} == {0.5}
    assert [each.latency_ms for each in matching.answers] == [20, 101, 100]


def test_the_deadline_can_be_given():
    frames = [answer(index, 20 + index) for index in range(5)]
    for deadline, late in ((19.5, 5), (21.5, 3), (24, 0)):
        counts = match_frames(recording(*frames), FRAMES, FILES, deadline_ms=deadline).counts
        assert counts.late == late
        assert counts.recorded is None


def test_labelled_files_without_a_stamp_are_dropped():
    shown = {stamp: file for stamp, file in FRAMES.items() if file != 'b.jpg'}
    counts = match_frames(recording(answer(0), answer(1)), shown, FILES).counts
    assert (counts.labelled, counts.answered, counts.dropped, counts.unmatched) == (5, 1, 4, 1)


def test_frames_without_a_label_do_not_count():
    counts = match_frames(recording(answer(0), answer(1)), FRAMES, ['a.jpg']).counts
    assert (counts.labelled, counts.answered, counts.dropped, counts.unmatched) == (1, 1, 0, 1)


def test_a_file_shown_again_counts_as_a_frame_and_once_for_accuracy():
    frames = {stamp: 'a.jpg' for stamp in FRAMES}
    matching = match_frames(recording(answer(1), answer(3)), frames, ['a.jpg'])
    assert (matching.counts.labelled, matching.counts.answered) == (5, 2)
    assert list(matching.by_file) == ['a.jpg']


def test_frame_ids_may_be_names_of_pictures():
    files = ['x/a.jpg', 'y/b.jpg']
    frames = [
        PoseFrame(stamp, name, stamp, answer(0).poses, WORKING)
        for stamp, name in ((7, 'a.jpg'), (8, 'b.jpg'), (9, 'a.jpg'))
    ]
    assert frames_from_names(recording(*frames), files) == {7: files[0], 8: files[1], 9: files[0]}
    # Images tell of frames that got no answer.
    images = {5: 'b.jpg', 7: 'a.jpg'}
    assert frames_from_names(recording(frames[0], images=images), files) == {
        5: files[1],
        7: files[0],
    }
    assert frames_from_names(recording(*frames), ['x/a.jpg', 'y/a.jpg', 'b.jpg']) is None
    assert frames_from_names(recording(*frames), ['a.jpg']) is None
    assert frames_from_names(recording(answer(0)), files) is None


@pytest.mark.parametrize(
    ('latencies', 'stages', 'problem'),
    [
        ([20, 30, -5], WORKING, None),
        ([20, 30, 1e9], WORKING, None),
        ([1e9, 1e9, 20], WORKING, 'different clocks'),
        ([-20, -30, 20], WORKING, 'different clocks'),
        ([20, 30, 40], (0.0,) * 4, 'rmpe replay'),
    ],
)
def test_latency_is_told_only_where_the_clocks_agree(latencies, stages, problem):
    frames = [answer(index, each, stages=stages) for index, each in enumerate(latencies)]
    found = clock_problem(frames)
    assert (found is None) == (problem is None)
    assert problem is None or problem in str(found)
    late = match_frames(recording(*frames), FRAMES, FILES).counts.late
    assert late == (None if problem else sum(each > 100 for each in latencies))


def test_percentiles():
    assert percentiles([float(each) for each in range(101)]) == {'p50': 50, 'p95': 95, 'max': 100}
    assert all(np.isnan(each) for each in percentiles([]).values())
