# SPDX-License-Identifier: Apache-2.0
"""How long a run trains, how fast, and which weights how fast."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import nn

# Of a published network, by the name of the part: the pose network's, the detector's.
ENCODERS = frozenset({'encoder', 'backbone'})


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    steps: optimiser steps of the whole run. minutes: stop after this long with a valid checkpoint;
    without `steps` the learning rate follows the clock instead. batch: examples of a step, of all
    processes together. learning_rate falls by a cosine to `final_fraction` of itself.
    encoder_factor: the encoder learns this much slower; without batch norm to steady it, it would
    lose what it has learned before. maps_factor: the last convolution to Gaussian maps learns this
    much faster, since its weights are an order larger than others.
    """

    steps: int | None
    minutes: float | None
    batch: int = 32
    learning_rate: float = 4e-4
    final_fraction: float = 0.02
    warmup_steps: int = 100
    weight_decay: float = 0.01
    ema_decay: float = 0.998
    clip_norm: float = 5.0
    encoder_factor: float = 0.25
    maps_factor: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise ValueError('a run needs an end: give steps, minutes or both')
        for name in ('steps', 'minutes', 'batch', 'learning_rate'):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f'{name.replace("_", " ")} must be more than 0, not {value}')

    def progress(self, step: int, elapsed: float) -> float:
        """How much of the run is done, 0 to 1, after so many steps and seconds."""
        if self.steps is not None:
            return min(step / self.steps, 1.0)
        assert self.minutes is not None
        return min(elapsed / (60 * self.minutes), 1.0)

    def over(self, step: int, elapsed: float) -> bool:
        out_of_time = self.minutes is not None and elapsed >= 60 * self.minutes
        return out_of_time or (self.steps is not None and step >= self.steps)

    def seconds_left(self, step: int, elapsed: float, steps_per_second: float) -> float:
        """Until the run is over, at this speed."""
        ends = []
        if self.steps is not None:
            ends.append((self.steps - step) / max(steps_per_second, 1e-9))
        if self.minutes is not None:
            ends.append(60 * self.minutes - elapsed)
        return max(min(ends), 0.0)

    def learning_fraction(self, step: int, elapsed: float) -> float:
        """The learning rate as a fraction of its peak."""
        warmup = min(1.0, (step + 1) / max(self.warmup_steps, 1))
        cosine = 0.5 * (1 + math.cos(math.pi * self.progress(step, elapsed)))
        return warmup * (self.final_fraction + (1 - self.final_fraction) * cosine)


def trains_encoder(network: nn.Module) -> bool:
    """Whether `encoder_factor` changes how the network learns."""
    return any(
        parameter.requires_grad and not ENCODERS.isdisjoint(name.split('.'))
        for name, parameter in network.named_parameters()
    )


def parameter_groups(network: nn.Module, schedule: Schedule) -> list[dict[str, Any]]:
    """Optimiser groups: the encoder slower than the rest, no weight decay on biases and scales."""
    factors = dict.fromkeys(ENCODERS, schedule.encoder_factor) | {'heatmaps': schedule.maps_factor}
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            factor = next((factors[part] for part in name.split('.') if part in factors), 1.0)
            groups.setdefault((factor, parameter.ndim > 1), []).append(parameter)
    return [
        {
            'params': parameters,
            'peak': schedule.learning_rate * factor,
            'weight_decay': schedule.weight_decay if decays else 0.0,
        }
        for (factor, decays), parameters in groups.items()
    ]
