# SPDX-License-Identifier: Apache-2.0
"""What a run measured, step by step: kept in its checkpoint, so that a run that goes on has all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# Losses are kept for so many steps at most; where there are more, for every other one of them.
_MOST_STEPS = 1000


class Curves:
    """Numbers by step: `train`, the losses, and `validation`, what each source of photos scored."""

    def __init__(
        self, state: Mapping[str, Mapping[int, Mapping[str, float]]] | None = None
    ) -> None:
        self._groups: dict[str, dict[int, dict[str, float]]] = {'train': {}, 'validation': {}}
        for group, steps in (state or {}).items():
            self._groups[group] = {step: dict(values) for step, values in steps.items()}

    def add(self, step: int, values: Mapping[str, float], *, group: str) -> None:
        """Numbers of a step, in place of those it had before."""
        steps = self._groups[group]
        steps[step] = dict(values)
        if group == 'train' and len(steps) > _MOST_STEPS:
            self._groups[group] = dict(list(steps.items())[1::2])

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint, from which `Curves` makes the same again."""
        return {
            group: {s: dict(v) for s, v in steps.items()} for group, steps in self._groups.items()
        }

    def names(self, group: str) -> list[str]:
        """What was measured, in the order in which it first was."""
        return list(dict.fromkeys(name for each in self._groups[group].values() for name in each))

    def points(self, group: str, name: str) -> list[tuple[int, float]]:
        """(step, value) by step, without those that are no number."""
        steps = sorted(self._groups[group].items())
        return [(s, v[name]) for s, v in steps if name in v and math.isfinite(v[name])]

    def deciding(self) -> str | None:
        """The name of the score that says which step is best; None before any validation."""
        names = self.names('validation')
        return 'score' if 'score' in names else next(iter(names), None)

    def best(self, name: str) -> tuple[int, float] | None:
        """Step and value of the highest of a score; the first of equal ones."""
        return max(self.points('validation', name), key=lambda p: p[1], default=None)
