# SPDX-License-Identifier: Apache-2.0
"""What a run under stress has shown, as numbers, as a table, and as a judgement."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Of a run, before which memory and latency are those of a node that is still starting.
WARM_UP = 0.2
Series = Sequence[tuple[float, float]]


def memory_figures(series: Series) -> dict[str, float]:
    """MB at the start (after the warm-up), at the end, at most, and the slope in MB an hour."""
    if len(series) < 10:
        return {}
    times, values = np.array(series, float).T
    settled = times >= times[0] + WARM_UP * (times[-1] - times[0])
    times, values = times[settled], values[settled]
    tenth = max(len(values) // 10, 1)
    slope = np.polyfit((times - times[0]) / 3600, values, 1)[0] if len(values) > 2 else 0.0
    return {
        'start_mb': round(float(np.median(values[:tenth])), 1),
        'end_mb': round(float(np.median(values[-tenth:])), 1),
        'most_mb': round(float(np.array(series)[:, 1].max()), 1),
        'slope_mb_per_hour': round(float(slope), 2),
    }


def latency_figures(series: Series) -> dict[str, float]:
    """p50 and p95 in ms of the first tenth of the time after the warm-up, and of the last tenth."""
    if not series:
        return {}
    times, values = np.array(series, float).T
    span = times[-1] - times[0]
    begin = times[0] + WARM_UP * span
    start = values[(times >= begin) & (times <= begin + span / 10)]
    end = values[times >= times[-1] - span / 10]
    made = {}
    for name, part in (('start', start), ('end', end)):
        for percent in (50, 95) if len(part) else ():
            made[f'{name}_p{percent}_ms'] = round(float(np.percentile(part, percent)), 1)
    return made


def cpu_figures(cpu: Series, answers: Sequence[float]) -> dict[str, float]:
    """Milliseconds of computing for each answer, in the first tenth after the warm-up and the last.

    cpu: seconds computed so far at some times; answers: their times. A busy machine makes answers
    late, but this it leaves alone.
    """
    if len(cpu) < 10:
        return {}
    times, seconds = np.array(cpu, float).T
    begin, span = times[0], times[-1] - times[0]
    made = {}
    for name, share in (('start', WARM_UP), ('end', 0.9)):
        window = np.array([begin + share * span, begin + (share + 0.1) * span])
        first, last = np.interp(window, times, seconds)
        count = np.count_nonzero((np.array(answers) >= window[0]) & (np.array(answers) < window[1]))
        made[f'{name}_cpu_ms'] = round(1e3 * float(last - first) / max(count, 1), 1)
    return made


def growth(memory: dict[str, float]) -> float:
    """MB that a node has more at the end than after its warm-up."""
    return memory['end_mb'] - memory['start_mb'] if memory else 0.0


def options_of(description: str, *, minutes: float) -> argparse.ArgumentParser:
    """What all scripts understand."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        '--minutes', type=float, default=minutes, help='how long (default: %(default)g)'
    )
    parser.add_argument('--seed', type=int, default=0, help='of what is random')
    parser.add_argument('--photos', type=Path, help='folder of photos; drawn figures without it')
    parser.add_argument('--json', type=Path, help='write the figures to this file, too')
    return parser


def tell(figures: dict[str, Any], faults: list[str], json_file: Path | None) -> int:
    """Print the figures and what is wrong; returns the exit code."""
    if json_file is not None:
        json_file.write_text(json.dumps({**figures, 'faults': faults}, indent=2), encoding='utf-8')
    for name, value in figures.items():
        if isinstance(value, dict) and any(isinstance(each, dict) for each in value.values()):
            print(f'{name}:')
            for key, each in value.items():
                print(f'  {key:<18} {_line(each)}')
        else:
            print(f'{name:<20} {_line(value)}')
    for fault in faults:
        print(f'WRONG: {fault}', file=sys.stderr)
    print('nothing is wrong' if not faults else f'{len(faults)} things are wrong')
    return 1 if faults else 0


def _line(value: Any) -> str:
    if isinstance(value, dict):
        return ', '.join(f'{key} {each}' for key, each in value.items())
    return str(value)
