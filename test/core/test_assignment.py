# SPDX-License-Identifier: Apache-2.0
"""The assignment against SciPy's, and against all permutations."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rmpe_ros.core.assignment import best_assignment, good_assignments

SHAPES = st.tuples(st.integers(0, 8), st.integers(0, 8))


def scipys_assignment(gain):
    from scipy.optimize import linear_sum_assignment  # takes half a second, in every worker

    return linear_sum_assignment(gain, maximize=True)


@given(arrays(np.float64, SHAPES, elements=st.floats(0, 1, width=16)))
def test_the_total_is_scipys(gain):
    rows, columns = best_assignment(gain)
    expected = gain[scipys_assignment(gain)].sum()
    assert gain[rows, columns].sum() == pytest.approx(expected)
    assert len(set(rows)) == len(rows)
    assert len(set(columns)) == len(columns)
    assert (gain[rows, columns] > 0).all()
    assert list(rows) == sorted(rows)


@pytest.mark.parametrize('shape', [(40, 40), (25, 60), (60, 25)])
def test_large_tables_are_assigned_as_scipy_does(shape):
    rng = np.random.default_rng(0)
    for sparsity in (0.0, 0.7, 0.98):
        gain = rng.uniform(0.1, 1, shape) * (rng.uniform(size=shape) >= sparsity)
        rows, columns = best_assignment(gain)
        expected_rows, expected_columns = scipys_assignment(gain)
        useful = gain[expected_rows, expected_columns] > 0
        assert gain[rows, columns].sum() == pytest.approx(
            gain[expected_rows, expected_columns].sum()
        )
        if sparsity == 0:
            np.testing.assert_array_equal(rows, expected_rows[useful])
            np.testing.assert_array_equal(columns, expected_columns[useful])


def test_greed_would_be_wrong_here():
    # Greedy takes 0.9 first and is left with nothing for the second row: 0.9 < 0.8 + 0.7.
    rows, columns = best_assignment(np.array([[0.9, 0.8], [0.7, 0.0]]))
    assert list(zip(rows, columns, strict=True)) == [(0, 1), (1, 0)]


def test_no_permutation_is_better():
    gain = np.random.default_rng(3).uniform(size=(5, 5))
    best = max(gain[range(5), list(order)].sum() for order in itertools.permutations(range(5)))
    assert gain[best_assignment(gain)].sum() == pytest.approx(best)


@pytest.mark.parametrize('bad', [np.array([[np.nan]]), np.array([[-1.0]]), np.zeros(3)])
def test_impossible_gains_are_refused(bad):
    with pytest.raises(ValueError, match='gain must'):
        best_assignment(bad)


def all_assignments(gain):
    """Total gains of every set of pairs that gain something, the greatest first."""
    rows, columns = gain.shape
    totals = []
    for partners in itertools.product(range(-1, columns), repeat=rows):
        pairs = [(row, column) for row, column in enumerate(partners) if column >= 0]
        one_to_one = len({column for _, column in pairs}) == len(pairs)
        if one_to_one and all(gain[pair] > 0 for pair in pairs):
            totals.append(sum(gain[pair] for pair in pairs))
    return sorted(totals, reverse=True)


@given(
    arrays(np.float64, st.tuples(st.integers(0, 4), st.integers(0, 4)), elements=st.floats(0, 9))
)
def test_the_best_assignments_are_those_of_all_in_their_order(gain):
    gain = np.where(gain < 2, 0, gain)
    expected = all_assignments(gain)
    found = good_assignments(gain, most=6, within=3.0)
    wanted = [total for total in expected if total >= expected[0] - 3.0 + 1e-9][:6]
    assert [total for total, _, _ in found][: len(wanted)] == pytest.approx(wanted)
    assert len({tuple(zip(rows, columns, strict=True)) for _, rows, columns in found}) == len(found)
    for total, rows, columns in found:
        assert gain[rows, columns].sum() == pytest.approx(total)
        assert list(rows) == sorted(rows)
        assert len(set(columns)) == len(columns)
