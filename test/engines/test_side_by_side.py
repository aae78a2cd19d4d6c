# SPDX-License-Identifier: Apache-2.0
"""Work shared by threads: everything is done once, in order, also when some of it fails."""

import threading

import pytest

from rmpe_ros.engines.side_by_side import SideBySide


@pytest.mark.parametrize('threads', [1, 2, 5])
@pytest.mark.parametrize('count', [0, 1, 2, 3, 40])
def test_results_are_in_the_order_of_the_pieces(threads: int, count: int) -> None:
    side_by_side = SideBySide(threads, 'test')
    done: list[int] = []

    def task(piece: int) -> int:
        done.append(piece)
        return piece * piece

    assert side_by_side(task, count) == [piece * piece for piece in range(count)]
    assert sorted(done) == list(range(count))
    side_by_side.close()


def test_pieces_are_worked_on_at_the_same_time() -> None:
    """Each of three pieces waits for the two others."""
    meeting = threading.Barrier(3, timeout=60)
    side_by_side = SideBySide(3, 'test')
    assert len(set(side_by_side(lambda _: (meeting.wait(), threading.get_ident())[1], 3))) == 3
    side_by_side.close()


@pytest.mark.parametrize('failing', [0, 3])
def test_a_failure_is_raised_when_all_is_at_rest(failing: int) -> None:
    side_by_side = SideBySide(2, 'test')
    at_work: set[int] = set()

    def task(piece: int) -> None:
        at_work.add(piece)
        try:
            if piece == failing:
                raise ValueError(f'piece {piece} is broken')
        finally:
            at_work.remove(piece)

    with pytest.raises(ValueError, match=f'piece {failing} is broken'):
        side_by_side(task, 8)
    assert not at_work
    assert side_by_side(lambda piece: piece, 4) == [0, 1, 2, 3], 'it can be used again'
    side_by_side.close()


def test_nothing_is_begun_after_a_failure() -> None:
    begun: list[int] = []

    def task(piece: int) -> None:
        begun.append(piece)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SideBySide(1, 'test')(task, 100)
    assert begun == [0]
