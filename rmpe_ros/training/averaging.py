# SPDX-License-Identifier: Apache-2.0
"""The average of a network's weights over the last steps: what is validated and shipped."""

from __future__ import annotations

import copy

from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class AveragedWeights:
    """Follows `network`, which has to stay on its device. average: a network like it."""

    def __init__(self, network: nn.Module, decay: float):
        self.average = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        pairs = list(
            zip(self.average.state_dict().values(), network.state_dict().values(), strict=True)
        )
        # Counters, such as batch norm's, cannot be averaged.
        self._floating = [pair for pair in pairs if pair[0].dtype.is_floating_point]
        self._others = [pair for pair in pairs if not pair[0].dtype.is_floating_point]

    def follow(self, step: int) -> None:
        """Take in the weights after step number `step`, 1 for the first."""
        # Early on the average follows closely, or it would remember the start for long.
        average = get_ema_multi_avg_fn(min(self.decay, step / (step + 10)))
        kept, current = zip(*self._floating, strict=True)
        average(kept, current, None)
        for counter, value in self._others:
            counter.copy_(value)
