# SPDX-License-Identifier: Apache-2.0
"""The page of one recorded run, or of two side by side, of a size that can be mailed."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rmpe_ros.core.drawing import drawing_rules
from rmpe_ros.evaluation.bag_report.recorded_run import RunFrame
from rmpe_ros.evaluation.bag_report.run_lanes import (
    RUN_COLORS,
    Clock,
    curve,
    event_lane,
    latency_lane,
    mean_score,
    people_in,
    stage_times,
    thin_marks,
)
from rmpe_ros.evaluation.bag_report.run_moments import Difference, Moment, apart, find_moments
from rmpe_ros.evaluation.bag_report.shown_run import Shown
from rmpe_ros.evaluation.evaluate_bag import STAGES, percentiles
from rmpe_ros.evaluation.page import (
    headline,
    html_table,
    notes_list,
    page,
    paragraph,
    section,
)

MIN_SCORE = 0.3
_PLAYER = """<div id="screens"></div><div id="controls"><button id="play">Play</button>
<button id="back" title="one frame back">◀</button><button id="forward" title="one frame on">▶
</button><input id="scrubber" type="range" step="any" aria-label="time"><output id="clock"></output>
<label>speed <select id="speed"><option>0.25</option><option>0.5</option><option selected>1</option>
<option>2</option><option>4</option><option>16</option></select></label></div>
<div id="lanes"></div>"""


def run_page(shown: Sequence[Shown], differences: Mapping[int, Difference] | None = None) -> str:
    """One HTML page of one or two runs; differences: of the second from the first, by stamp."""
    origins = _origins(shown)
    clocks = [_clock(origin) for origin in origins]
    ends = [clock(each.run.frames[-1]) for each, clock in zip(shown, clocks, strict=True)]
    starts = [clock(each.run.frames[0]) for each, clock in zip(shown, clocks, strict=True)]
    data = {
        'span': [min(starts), max(max(ends), min(starts) + 1e-3)],
        'min_score': MIN_SCORE,
        'runs': [
            _run_data(each, clock, differences or {})
            for each, clock in zip(shown, clocks, strict=True)
        ],
        'lanes': _lanes(shown, clocks, differences),
    }
    parts = [headline(_headline(shown[0]))] if len(shown) == 1 else []
    parts += [_PLAYER]
    for each, clock in zip(shown, clocks, strict=True):
        title = 'Worth a look' if len(shown) == 1 else f'Worth a look: {each.name}'
        parts.append(section(title, _moment_buttons(find_moments(each.run), clock)))
    if differences is not None:
        parts.append(section('Differences', _differences(shown, clocks[0], differences)))
    parts.append(section('Numbers', html_table(_numbers(shown)), _drop_tables(shown)))
    notes = [note for each in shown for note in each.notes]
    parts.append(notes_list(notes))
    title = ' and '.join(each.name for each in shown)
    return page(f'rmpe report: {title}', parts, data=data)


def _origins(shown: Sequence[Shown]) -> list[int]:
    """Time 0 of each run: one for all where they are of the same time, else each one's own."""
    first = [each.run.frames[0].stamp for each in shown]
    last = [each.run.frames[-1].stamp for each in shown]
    return [min(first)] * len(first) if max(first) <= min(last) else first


def _clock(origin: int) -> Clock:
    return lambda frame: round((frame.stamp - origin) / 1e9, 4)


def _run_data(shown: Shown, clock: Clock, differences: Mapping[int, Difference]) -> dict[str, Any]:
    numbers = {stamp: index for index, stamp in enumerate(shown.pictures)}
    skeleton = next(f.answer for f in shown.run.frames if f.answer).poses.skeleton
    return {
        'name': shown.name,
        'width': shown.size[0],
        'height': shown.size[1],
        'look': drawing_rules(skeleton),
        'pictures': [base64.b64encode(data).decode() for data in shown.pictures.values()],
        'frames': [
            {
                'number': frame.number,
                'time': clock(frame),
                'picture': numbers.get(frame.stamp),
                'people': _people(frame),
                'note': _note(frame, differences.get(frame.stamp)),
                'differs': bool((d := differences.get(frame.stamp)) and d.marked),
            }
            for frame in shown.frames
        ],
    }


def _people(frame: RunFrame) -> list[Any]:
    if frame.answer is None:
        return []
    poses = frame.answer.poses
    joints = np.concatenate([poses.keypoints, poses.keypoint_scores[..., None]], axis=2)
    return [
        [int(number), round(float(score), 3), np.round(box, 1).tolist(), _short(each)]
        for number, score, box, each in zip(
            poses.track_ids, poses.scores, poses.boxes.astype(float), joints, strict=True
        )
    ]


def _short(joints: np.ndarray) -> list[list[float]]:
    return [[round(float(x), 1), round(float(y), 1), round(float(s), 2)] for x, y, s in joints]


def _note(frame: RunFrame, difference: Difference | None) -> str:
    if frame.answer is None:
        return f'frame {frame.number}, no answer: {frame.drop}'
    count = len(frame.answer.poses)
    parts = [f'frame {frame.number}', f'{count} {"person" if count == 1 else "people"}']
    if any(frame.answer.stages_ms):
        stages = zip(STAGES, frame.answer.stages_ms, strict=True)
        parts.append(', '.join(f'{name} {value:.1f}' for name, value in stages) + ' ms')
    parts += [f'id {old} became {new}' for old, new in frame.changes]
    if not np.isnan(frame.accuracy):
        parts.append(f'OKS {frame.accuracy:.2f}')
    if difference is not None and difference.marked:
        parts.append(f'differs: {difference.text()}')
    return ' · '.join(parts)


