# SPDX-License-Identifier: Apache-2.0
"""Localisation networks for the STN that cost a small part of a pose network.

They look at the crop at a fraction of its size and say how the person's true box lies in it: a zoom
and a shift, since crops keep their aspect and are not turned. The smallest is a few strided
convolutions; the backbone of a person detector costs more and, having learned from many more people
what a box should hold, finds more of what is wrong (models/standard.md).
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rmpe_ros.networks.person_detector import (
    DEVIATION,
    MEAN,
    Backbone,
    DetectorNetwork,
    load_rtmdet,
)
from rmpe_ros.networks.stn import full_precision

# What they see is the mean of so many pixels along each side of the crop.
SHRINK = 4
CHANNELS = (16, 24, 32, 48)
# Width of the detector's backbone, and how many channels of its features are made use of.
BACKBONE_WIDTH, BACKBONE_CHANNELS = 16, 24
HIDDEN = 96
# The zoom is at most this factor either way, the shift this share of half a side.
MOST_ZOOM, MOST_SHIFT = 1.7, 0.6
# Offsets from the identity (|log zoom| + |shift x| + |shift y|) up to this are not acted on, those
# of twice that are in full: where a box is nearly right, what is found of its error is noise.
DEAD_ZONE = 0.06


class ZoomLocalisation(nn.Module):
    """Estimates θ from the crop: (N, 3, H, W) in [-1, 1] → (N, 2, 3), exactly the identity before
    training.

    size: (H, W). features: (N, 3, H / SHRINK, W / SHRINK) in [-1, 1] → (N, C, h, w), strided
    convolutions when None. Zoom and shift are bounded by tanh, which keeps det θ ≥ 1 / 1.7² > 0.3.
    """

    def __init__(self, size: tuple[int, int], features: nn.Module | None = None):
        super().__init__()
        self.features = strided_convolutions() if features is None else features
        self.features.eval()
        with torch.no_grad():
            shrunk = torch.zeros(1, 3, size[0] // SHRINK, size[1] // SHRINK)
            inputs = self.features(shrunk).numel()
        self.features.train()
        self.hidden = nn.Sequential(nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Dropout(0.1))
        self.offset = nn.Linear(HIDDEN, 3)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)

    def forward(self, image: Tensor) -> Tensor:
        return self.of_shrunk(F.avg_pool2d(image, SHRINK))

    def of_shrunk(self, image: Tensor) -> Tensor:
        """Of (N, 3, H / SHRINK, W / SHRINK)."""
        # Flattened, not averaged: where things are is what this network is about.
        hidden = self.hidden(self.features(image).flatten(1))
        with full_precision(hidden):
            offset = self.offset(hidden.float())
            bounds = offset.new_tensor([math.log(MOST_ZOOM), MOST_SHIFT, MOST_SHIFT])
            offset = bounds * torch.tanh(offset / bounds)
            return as_theta(offset if self.training else without_small(offset))


def strided_convolutions() -> nn.Sequential:
    """(N, 3, h, w) → (N, 48, h / 16, w / 16)."""
    layers: list[nn.Module] = []
    inputs = 3
    for outputs in CHANNELS:
        layers += [nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs)]
        layers.append(nn.ReLU(inplace=True))
        inputs = outputs
    return nn.Sequential(*layers)


class DetectorFeatures(nn.Module):
    """The stages up to stride 16 of the person detector's backbone (CSPNeXt), then fewer channels:
    (N, 3, h, w) in [-1, 1] → (N, 24, h / 16, w / 16).
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        whole = Backbone(BACKBONE_WIDTH)
        self.backbone = nn.Sequential(whole.stem, *whole.stages[:3])
        self.fewer = nn.Sequential(
            nn.Conv2d(8 * BACKBONE_WIDTH, BACKBONE_CHANNELS, 1), nn.ReLU(), nn.Dropout(0.3)
        )
        # Of crops, which are in [-1, 1].
        mean, deviation = (
            torch.tensor(each).reshape(1, 3, 1, 1) / 127.5 for each in (MEAN, DEVIATION)
        )
        self.register_buffer('mean', mean - 1, persistent=False)
        self.register_buffer('deviation', deviation, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        return self.fewer(self.backbone((image - self.mean) / self.deviation))

    def load_detector(self, model: Path) -> None:
        """Start from the backbone of an RTMDet-nano, the published ONNX file or one of `rmpe
        export`. Raises ValueError when it is none.
        """
        detector = DetectorNetwork(width=BACKBONE_WIDTH)
        load_rtmdet(detector, model)
        whole = detector.backbone
        self.backbone.load_state_dict(nn.Sequential(whole.stem, *whole.stages[:3]).state_dict())


def without_small(offset: Tensor) -> Tensor:
    """(N, 3) offsets as they are acted on, see DEAD_ZONE."""
    length = offset.abs().sum(dim=1, keepdim=True)
    return offset * ((length - DEAD_ZONE) / DEAD_ZONE).clamp(0, 1)


def as_theta(offset: Tensor) -> Tensor:
    """(N, 3) log zoom, shift x and shift y → θ (N, 2, 3)."""
    zoom, none = torch.exp(offset[:, 0]), torch.zeros_like(offset[:, 0])
    rows = [zoom, none, offset[:, 1], none, zoom, offset[:, 2]]
    return torch.stack(rows, dim=1).reshape(-1, 2, 3)
