# SPDX-License-Identifier: Apache-2.0
"""Percentiles of a few times, where Python's `statistics` would take 4 ms to import."""

import math
from collections.abc import Iterable


def percentile(values: Iterable[float], percent: float) -> float:
    """The value that `percent` % of `values` do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
