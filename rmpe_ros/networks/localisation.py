# SPDX-License-Identifier: Apache-2.0
"""A localisation network for the STN that starts from what a pose network knows of people.

The first stages of a Lite-HRNet of its own look at the crop at half the size, a head says how the
person's true box lies in it: a zoom and a shift, since crops keep their aspect and are not turned.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rmpe_ros.networks.backbones.lite_hrnet import LiteHrnet
from rmpe_ros.networks.backbones.unshuffled import (
    Layout,
    UnshuffledLiteHrnet,
    refitted_chain,
)
from rmpe_ros.networks.stn import full_precision

STAGES = 2
# Channels that the head keeps of each cell, and its hidden layer.
CELL, HIDDEN = 24, 96
# The zoom is at most this factor either way, the shift this share of half a side.
MOST_ZOOM, MOST_SHIFT = 1.7, 0.6


class LiteHrnetLocalisation(nn.Module):
    """Estimates θ from the crop: (N, 3, H, W) in [-1, 1] → (N, 2, 3), exactly the identity before
    training.

    size: (H, W), multiples of 32, half of which it looks at; crops may be larger. `forward` bounds
    zoom and shift by tanh, which keeps det θ ≥ 1 / 1.7² > 0.3.
    """

    def __init__(self, size: tuple[int, int], width: int = 40):
        super().__init__()
        self.seen = (size[0] // 2, size[1] // 2)
        self.encoder = LiteHrnet(width, stages=STAGES)
        smallest = self.encoder.channels[-1]
        step = 2 * self.encoder.step
        cells = (size[0] // step) * (size[1] // step)
        self.squeeze = nn.Sequential(nn.Conv2d(smallest, CELL, 1), nn.ReLU())
        self.hidden = nn.Sequential(nn.Linear(CELL * cells, HIDDEN), nn.ReLU())
        self.offset = nn.Linear(HIDDEN, 3)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)

    def start_from(self, encoder: LiteHrnet) -> None:
        """Take over the first stages of a trained encoder of the same width."""
        own = self.encoder.state_dict()
        self.encoder.load_state_dict(
            {name: value for name, value in encoder.state_dict().items() if name in own}
        )

    def forward(self, image: Tensor) -> Tensor:
        # Of crops that are exactly twice as large this is the mean of four pixels.
        seen = F.interpolate(image, self.seen, mode='bilinear', align_corners=False)
        features = self.encoder(seen)[-1]
        # Flattened, not averaged: where things are is what this network is about.
        hidden = self.hidden(self.squeeze(features).flatten(1))
        with full_precision(hidden):
            return self.bounded(self.offset(hidden.float()))

    @staticmethod
    def bounded(offset: Tensor) -> Tensor:
        """(N, 3) log zoom and shift, free numbers → θ (N, 2, 3)."""
        bounds = offset.new_tensor([float(torch.tensor(MOST_ZOOM).log()), MOST_SHIFT, MOST_SHIFT])
        offset = bounds * torch.tanh(offset / bounds)
        zoom, none = torch.exp(offset[:, 0]), torch.zeros_like(offset[:, 0])
        rows = [zoom, none, offset[:, 1], none, zoom, offset[:, 2]]
        return torch.stack(rows, dim=1).reshape(-1, 2, 3)


class UnshuffledLocalisation(nn.Module):
    """The same answer in fewer operations, for export; it holds a copy of the weights."""

    def __init__(self, localisation: LiteHrnetLocalisation):
        super().__init__()
        self.seen = localisation.seen
        self.encoder = UnshuffledLiteHrnet(localisation.encoder)
        plain = Layout.plain(CELL)
        self.squeeze = refitted_chain(localisation.squeeze, self.encoder.layouts[-1], plain)
        self.hidden = copy.deepcopy(localisation.hidden)
        self.offset = copy.deepcopy(localisation.offset)

    forward = LiteHrnetLocalisation.forward
    bounded = staticmethod(LiteHrnetLocalisation.bounded)
