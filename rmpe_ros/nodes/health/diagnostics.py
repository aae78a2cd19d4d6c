# SPDX-License-Identifier: Apache-2.0
"""What a frame-processing node counts, and how `/diagnostics` and the log tell it."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

# Percentiles are of the most recent frames, rates of those of the last seconds.
_RECENT_FRAMES = 300
_RATE_SECONDS = 5.0

REPLACED = 'a newer image came'
TOO_OLD = 'older than max_age'
IDLE = 'nobody subscribes'


@dataclass(frozen=True)
class Snapshot:
    """Counts since the start, rates of the last seconds, and times of the recent frames.

    dropped: images by why they were not looked at. milliseconds: (p50, p95) by name: the stages of
    the pipeline and their `total`, `queue` (image received to work begun) and `latency` (image's
    stamp to publication, where the clocks agree). image_age: seconds since the last image came.
    """

    frames: int
    dropped: Mapping[str, int]
    bad: int
    failed: int
    people: int
    rate: float
    input_rate: float
    milliseconds: Mapping[str, tuple[float, float]]
    image_age: float | None
    last_error: str

    @property
    def dropped_total(self) -> int:
        return sum(self.dropped.values())

    def sentence(self) -> str:
        """One line for the log."""
        if self.frames == 0:
            return f'no frame processed yet ({self.bad} bad, {self.failed} failed)'
        text = f'{self.frames} frames, {self.rate:.1f}/s, {self.people} people in the last'
        if 'latency' in self.milliseconds:
            p50, p95 = self.milliseconds['latency']
            text += f', latency p50 {p50:.0f} ms, p95 {p95:.0f} ms'
        return f'{text}; {self.dropped_total} dropped, {self.bad} bad, {self.failed} failed'


@dataclass
class FrameStatistics:
    """Counts frames from any thread. Times are seconds of one steady clock, given by the caller."""

    frames: int = 0
    bad: int = 0
    failed: int = 0
    people: int = 0
    last_error: str = ''
    last_image: float | None = None
    _dropped: Counter[str] = field(default_factory=Counter)
    _came: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT_FRAMES))
    _finished: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT_FRAMES))
    _milliseconds: dict[str, deque[float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def image_came(self, now: float) -> None:
        with self._lock:
            self.last_image = now
            self._came.append(now)

    def image_dropped(self, why: str) -> None:
        """An image was not looked at; why: REPLACED, TOO_OLD or IDLE."""
        with self._lock:
            self._dropped[why] += 1

    def frame_done(self, now: float, *, people: int, milliseconds: Mapping[str, float]) -> None:
        """One frame was published; milliseconds by name, see `Snapshot`."""
        with self._lock:
            self.frames += 1
            self.people = people
            self._finished.append(now)
            for name, value in milliseconds.items():
                recent = self._milliseconds.setdefault(name, deque(maxlen=_RECENT_FRAMES))
                recent.append(value)

    def bad_image(self, reason: str) -> None:
        """An image message could not be read."""
        with self._lock:
            self.bad += 1
            self.last_error = reason

    def frame_failed(self, reason: str) -> None:
        """A readable image could not be processed."""
        with self._lock:
            self.failed += 1
            self.last_error = reason

    def snapshot(self, now: float) -> Snapshot:
        with self._lock:
            return Snapshot(
                frames=self.frames,
                dropped=dict(self._dropped),
                bad=self.bad,
                failed=self.failed,
                people=self.people,
                rate=_rate(self._finished, now),
                input_rate=_rate(self._came, now),
                milliseconds={k: _percentiles(each) for k, each in self._milliseconds.items()},
                image_age=None if self.last_image is None else now - self.last_image,
                last_error=self.last_error,
            )


def silence(
    snapshot: Snapshot,
    topic: str,
    *,
    since: float,
    image_timeout: float,
    publishers: int,
    advice: str = '',
) -> str:
    """The sentence about missing images, empty when they come.

    since: seconds since the node listens; publishers: how many of them `topic` has; advice: for
    when they publish and none has come.
    """
    age = snapshot.image_age
    who = f'{publishers} publish it' if publishers > 1 else 'one node publishes it'
    who = who if publishers else 'nobody publishes it'
    if age is None:
        who += f'; {advice}' if publishers and advice else ''
        return f'no image on {topic} yet: {who}' if since > image_timeout else ''
    if min(age, since) > image_timeout:
        return f'no image on {topic} for {age:.0f} s: {who}'
    return ''


def camera_status(
    snapshot: Snapshot,
    *,
    topic: str,
    state: str,
    model: str,
    subscribers: int = 0,
    trouble: str = '',
) -> DiagnosticStatus:
    """The state of one camera for `/diagnostics`, still without a name.

    state: of the node, such as 'active'. subscribers: of its poses. trouble: what goes wrong at
    present, if anything; it makes the level WARN.
    """
    level, summary = DiagnosticStatus.OK, snapshot.sentence()
    if trouble:
        level, summary = DiagnosticStatus.WARN, trouble
    elif state != 'active':
        summary = state
    values: dict[str, object] = {
        'frames': snapshot.frames,
        'rate': f'{snapshot.rate:.2f}',
        'input_rate': f'{snapshot.input_rate:.2f}',
        'people': snapshot.people,
        'subscribers': subscribers,
        'dropped': snapshot.dropped_total,
        'dropped_replaced': snapshot.dropped.get(REPLACED, 0),
        'dropped_too_old': snapshot.dropped.get(TOO_OLD, 0),
        'dropped_idle': snapshot.dropped.get(IDLE, 0),
        'bad': snapshot.bad,
        'failed': snapshot.failed,
    }
    for name, percentiles in sorted(snapshot.milliseconds.items()):
        for label, value in zip(('p50', 'p95'), percentiles, strict=True):
            values[f'{name}_{label}_ms'] = f'{value:.2f}'
    age = snapshot.image_age
    values['image_age_s'] = '' if age is None else f'{age:.1f}'
    values['model'] = model
    values['last_error'] = snapshot.last_error
    return make_status(level, summary, values, hardware_id=topic)


def make_status(
    level: bytes, summary: str, values: Mapping[str, object], *, hardware_id: str
) -> DiagnosticStatus:
    """A status without a name."""
    return DiagnosticStatus(
        level=level,
        message=summary,
        hardware_id=hardware_id,
        values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
    )


def _percentiles(values: deque[float]) -> tuple[float, float]:
    p50, p95 = np.percentile(np.array(values), (50, 95))
    return float(p50), float(p95)


def _rate(times: deque[float], now: float) -> float:
    """Events per second over the last seconds, falling when no more come."""
    if len(times) < 2:
        return 0.0
    recent = sum(now - time <= _RATE_SECONDS for time in times)
    # Of rarer events the last two say the most.
    count = max(recent, 2)
    return (count - 1) / max(now - times[-count], 1e-6)
