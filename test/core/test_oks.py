# SPDX-License-Identifier: Apache-2.0
"""OKS, and what it is on average where a joint is known to lie about somewhere."""

import numpy as np

from rmpe_ros.core.oks import AREA_OF_BOX, expected_similarity, keypoint_similarity

BOX = np.array([[10.0, 20.0, 110.0, 220.0]])
SIGMAS = np.array([0.05, 0.1])
UNIT = (2 * SIGMAS) ** 2 * AREA_OF_BOX * 100 * 200


def test_expected_similarity_by_hand() -> None:
    spread = np.zeros((1, 2, 3))
    assert expected_similarity(spread, BOX, SIGMAS).tolist() == [[1, 1]]
    # As wide as OKS itself, in both directions: 1 / √(2·2); in one: 1 / √2.
    spread[0, 0, [0, 2]] = UNIT[0]
    spread[0, 1, 0] = UNIT[1]
    np.testing.assert_allclose(
        expected_similarity(spread, BOX, SIGMAS), [[0.5, 0.5**0.5]], rtol=1e-9
    )
    spread[0, 1] = np.nan
    np.testing.assert_allclose(expected_similarity(spread, BOX, SIGMAS), [[0.5, 0]], rtol=1e-9)
    spread[0, 0] = [1, 1e6, 1]  # no covariance at all
    assert expected_similarity(spread, BOX, SIGMAS)[0, 0] <= 1
    assert expected_similarity(np.zeros((0, 2, 3)), np.zeros((0, 4)), SIGMAS).shape == (0, 2)


def test_it_is_the_mean_oks_of_joints_drawn_from_the_covariance() -> None:
    covariance = np.array([[90.0, 40.0], [40.0, 60.0]])
    drawn = np.random.default_rng(0).multivariate_normal([0, 0], covariance, 200_000)
    oks = keypoint_similarity(
        drawn[:, None],
        np.zeros((1, 2)),
        np.ones((len(drawn), 1), bool),
        np.full(len(drawn), AREA_OF_BOX * 100 * 200),
        SIGMAS[:1],
    )
    expected = expected_similarity(np.array([[[90.0, 40.0, 60.0]]]), BOX, SIGMAS[:1])
    assert abs(oks.mean() - expected[0, 0]) < 0.003
