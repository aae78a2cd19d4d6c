# SPDX-License-Identifier: Apache-2.0
"""A picture of the ablation: what each row loses against the full system, here and in the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rmpe_ros.evaluation.ablation import ROWS, Row


def draw_ablation(
    rows: Sequence[Row], results: Mapping[str, Mapping[str, float]], path: Path
) -> None:
    """Two bars for each row but the full one, in points of the first score. Needs matplotlib."""
    from matplotlib.figure import Figure

    name = next(iter(results['full']))
    others = [row for row in rows if row.name != 'full']
    ours = [100 * (results[row.name][name] - results['full'][name]) for row in others]
    full = ROWS[0].paper or np.nan
    theirs = [np.nan if row.paper is None else row.paper - full for row in others]
    figure = Figure(figsize=(8, 1.2 + 0.5 * len(others)), layout='constrained')
    axes = figure.subplots()
    places = np.arange(len(others))
    for values, offset, colour, label in (
        (ours, -0.2, 'C0', f'here, {name} {100 * results["full"][name]:.1f}'),
        (theirs, 0.2, 'C7', f'the paper, mAP {full:g} (MPII)'),
    ):
        bars = axes.barh(places + offset, values, 0.36, color=colour, label=label)
        texts = ['' if np.isnan(value) else f'{value:+.1f}' for value in values]
        axes.bar_label(bars, texts, padding=3, fontsize=8)
    axes.set_yticks(places, [row.title for row in others])
    axes.invert_yaxis()
    axes.axvline(0, color='black', linewidth=0.8)
    axes.margins(x=0.12)
    axes.set_xlabel('points against the full system')
    axes.legend(loc='best', fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
