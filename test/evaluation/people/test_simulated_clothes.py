# SPDX-License-Identifier: Apache-2.0
"""Clothes in simulated rooms: as alike as in photos, and whoever is before is what is seen."""

import numpy as np
import pytest

from rmpe_ros.evaluation.people.simulated_clothes import SimulatedClothes

# What one person's colours vary by, as the photos' pairs were measured.
UNIT = np.array([8.0, 4, 4, 8, 3, 4])


def look(clothes, scores=0.9, inside=True, bare=(True, True), labels=(0, 1)):
    """Of two people, the second of whom is before the first one; bare: of each."""
    points = np.zeros((2, 19, 2))
    points[:] = np.stack([np.arange(19) * 3.0, np.arange(19) * 9.0], axis=1)
    return clothes.seen(
        np.array(labels),
        np.full((len(labels), 19), scores),
        inside=np.full((2, 19), inside),
        bare=np.repeat(np.array(bare)[:, None], 19, axis=1),
        points=points,
        depths=np.array([3.0, 2.0]),
    )


def looks(clothes, images, **how):
    """(I, N, 6)"""
    found = []
    for _ in range(images):
        clothes.move_on(1 / 15)
        found.append(look(clothes, **how))
    return np.array(found)


def test_neighbours_dress_as_alike_as_in_photos():
    rng = np.random.default_rng(0)
    apart = []
    for _ in range(4000):
        first, second = SimulatedClothes(2, rng).worn
        apart.append(np.sqrt((((first - second) / UNIT) ** 2).sum()))
    measured = [1.2, 1.9, 3.3, 6.9, 9.6]
    assert np.quantile(apart, [0.05, 0.1, 0.2, 0.5, 0.7]) == pytest.approx(measured, rel=0.2)


def test_colours_stay_about_what_is_worn():
    clothes = SimulatedClothes(2, np.random.default_rng(4))
    clothes.worn[:] = [[45, 30, 20, 40, 2, -12], [60, -10, 5, 35, 2, -12]]
    colours = looks(clothes, 1500)
    assert colours.dtype == np.float32
    assert np.median(colours, axis=0) == pytest.approx(clothes.worn, abs=5)
    spread = 1.48 * np.median(np.abs(colours - np.median(colours, axis=0)), axis=0)
    assert ((spread > 0.3 * UNIT) & (spread < 1.3 * UNIT)).all()
    # From one image to the next, less than after a while.
    steps = [np.median(np.abs(colours[gap:] - colours[:-gap])) for gap in (1, 150)]
    assert steps[0] < 0.7 * steps[1]


def test_who_is_before_is_what_is_seen():
    clothes = SimulatedClothes(2, np.random.default_rng(4))
    clothes.worn[:] = [[80, 40, 40, 20, -10, -20], [20, -40, 0, 70, 10, 20]]
    colours = np.median(looks(clothes, 200, bare=(False, True)), axis=0)
    assert colours == pytest.approx(clothes.worn[[1, 1]], abs=4)


def test_of_guesses_and_outside_the_image_nothing_is_told():
    clothes = SimulatedClothes(2, np.random.default_rng(0))
    assert np.isnan(look(clothes, scores=0.2)).all()
    assert np.isnan(look(clothes, inside=False)).all()
    assert look(clothes, labels=()).shape == (0, 6)
    assert np.isfinite(look(clothes, labels=(-1,))).all()