def _lanes(
    shown: Sequence[Shown],
    clocks: Sequence[Clock],
    differences: Mapping[int, Difference] | None,
) -> list[dict[str, Any]]:
    both = list(zip(shown, clocks, RUN_COLORS, strict=False))
    of = (lambda each: f', {each.name}') if len(shown) > 1 else (lambda each: '')
    lanes = [latency_lane(each.run, clock, f'Latency{of(each)}') for each, clock, _ in both]
    lanes += [event_lane(each.run, clock, f'Drops and ids{of(each)}') for each, clock, _ in both]
    for title, unit, top, number, upper in (
        ('People', 'people', None, people_in, 100),
        ('Score, mean of the people', '', 1, mean_score, None),
        ('Accuracy, mean OKS of the labelled people', '', 1, lambda f: f.accuracy, None),
    ):
        series = []
        for each, clock, color in both:
            values = [(clock(f), n) for f in each.run.frames if not np.isnan(n := number(f))]
            if values:
                series.append(curve(each.name, color, values, 50, upper=upper))
        if series:
            lanes.append({'title': title, 'unit': unit, 'series': series, 'top': top})
    if differences:
        by_stamp = {f.stamp: clocks[0](f) for f in shown[0].run.frames}
        values = sorted((by_stamp[stamp], 1 - d.likeness) for stamp, d in differences.items())
        marks = sorted(by_stamp[stamp] for stamp, d in differences.items() if d.marked)
        series = [curve('1 - OKS between the two', '#9a63d6', values, 100)]
        series += [
            {
                'name': f'marked ({len(marks)})',
                'color': '#e5484d',
                'marks': thin_marks(marks),
                'from': 0.9,
                'size': 0.1,
            }
        ]
        lanes.append({'title': 'Difference', 'unit': '', 'series': series, 'top': 1})
    return [lane for lane in lanes if lane is not None]


def _moment_buttons(moments: Sequence[Moment], clock: Clock) -> str:
    kinds: dict[str, list[Moment]] = {}
    for moment in moments:
        kinds.setdefault(moment.kind, []).append(moment)
    rows = ''.join(
        f'<tr><td>{html.escape(kind)}</td><td class="moments" style="text-align:left">'
        + ''.join(_button(clock(each.frame), each.text) for each in each_kind)
        + '</td></tr>'
        for kind, each_kind in kinds.items()
    )
    return f'<table>{rows}</table>' if rows else paragraph('Nothing stands out.')


def _button(time: float, text: str) -> str:
    return f'<button data-moment="{time}">{html.escape(text)} at {time:.2f} s</button>'


def _differences(
    shown: Sequence[Shown], clock: Clock, differences: Mapping[int, Difference]
) -> str:
    marked = {stamp: each for stamp, each in differences.items() if each.marked}
    text = paragraph(
        f'{len(differences)} images are answered in both; {len(marked)} of them differ (marked in '
        'red): people are missing in one, or the mean OKS of the two is below 0.9.'
    )
    frames = {frame.stamp: frame for frame in shown[0].run.frames}
    worst = sorted(marked, key=lambda stamp: marked[stamp].likeness)
    moments = apart([Moment('', frames[stamp], marked[stamp].text()) for stamp in worst])
    buttons = ''.join(_button(clock(each.frame), each.text) for each in moments)
    return f'{text}<p class="moments">{buttons}</p>'


def _headline(shown: Shown) -> list[tuple[str, str]]:
    return [
        (value, name)
        for name, value in _summary(shown).items()
        if name in ('frames', 'without an answer', 'people, mean', 'ids changed')
        or name.startswith(('total', 'OKS', 'mean OKS'))
    ]


def _summary(shown: Shown) -> dict[str, str]:
    """Name → value of the numbers of one run."""
    run = shown.run
    counts = [len(frame.answer.poses) for frame in run.frames if frame.answer]
    seconds = (run.frames[-1].stamp - run.frames[0].stamp) / 1e9
    drops = len(run.frames) - len(counts)
    rows = {
        'frames': str(len(run.frames)),
        'seconds': f'{seconds:.1f}',
        'answers a second': f'{(len(counts) - 1) / seconds:.1f}' if seconds > 0 else '–',
        'without an answer': f'{drops} ({100 * drops / len(run.frames):.0f} %)',
        'people, mean': f'{np.mean(counts):.1f}',
        'people, most': str(max(counts)),
        'ids changed': str(sum(len(frame.changes) for frame in run.frames)),
    }
    for stage, values in stage_times(run, lambda frame: 0.0).items():
        name = 'stamp to received' if stage == 'received' else stage
        p = percentiles([value for _, value in values])
        rows[f'{name}, p50 / p95 / max ms'] = f'{p["p50"]:.1f} / {p["p95"]:.1f} / {p["max"]:.1f}'
    return rows | dict(shown.accuracy)


def _numbers(shown: Sequence[Shown]) -> list[list[str]]:
    columns = [_summary(each) for each in shown]
    names = list(dict.fromkeys(name for column in columns for name in column))
    head = ['', *(each.name for each in shown)] if len(shown) > 1 else ['of the recording', '']
    return [head, *([name, *(column.get(name, '–') for column in columns)] for name in names)]


def _drop_tables(shown: Sequence[Shown]) -> str:
    text = ''
    for each in shown:
        of = f' of {each.name}' if len(shown) > 1 else ''
        for title, drops in (
            (f'frames{of} without an answer, judged by their times', each.run.drops),
            (f'dropped{of}, by what the node itself said in /diagnostics', each.run.node_drops),
        ):
            if drops:
                rows = [[name, str(count)] for name, count in drops.items()]
                text += html_table([[title, 'frames'], *rows])
    return text
