# SPDX-License-Identifier: Apache-2.0
"""The follower in a closed loop: a simulated robot, a person who walks, and what may go wrong."""

import importlib.util
import math
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[2] / 'examples' / 'follow_me.py'
_spec = importlib.util.spec_from_file_location('follow_me', FILE)
assert _spec is not None and _spec.loader is not None
follow_me = importlib.util.module_from_spec(_spec)
sys.modules['follow_me'] = follow_me
_spec.loader.exec_module(follow_me)

STEP = 0.1


class Robot:
    """Turns and drives as it is told, with the inertia of a real one."""

    def __init__(self):
        self.x = self.y = self.yaw = self.speed = self.turn = 0.0

    def drive(self, speed, turn):
        self.speed += 0.4 * (speed - self.speed)
        self.turn += 0.6 * (turn - self.turn)
        self.yaw += self.turn * STEP
        self.x += self.speed * math.cos(self.yaw) * STEP
        self.y += self.speed * math.sin(self.yaw) * STEP

    def sight(self, place, number=0, *, doubt=0.05, unseen=0.0):
        dx, dy = place[0] - self.x, place[1] - self.y
        forward = math.cos(self.yaw) * dx + math.sin(self.yaw) * dy
        left = math.cos(self.yaw) * dy - math.sin(self.yaw) * dx
        return follow_me.Sighting(number, forward, left, doubt, unseen)


def simulate(people, seconds, *, follower=None, robot=None, hear=None):
    """The robot after so many seconds; people(t): list of (number, place). Also the log."""
    follower, robot, log = follower or follow_me.Follower(), robot or Robot(), []
    for index in range(round(seconds / STEP)):
        now = index * STEP
        if hear is None or hear(now):
            seen = [robot.sight(place, number) for number, place in people(now)]
            follower.hear(seen, '', now)
        speed, turn, why = follower.command(now)
        robot.drive(speed, turn)
        gaps = [math.hypot(place[0] - robot.x, place[1] - robot.y) for _, place in people(now)]
        log.append((speed, turn, why, min(gaps, default=math.inf)))
    return robot, log


def test_it_follows_around_a_corner_and_keeps_the_distance():
    def people(now):
        walked = min(0.4 * now, 8.0)
        return [(4, (2 + min(walked, 4), max(walked - 4, 0.0)))]

    robot, log = simulate(people, 30)
    assert min(gap for *_, gap in log) > 0.8
    assert max(gap for *_, gap in log) < 2.5
    assert log[-1][3] == pytest.approx(1.2, abs=0.15)
    assert abs(log[-1][0]) < 0.1
    assert log[-1][2] == 'following 4'
    assert robot.y > 2


def test_it_stays_with_the_first_when_another_comes_nearer():
    def people(now):
        return [(0, (3.0, 0.5)), *([(1, (2.0, -1.0))] if now > 1 else [])]

    _, log = simulate(people, 8)
    assert {why for *_, why, _ in log} == {'following 0'}


def test_the_chosen_one_is_followed_and_nobody_else():
    follower = follow_me.Follower(track_id=7)
    _, log = simulate(lambda now: [(1, (2.0, 0.0))], 2, follower=follower)
    assert {why for *_, why, _ in log} == {'stopped: nobody to follow'}
    _, log = simulate(lambda now: [(1, (2.0, 0.0)), (7, (3.0, 1.0))], 2, follower=follower)
    assert log[-1][2] == 'following 7'


def test_it_stops_on_silence():
    robot, log = simulate(lambda now: [(0, (5.0, 0.0))], 6, hear=lambda now: now < 2)
    assert log[15][0] > 0.3
    assert log[-1][:3] == (0.0, 0.0, 'stopped: nothing is heard')
    assert abs(robot.speed) < 1e-3
    # Within silence and what it takes to stop.
    assert all(speed == 0 for speed, *_ in log[26:])


def test_it_stops_when_anybody_is_too_near():
    _, log = simulate(lambda now: [(0, (3.0, 0.0)), (1, (0.4, 0.2))], 2)
    assert {entry[2] for entry in log} == {'stopped: somebody is too near'}
    assert all(speed == turn == 0 for speed, turn, *_ in log)


def test_it_never_drives_backwards_nor_into_a_person_who_comes():
    _, log = simulate(lambda now: [(0, (max(4 - 0.8 * now, -1.0), 0.05))], 8)
    assert min(speed for speed, *_ in log) == 0.0
    assert any(entry[2] == 'stopped: somebody is too near' for entry in log)


@pytest.mark.parametrize(
    ('sighting', 'problem', 'why'),
    [
        ({'doubt': 0.9}, '', 'stopped: 0 is somewhere within 0.9 m'),
        ({'unseen': 2.0}, '', 'stopped: nobody to follow'),
        ({}, 'no TF', 'stopped: no TF'),
    ],
)
def test_it_stops_on_doubt(sighting, problem, why):
    follower = follow_me.Follower()
    follower.hear([Robot().sight((2.0, 0.0), **sighting)], problem, 0.0)
    assert follower.command(0.1) == (0.0, 0.0, why)


def test_it_stops_before_anything_is_heard():
    assert follow_me.Follower().command(0.0) == (0.0, 0.0, 'stopped: nothing is heard')


@pytest.mark.ros
@pytest.mark.parametrize('frame', ['camera_optical_frame', 'base_link'])
def test_people_are_read_from_the_message(frame):
    pytest.importorskip('rmpe_ros.msg', reason='needs the built messages of this package')
    from rmpe_ros.msg import PersonState, PersonStateArray

    person = PersonState(track_id=3, state=PersonState.TRACKED, unseen=0.5)
    place = person.pose.pose.position
    if frame == 'base_link':
        place.x, place.y, place.z = 2.0, 0.7, 1.1
    else:
        place.x, place.y, place.z = -0.7, 0.1, 2.0
    person.pose.covariance[[0, 7, 14]] = 0.01
    person.pose.covariance[14 if frame != 'base_link' else 0] = 0.09
    message = PersonStateArray(people=[person, PersonState(state=PersonState.TENTATIVE)])
    message.header.frame_id = frame
    (found,) = follow_me.sightings(message)
    assert (found.track_id, found.unseen) == (3, 0.5)
    assert (found.forward, found.left) == pytest.approx((2.0, 0.7))
    assert found.doubt == pytest.approx(0.3)
