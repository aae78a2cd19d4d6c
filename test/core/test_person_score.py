# SPDX-License-Identifier: Apache-2.0
"""The person score: what it weighs, and what it refuses."""

import numpy as np
import pytest

from rmpe_ros.core.person_score import Logistic, PersonScore, person_features

RIGHT = Logistic(-1.0, 0.5, 2.0, 1.0, -1.0)
SCORE = PersonScore(RIGHT, 0.4)


def test_features_by_hand() -> None:
    features = person_features(np.array([0.5, 1.0]), np.array([[0.2, 0.4, 0.6, 0.8], [1.0] * 4]))
    np.testing.assert_allclose(features[0], [0, 0.5, 0.5, 0.7, 0, 0], atol=1e-9)
    np.testing.assert_allclose(features[1], [np.log(9999), 1, 1, 1, 0, 0], atol=1e-4)
    close = person_features(np.array([0.5]), np.array([[0.2, 0.8]]), np.array([[0.5, 1.0]]))
    np.testing.assert_allclose(close[0, 4:], [0.75, (0.1 + 0.8) / 2], atol=1e-9)


def test_probability_by_hand() -> None:
    # -1 + 0.5·0 + 2·0.5 + 1·0.5 - 1·0.7 = -0.2
    scores = SCORE(np.array([0.5]), np.array([[0.2, 0.4, 0.6, 0.8]]))
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(0.2)), rtol=1e-6)
    assert SCORE(np.zeros(0), np.zeros((0, 19))).shape == (0,)


def test_closeness_counts_where_the_model_weighs_it() -> None:
    # -0.2 as above; closeness 0.75 on average, times the scores 0.375.
    score = PersonScore(Logistic(-1.0, 0.5, 2.0, 1.0, -1.0, exact=1.0, sure=2.0), 0.4)
    joints, closeness = np.array([[0.2, 0.4, 0.6, 0.8]]), np.array([[1.0, 0.5, 0.5, 1.0]])
    value = score(np.array([0.5]), joints, closeness)
    logit = -0.2 + 0.75 + 2 * 0.375
    np.testing.assert_allclose(value, 1 / (1 + np.exp(-logit)), rtol=1e-6)
    with pytest.raises(ValueError, match='needs the closeness'):
        score(np.array([0.5]), joints)
    assert PersonScore.from_json(score.to_json()) == score


def test_those_of_older_models_are_read() -> None:
    old = '{"bias": -1.0, "box": 0.5, "joints": 2.0, "confident": 1, "best": -1, "threshold": 0.4}'
    assert PersonScore.from_json(old) == SCORE and not SCORE.needs_closeness


def test_those_taken_for_people_come_first_and_the_right_ones_first_among_them() -> None:
    # A person where the box says so, right where the joints do; 0.6 · sigmoid and 0.6 + 0.4 · it.
    score = PersonScore(Logistic(-2, 0, 4, 0, 0), 0.6, person=Logistic(0, 1, 0, 0, 0))
    boxes, joints = np.array([0.7, 0.7, 0.5, 0.5]), np.array([[0.2], [0.8], [0.2], [0.8]])
    low, high = 1 / (1 + np.exp(1.2)), 1 / (1 + np.exp(-1.2))
    expected = [0.6 + 0.4 * low, 0.6 + 0.4 * high, 0.6 * low, 0.6 * high]
    np.testing.assert_allclose(score(boxes, joints), expected, rtol=1e-6)
    assert PersonScore.from_json(score.to_json()) == score and not score.needs_closeness
    with pytest.raises(ValueError, match='closeness'):
        PersonScore(RIGHT, 0.6, Logistic(0, 1, 0, 0, 0, sure=1))(boxes, joints)


def test_the_threshold_parts_people_from_others_in_float32_as_well() -> None:
    certain = Logistic(50, 0, 0, 0, 0)
    for threshold in np.arange(0.05, 1, 0.01).tolist():
        score = PersonScore(certain, threshold, Logistic(0, 1, 0, 0, 0))
        scores = score(np.array([threshold - 1e-3, threshold + 1e-3]), np.zeros((2, 19)))
        assert (scores >= threshold).tolist() == [False, True] and scores.max() <= 1


def test_extremes_stay_probabilities() -> None:
    steep = PersonScore(Logistic(0, 9000, 0, 0, 0), 0.5)
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
        SCORE.to_json().replace('0.4', '"0.4"'),
        SCORE.to_json().replace('}', ', "person": 3}'),
        SCORE.to_json().replace('}', ', "person": {"bias": 1}}'),
        SCORE.to_json().replace('}', ', "more": 1}'),
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        PersonScore.from_json(text)
