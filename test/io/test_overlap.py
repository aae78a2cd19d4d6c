# SPDX-License-Identifier: Apache-2.0
"""Reading ahead and writing behind: order, limits, errors and early ends."""

import threading
from collections.abc import Iterator

import pytest

from rmpe_ros.io.overlap import ReadAhead, WriteBehind

MOST = 4
"""Pieces that wait at a time."""


def nothing(_: object) -> int:
    return 0


def test_items_come_in_order() -> None:
    assert list(ReadAhead(iter(range(1, 100)), nothing)) == list(range(1, 100))


def test_the_next_item_is_read_before_it_is_asked_for() -> None:
    """The reader gets to its second item although only the first is taken."""
    begun = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        begun.set()
        yield 2

    ahead = ReadAhead(items(), nothing)
    assert next(ahead) == 1
    assert begun.wait(60)
    ahead.close()


@pytest.mark.parametrize(('size', 'most'), [(0, MOST), (30_000_000, 2), (100_000_000, 1)])
def test_no_more_is_read_than_may_wait(size: int, most: int) -> None:
    read = [0]

    def items() -> Iterator[int]:
        for item in range(1, 30):
            read[0] = item
            yield item

    ahead = ReadAhead(items(), lambda _: size)
    for item in ahead:
        # Those that wait, and the one that waits for room.
        assert read[0] - item <= most + 1
    assert read[0] == 29


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield from (1, 2, 3)
        raise OSError('the disk is gone')

    ahead, taken = ReadAhead(items(), nothing), []
    with pytest.raises(OSError, match='the disk is gone'):
        taken.extend(ahead)
    with pytest.raises(OSError, match='the disk is gone'):
        for item in ReadAhead(items(), nothing):
            taken.append(item)
    assert taken[-3:] == [1, 2, 3]


def test_closing_early_closes_what_is_read() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    ahead = ReadAhead(items(), nothing)
    assert next(ahead) == 1
    ahead.close()
    assert closed.wait(60)
    assert list(ahead) == []


def test_pieces_are_written_in_order_and_all_when_it_is_closed() -> None:
    written: list[int] = []
    behind = WriteBehind(written.append, nothing)
    for piece in range(1, 50):
        behind.put(piece)
    behind.close()
    assert written == list(range(1, 50))


def test_the_giver_goes_on_while_a_piece_is_written() -> None:
    go = threading.Event()
    behind = WriteBehind(lambda _: go.wait(60), nothing)
    for piece in range(1, MOST + 1):
        behind.put(piece)
    go.set()
    behind.close()


def test_no_more_waits_than_may() -> None:
    given, written = [0], [0]

    def write(piece: int) -> None:
        assert given[0] - written[0] <= MOST + 1
        written[0] = piece

    behind = WriteBehind(write, nothing)
    for piece in range(1, 40):
        behind.put(piece)
        given[0] = piece
    behind.close()
    assert written == [39]


def test_an_error_ends_the_writing_and_is_raised_once() -> None:
    written: list[int] = []

    def write(piece: int) -> None:
        if piece == 3:
            raise OSError('the disk is full')
        written.append(piece)

    behind = WriteBehind(write, nothing)
    with pytest.raises(OSError, match='the disk is full'):
        for piece in range(1, 100):
            behind.put(piece)
    behind.close()
    assert written == [1, 2]


def test_an_error_with_the_last_piece_is_raised_at_the_end() -> None:
    def write(piece: int) -> None:
        raise OSError('the disk is full')

    behind = WriteBehind(write, nothing)
    behind.put(1)
    with pytest.raises(OSError, match='the disk is full'):
        behind.close()
