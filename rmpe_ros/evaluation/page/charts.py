# SPDX-License-Identifier: Apache-2.0
"""Bars for pages, as SVG with a legend, in the colours of the page."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

COLORS = ('#2f7fd6', '#e8883a', '#2f9e63', '#9a63d6', '#d6a419', '#e5484d', '#8a97a5')
_LABEL, _WIDTH, _ROW, _BAR = 240, 900, 26, 18


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


def _legend(colors: Mapping[str, str]) -> str:
    if len(colors) < 2:
        return ''
    keys = ''.join(
        f'<span class="key"><i style="background:{color}"></i>{html.escape(name)}</span> '
        for name, color in colors.items()
    )
    return f'<div class="lane legend"><h3>{keys}</h3></div>'
