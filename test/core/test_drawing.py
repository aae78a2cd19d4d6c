# SPDX-License-Identifier: Apache-2.0
"""Drawn skeletons lie where the keypoints are, and only where they may."""

from typing import Any

import numpy as np
import pytest

from rmpe_ros.core.drawing import PERSON_COLORS, SIDE_COLORS, draw_poses
from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import BODY19, MPII16, Skeleton


def standing(left: float = 100, size: float = 200, skeleton: Skeleton = BODY19) -> Poses:
    """Somebody whose keypoints are spread over a box, and no two in the same place."""
    index = np.arange(skeleton.num_keypoints)
    keypoints = np.stack([left + index % 4 * size / 8, 50 + index * size / 20], axis=-1)
    box = [left - 5, 45, left + size / 2, 55 + size]
    return Poses(
        skeleton, keypoints[None], np.full((1, len(index)), 0.9), np.array([box]), np.array([0.9])
    )


GREY = np.full((300, 400, 3), 90, np.uint8)


def changed(image: np.ndarray) -> np.ndarray:
    return (image != GREY).any(axis=-1)


@pytest.mark.parametrize('skeleton', [BODY19, MPII16], ids=lambda each: each.name)
def test_every_keypoint_and_limb_is_drawn(skeleton: Skeleton) -> None:
    poses = standing(skeleton=skeleton)
    drawn = changed(draw_poses(GREY, poses))
    points = poses.keypoints[0]
    for x, y in np.rint(points).astype(int):
        assert drawn[y, x]
    for a, b in skeleton.edges:
        x, y = np.rint((points[a] + points[b]) / 2).astype(int)
        assert drawn[y, x], (skeleton.keypoints[a], skeleton.keypoints[b])


def test_the_image_itself_stays_as_it_is() -> None:
    image = GREY.copy()
    assert draw_poses(image, standing()) is not image
    np.testing.assert_array_equal(image, GREY)


def test_unsure_keypoints_and_their_limbs_are_left_out() -> None:
    poses = standing()
    poses.keypoint_scores[:] = 0.1
    assert not changed(draw_poses(GREY, poses)).any()
    assert changed(draw_poses(GREY, poses, min_score=0.05)).any()
    wrist = BODY19.index('left_wrist')
    poses.keypoint_scores[0, [wrist, BODY19.index('left_elbow')]] = 0.9
    poses.keypoints[0, wrist] = 350, 200
    drawn = changed(draw_poses(GREY, poses))
    middle = np.rint(poses.keypoints[0, [7, wrist]].mean(axis=0)).astype(int)
    assert drawn[middle[1], middle[0]]
    assert not drawn[240:].any()


def test_sides_have_their_colours() -> None:
    """Left is blue and right is orange, as the docstring says."""
    assert SIDE_COLORS['left'][2] > SIDE_COLORS['left'][0]
    assert SIDE_COLORS['right'][0] > SIDE_COLORS['right'][2]
    poses = standing()
    for side in ('left', 'right'):
        ends = [BODY19.index(f'{side}_hip'), BODY19.index(f'{side}_knee')]
        x, y = np.rint(poses.keypoints[0, ends].mean(axis=0)).astype(int)
        poses.keypoint_scores[:] = 0
        poses.keypoint_scores[0, ends] = 1
        drawn = draw_poses(GREY, poses, color_by='side')
        np.testing.assert_allclose(drawn[y, x].astype(int), SIDE_COLORS[side], atol=10)


def test_tracks_keep_their_colour() -> None:
    poses = standing()
    ends = [BODY19.index('left_hip'), BODY19.index('left_knee')]
    x, y = np.rint(poses.keypoints[0, ends].mean(axis=0)).astype(int)
    for track in (3, 3 + len(PERSON_COLORS)):
        poses.track_ids[:] = track
        color = draw_poses(GREY, poses)[y, x].astype(int)
        np.testing.assert_allclose(color, PERSON_COLORS[3], atol=10)


def test_small_people_get_thin_lines() -> None:
    small, large = (
        changed(draw_poses(GREY, standing(size=size))).sum() / size for size in (20, 200)
    )
    assert small < large


def test_box_and_label() -> None:
    poses = standing()
    poses.track_ids[:] = 12
    plain = draw_poses(GREY, poses)
    with_box = draw_poses(GREY, poses, boxes=True)
    assert (with_box[250, 94:96] != plain[250, 94:96]).any(), "the box's left edge"
    labelled = draw_poses(GREY, poses, labels=True)
    assert (labelled[25:45, 95:140] != plain[25:45, 95:140]).any()


@pytest.mark.parametrize('options', [{}, {'boxes': True, 'labels': True}, {'color_by': 'side'}])
def test_nobody_and_people_beyond_the_image(options: dict[str, Any]) -> None:
    np.testing.assert_array_equal(draw_poses(GREY, Poses.empty(BODY19), **options), GREY)
    poses = standing()
    poses.keypoints[0, 3] = 1e9, -1e9
    poses.boxes[0] = -1e6, -1e6, 1e6, 1e6
    assert draw_poses(GREY, poses, **options).shape == GREY.shape
    tiny = np.zeros((1, 1, 3), np.uint8)
    assert draw_poses(tiny, standing(), **options).shape == (1, 1, 3)
