# SPDX-License-Identifier: Apache-2.0
"""People in simulated rooms keep off each other and off the furniture, and still get about."""

import numpy as np
import pytest

from rmpe_ros.evaluation.people.simulated_bodies import Build
from rmpe_ros.evaluation.people.simulated_motion import Stop, Walker, move
from rmpe_ros.evaluation.people.simulated_scenes import SCENES, make_scene
from rmpe_ros.evaluation.people.simulated_ways import next_corner

TABLE = (2.0, -0.5, 3.0, 0.5, 0.7)


def walk(*ways, seconds=10.0, pace=1.2, **scenery):
    """Places (S, W, 2) of walkers who go from stop to stop, each 30th of a second."""
    rng = np.random.default_rng(0)
    walkers = [
        Walker(Build.random(rng), tuple(Stop(place, stay) for place, stay in way), pace)
        for way in ways
    ]
    return move(walkers, seconds, rng, **scenery).places


def apart(places):
    """Least distance of any two walkers, metres."""
    gaps = np.linalg.norm(places[:, :, None] - places[:, None], axis=-1)
    return gaps[:, ~np.eye(places.shape[1], dtype=bool)].min(initial=np.inf)


def distance(places, goal):
    return np.hypot(*(places - goal).T)


@pytest.mark.parametrize('side', [0.0, 0.05, -0.3])
def test_two_who_walk_into_each_other_pass(side):
    there, back = (0.0, 0.0), (5.0, side)
    places = walk([(there, 0.0), (back, 9.0)], [(back, 0.0), (there, 9.0)])
    assert apart(places) > 0.45
    assert distance(places[:, 0], back).min() < 0.3
    assert distance(places[:, 1], there).min() < 0.3
    # They step aside, and do not walk round.
    assert np.abs(places[:, :, 1]).max() < 0.9


def test_who_crosses_the_way_of_another_gets_through():
    places = walk([((0.0, 0.0), 0.0), ((5.0, 0.0), 9.0)], [((2.5, -2.5), 0.0), ((2.5, 2.5), 9.0)])
    assert apart(places) > 0.45
    assert distance(places[180, 0], (5.0, 0.0)) < 0.5
    assert distance(places[180, 1], (2.5, 2.5)) < 0.5


def test_a_place_that_is_taken_is_left_to_who_stands_there():
    goal = (3.0, 0.0)
    places = walk([(goal, 60.0)], [((0.0, 0.0), 0.0), (goal, 1.0), ((0.0, 2.0), 60.0)])
    assert apart(places) > 0.45
    assert distance(places[-1, 1], (0.0, 2.0)) < 0.3


def test_a_way_leads_round_a_table():
    start, goal = np.array([1.0, 0.1]), np.array([4.0, 0.1])
    corner = next_corner(start, goal, [TABLE])
    assert corner == pytest.approx([1.7, 0.8])
    assert next_corner(corner, goal, [TABLE]) == pytest.approx([3.3, 0.8])
    assert next_corner(np.array([3.3, 0.8]), goal, [TABLE]) is goal
    assert next_corner(start, goal, []) is goal
    places = walk([(tuple(start), 0.0), (tuple(goal), 9.0)], tables=[TABLE])
    beyond = np.maximum(np.array(TABLE[:2]) - places, places - np.array(TABLE[2:4])).max(axis=-1)
    assert beyond.min() > 0.1
    assert distance(places[-1, 0], goal) < 0.3


def test_a_pillar_is_passed():
    places = walk([((0.0, 0.0), 0.0), ((5.0, 0.0), 9.0)], pillars=[(2.5, 0.0, 0.15)])
    assert distance(places[:, 0], (2.5, 0.0)).min() > 0.3
    assert distance(places[-1, 0], (5.0, 0.0)) < 0.3


@pytest.mark.parametrize('scene', SCENES)
def test_nobody_walks_through_anybody_or_anything(scene):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        made = make_scene(scene, rng, 20.0)
        motion = move(list(made.walkers), 20.0, rng, tables=made.tables, pillars=made.pillars)
        assert apart(motion.places) > 0.4
        for x1, y1, x2, y2, _ in made.tables:
            beyond = np.maximum((x1, y1) - motion.places, motion.places - (x2, y2)).max(axis=-1)
            assert beyond.min() > 0.05
        # Nobody jumps, and nobody is stuck.
        change = np.diff(motion.places, n=2, axis=0) * 30**2
        assert np.hypot(change[..., 0], change[..., 1]).max() < 1.6
        assert np.ptp(motion.places, axis=0).max(axis=-1).min() > 0.5
