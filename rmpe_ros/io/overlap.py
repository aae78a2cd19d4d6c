# SPDX-License-Identifier: Apache-2.0
"""Reading ahead and writing behind: two threads, so that neither waits for the work between them.

Both are bounded by a number of pieces and by their bytes, so that a slow stage stops the faster
ones and no video fills the memory.
"""

from collections import deque
from collections.abc import Callable, Iterator
from threading import Condition, Thread
from typing import Any, Generic, TypeVar

T = TypeVar('T')

_PIECES = 4
_BYTES = 64_000_000
# Seconds for a piece at hand when all is to end; a camera may give its next image never.
_PATIENCE = 2.0


class _Queue(Generic[T]):
    """Pieces in order, with their sizes in bytes; one that is larger than the room goes alone."""

    def __init__(self) -> None:
        self._pieces: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._changed = Condition()
        self._ended = False

    def put(self, piece: T, size: int) -> bool:
        """Wait for room; False when nobody takes pieces any more."""
        with self._changed:
            while not self._ended and self._pieces and not self._has_room(size):
                self._changed.wait()
            if self._ended:
                return False
            self._pieces.append((piece, size))
            self._bytes += size
            self._changed.notify_all()
            return True

    def _has_room(self, size: int) -> bool:
        return len(self._pieces) < _PIECES and self._bytes + size <= _BYTES

    def take(self) -> T | None:
        """The next piece; None when there will be none."""
        with self._changed:
            while not (self._pieces or self._ended):
                self._changed.wait()
            if not self._pieces:
                return None
            piece, size = self._pieces.popleft()
            self._bytes -= size
            self._changed.notify_all()
            return piece

    def end(self, *, drop: bool = False) -> None:
        """No more pieces are put; those that are there can be taken, unless they are dropped."""
        with self._changed:
            self._ended = True
            if drop:
                self._pieces.clear()
            self._changed.notify_all()


class ReadAhead(Generic[T]):
    """An iterator whose next items are made by a thread meanwhile.

    items: closed by the thread when `close` is called; what it raises is raised in its place among
    the items. size: bytes of an item.
    """

    def __init__(self, items: Iterator[T], size: Callable[[T], int]) -> None:
        self._items, self._size = items, size
        self._queue: _Queue[T] = _Queue()
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, name='read_ahead', daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        item = self._queue.take()
        if item is not None:
            return item
        error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def close(self) -> None:
        """End the thread, and what it reads; items that were not taken are lost."""
        self._queue.end(drop=True)
        self._thread.join(_PATIENCE)

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._queue.put(item, self._size(item)):
                    break
        except BaseException as error:
            self._error = error
        finally:
            close: Any = getattr(self._items, 'close', None)
            if close is not None:
                close()
            self._queue.end()


class WriteBehind(Generic[T]):
    """Hands pieces to `write`, in their order, in a thread. What that raises ends it, and is raised
    by the next call of `put` or by `close`.
    """

    def __init__(self, write: Callable[[T], object], size: Callable[[T], int]) -> None:
        self._write, self._size = write, size
        self._queue: _Queue[T] = _Queue()
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, name='write_behind', daemon=True)
        self._thread.start()

    def put(self, piece: T) -> None:
        """Give a piece to write; waits while too much is waiting."""
        if not self._queue.put(piece, self._size(piece)):
            self._raise()

    def close(self) -> None:
        """Wait until everything is written."""
        self._queue.end()
        self._thread.join()
        self._raise()

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self) -> None:
        try:
            while (piece := self._queue.take()) is not None:
                self._write(piece)
        except BaseException as error:
            self._error = error
            self._queue.end(drop=True)
