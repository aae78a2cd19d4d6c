# SPDX-License-Identifier: Apache-2.0
"""One box for two people: whose number it bears says nothing."""

from dataclasses import replace

import numpy as np
import pytest

from rmpe_ros.core.people.clothing import Clothing
from rmpe_ros.core.people.heads import Heads
from rmpe_ros.core.people.matching import compare
from rmpe_ros.core.people.people_filter import CameraPose, MotionModel, first_states
from rmpe_ros.core.people.people_state import Axes, People
from rmpe_ros.core.people.people_tracker import PeopleTracker
from rmpe_ros.core.people.shared_boxes import same_numbers, shared_boxes
from rmpe_ros.core.people.sights import Sights

LEFT, RIGHT = [0, 0, 10, 30], [12, 5, 22, 35]
BOTH = [0, 0, 22, 35]
OPTICAL = Axes.of_optical()


def people(*boxes, seen=1.0, z=10.0):
    """Somebody straight ahead in each of boxes, whose image id is the place in the list."""
    count = len(boxes)
    states, covariances = first_states(count, MotionModel(), 0.5)
    states[:, 2] = z
    zeros, whole = np.zeros(count), np.full(count, 20)
    return People(
        1.1, np.arange(count), states, 0 * covariances, zeros, zeros, zeros, zeros + seen, whole,
        np.arange(count, dtype=np.int32), np.array(boxes, np.float32),
        np.ones(count, np.float32), *[0 * whole] * 3, zeros, zeros + np.inf,
        zeros, zeros + np.nan, whole < 0,
        np.zeros((count, 6)), np.full((count, 6), np.inf),
    )  # fmt: skip


def sights(*found, method=2, sd=0.2):
    """(image id, box) of people whose distances are 10 m by `method`; 500 pixels are a slope 1."""
    count = len(found)
    boxes = np.array([box for _, box in found], np.float32).reshape(count, 4)
    variances = np.full((count, 3), np.inf)
    variances[:, method] = sd**2
    return Sights(
        (boxes[:, :2] + boxes[:, 2:]) / 2 / 500.0,
        np.tile(np.eye(2) * 0.006**2, (count, 1, 1)),
        np.full((count, 3), np.log(10.0)),
        variances,
        np.tile([0.0, 0.0, -1.0], (count, 1)),
        np.full(count, np.inf),
        np.ones(count),
        np.array([number for number, _ in found], np.int32),
        boxes,
        np.ones(count, np.float32),
        Heads.unseen(count),
        np.full(count, np.nan),
        Clothing.unknown(count),
        np.zeros(count),
    )


def shared(them, seen):
    found = shared_boxes(them, seen, same_numbers(them, seen))
    return np.zeros((len(them), len(seen)), bool) if found is None else found


# IoU of BOTH with LEFT is 300 / 770, with RIGHT as much, with the box around both 1; of a box that
# is 2 pixels broader than LEFT 300 / 360, with the box around both 360 / 770.
@pytest.mark.parametrize(
    ('found', 'seen', 'expected'),
    [
        ([(0, BOTH)], 1.0, [True, True]),
        ([(1, BOTH)], 1.0, [True, True]),
        ([(0, [0, 0, 12, 30])], 1.0, [False, False]),
        ([(7, BOTH)], 1.0, [False, False]),  # nobody's number
        ([(0, BOTH)], 0.5, [False, False]),  # 0.6 s ago: they may be anywhere
    ],
)
def test_a_box_around_two_is_of_both(found, seen, expected):
    assert shared(people(LEFT, RIGHT, seen=seen), sights(*found))[:, 0].tolist() == expected


def test_who_is_perhaps_nobody_shares_none():
    """A ghost of the detector would be seen in the boxes of others, and count as a person."""
    both = people(LEFT, RIGHT)
    ghost = replace(both, sights=np.array([20, 2]))
    assert shared(both, sights((0, BOTH))).all()
    assert not shared(ghost, sights((0, BOTH))).any()


def test_who_is_in_another_box_shares_none():
    assert not shared(people(LEFT, RIGHT), sights((0, BOTH), (1, RIGHT))).any()


def test_whose_a_shared_box_is_waits_for_the_next_image():
    """One box around both has the number of one of them: neither is told to be seen in it."""
    tracker, view = PeopleTracker(), CameraPose.identity()
    apart = [(0, LEFT), (1, RIGHT)]
    for index, found in enumerate([apart] * 10 + [[(1, BOTH)]] + [apart] * 5):
        now = tracker.update(sights(*found), index / 10, view, OPTICAL)
        seen = now.ids[now.last_seen == now.stamp]
        assert sorted(seen.tolist()) == ([] if index == 10 else [0, 1])
        assert now.image_ids[np.argsort(now.ids)].tolist() == [0, 1]


