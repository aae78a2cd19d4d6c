# SPDX-License-Identifier: Apache-2.0
"""JSON from outside, whatever is wrong with it becomes a sentence; and values for JSON."""

import json
import math
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """What a JSON text says; bytes may be UTF-8, UTF-16 or UTF-32, with a byte order mark or none.

    Raises ValueError saying where it is no JSON, or that it is nested too deeply to be read.
    """
    if isinstance(text, str):
        text = text.removeprefix('\ufeff')
    try:
        return json.loads(text)
    except UnicodeDecodeError as error:
        raise ValueError(f'it is no text in UTF-8 ({error.reason} at byte {error.start})') from None
    except RecursionError:
        raise ValueError('it is nested too deeply') from None


def plain(value: Any) -> Any:
    """The value for JSON, which has neither NaN nor infinity: they become None."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
