# SPDX-License-Identifier: Apache-2.0
"""Images and poses find each other by header, and waiting rooms stay small."""

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')

from std_msgs.msg import Header

from rmpe_ros.nodes.inputs.stamp_matcher import StampMatcher, header_key

pytestmark = pytest.mark.ros


@pytest.mark.parametrize('left_first', [True, False])
def test_a_pair_is_found_in_either_order_and_once(left_first):
    matcher: StampMatcher[str, str] = StampMatcher(3)
    steps = [(matcher.put_left, 'image'), (matcher.put_right, 'poses')]
    first, second = steps if left_first else steps[::-1]
    assert first[0](1, first[1]) is None
    assert second[0](1, second[1]) == ('image', 'poses')
    assert second[0](1, second[1]) is None


def test_different_headers_do_not_match():
    matcher: StampMatcher[str, str] = StampMatcher(3)
    matcher.put_left(1, 'image')
    assert matcher.put_right(2, 'poses') is None


def test_the_oldest_leaves_a_full_room():
    matcher: StampMatcher[str, str] = StampMatcher(2)
    for key in (1, 2, 3):
        matcher.put_left(key, f'image {key}')
    assert matcher.put_right(1, 'poses') is None
    assert matcher.put_right(2, 'poses') == ('image 2', 'poses')
    assert matcher.put_right(3, 'poses') == ('image 3', 'poses')


def test_a_repeated_header_keeps_the_newer_message():
    matcher: StampMatcher[str, str] = StampMatcher(2)
    matcher.put_left(1, 'old')
    matcher.put_left(2, 'other')
    matcher.put_left(1, 'new')
    matcher.put_left(3, 'third')
    assert matcher.put_right(1, 'poses') == ('new', 'poses')
    assert matcher.put_right(2, 'poses') is None


def test_clear_forgets_both_rooms():
    matcher: StampMatcher[str, str] = StampMatcher(2)
    matcher.put_left(1, 'image')
    matcher.put_right(2, 'poses')
    matcher.clear()
    assert matcher.put_right(1, 'poses') is None
    assert matcher.put_left(2, 'image') is None


def test_capacity_must_be_positive():
    with pytest.raises(ValueError, match='capacity is 0'):
        StampMatcher(0)


def test_the_key_tells_stamps_and_frames_apart():
    header = Header(frame_id='left')
    header.stamp.sec, header.stamp.nanosec = 1, 2
    keys = {header_key(header)}
    header.frame_id = 'right'
    keys.add(header_key(header))
    header.stamp.nanosec = 3
    keys.add(header_key(header))
    header.stamp.sec = 2
    keys.add(header_key(header))
    assert len(keys) == 4
