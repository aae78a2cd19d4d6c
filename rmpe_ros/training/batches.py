# SPDX-License-Identifier: Apache-2.0
"""Where training gets its batches from, made ahead in a thread while the last one trains.

An example depends on (seed, step, position) and on nothing else, so a run that was stopped goes on
with exactly the examples it would have seen, and several processes that each make a part of a
batch make the batch of one.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

Batch = dict[str, Tensor]
Draw = Callable[[np.random.Generator], dict[str, np.ndarray]]


class ExampleBatches:
    """Batches of examples drawn one by one on the host.

    draw: random generator → one example, a dict of arrays. workers: threads that draw; OpenCV
    and NumPy leave the interpreter free most of the time.
    """

    def __init__(self, draw: Draw, *, workers: int = 1):
        self.draw = draw
        self._pool = ThreadPoolExecutor(workers, 'draw') if workers > 1 else None

    def batch(self, seed: int, step: int, positions: range) -> Batch:
        """The examples `positions` of step `step`, stacked: whichever other positions are asked for
        besides, they are the same.
        """

        def one(position: int) -> dict[str, np.ndarray]:
            return self.draw(np.random.default_rng((seed, step, position)))

        examples = list(self._pool.map(one, positions) if self._pool else map(one, positions))
        return {
            name: torch.from_numpy(np.stack([example[name] for example in examples]))
            for name in examples[0]
        }


def step_batches(
    source: ExampleBatches, *, seed: int, first_step: int, positions: range, device: torch.device
) -> Iterator[Batch]:
    """Batches of `first_step` and all after it, on `device`."""
    step = first_step
    while True:
        batch = source.batch(seed, step, positions)
        yield {name: to_device(values, device) for name, values in batch.items()}
        step += 1


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """`values` on the device; a copy to a GPU does not hold up the thread that asks for it."""
    if device.type == 'cuda' and values.device.type == 'cpu':
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


@contextmanager
def prefetched(batches: Iterator[Batch], depth: int = 4) -> Iterator[Iterator[Batch]]:
    """Make batches in a thread while the last one trains; an error there is raised here."""
    ready: queue.Queue[Batch | BaseException] = queue.Queue(depth)
    closed = threading.Event()

    def put(item: Batch | BaseException) -> None:
        while not closed.is_set():
            try:
                ready.put(item, timeout=0.2)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for batch in batches:
                put(batch)
                if closed.is_set():
                    return
        except BaseException as error:  # handed to the consumer, which raises it
            put(error)

    def take() -> Iterator[Batch]:
        while True:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item

    thread = threading.Thread(target=work, name='batches', daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        closed.set()
        thread.join()
