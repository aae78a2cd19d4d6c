# SPDX-License-Identifier: Apache-2.0
"""Percentiles by nearest rank."""

import pytest

from rmpe_ros.core.percentile import percentile


@pytest.mark.parametrize(('percent', 'expected'), [(0, 1.0), (50, 3.0), (95, 5.0), (100, 5.0)])
def test_percentile(percent, expected):
    assert percentile([5.0, 1.0, 4.0, 2.0, 3.0], percent) == expected


@pytest.mark.parametrize(('percent', 'expected'), [(5, 1), (50, 10), (51, 11), (95, 19), (99, 20)])
def test_nearest_rank_of_twenty(percent, expected):
    assert percentile(list(range(20, 0, -1)), percent) == expected
