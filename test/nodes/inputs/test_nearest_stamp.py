# SPDX-License-Identifier: Apache-2.0
"""Poses find the depth image nearest in time, whichever comes first."""

import pytest

from rmpe_ros.nodes.inputs.stamp_matcher import NearestStamp


def test_equal_stamps_pair_whichever_comes_first():
    matcher = NearestStamp(5, 0)
    assert matcher.put_right(10, 'depth') == []
    assert matcher.put_left(10, 'poses') == [('poses', 'depth')]
    assert matcher.put_left(20, 'poses2') == []
    assert matcher.put_right(20, 'depth2') == [('poses2', 'depth2')]
    assert matcher.unmatched == 0


@pytest.mark.parametrize(('slop', 'expected'), [(3, [('poses', 'd12')]), (1, [])])
def test_the_nearest_wins_within_the_slop(slop, expected):
    matcher = NearestStamp(5, slop)
    matcher.put_right(7, 'd7')
    assert matcher.put_left(10, 'poses') == []  # a nearer one may come
    assert matcher.put_right(12, 'd12') == expected
    assert matcher.unmatched == (not expected)


def test_an_earlier_one_may_be_the_nearest():
    matcher = NearestStamp(5, 5)
    matcher.put_right(9, 'd9')
    matcher.put_left(10, 'poses')
    assert matcher.put_right(14, 'd14') == [('poses', 'd9')]


def test_one_depth_image_serves_several_poses():
    matcher = NearestStamp(5, 5)
    for stamp in (8, 9, 11):
        matcher.put_left(stamp, stamp)
    assert matcher.put_right(10, 'd') == [(8, 'd'), (9, 'd')]
    assert matcher.put_right(20, 'e') == [(11, 'd')]


def test_full_rooms_forget_the_oldest_and_count():
    matcher = NearestStamp(2, 100)
    for stamp in (1, 2, 3):
        matcher.put_left(stamp, stamp)
    assert matcher.unmatched == 1
    assert matcher.put_right(3, 'd') == [(2, 'd'), (3, 'd')]


def test_what_is_heavy_waits_in_smaller_numbers():
    matcher = NearestStamp(10, 100, weigh=len, most=6)
    for stamp, left in enumerate(['a', 'bb', 'ccc', 'dd', 'e']):
        assert matcher.put_left(stamp, left) == []
    assert matcher.unmatched == 2
    assert [left for left, _ in matcher.put_right(9, 'd')] == ['ccc', 'dd', 'e']
    # One that is too heavy is not refused, but waits alone.
    matcher.put_left(10, 'f')
    matcher.put_left(11, 'g' * 9)
    assert matcher.put_right(12, 'd') == [('g' * 9, 'd')]
    assert matcher.unmatched == 3


def test_a_bag_that_starts_again_is_matched_anew():
    matcher = NearestStamp(5, 2)
    matcher.put_right(100, 'old')
    matcher.put_left(150, 'old poses')
    assert matcher.put_right(10, 'new') == []
    assert matcher.put_left(10, 'poses') == [('poses', 'new')]
    assert matcher.put_right(160, 'later') == []
