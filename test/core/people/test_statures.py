# SPDX-License-Identifier: Apache-2.0
"""How tall people's boxes are, and whom that tells apart."""

import numpy as np
import pytest

from rmpe_ros.core.camera import PinholeCamera
from rmpe_ros.core.people.body_rays import BodyRays, SightParameters
from rmpe_ros.core.people.sights import LEVEL
from rmpe_ros.core.people.statures import Statures, alike, apparent_heights, of_somebody
from rmpe_ros.core.poses import Poses
from rmpe_ros.core.skeletons import BODY19


def heights(boxes, ankle=300.0):
    """Apparent heights of boxes in an image of 640 x 480 pixels, 500 of which are a slope of 1."""
    count = len(boxes)
    keypoints = np.full((count, 19, 2), ankle)
    ones = np.ones((count, 19))
    poses = Poses(BODY19, keypoints, ones, np.array(boxes, float).reshape(count, 4), ones[:, 0])
    camera = PinholeCamera(500.0, 500.0, 320.0, 240.0)
    return apparent_heights(BodyRays(poses, camera, (480, 640), SightParameters(), LEVEL))


def test_a_box_is_as_tall_as_its_slopes_are_apart():
    assert np.exp(heights([[300, 100, 400, 400], [0, 50, 99, 150]])) == pytest.approx([0.6, 0.2])
    assert len(heights([])) == 0


@pytest.mark.parametrize('box', [[300, 0, 400, 400], [300, 100, 400, 479]])
def test_of_a_box_at_the_end_of_the_image_nothing_is_known(box):
    assert np.isnan(heights([box])).all()


def test_who_has_the_feet_outside_has_the_box_cut():
    assert np.isnan(heights([[300, 100, 400, 400]], ankle=478.0)).all()


def test_a_height_is_learnt_and_a_strange_one_changes_it_little():
    rng = np.random.default_rng(0)
    person = Statures.unknown(1)
    for _ in range(60):
        person = person.updated(np.log(1.8) + rng.normal(0, 0.04, 1), np.full(1, 0.02**2))
    assert person.values[0] == pytest.approx(np.log(1.8), abs=0.03)
    assert person.variances[0] < 0.03**2
    sitting = person.updated(np.log([1.3]), np.full(1, 0.02**2))
    assert sitting.values[0] == pytest.approx(person.values[0], abs=0.005)
    nothing = person.updated(np.zeros(1), np.full(1, np.inf))
    assert nothing.values == person.values and nothing.variances == person.variances
    assert person.later(100).variances > person.variances


def speaks(person, seen, unseen=1 / 15, spread=0.01, last=None):
    """For a person of so many metres, a box of so many; the last one was of `last`."""
    people = Statures(np.log([person]), np.full(1, 0.01**2), np.log([last or person]))
    return alike(people, np.log([[seen]]), np.full((1, 1), spread**2), np.full(1, unseen))[0, 0]


def test_heights_speak_for_who_has_them():
    assert speaks(1.55, 1.55) > 0.5 and speaks(1.75, 1.75) > 0.5
    assert speaks(1.55, 1.75) < -1 and speaks(1.75, 1.55) < -1
    # Who was away for long may sit now.
    assert speaks(1.6, 1.2) < speaks(1.6, 1.2, unseen=4.0) - 1


def test_who_is_as_tall_as_in_the_image_before_is_asked_nothing():
    """Of two who may be her, neither gains by a height that both had in the image before."""
    assert speaks(1.6, 1.2) < -1.5 and speaks(1.6, 1.2, last=1.2) > 0.5
    for height in (1.2, 1.5, 1.7):
        known, new = (speaks(person, height, last=height) for person in (1.6, height))
        assert known == pytest.approx(new, abs=0.02)
    long_ago = speaks(1.6, 1.2, last=1.2, unseen=5.0)
    assert long_ago == pytest.approx(speaks(1.6, 1.2, unseen=5.0), abs=0.01)
    # She may stand up again.
    assert speaks(1.6, 1.2) < speaks(1.6, 1.6, last=1.2) < speaks(1.6, 1.6)


def test_the_last_height_is_that_of_several_boxes_or_of_another_posture():
    person, spread = Statures.unknown(1), np.full(1, 0.01**2)
    rng, off = np.random.default_rng(2), []
    for _ in range(200):
        person = person.updated(np.log(1.6) + rng.normal(0, 0.04, 1), spread)
        off.append(person.last[0] - np.log(1.6))
    assert np.std(off[20:]) < 0.75 * 0.04
    person = person.updated(np.log([1.2]), spread)
    assert person.last[0] == np.log(1.2)
    assert person.updated(np.zeros(1), np.full(1, np.inf)).last[0] == np.log(1.2)


def test_what_is_not_known_speaks_for_nobody():
    assert speaks(1.6, np.nan) == 0
    assert speaks(1.6, 1.6, spread=np.inf) == 0
    nobody = Statures.unknown(1)
    assert alike(nobody, nobody.values[None], np.full((1, 1), 0.01), np.zeros(1)) == 0


def test_people_are_no_lower_than_who_sits_nor_taller_than_who_stands():
    heights = np.log([0.9, 1.2, 1.9, 2.5, 1.6])
    variances = np.array([0.01, 0.01, 0.01, 0.01, np.inf])
    assert of_somebody(heights, variances).tolist() == [False, True, True, False, False]


def test_a_box_is_lower_than_a_moment_ago_where_both_are_known():
    person = Statures.unknown(3).updated(np.log([1.6, 1.6, 1.6]), np.array([0.01, 0.01, np.inf]))
    boxes = np.log([1.4, 1.55, 1.4])
    assert person.lower(boxes, np.full(3, 0.02**2)).tolist() == [True, False, False]
    for spread in (0.1, np.inf):  # a distance that errs so much says nothing
        assert not person.lower(boxes, np.full(3, spread**2)).any()
