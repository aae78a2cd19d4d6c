# SPDX-License-Identifier: Apache-2.0
"""Messages that no sound publisher sends: default-valued ones, and sound ones with odd fields."""

from __future__ import annotations

import copy
import math
import re
from typing import Any

import numpy as np

_FLOATS = (0.0, -1.0, 1.0, 0.5, 1e6, -1e6, 3e38, -3e38, math.nan, math.inf, -math.inf)
_TEXTS = ('', 'body19', 'coco17', 'rgb8', 'mono16', 'equidistant', 'plumb_bob', 'x', 'ä€' * 9, '/')
_BITS = re.compile(r'(u?)int(\d+)')
_LIST = re.compile(r'(?:sequence<(.+?)(?:, \d+)?>|(.+)\[(\d+)\])')


def odd_message(sound: Any, rng: np.random.Generator) -> Any:
    """A copy of `sound` with one to four fields changed, or, one time in ten, a default one."""
    if rng.random() < 0.1:
        return type(sound)()
    message = copy.copy(sound)
    for _ in range(rng.integers(1, 5)):
        _spoil(message, rng)
    return message


def _spoil(message: Any, rng: np.random.Generator) -> None:
    """Change one field, somewhere in the message: a copy, whose parts are those of a sound one."""
    kinds = message.get_fields_and_field_types()
    name = str(rng.choice(list(kinds)))
    kind, value = kinds[name], getattr(message, name)
    listed = _LIST.fullmatch(kind)
    if hasattr(value, 'get_fields_and_field_types'):
        part = copy.copy(value)
        setattr(message, name, part)
        _spoil(part, rng)
    elif listed and '/' in kind and len(value) and rng.random() < 0.7:
        parts, place = list(value), rng.integers(len(value))
        parts[place] = copy.copy(parts[place])
        setattr(message, name, parts)
        _spoil(parts[place], rng)
    elif listed and '/' in kind:
        setattr(message, name, _odd_list(list(value), rng))
    elif listed:
        item = listed[1] or listed[2]
        values = list(value)
        if listed[3] or (values and rng.random() < 0.5):
            values[rng.integers(len(values))] = _odd(item, rng)
        else:
            values = _odd_list(values, rng) or [_odd(item, rng) for _ in range(rng.integers(9))]
        setattr(message, name, values)
    else:
        setattr(message, name, _odd(kind, rng))


def _odd_list(values: list[Any], rng: np.random.Generator) -> list[Any]:
    """Fewer values, more of them, or none."""
    choice = rng.integers(3)
    if choice == 0:
        return values[: int(rng.integers(len(values) + 1))]
    return values * 2 if choice == 1 else []


def _odd(kind: str, rng: np.random.Generator) -> Any:
    """A value of a plain type, at its limits more often than not."""
    if kind.startswith('string'):
        return str(rng.choice(_TEXTS))
    if kind in ('float', 'double'):
        return float(rng.choice(_FLOATS))
    if kind == 'boolean':
        return bool(rng.integers(2))
    if kind in ('octet', 'byte'):
        return bytes([int(rng.integers(256))])
    bits = _BITS.fullmatch(kind)
    assert bits is not None, f'a field of type {kind}'
    size = int(bits[2])
    least, most = (0, 2**size - 1) if bits[1] else (-(2 ** (size - 1)), 2 ** (size - 1) - 1)
    return int(rng.choice([least, most, 0, 1, 2, 7, 100]))
