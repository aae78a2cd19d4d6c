# SPDX-License-Identifier: Apache-2.0
"""Drawn skeletons lie where the keypoints are, and only where they may."""

from typing import Any

import numpy as np
import pytest

from rmpe_ros.core.drawing import PERSON_COLORS, SIDE_COLORS, draw_poses
from rmpe_ros.core.label_places import overlap, place_labels
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
    assert (labelled != plain).any(axis=-1).sum() > 200


def test_nothing_is_drawn_of_a_person_without_a_confident_joint() -> None:
    poses = standing()
    poses.keypoint_scores[:] = 0.2
    assert not changed(draw_poses(GREY, poses, boxes=True, labels=True)).any()
    assert changed(draw_poses(GREY, poses, boxes=True, labels=True, only_sure=False)).any()


def labelled_pixels(image: np.ndarray, poses: Poses) -> np.ndarray:
    return (draw_poses(image, poses, labels=True) != draw_poses(image, poses)).any(axis=-1)


def test_labels_cover_no_face_and_no_other_label() -> None:
    # The second person stands below the first: the face is where the usual place would be.
    people = [standing(size=100), standing(left=101, size=100)]
    for person, down in zip(people, (0, 90), strict=True):
        person.keypoints[..., 1] += down
        person.boxes[:, [1, 3]] += down
        person.keypoints[0, :5] = person.keypoints[0, 0] + np.arange(5)[:, None] * (3, 0)
    both = Poses(
        BODY19,
        np.concatenate([each.keypoints for each in people]),
        np.full((2, 19), 0.9),
        np.concatenate([each.boxes for each in people]),
        np.array([0.9, 0.8]),
    )
    canvas = np.full((300, 400, 3), 90, np.uint8)
    marked = labelled_pixels(canvas, both)
    assert marked.any()
    for x, y in np.rint(both.keypoints[:, :5].reshape(-1, 2)).astype(int):
        assert not marked[y, x]
    # Five people in one place: no two labels share a pixel.
    sizes = [(30.0, 12.0)] * 5
    places = place_labels(sizes, [(50, 50, 90, 150)] * 5, [], (400, 300))
    rectangles = [(*place, *size) for place, size in zip(places, sizes, strict=True)]
    assert all(overlap(a, b) == 0 for i, a in enumerate(rectangles) for b in rectangles[:i])


@pytest.mark.parametrize('box', [(-50, -50, 30, 40), (380, 280, 500, 400), (0, 0, 400, 300)])
def test_labels_are_not_cut_off(box: tuple[float, ...]) -> None:
    ((x, y),) = place_labels([(60, 20)], [box], [], (400, 300))
    assert 0 <= x <= 340 and 0 <= y <= 280


def test_lines_and_labels_grow_with_the_picture() -> None:
    areas = []
    for times in (1, 8):
        poses = standing(left=100 * times, size=200 * times)
        image = np.full((300 * times, 400 * times, 3), 90, np.uint8)
        plain = (draw_poses(image, poses) != image).any(axis=-1).mean()
        areas.append((plain, labelled_pixels(image, poses).mean()))
    small, large = areas
    assert large[0] > 0.5 * small[0]
    assert large[1] > 0.2 * small[1]


@pytest.mark.parametrize('options', [{}, {'boxes': True, 'labels': True}, {'color_by': 'side'}])
def test_nobody_and_people_beyond_the_image(options: dict[str, Any]) -> None:
    np.testing.assert_array_equal(draw_poses(GREY, Poses.empty(BODY19), **options), GREY)
    poses = standing()
    poses.keypoints[0, 3] = 1e9, -1e9
    poses.boxes[0] = -1e6, -1e6, 1e6, 1e6
    assert draw_poses(GREY, poses, **options).shape == GREY.shape
    tiny = np.zeros((1, 1, 3), np.uint8)
    assert draw_poses(tiny, standing(), **options).shape == (1, 1, 3)
