# SPDX-License-Identifier: Apache-2.0
"""The lanes below the player: what happened when, each lane as the curves or marks in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rmpe_ros.evaluation.bag_report.recorded_run import RecordedRun, RunFrame
from rmpe_ros.evaluation.evaluate_bag import STAGES

# More values than this are summed up, as the pixels of a screen would do it.
_BINS = 400
_STAGE_COLORS = {
    'detector': '#e8883a',
    'pose': '#2f9e63',
    'nms': '#9a63d6',
    'total': '#2f7fd6',
    'received': '#8a97a5',
}
RUN_COLORS = ('#2f7fd6', '#e8883a')
_EVENT_COLORS = ('#e5484d', '#e8883a', '#d6a419', '#8a97a5', '#9a63d6')

Clock = Callable[[RunFrame], float]
Values = Sequence[tuple[float, float]]


def latency_lane(run: RecordedRun, clock: Clock, title: str) -> dict[str, Any] | None:
    """Milliseconds by stage, p50 and p95; None where no message says any."""
    series = []
    for name, values in stage_times(run, clock).items():
        series.append(curve(f'{name} p50, p95', _STAGE_COLORS[name], values, 50, upper=95))
    return {'title': title, 'unit': 'ms', 'series': series} if series else None


def stage_times(run: RecordedRun, clock: Clock) -> dict[str, list[tuple[float, float]]]:
    """Stage → (time, milliseconds) of all answers; `received` is from the stamp on."""
    times: dict[str, list[tuple[float, float]]] = {}
    for index, stage in enumerate(STAGES):
        values = [
            (clock(frame), frame.answer.stages_ms[index]) for frame in run.frames if frame.answer
        ]
        if any(value for _, value in values):
            times[stage] = values
    if run.clock_problem is None:
        times['received'] = [
            (clock(frame), frame.answer.latency_ms) for frame in run.frames if frame.answer
        ]
    return times


def people_in(frame: RunFrame) -> float:
    """How many people the answer has; NaN without one."""
    return float(len(frame.answer.poses)) if frame.answer else float('nan')


def mean_score(frame: RunFrame) -> float:
    """Of the people in the answer; NaN without any."""
    scores = frame.answer.poses.scores if frame.answer else ()
    return float(np.mean(scores)) if len(scores) else float('nan')


def event_lane(run: RecordedRun, clock: Clock, title: str) -> dict[str, Any] | None:
    """Marks where frames have no answer, by reason, and where people changed their number."""
    kinds = {
        f'no answer: {reason}': [clock(f) for f in run.frames if f.drop == reason]
        for reason in run.drops
    }
    kinds['another id'] = [clock(f) for f in run.frames if f.changes]
    kinds = {name: times for name, times in kinds.items() if times}
    series = [
        {
            'name': f'{name} ({len(times)})',
            'color': _EVENT_COLORS[index % len(_EVENT_COLORS)],
            'marks': thin_marks(times),
            'from': index / len(kinds),
            'size': 1 / len(kinds),
        }
        for index, (name, times) in enumerate(kinds.items())
    ]
    return {'title': title, 'unit': '', 'series': series} if series else None


def curve(
    name: str, color: str, values: Values, percent: float, *, upper: float | None = None
) -> dict[str, Any]:
    """A curve of (time, value); of many values the percentile of each piece of time."""
    series: dict[str, Any] = {'name': name, 'color': color}
    if len(values) <= _BINS:
        times, middles = [t for t, _ in values], [v for _, v in values]
        return {**series, 'times': _rounded(times), 'values': _rounded(middles)}
    edges = np.linspace(values[0][0], values[-1][0], _BINS + 1)
    array = np.array(values)
    pieces = np.clip(np.searchsorted(edges, array[:, 0], side='right') - 1, 0, _BINS - 1)
    groups = [array[pieces == piece, 1] for piece in range(_BINS)]
    series['times'] = _rounded(edges[:-1].tolist())
    for key, share in (('values', percent), ('upper', upper)):
        if share is not None:
            series[key] = _rounded(
                [float(np.percentile(g, share)) if len(g) else float('nan') for g in groups]
            )
    return series


def thin_marks(times: Sequence[float]) -> list[float]:
    """Times of which a screen can show no more."""
    step = max(1, len(times) // 2000)
    return _rounded(times[::step])


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 3) for value in values]
