# SPDX-License-Identifier: Apache-2.0
"""What people wear, and whom that tells apart."""

import numpy as np
import pytest

from rmpe_ros.core.people.clothing import (
    Clothing,
    covered_shares,
    doubtful,
    same_clothes,
    told_by_image,
)

RED = [45.0, 55, 35, 25, 2, -20]
WHITE = [90.0, 0, 5, 40, 2, -12]
LIKE_RED = [48.0, 52, 37, 23, 3, -18]


def seen(*colours):
    """In one image."""
    return Clothing.of_sights(np.array(colours, float).reshape(-1, 6), len(colours))


def known(*colours, images=30):
    """People who were watched."""
    people = Clothing.unknown(len(colours))
    for _ in range(images):
        people = people.updated(seen(*colours), np.zeros(len(colours)))
    return people


def speaks(people, sights, doubt=0.0, unseen=5.0):
    """(T, N)"""
    both = len(people.values), len(sights.values)
    doubts, pairs = np.full(both[1], doubt), np.nonzero(np.ones(both, bool))
    return told_by_image(people, sights, doubts, np.full(both[0], unseen), pairs).reshape(both)


def test_colours_are_learnt():
    people = known(RED, WHITE)
    assert people.values == pytest.approx(np.array([RED, WHITE]), abs=2)
    assert (people.variances < Clothing.of_sights(np.zeros((2, 6)), 2).variances).all()
    assert (people.later(3).variances > people.variances).all()


def test_one_strange_image_teaches_little_and_a_lasting_change_is_followed():
    person = known(RED)
    once = person.updated(seen(WHITE), np.zeros(1))
    assert np.abs(once.values - person.values).max() < 2
    for _ in range(300):
        person = person.later(1 / 15).updated(seen(WHITE), np.zeros(1))
    assert person.values[0] == pytest.approx(WHITE, abs=5)


def test_doubtful_images_teach_less():
    person = Clothing.unknown(1).updated(seen(RED), np.ones(1))
    assert (person.variances > Clothing.unknown(1).updated(seen(RED), np.zeros(1)).variances).all()


def test_nothing_is_said_of_what_is_unknown():
    people = known(RED)
    nothing = Clothing.of_sights(None, 2)
    assert (speaks(people, nothing) == 0).all()
    assert (speaks(Clothing.unknown(1), seen(RED, WHITE)) == 0).all()
    same = people.updated(nothing[np.array([0])], np.zeros(1))
    np.testing.assert_array_equal(same.values, people.values)
    trunk_only = [*RED[:3], *[np.nan] * 3]
    assert 0 < speaks(people, seen(trunk_only))[0, 0] < speaks(people, seen(RED))[0, 0]
    assert speaks(known(RED, WHITE), seen()).shape == (2, 0)
    assert speaks(Clothing.unknown(0), seen(RED)).shape == (0, 1)


def test_products_of_all_pairs_are_the_densities_of_each():
    """A slow reference: two normal distributions, each with what it knows."""
    rng = np.random.default_rng(1)
    people = Clothing(rng.normal(30, 20, (4, 6)), rng.uniform(1, 200, (4, 6)))
    people.variances[1, 3:] = people.variances[2, 1] = np.inf
    other = Clothing(rng.normal(30, 20, (1, 6)), rng.uniform(1, 200, (1, 6)))
    found = same_clothes(people, other)
    anybody_mean, anybody_sd = [36.0, 5, 0, 30, 3, -1], [23.0, 12, 15, 19, 6, 9]
    for row in range(4):
        expected = 0.0
        for part in (range(3), range(3, 6)):
            ratio = 0.0
            for column in part:
                own, variance = other.variances[0, column], people.variances[row, column]
                if np.isfinite(variance):
                    value, mean = other.values[0, column], people.values[row, column]
                    wide = own + anybody_sd[column] ** 2
                    off = value - anybody_mean[column]
                    ratio += log_normal(value - mean, own + variance) - log_normal(off, wide)
            expected += np.clip(ratio, np.log(0.02), -np.log(0.02))
        assert found[row] == pytest.approx(min(expected, np.log(10)))


def log_normal(off, variance):
    return -0.5 * (off**2 / variance + np.log(2 * np.pi * variance))


def test_clothes_speak_for_who_wears_them():
    both = speaks(known(RED, WHITE), seen(WHITE, RED))
    assert both[0, 1] > both[0, 0] + 3.5 and both[1, 0] > both[1, 1] + 3.5
    # If nobody who is known wears that, somebody new may.
    assert speaks(known(RED), seen(WHITE))[0, 0] < -3
    # Who is dressed alike cannot be told apart.
    alike = speaks(known(RED, LIKE_RED), seen(RED))
    assert abs(alike[0, 0] - alike[1, 0]) < 1


def test_colours_may_be_of_who_is_before():
    """However well the colours fit another person, they tell two apart by so much at most."""
    clear, doubtful_ = (speaks(known(RED, WHITE), seen(WHITE), doubt) for doubt in (0.0, 1.0))
    assert clear[1, 0] - clear[0, 0] < -np.log(0.003) + 1e-6
    assert 0 < doubtful_[1, 0] - doubtful_[0, 0] < 0.3 * (clear[1, 0] - clear[0, 0])


def test_images_in_a_row_say_the_same():
    just, long_ago = (speaks(known(RED), seen(RED), unseen=time)[0, 0] for time in (1 / 15, 5.0))
    assert 0.4 * long_ago < just < 0.7 * long_ago


def test_somebody_new_is_compared_by_all_her_sights():
    people, newcomer = known(RED, WHITE), known(WHITE, images=3)
    alike = same_clothes(people, newcomer.as_seen())
    assert alike[0] < -3 and alike[1] == pytest.approx(np.log(10))  # others wear that, too
    assert (same_clothes(people, Clothing.unknown(1).as_seen()) == 0).all()


def test_who_stands_before_covers_who_stands_behind():
    behind, before, beside = [100, 50, 160, 200], [110, 60, 175, 230], [300, 50, 360, 240]
    shares = covered_shares(np.array([behind, before, beside]))
    assert shares[0] > 0.5 and shares[1] == 0 and shares[2] == 0
    assert covered_shares(np.array([behind])).tolist() == [0]
    assert covered_shares(np.zeros((3, 4))).tolist() == [0, 0, 0]
    doubts = doubtful(np.array([behind, before, beside]), np.array([1.0, 1.0, 0.4]))
    assert doubts[0] == pytest.approx(shares[0]) and doubts[1:].tolist() == [0, 1]