def test_depth_says_whose_a_shared_box_is():
    """Only lengths in the image are those of two people."""
    everybody = people(LEFT, RIGHT)
    by_size, by_depth = (
        compare(
            everybody,
            replace(sights((0, BOTH), method=method), rays=np.zeros((1, 2))),
            CameraPose.identity(),
            OPTICAL.up,
        ).gains[:, 0]
        for method in (2, 0)
    )
    assert by_size[0] == by_size[1] > 0
    assert by_depth[0] > by_depth[1]


def test_a_sight_aside_counts_less_than_a_normal_distribution_has_it():
    """4 standard deviations: 5 log(1 + 16 / 8), Student's t of 8 degrees of freedom, not 16 / 2.

    A quarter of the variance is this image's own: a standard deviation is a slope of 0.003.
    """
    somebody = people(LEFT, seen=1.1)  # this moment: she has had no time to turn
    ahead = replace(sights((0, LEFT)), rays=np.zeros((1, 2)))
    aside = replace(ahead, rays=np.array([[0.012, 0.0]]))
    straight, off = (
        compare(somebody, each, CameraPose.identity(), OPTICAL.up).gains[0, 0]
        for each in (ahead, aside)
    )
    assert straight - off == pytest.approx(5 * np.log(3), abs=1e-6)


def compared(everybody, *found):
    return compare(everybody, sights(*found), CameraPose.identity(), OPTICAL.up)


def test_nearer_or_farther_a_shared_box_is_of_either():
    """In a box of both neither was missed, whichever the detector is likelier to find."""
    everybody = people(LEFT, RIGHT, z=np.array([12.0, 9.0]))
    gains = compared(everybody, (0, BOTH)).gains[:, 0]
    assert gains[0] == gains[1] > 0


def test_a_shared_box_takes_nobodys_number():
    tracker, view = PeopleTracker(), CameraPose.identity()
    apart, both = [(0, LEFT), (1, RIGHT)], [(1, BOTH)]
    for index, found in enumerate([apart] * 10 + [both] * 3 + [apart] * 5):
        now = tracker.update(sights(*found), index / 10, view, OPTICAL)
        assert now.image_ids[np.argsort(now.ids)].tolist() == [0, 1]
    assert (now.last_seen == now.stamp).all()


def test_a_number_may_be_handed_on_to_who_comes_back_in_the_same_place():
    """Unless whose it was is found elsewhere."""
    two = replace(people(LEFT, LEFT), last_seen=np.array([1.03, 0.3]))
    handed_on = compared(two, (0, LEFT)).handed_on[:, 0]
    assert handed_on[0] == 0 and handed_on[1] > 2
    aside = replace(two, boxes=np.array([RIGHT, LEFT], np.float32))
    assert compared(aside, (0, LEFT)).handed_on is None
    long_ago = replace(two, last_seen=np.array([0.8, 0.3]))
    assert compared(long_ago, (0, LEFT)).handed_on is None
    chances, sight = compared(two, (0, LEFT), (5, LEFT)), np.array([0, 1])
    assert chances.too_much(np.array([1]), sight[:1]) == 0
    assert chances.too_much(np.array([1, 0]), sight) == pytest.approx(handed_on[1])


@pytest.mark.parametrize('rate', [4, 7, 15])
def test_a_number_counts_alike_at_any_rate_of_images(rate):
    """Who was seen in the image before was not away, however long ago that image was."""
    gains = []
    for each in (rate, 15):
        somebody = replace(people(LEFT, seen=1.1 - 1 / each), interval=1 / each)
        numbered, without = (compared(somebody, (number, LEFT)).gains[0, 0] for number in (0, -1))
        gains.append(numbered - without)
    assert gains[0] == pytest.approx(gains[1], abs=1e-9)


def test_who_hides_whom_is_as_unsure_as_their_distances():
    """Chances that nobody is found: 0.15 each who is in view, 0.7 who is hidden."""
    line = people([0, 0, 10, 30], [0, 0, 10, 30], z=np.array([10.0, 11.0]))
    assert compared(line).unseen == pytest.approx(np.log(0.15) + np.log(0.7), abs=1e-6)
    spread = np.zeros((2, 12, 12))
    spread[:, 2, 2] = 2.0**2
    unsure = compared(replace(line, covariances=spread)).unseen
    assert 2 * np.log(0.15) + 0.5 < unsure < 2 * np.log(0.7) - 0.5
    alone = replace(line, covariances=spread)[[0]]
    assert compared(alone).unseen == pytest.approx(np.log(0.15), abs=1e-6)
