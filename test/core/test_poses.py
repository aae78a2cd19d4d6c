# SPDX-License-Identifier: Apache-2.0
"""`Poses`: what it accepts, how it is indexed and what it becomes."""

import json

import numpy as np
import pytest

from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import BODY19, COCO17


def make_poses(people: int = 3) -> Poses:
    random = np.random.default_rng(1)
    corners = random.uniform(0, 100, (people, 2))
    return Poses(
        BODY19,
        random.uniform(0, 200, (people, 19, 2)),
        random.uniform(0, 1, (people, 19)),
        np.concatenate([corners, corners + np.array([30, 60])], axis=1),
        np.linspace(0.9, 0.1, people),
    )


def test_types_and_default_track_ids() -> None:
    poses = make_poses()
    assert len(poses) == 3
    assert poses.keypoints.dtype == poses.boxes.dtype == poses.scores.dtype == np.float32
    assert poses.track_ids.dtype == np.int32
    assert poses.track_ids.tolist() == [-1, -1, -1]


def test_empty() -> None:
    empty = Poses.empty(BODY19)
    assert len(empty) == 0
    assert empty.keypoints.shape == (0, 19, 2)
    assert empty.to_coco_results(1) == []
    assert len(empty.to_skeleton(COCO17)) == 0
    assert len(empty[[]]) == 0


@pytest.mark.parametrize(
    ('field', 'value', 'message'),
    [
        ('keypoints', np.zeros((3, 17, 2)), r'keypoints of 3 body19 poses.*\(3, 19, 2\)'),
        ('keypoints', np.full((3, 19, 2), np.nan), 'keypoints must be finite'),
        ('keypoint_scores', np.full((3, 19), 1.5), r'keypoint_scores must be in \[0, 1\]'),
        ('keypoint_scores', np.zeros((3, 19, 1)), 'keypoint_scores'),
        ('boxes', np.full((3, 4), np.inf), 'boxes must be finite'),
        ('boxes', np.zeros((2, 4)), 'boxes of 3'),
        ('scores', np.array([0.5, -0.1, 0.2]), r'scores must be in \[0, 1\]'),
        ('scores', np.array([0.5, np.nan, 0.2]), 'scores must be finite'),
        ('track_ids', np.array([1, 2]), 'track_ids of 3'),
        ('colours', np.zeros((3, 5)), 'colours of 3 people'),
    ],
)
def test_what_does_not_fit_is_refused(field: str, value: np.ndarray, message: str) -> None:
    good = make_poses()
    fields = {name: getattr(good, name) for name in good.__dataclass_fields__}
    with pytest.raises(ValueError, match=message):
        Poses(**{**fields, field: value})


@pytest.mark.parametrize(
    ('selection', 'expected'),
    [
        (np.array([True, False, True]), [0, 2]),
        (np.array([2, 0]), [2, 0]),
        ([1], [1]),
        (slice(1, None), [1, 2]),
        (-1, [2]),
        (np.int64(1), [1]),
    ],
)
def test_indexing_selects_whole_people(selection: object, expected: list[int]) -> None:
    poses = make_poses()
    poses.track_ids[:] = 5, 6, 7
    poses.colours = np.arange(18, dtype=np.float32).reshape(3, 6)
    chosen = poses[selection]
    assert chosen.skeleton is poses.skeleton
    for name in ('keypoints', 'keypoint_scores', 'boxes', 'scores', 'track_ids', 'colours'):
        np.testing.assert_array_equal(getattr(chosen, name), getattr(poses, name)[expected])


def test_iterating_ends_after_the_last_person() -> None:
    assert [len(person) for person in make_poses()] == [1, 1, 1]


def test_to_skeleton_keeps_the_people() -> None:
    poses = make_poses()
    poses.colours = np.ones((len(poses), 6), np.float32)
    coco = poses.to_skeleton(COCO17)
    np.testing.assert_array_equal(coco.colours, poses.colours)
    np.testing.assert_array_equal(coco.keypoints, poses.keypoints[:, :17])
    np.testing.assert_array_equal(coco.boxes, poses.boxes)
    np.testing.assert_array_equal(coco.scores, poses.scores)
    assert poses.to_skeleton(BODY19) is poses


def test_coco_results() -> None:
    poses = make_poses().to_skeleton(COCO17)
    poses.track_ids[1] = 4
    results = json.loads(json.dumps(poses.to_coco_results('photo.jpg')))
    assert [result['image_id'] for result in results] == ['photo.jpg'] * 3
    assert [result.get('track_id') for result in results] == [None, 4, None]
    first = results[0]
    assert first['category_id'] == 1
    assert len(first['keypoints']) == 51
    triples = np.reshape(first['keypoints'], (17, 3))
    np.testing.assert_allclose(triples[:, :2], poses.keypoints[0], atol=1e-3)
    np.testing.assert_allclose(triples[:, 2], poses.keypoint_scores[0], atol=1e-3)
    x1, y1, _, _ = poses.boxes[0]
    np.testing.assert_allclose(first['bbox'], [x1, y1, 30, 60], atol=1e-3)
