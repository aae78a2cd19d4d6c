# SPDX-License-Identifier: Apache-2.0
"""Which picture file a stamp stands for: what joins the frames of a bag to labels.

Picture number i has the stamp start + i / rate, to the nanosecond. Pictures are numbered in the
order of the annotation file, or of their names where there is none, from 0, and a picture that
cannot be read keeps its number: whoever has the annotations, the start and the rate knows the stamp
of each. A bag made by `rmpe bag-from-images` also carries the table in its metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from rmpe_ros.core.json_text import parse_json

# In custom_data of metadata.yaml: a JSON object, stamp in nanoseconds → file.
FRAMES_KEY = 'rmpe_ros.frames'

DEFAULT_RATE = 10.0  # pictures per second
# 2020-01-01T00:00:00Z, in seconds: not 0, which ROS takes for "no time".
DEFAULT_START = 1_577_836_800.0
# Seconds are 32 bits in a message.
LATEST_START = 2_000_000_000.0
_NANOSECONDS = 1_000_000_000


def frame_stamp(index: int, *, rate: float, start: float) -> int:
    """The stamp of picture `index` in nanoseconds since 1970.

    rate: pictures per second; start: seconds since 1970.
    """
    return round(start * _NANOSECONDS) + round(index * _NANOSECONDS / rate)


def frame_schedule(files: Sequence[str], *, rate: float, start: float) -> dict[int, str]:
    """Stamp → file of all pictures in their order."""
    return {frame_stamp(index, rate=rate, start=start): file for index, file in enumerate(files)}


def frames_to_custom_data(frames: Mapping[int, str]) -> dict[str, str]:
    """The table as custom_data of a bag."""
    return {FRAMES_KEY: json.dumps({str(stamp): file for stamp, file in frames.items()})}


def frames_from_custom_data(custom_data: Mapping[str, str]) -> dict[int, str] | None:
    """The table in the custom_data of a bag, None without one.

    Raises ValueError when what is there is no such table.
    """
    if FRAMES_KEY not in custom_data:
        return None
    try:
        table = parse_json(custom_data[FRAMES_KEY])
        return {int(stamp): str(file) for stamp, file in table.items()}
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f'{FRAMES_KEY} in the metadata of the bag is no JSON object stamp → file: {error}'
        ) from error
