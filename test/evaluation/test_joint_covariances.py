# SPDX-License-Identifier: Apache-2.0
"""Ellipses fitted to errors whose spread is known hold 90 % of other errors like them."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip('scipy')

from rmpe_ros.evaluation.joint_covariances import (
    ELLIPSE_90,
    JointErrors,
    coverage,
    fit_scale,
    off_squared,
    scaled,
)


def made(seed, count=6000):
    """Joints whose errors are those of scale 0.5, offset 0.1 and doubt 2, but for long tails."""
    rng = np.random.default_rng(seed)
    joints = rng.integers(0, 2, count)
    found = JointErrors(
        np.zeros((count, 2)),
        rng.uniform(5, 40, (count, 1)) * [[1.0, 0.3, 0.6]],
        rng.uniform(0, 1, count),
        np.where(joints == 0, 7.0, 20.0),
        np.arange(count) // 10,
        joints,
        ('nose', 'left_hip'),
    )
    truth = scaled(found, 0.5, 0.1, 2.0)
    tail = np.sqrt(3 / rng.chisquare(3, count))
    factors = np.array([np.linalg.cholesky([[xx, xy], [xy, yy]]) for xx, xy, yy in truth])
    errors = (factors @ rng.normal(size=(count, 2, 1)))[:, :, 0] * tail[:, None]
    return replace(found, errors=errors)


def test_ninety_percent_of_others_are_inside_however_sure_they_are():
    fit = fit_scale(made(0))
    others = made(1)
    table = coverage(replace(others, covariances=scaled(others, *fit)))
    assert table['all joints'][1] == pytest.approx(0.9, abs=0.015)
    for name, (count, share, _) in table.items():
        assert share == pytest.approx(0.9, abs=0.03), name
        assert count > 100
    assert table['fifth 5 by size'][2] > 2 * table['fifth 1 by size'][2]


def test_the_fit_finds_what_the_errors_were_made_of():
    scale, offset, doubt = fit_scale(made(2, 20000))
    assert doubt**2 / scale == pytest.approx(2.0**2 / 0.5, rel=0.25)
    assert offset < 0.4 * doubt


def test_a_gaussian_has_90_percent_in_the_ellipse():
    rng = np.random.default_rng(0)
    covariance = np.array([[9.0, 4.0], [4.0, 5.0]])
    errors = rng.multivariate_normal([0, 0], covariance, 20000)
    off, determinant = off_squared(errors, np.tile([9.0, 4.0, 5.0], (20000, 1)))
    assert (off < ELLIPSE_90).mean() == pytest.approx(0.9, abs=0.01)
    assert determinant[0] == pytest.approx(29)


def test_too_few_joints_are_refused():
    few = made(0)
    with pytest.raises(ValueError, match='5 labelled joints, at least 100'):
        fit_scale(few[np.arange(len(few.errors)) < 5])
