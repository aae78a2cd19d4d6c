# SPDX-License-Identifier: Apache-2.0
"""The colours of clothes in images whose people are painted."""

import cv2
import numpy as np
import pytest

from rmpe_ros.core.clothes import clothes_colours
from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import BODY19, COCO17, Skeleton

SHIRT, TROUSERS, WALL = (200, 30, 40), (20, 40, 160), (90, 140, 90)


def lab(rgb):
    """L*, a*, b* as OpenCV has them for floats: 8 bits are off by one at most."""
    return cv2.cvtColor(np.array([[rgb]], np.float32) / 255, cv2.COLOR_RGB2LAB)[0, 0]


def standing(places, skeleton=BODY19, score=0.9):
    """People whose left shoulders are at these places, 40 pixels wide, trunks 60 and thighs 50."""
    keypoints = np.zeros((len(places), skeleton.num_keypoints, 2))
    for name, offset in {
        'left_shoulder': (0, 0),
        'right_shoulder': (40, 0),
        'left_hip': (5, 60),
        'right_hip': (35, 60),
        'left_knee': (5, 110),
        'right_knee': (35, 110),
    }.items():
        keypoints[:, skeleton.keypoints.index(name)] = np.array(places).reshape(-1, 2) + offset
    scores = np.full(keypoints.shape[:2], score)
    boxes = np.zeros((len(places), 4))
    return Poses(skeleton, keypoints, scores, boxes, scores[:, 0])


def painted(places, size=(200, 300)):
    """An image of these people."""
    image = np.full((*size, 3), WALL, np.uint8)
    for x, y in places:
        cv2.rectangle(image, (x, y), (x + 40, y + 60), SHIRT, -1)
        cv2.rectangle(image, (x, y + 60), (x + 40, y + 112), TROUSERS, -1)
    return image


@pytest.mark.parametrize('skeleton', [BODY19, COCO17])
def test_trunk_and_thighs_have_their_colours(skeleton):
    places = [(30, 20), (200, 60)]
    colours = clothes_colours(painted(places), standing(places, skeleton))
    assert colours.shape == (2, 6) and colours.dtype == np.float32
    for person in colours:
        assert person[:3] == pytest.approx(lab(SHIRT), abs=1)
        assert person[3:] == pytest.approx(lab(TROUSERS), abs=1)


def test_what_covers_less_than_half_does_not_matter():
    image = painted([(30, 20)])
    cv2.rectangle(image, (30, 20), (70, 42), WALL, -1)  # the upper third of the shirt
    assert clothes_colours(image, standing([(30, 20)]))[0, :3] == pytest.approx(lab(SHIRT), abs=1)


def test_of_joints_that_are_guesses_nothing_is_told():
    poses = standing([(30, 20), (200, 60)])
    poses.keypoint_scores[0, BODY19.keypoints.index('right_hip')] = 0.1
    poses.keypoint_scores[1, BODY19.keypoints.index('left_knee')] = 0.1
    colours = clothes_colours(painted([(30, 20), (200, 60)]), poses)
    assert np.isnan(colours[0, :3]).all()  # a trunk needs four corners
    assert colours[0, 3:] == pytest.approx(lab(TROUSERS), abs=1)  # the left thigh is known
    assert np.isfinite(colours[1]).all()
    assert np.isnan(clothes_colours(painted([(30, 20)]), standing([(30, 20)], score=0.2))).all()


@pytest.mark.parametrize(('x', 'known'), [(-15, True), (-30, False), (275, True), (290, False)])
def test_half_of_a_part_must_be_in_the_image(x, known):
    image = np.full((200, 300, 3), SHIRT, np.uint8)
    colours = clothes_colours(image, standing([(x, 20)]))[0, :3]
    assert np.isfinite(colours).all() == known
    if known:
        assert colours == pytest.approx(lab(SHIRT), abs=1)


def test_an_image_without_colours_tells_brightness_alone():
    grey = np.repeat(painted([(30, 20)]).mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
    colours = clothes_colours(grey, standing([(30, 20)]))[0]
    assert np.isfinite(colours[[0, 3]]).all() and np.isnan(colours[[1, 2, 4, 5]]).all()


def test_a_shadow_changes_brightness_mostly():
    image = painted([(30, 20)])
    bright = clothes_colours(image, standing([(30, 20)]))[0]
    dark = clothes_colours((image * 0.8).astype(np.uint8), standing([(30, 20)]))[0]
    apart = np.abs(bright - dark)
    assert apart[0] > 5 and apart[3] > 2
    assert (apart[[1, 2, 4, 5]] < 0.3 * np.abs(bright[[1, 2, 4, 5]]) + 1).all()


def test_nobody_and_other_skeletons():
    image = painted([])
    assert clothes_colours(image, Poses.empty(BODY19)).shape == (0, 6)
    hand = Skeleton('hand', ('wrist', 'thumb'), ((0, 1),), (), (0.1, 0.1))
    poses = Poses(hand, np.zeros((1, 2, 2)), np.ones((1, 2)), np.zeros((1, 4)), np.ones(1))
    assert np.isnan(clothes_colours(image, poses)).all()
