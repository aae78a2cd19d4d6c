# SPDX-License-Identifier: Apache-2.0
"""The one template of all HTML pages: a single file that opens anywhere and can be mailed."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from pathlib import Path

from rmpe_ros.core.json_text import plain

_FOLDER = Path(__file__).parent


def page(title: str, parts: Sequence[str], *, data: object = None) -> str:
    """A whole page of HTML parts, with the style inside; nothing is loaded from elsewhere.

    data: what the script of the page draws (its player and its lanes); without it there is no
    script in the page.
    """
    script = ''
    if data is not None:
        # '<' would end the element that holds the data.
        text = json.dumps(plain(data), separators=(',', ':'), allow_nan=False)
        text = text.replace('<', '\\u003c')
        code = ''.join(_read(name) for name in ('skeletons.js', 'lanes.js', 'player.js'))
        script = f'<script type="application/json" id="data">{text}</script><script>{code}</script>'
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{html.escape(title)}</title><style>{_read("page.css")}</style></head>\n'
        f'<body><h1>{html.escape(title)}</h1>\n' + '\n'.join(parts) + f'\n{script}</body></html>\n'
    )


def html_table(rows: Sequence[Sequence[str]]) -> str:
    """A table; its first row are the headings, its first column is flush left."""

    def line(cells: Sequence[str], tag: str) -> str:
        return ''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)

    body = ''.join(f'<tr>{line(row, "td")}</tr>' for row in rows[1:])
    return f'<table><tr>{line(rows[0], "th")}</tr>{body}</table>'


def headline(numbers: Sequence[tuple[str, str]]) -> str:
    """The numbers that matter most, large: (value, what it is)."""
    cells = ''.join(
        f'<div><b>{html.escape(value)}</b><span>{html.escape(name)}</span></div>'
        for value, name in numbers
    )
    return f'<div class="headline">{cells}</div>'


def section(title: str, *parts: str) -> str:
    """A heading and what is below it."""
    return f'<h2>{html.escape(title)}</h2>{"".join(parts)}'


def paragraph(text: str) -> str:
    """Text, with all its characters as they are."""
    return f'<p>{html.escape(text)}</p>'


def notes_list(notes: Sequence[str]) -> str:
    """Remarks, one a line; nothing where there are none."""
    items = ''.join(f'<li>{html.escape(note)}</li>' for note in notes)
    return f'<ul class="notes">{items}</ul>' if notes else ''


def picture(data: bytes, kind: str, caption: str = '') -> str:
    """A picture inside of the page; kind: 'jpeg' or 'png'."""
    return (
        f'<figure><img src="data:image/{kind};base64,{base64.b64encode(data).decode()}" '
        f'alt="{html.escape(caption)}"><figcaption>{html.escape(caption)}</figcaption></figure>'
    )


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding='utf-8')
