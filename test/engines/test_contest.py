# SPDX-License-Identifier: Apache-2.0
"""The contest of ways: it finds the fastest, and notices when that changes."""

import pytest

from rmpe_ros.engines.contest import Contest


def run(contest: Contest, times: dict[int, float], calls: int) -> list[int]:
    """The ways chosen while each takes its time of `times`."""
    chosen = []
    for _ in range(calls):
        chosen.append(contest.choose())
        contest.report(chosen[-1], times[chosen[-1]])
    return chosen


def test_the_first_way_is_used_until_another_one_had_its_turn() -> None:
    assert run(Contest([1, 2]), {1: 5.0, 2: 8.0}, 10) == [1, 1, 2, 1, 1, 1, 1, 1, 2, 1]


def test_a_way_that_was_nearly_as_fast_has_a_second_try() -> None:
    """What has not been used for long is slow once."""
    assert run(Contest([1, 2]), {1: 5.0, 2: 7.0}, 10) == [1, 1, 2, 2, 1, 1, 1, 1, 2, 2]
    contest = Contest([1, 2])
    run(contest, {1: 5.0}, 2)
    for time in (7.0, 3.0):
        assert contest.choose() == 2
        contest.report(2, time)
    assert contest.best == contest.choose() == 2


def test_a_way_is_not_judged_by_the_first_calls_alone() -> None:
    contest = Contest([1, 2], interval=1000)
    run(contest, {1: 5.0, 2: 20.0}, 8)  # something else kept a thread waiting
    assert contest.best == 1
    run(contest, {1: 5.0, 2: 3.0}, 2)
    assert contest.best == 2


def test_the_faster_way_is_taken_and_the_others_are_tried_again() -> None:
    chosen = run(Contest([1, 2], interval=10), {1: 5.0, 2: 3.0}, 100)
    assert chosen[:9] == [1, 1, 2, 2, 2, 2, 2, 2, 1]
    tries = [call for call, way in enumerate(chosen, 1) if way == 1]
    assert tries == [1, 2, 9, *range(10, 101, 10)]


def test_it_notices_that_the_machine_became_busy_and_idle_again() -> None:
    contest = Contest([1, 2], interval=10)
    idle, busy = {1: 5.0, 2: 3.0}, {1: 7.0, 2: 20.0}
    run(contest, idle, 30)
    assert contest.best == 2
    run(contest, busy, 3)
    assert contest.best == 1
    run(contest, idle, 30)
    assert contest.best == 2


def test_late_times_of_the_way_in_use_change_nothing() -> None:
    contest = Contest([1, 2], interval=10)
    run(contest, {1: 5.0, 2: 3.0}, 22)
    for _ in range(2):
        contest.report(2, 30.0)
        assert contest.best == 2
    contest.report(2, 30.0)
    assert contest.best == 1, 'three of five are no accident'


def test_a_way_that_has_just_won_is_not_left_for_one_late_time() -> None:
    contest = Contest([1, 2], interval=10)
    run(contest, {1: 5.0, 2: 3.0}, 3)
    assert contest.best == 2
    contest.report(2, 30.0)
    assert contest.best == 2


def test_each_of_several_ways_has_its_turn() -> None:
    assert set(run(Contest([1, 2, 4], interval=5), {1: 1.0, 2: 2.0, 4: 3.0}, 20)) == {1, 2, 4}


@pytest.mark.parametrize(('ways', 'interval'), [([], 5), ([1], 0)])
def test_a_contest_needs_ways_and_turns(ways: list[int], interval: int) -> None:
    with pytest.raises(ValueError, match='a contest needs'):
        Contest(ways, interval=interval)
