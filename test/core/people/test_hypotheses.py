# SPDX-License-Identifier: Apache-2.0
"""Answers side by side: which are kept, for how long, and what is told of them."""

from dataclasses import replace

import numpy as np
import pytest

from rmpe_ros.core.people.hypotheses import UNLIKELY, Hypothesis, pruned, room_for, told
from rmpe_ros.core.people.people_filter import MotionModel, first_states
from rmpe_ros.core.people.people_state import CONFIRMED, People

STAMP = 10.0


def people(*places, ids=None, seen=STAMP):
    """People at places (x, y), seen just now, with the place's number of the list as image id."""
    count = len(places)
    states, covariances = first_states(count, MotionModel(), 0.5)
    states[:, :2] = np.array(places).reshape(count, 2)
    covariances[:, :3, :3] = 0.01 * np.eye(3)
    numbers = np.arange(count) if ids is None else np.array(ids)
    boxes = np.repeat(np.arange(count), 4).reshape(count, 4).astype(np.float32)
    whole, zeros = np.full(count, 20), np.zeros(count)
    return People(
        STAMP, numbers, states, covariances, zeros, zeros + 0.1, zeros, np.full(count, seen), whole,
        numbers.astype(np.int32), boxes, np.ones(count, np.float32), *[0 * whole] * 3, zeros,
        zeros + np.inf, zeros, zeros + np.nan, whole < 0,
        np.zeros((count, 6)), np.full((count, 6), np.inf),
    )  # fmt: skip


def test_the_likeliest_comes_first_and_unlikely_ones_go():
    ways = [
        Hypothesis(people((float(place), 0)), score)
        for place, score in ((0, -1.0), (1, 2.0), (2, 2.1 - UNLIKELY), (3, 1.9 - UNLIKELY))
    ]
    kept = pruned(ways)
    assert [each.people.positions[0, 0] for each in kept] == [1, 0, 2]
    assert [each.score for each in kept] == pytest.approx([0, -3, 0.1 - UNLIKELY])


def test_the_same_answer_is_kept_once():
    same = people((1.0, 0.05), (2, 0))
    other_number = people((1.0, 0), (2, 0), ids=[0, 7])
    ways = [Hypothesis(people((1.0, 0), (2, 0))), Hypothesis(same, -1), Hypothesis(other_number)]
    assert len(pruned(ways)) == 2


def test_after_a_while_the_best_answer_is_the_truth():
    early, late = (STAMP - 2.0, 1), (STAMP - 0.1, 3)
    ways = [
        Hypothesis(people((0.0, 0)), 0.0, (early, late)),
        Hypothesis(people((1.0, 0)), -0.1, (early, (STAMP - 0.1, 4))),
        Hypothesis(people((2.0, 0)), -0.1, ((STAMP - 2.0, 2),)),
    ]
    kept = pruned(ways)
    assert [each.people.positions[0, 0] for each in kept] == [0, 1]
    assert kept[0].choices == (late,)


def test_a_crowd_has_few_answers():
    assert room_for(1) > 4 > room_for(20) >= 1 == room_for(500)
    crowd = [(float(each), 0) for each in range(20)]
    ways = [Hypothesis(people((offset, 5.0), *crowd)) for offset in (0.0, 1.0, 2.0, 3.0)]
    assert len(pruned(ways)) == room_for(21)


def test_told_is_what_the_answers_agree_on():
    """Two people, and only the second was seen: by half a chance it was the first."""
    before = replace(people((0, 0), (1, 0), (5, 0), seen=STAMP - 0.1))
    one, other = people((0, 0), (1.2, 0), (5, 0)), people((0.8, 0), (1, 0), (5, 0))
    one.last_seen[:], other.last_seen[:] = (9.9, 10, 10), (10, 9.9, 10)
    one.boxes[1], other.boxes[0] = 9, 9
    result = told([Hypothesis(one), Hypothesis(other, -0.1)], before)
    assert result.ids.tolist() == [0, 1, 2]
    assert result.last_seen.tolist() == [9.9, 9.9, 10]
    assert result.boxes[:, 0].tolist() == [0, 1, 2]
    assert result.positions[:, 0] == pytest.approx([0, 1.2, 5])
    # The spread holds both places: 0.8 m and 0.2 m apart, with nearly equal weights, as a
    # third of -0.1 counts.
    expected = [0.01 + 0.4913 * 0.8**2, 0.01 + 0.4913 * 0.2**2, 0.01]
    assert result.covariances[:, 0, 0] == pytest.approx(expected, rel=1e-2)
    # Nearly certain, and all is told as the best answer says.
    sure = told([Hypothesis(one), Hypothesis(other, -10.5)], before)
    assert sure.last_seen.tolist() == [9.9, 10, 10]


def test_who_may_be_nobody_new_is_tentative():
    one, other = people((0, 0), (1, 0), ids=[0, 7]), people((1, 0), ids=[0])
    result = told([Hypothesis(one), Hypothesis(other)], people((0, 0)))
    assert result.sights.tolist() == [20, CONFIRMED - 1]
