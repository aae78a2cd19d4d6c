# SPDX-License-Identifier: Apache-2.0
"""Counters, percentiles and levels of /diagnostics."""

import mmap

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2')

from diagnostic_msgs.msg import DiagnosticStatus

from rmpe_ros.io.process_memory import resident_megabytes
from rmpe_ros.nodes.health.diagnostics import (
    REPLACED,
    TOO_OLD,
    FrameStatistics,
    camera_status,
    silence,
)

pytestmark = pytest.mark.ros


def busy_statistics() -> FrameStatistics:
    """101 frames, ten a second from second 0 on, latencies 0…100 ms, two of three images used."""
    statistics = FrameStatistics()
    for index in range(101):
        for image in range(3):
            statistics.image_came(index / 10 + image / 30)
        statistics.image_dropped(REPLACED)
        times = {'total': 5.0, 'latency': float(index)}
        statistics.frame_done(index / 10, people=index % 3, milliseconds=times)
    statistics.image_dropped(TOO_OLD)
    return statistics


def test_counts_rates_and_percentiles():
    statistics = busy_statistics()
    statistics.bad_image('no data')
    statistics.frame_failed('engine')
    snapshot = statistics.snapshot(10.0)
    assert (snapshot.frames, snapshot.bad, snapshot.failed) == (101, 1, 1)
    assert snapshot.dropped == {REPLACED: 101, TOO_OLD: 1}
    assert snapshot.dropped_total == 102
    assert snapshot.rate == pytest.approx(10.0)
    assert snapshot.input_rate == pytest.approx(30.0, rel=0.03)
    assert snapshot.milliseconds == {
        'total': pytest.approx((5.0, 5.0)),
        'latency': pytest.approx((50.0, 95.0)),
    }
    assert snapshot.people == 1
    assert snapshot.last_error == 'engine'


def test_rates_fall_when_nothing_comes():
    statistics = busy_statistics()
    snapshot = statistics.snapshot(12.0)
    assert snapshot.rate == pytest.approx(6.0)
    assert snapshot.input_rate == pytest.approx(18.0, rel=0.03)
    assert statistics.snapshot(20.0).rate == pytest.approx(0.1, rel=0.05)


def test_rates_are_of_the_last_seconds():
    statistics = FrameStatistics()
    for index in range(150):
        statistics.frame_done(index / 10, people=0, milliseconds={})
    assert statistics.snapshot(14.9).rate == pytest.approx(10, rel=0.01)
    for index in range(50):
        statistics.frame_done(15 + index / 2, people=0, milliseconds={})
    assert statistics.snapshot(39.5).rate == pytest.approx(2, rel=0.01)


def test_frames_without_a_usable_stamp_have_no_latency():
    statistics = FrameStatistics()
    statistics.frame_done(1.0, people=0, milliseconds={'total': 5.0})
    snapshot = statistics.snapshot(1.0)
    assert 'latency' not in snapshot.milliseconds
    assert 'latency' not in snapshot.sentence()


def status(snapshot, *, state='active', trouble=''):
    return camera_status(
        snapshot, topic='/image_raw', state=state, model='tiny', subscribers=2, trouble=trouble
    )


def test_a_healthy_camera_is_ok_and_tells_everything():
    result = status(busy_statistics().snapshot(10.0))
    assert result.level == DiagnosticStatus.OK
    assert result.hardware_id == '/image_raw'
    values = {pair.key: pair.value for pair in result.values}
    assert values['frames'] == '101'
    assert values['subscribers'] == '2'
    assert values['dropped'] == '102'
    assert values['dropped_replaced'] == '101'
    assert values['dropped_too_old'] == '1'
    assert values['dropped_idle'] == '0'
    assert values['latency_p50_ms'] == '50.00'
    assert values['latency_p95_ms'] == '95.00'
    assert values['total_p50_ms'] == '5.00'
    assert values['model'] == 'tiny'


def test_trouble_is_a_warning_and_inactivity_is_none():
    snapshot = busy_statistics().snapshot(10.0)
    result = status(snapshot, trouble='bad image')
    assert (result.level, result.message) == (DiagnosticStatus.WARN, 'bad image')
    result = status(snapshot, state='inactive')
    assert (result.level, result.message) == (DiagnosticStatus.OK, 'inactive')


@pytest.mark.parametrize(
    ('now', 'since', 'publishers', 'sentence'),
    [
        (17.1, 60.0, 1, 'no image on /cam for 7 s: one node publishes it'),
        (17.1, 60.0, 0, 'no image on /cam for 7 s: nobody publishes it'),
        (17.1, 60.0, 2, 'no image on /cam for 7 s: 2 publish it'),
        # Not the camera's fault: the node has listened for 2 s only, or the image is 4 s old.
        (17.1, 2.0, 1, ''),
        (14.1, 60.0, 1, ''),
    ],
)
def test_silence_after_images(now, since, publishers, sentence):
    snapshot = busy_statistics().snapshot(now)
    options = {'since': since, 'image_timeout': 5.0, 'publishers': publishers}
    assert silence(snapshot, '/cam', **options) == sentence


@pytest.mark.parametrize(
    ('since', 'sentence'), [(6.0, 'no image on /cam yet: nobody publishes it'), (4.0, '')]
)
def test_silence_before_the_first_image(since, sentence):
    snapshot = FrameStatistics().snapshot(3.0)
    options = {'since': since, 'image_timeout': 5.0, 'publishers': 0}
    assert silence(snapshot, '/cam', **options) == sentence
    assert snapshot.sentence() == 'no frame processed yet (0 bad, 0 failed)'


@pytest.mark.parametrize(
    ('publishers', 'sentence'),
    [
        (1, 'no image on /cam yet: one node publishes it; try this'),
        (0, 'no image on /cam yet: nobody publishes it'),
    ],
)
def test_advice_is_given_where_somebody_publishes_and_nothing_comes(publishers, sentence):
    snapshot = FrameStatistics().snapshot(3.0)
    options = {'since': 6.0, 'image_timeout': 5.0, 'publishers': publishers, 'advice': 'try this'}
    assert silence(snapshot, '/cam', **options) == sentence


def test_resident_memory_grows_with_what_is_held():
    before = resident_megabytes()
    if before is None:
        pytest.skip('no /proc here')
    # Not an array: that may get memory which the process freed before and still holds.
    with mmap.mmap(-1, 50_000_000) as held:
        for page in range(0, len(held), mmap.PAGESIZE):
            held[page] = 1
        assert 40 < resident_megabytes() - before < 70
