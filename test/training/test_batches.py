# SPDX-License-Identifier: Apache-2.0
"""Batches: the same whoever makes them and however, and made ahead of their use."""

import itertools
import threading
import time

import numpy as np
import pytest

torch = pytest.importorskip('torch')

from rmpe_ros.training.batches import ExampleBatches, prefetched, step_batches


def draw(rng):
    return {'x': rng.normal(size=3).astype(np.float32), 'n': np.int64(rng.integers(1000))}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_an_example_depends_on_seed_step_and_position_alone():
    source = ExampleBatches(draw)
    whole = source.batch(5, 7, range(6))
    assert whole['x'].shape == (6, 3) and whole['n'].dtype == torch.int64
    for positions in (range(0, 6, 2), range(1, 6, 2), range(3, 5)):
        part = source.batch(5, 7, positions)
        assert same(part, {name: values[list(positions)] for name, values in whole.items()})
    assert not same(whole, source.batch(5, 8, range(6)))
    assert not same(whole, source.batch(6, 7, range(6)))


def test_several_threads_draw_what_one_does():
    threads = set()

    def slow(rng):
        threads.add(threading.get_ident())
        time.sleep(0.01)
        return draw(rng)

    alone, together = ExampleBatches(draw), ExampleBatches(slow, workers=3)
    assert same(alone.batch(0, 1, range(9)), together.batch(0, 1, range(9)))
    assert len(threads) == 3


def test_steps_follow_each_other_from_the_first():
    source = ExampleBatches(draw)
    batches = step_batches(
        source, seed=1, first_step=4, positions=range(2), device=torch.device('cpu')
    )
    for step, batch in zip((4, 5, 6), batches, strict=False):
        assert same(batch, source.batch(1, step, range(2)))


def test_prefetching_keeps_order_and_stays_a_few_ahead():
    made = []

    def source():
        for number in itertools.count():
            made.append(number)
            yield number

    with prefetched(source(), depth=3) as batches:
        assert [next(batches) for _ in range(10)] == list(range(10))
        time.sleep(0.1)
        assert len(made) <= 10 + 3 + 1  # queued, and one in hand
    assert not any(thread.name == 'batches' for thread in threading.enumerate())


@pytest.mark.parametrize('queued', [0, 3])
def test_an_error_comes_after_the_batches_before_it(queued):
    def source():
        yield from range(queued)
        raise ValueError('photo.jpg cannot be read')

    with prefetched(source(), depth=2) as batches:
        assert [next(batches) for _ in range(queued)] == list(range(queued))
        with pytest.raises(ValueError, match=r'photo\.jpg'):
            next(batches)


def test_an_error_nobody_waits_for_does_not_hang():
    def source():
        yield 1
        raise ValueError('photo.jpg cannot be read')

    with prefetched(source(), depth=1) as batches:
        assert next(batches) == 1
