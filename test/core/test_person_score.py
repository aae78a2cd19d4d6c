# SPDX-License-Identifier: Apache-2.0
"""The person score: what it weighs, and what it refuses."""

import numpy as np
import pytest

from rmpe_ros.core.person_score import PersonScore, person_features

SCORE = PersonScore(-1.0, 0.5, 2.0, 1.0, -1.0, 0.4)


def test_features_by_hand() -> None:
    features = person_features(np.array([0.5, 1.0]), np.array([[0.2, 0.4, 0.6, 0.8], [1.0] * 4]))
    np.testing.assert_allclose(features[0], [0, 0.5, 0.5, 0.7], atol=1e-9)
    np.testing.assert_allclose(features[1], [np.log(9999), 1, 1, 1], atol=1e-4)


def test_probability_by_hand() -> None:
    # -1 + 0.5·0 + 2·0.5 + 1·0.5 - 1·0.7 = -0.2
    scores = SCORE(np.array([0.5]), np.array([[0.2, 0.4, 0.6, 0.8]]))
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(0.2)), rtol=1e-6)
    assert SCORE(np.zeros(0), np.zeros((0, 19))).shape == (0,)


def test_extremes_stay_probabilities() -> None:
    steep = PersonScore(0, 9000, 0, 0, 0, 0.5)
    scores = steep(np.array([0.0, 1.0]), np.zeros((2, 19)))
    assert 0 <= scores[0] < 1e-9 and scores[1] == 1


def test_it_survives_the_metadata() -> None:
    assert PersonScore.from_json(SCORE.to_json()) == SCORE


@pytest.mark.parametrize(
    'text',
    [
        '{}',
        '[1, 2]',
        'nonsense',
        '[' * 100_000,
        SCORE.to_json().replace('2.0', 'NaN'),
        SCORE.to_json().replace('0.4', '1.4'),
        SCORE.to_json().replace('2.0', '"2"'),
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        PersonScore.from_json(text)
