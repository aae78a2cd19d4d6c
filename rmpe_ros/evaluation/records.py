# SPDX-License-Identifier: Apache-2.0
"""Objects of a JSON file of labels or results, each field checked as it is taken."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmpe_ros.evaluation.labels import LabelsError

_IDS = range(-(2**63), 2**63)
_LONGEST_SHOWN = 60
_FARTHEST = 1e6  # pixels


@dataclass(frozen=True)
class Record:
    """One object of a file. where: file and place, the beginning of every complaint.

    Every method raises LabelsError naming the place, the field, its value and what was expected.
    """

    values: Mapping[str, Any]
    where: str

    @staticmethod
    def of(value: Any, where: str) -> Record:
        if not isinstance(value, Mapping):
            raise LabelsError(f'{where} is {shown(value)}; expected an object with named fields')
        return Record(value, where)

    def refusal(self, field: str, expected: str) -> LabelsError:
        """The complaint about a field, to be raised."""
        value = shown(self.values[field]) if field in self.values else 'missing'
        return LabelsError(f'{self.where}: "{field}" is {value}; expected {expected}')

    def list_of(self, field: str) -> list[Any]:
        value = self.values.get(field)
        if not isinstance(value, list):
            raise self.refusal(field, 'a list')
        return value

    def identity(self, field: str) -> int:
        """An id: a whole number of 64 bits, which some files write as text or as 5.0."""
        value = self.values.get(field)
        if isinstance(value, str) and value.isascii() and value.removeprefix('-').isdigit():
            value = int(value) if len(value) <= 20 else None
        elif isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value not in _IDS:
            raise self.refusal(field, 'a whole number of less than 64 bits')
        return value

    def text(self, field: str, default: str | None = None) -> str:
        """Text that is not empty; `default` where the field is missing or null."""
        value = self.values.get(field)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or not value or '\0' in value:
            raise self.refusal(field, 'text')
        return value

    def flag(self, field: str, default: bool) -> bool:
        value = self.values.get(field)
        if value is None:
            return default
        if not isinstance(value, bool | int | float) or value not in (0, 1):
            raise self.refusal(field, 'true, false, 0 or 1')
        return bool(value)

    def number(self, field: str) -> float | None:
        """A number, which may be NaN or infinite; None where the field is missing or null."""
        value = self.values.get(field)
        if value is None:
            return None
        try:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError
            return float(value)
        except (TypeError, OverflowError):
            raise self.refusal(field, 'a number') from None

    def finite(self, field: str) -> float:
        """A number that has to be there and to be finite."""
        value = self.number(field)
        if value is None or not math.isfinite(value):
            raise self.refusal(field, 'a number')
        return value

    def numbers(self, field: str, expected: str) -> NDArray[np.float64] | None:
        """A list of numbers, null among them as NaN; None where it is missing, null or empty."""
        value = self.values.get(field)
        if value is None or value == []:
            return None
        try:
            if not isinstance(value, list) or not set(map(type, value)) <= {int, float, type(None)}:
                raise TypeError
            return np.array(value, np.float64)
        except (TypeError, OverflowError):
            raise self.refusal(field, expected) from None


def are_places(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which coordinates some picture may have: finite ones of up to a million pixels."""
    return np.asarray(np.abs(values) <= _FARTHEST)


def shown(value: Any) -> str:
    """A value as a message can show it: not too long."""
    if value is None:
        return 'null'
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f'{text[: _LONGEST_SHOWN - 1]}…'
