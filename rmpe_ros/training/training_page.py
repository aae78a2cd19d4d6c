# SPDX-License-Identifier: Apache-2.0
"""A training run as one page: its best step, what each source scored there, curves, pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from rmpe_ros.evaluation.page import (
    headline,
    html_table,
    notes_list,
    page,
    paragraph,
    picture,
    section,
)
from rmpe_ros.evaluation.page.charts import lines
from rmpe_ros.training.curves import Curves
from rmpe_ros.training.training_progress import spell_duration

_LEGENDS = {
    'people': 'A person in each column; from above: the labels, the joints found, the crop as the '
    'spatial transformer turned it (where there is one), the heatmaps.',
    'photos': 'A photo in each column: the labelled boxes above, those found below.',
}


def training_page(
    title: str,
    curves: Curves,
    *,
    step: int,
    seconds: float,
    settings: Mapping[str, Any],
    pictures: Mapping[str, np.ndarray],
    notes: list[str],
) -> str:
    """One HTML page. step, seconds: how far the run is; pictures: uint8 (H, W, 3) RGB by name."""
    deciding = curves.deciding()
    best = curves.best(deciding) if deciding else None
    numbers = [(f'{step}', 'steps'), (spell_duration(seconds), 'of training')]
    if deciding and best:
        numbers = [(f'{best[1]:.4f}', f'best {deciding}'), (f'{best[0]}', 'its step'), *numbers]
    parts = [headline(numbers), notes_list(notes)]
    if best:
        parts += _validation(curves, best[0])
    losses = {name: curves.points('train', name) for name in curves.names('train')}
    parts += [
        section(name.replace('_', ' '), lines({name: points}, 'step'))
        for name, points in losses.items()
        if points
    ]
    for name, pixels in pictures.items():
        data = cv2.imencode('.jpg', cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()
        legend = paragraph(_LEGENDS.get(name, ''))
        parts.append(section(f'{name.capitalize()} at the end', legend, picture(data, 'jpeg')))
    rows = [['setting', 'value']]
    rows += [[name.replace('_', ' '), str(v)] for name, v in settings.items() if v is not None]
    return page(title, [*parts, section('Settings', html_table(rows))])


def _validation(curves: Curves, best: int) -> list[str]:
    """The table of scores at the best step and at the last, and their curves."""
    points = {name: curves.points('validation', name) for name in curves.names('validation')}
    rows = [['validation', f'step {best}, the best', 'highest', 'at step', 'last']]
    for name, values in points.items():
        if highest := curves.best(name):
            here = dict(values).get(best)
            rows.append(
                [
                    name,
                    '–' if here is None else f'{here:.4f}',
                    f'{highest[1]:.4f}',
                    str(highest[0]),
                    f'{values[-1][1]:.4f}',
                ]
            )
    table = section('Scores by source', html_table(rows))
    return [table, section('Validation', lines(points, 'step', mark=best))]
