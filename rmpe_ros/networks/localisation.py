# SPDX-License-Identifier: Apache-2.0
"""A localisation network for the STN that costs a few hundredths of a pose network.

A few strided convolutions look at the crop at a quarter of its size and say how the person's true
box lies in it: a zoom and a shift, since crops keep their aspect and are not turned.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rmpe_ros.networks.stn import full_precision

# The convolutions see the mean of so many pixels along each side.
SHRINK = 4
CHANNELS = (16, 24, 32, 48)
HIDDEN = 96
# The zoom is at most this factor either way, the shift this share of half a side.
MOST_ZOOM, MOST_SHIFT = 1.7, 0.6
# Offsets from the identity (|log zoom| + |shift x| + |shift y|) up to this are not acted on, larger
# ones are by so much less: where a box is nearly right, what is found of its error is noise.
DEAD_ZONE = 0.05


class ZoomLocalisation(nn.Module):
    """Estimates θ from the crop: (N, 3, H, W) in [-1, 1] → (N, 2, 3), exactly the identity before
    training.

    size: (H, W). Zoom and shift are bounded by tanh, which keeps det θ ≥ 1 / 1.7² > 0.3.
    """

    def __init__(self, size: tuple[int, int]):
        super().__init__()
        height, width = size[0] // SHRINK, size[1] // SHRINK
        layers: list[nn.Module] = []
        inputs = 3
        for outputs in CHANNELS:
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs)]
            layers.append(nn.ReLU(inplace=True))
            inputs = outputs
            height, width = (height + 1) // 2, (width + 1) // 2
        self.features = nn.Sequential(*layers)
        self.hidden = nn.Sequential(
            nn.Linear(inputs * height * width, HIDDEN), nn.ReLU(), nn.Dropout(0.1)
        )
        self.offset = nn.Linear(HIDDEN, 3)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)

    def forward(self, image: Tensor) -> Tensor:
        # Flattened, not averaged: where things are is what this network is about.
        hidden = self.hidden(self.features(F.avg_pool2d(image, SHRINK)).flatten(1))
        with full_precision(hidden):
            offset = self.offset(hidden.float())
            bounds = offset.new_tensor([math.log(MOST_ZOOM), MOST_SHIFT, MOST_SHIFT])
            offset = bounds * torch.tanh(offset / bounds)
            return as_theta(offset if self.training else without_small(offset))


def without_small(offset: Tensor) -> Tensor:
    """(N, 3) offsets less what DEAD_ZONE says."""
    length = offset.abs().sum(dim=1, keepdim=True)
    return offset * ((length - DEAD_ZONE).clamp_min(0) / length.clamp_min(DEAD_ZONE))


def as_theta(offset: Tensor) -> Tensor:
    """(N, 3) log zoom, shift x and shift y → θ (N, 2, 3)."""
    zoom, none = torch.exp(offset[:, 0]), torch.zeros_like(offset[:, 0])
    rows = [zoom, none, offset[:, 1], none, zoom, offset[:, 2]]
    return torch.stack(rows, dim=1).reshape(-1, 2, 3)
