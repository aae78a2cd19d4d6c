# SPDX-License-Identifier: Apache-2.0
"""Bars and curves for pages, as SVG with a legend, in the colours of the page."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

COLORS = ('#2f7fd6', '#e8883a', '#2f9e63', '#9a63d6', '#d6a419', '#e5484d', '#8a97a5')
_LABEL, _WIDTH, _ROW, _BAR = 240, 900, 26, 18
# Of curves: room for numbers at the left, the height of all, and up to so many points have a dot.
_MARGIN, _HEIGHT, _MOST_DOTS = 70, 260, 60


def bars(rows: Sequence[tuple[str, Mapping[str, float]]], unit: str, *, digits: int = 1) -> str:
    """A bar for each row, made of its parts one after the other, with the sum at its end.

    rows: name and the values of its parts; nothing where there are none.
    """
    if not rows:
        return ''
    names = list(dict.fromkeys(name for _, parts in rows for name in parts))
    colors = {name: COLORS[index % len(COLORS)] for index, name in enumerate(names)}
    most = max((sum(parts.values()) for _, parts in rows), default=0) or 1
    scale = (_WIDTH - _LABEL - 110) / most
    shapes = []
    for index, (label, parts) in enumerate(rows):
        y, x = index * _ROW + 4, float(_LABEL)
        shapes.append(
            f'<text x="{_LABEL - 8}" y="{y + 14}" text-anchor="end">{html.escape(label)}</text>'
        )
        for name, value in parts.items():
            shapes.append(
                f'<rect x="{x:.1f}" y="{y}" width="{max(value * scale, 0):.1f}" height="{_BAR}" '
                f'fill="{colors[name]}"><title>{html.escape(name)} {value:.{digits}f} '
                f'{html.escape(unit)}</title></rect>'
            )
            x += value * scale
        total = f'{sum(parts.values()):.{digits}f} {unit}'
        shapes.append(f'<text x="{x + 6:.1f}" y="{y + 14}">{html.escape(total)}</text>')
    height = len(rows) * _ROW + 8
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" style="max-width:100%" '
        f'font-size="13" fill="currentColor" role="img">{"".join(shapes)}</svg>{_legend(colors)}'
    )


def lines(
    curves: Mapping[str, Sequence[tuple[float, float]]], across: str, *, mark: float | None = None
) -> str:
    """Curves over one axis, with the range of both axes at their ends.

    curves: points (x, y) by name, x growing; across: what x is; mark: an x that is pointed out.
    Nothing where there are no points.
    """
    points = [point for each in curves.values() for point in each]
    if not points:
        return ''
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    low, high = min(y for _, y in points), max(y for _, y in points)
    colors = {name: COLORS[index % len(COLORS)] for index, name in enumerate(curves)}

    def place(x: float, y: float) -> tuple[float, float]:
        along = (x - left) / (right - left) if right > left else 0.5
        up = (y - low) / (high - low) if high > low else 0.5
        return _MARGIN + along * (_WIDTH - _MARGIN - 10), 10 + (1 - up) * (_HEIGHT - 40)

    foot = _HEIGHT - 30
    shapes = [
        f'<path d="M{_MARGIN} 10V{foot}H{_WIDTH - 10}" fill="none" stroke="currentColor" '
        'stroke-opacity=".4"/>'
    ]
    texts = [
        (_MARGIN - 8, 16, 'end', f'{high:.4g}'),
        (_MARGIN - 8, foot, 'end', f'{low:.4g}'),
        (_MARGIN, _HEIGHT - 10, 'start', f'{left:g}'),
        (_WIDTH - 10, _HEIGHT - 10, 'end', f'{across} {right:g}'),
    ]
    if mark is not None:
        x, _ = place(mark, low)
        shapes.append(
            f'<path d="M{x:.1f} 10V{foot}" stroke="currentColor" stroke-dasharray="4 4"/>'
        )
        if left < mark < right:
            texts.append((round(x), _HEIGHT - 10, 'middle', f'{mark:g}'))
    shapes += [
        f'<text x="{x}" y="{y}" text-anchor="{anchor}">{html.escape(text)}</text>'
        for x, y, anchor, text in texts
    ]
    for name, values in curves.items():
        places = [place(*value) for value in values]
        path = ' '.join(f'{x:.1f},{y:.1f}' for x, y in places)
        shapes.append(
            f'<polyline points="{path}" fill="none" stroke="{colors[name]}" stroke-width="2"/>'
        )
        if len(places) <= _MOST_DOTS:
            shapes += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colors[name]}"><title>'
                f'{html.escape(name)} {value[1]:.4g} at {value[0]:g}</title></circle>'
                for (x, y), value in zip(places, values, strict=True)
            ]
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" style="max-width:100%" '
        f'font-size="13" fill="currentColor" role="img">{"".join(shapes)}</svg>{_legend(colors)}'
    )


def _legend(colors: Mapping[str, str]) -> str:
    if len(colors) < 2:
        return ''
    keys = ''.join(
        f'<span class="key"><i style="background:{color}"></i>{html.escape(name)}</span> '
        for name, color in colors.items()
    )
    return f'<div class="lane legend"><h3>{keys}</h3></div>'
