# SPDX-License-Identifier: Apache-2.0
"""The convolutions of a ResNet-18 (He et al., CVPR 2016), RMPE's localisation network.

Parameters are named as torchvision names them.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F


class BasicBlock(nn.Module):
    """Two 3×3 convolutions, added to the input or to its strided 1×1 projection."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.downsample(x))


class ResNet18(nn.Sequential):
    """(N, 3, H, W) in [-1, 1] → features at stride 32, (N, 8 · channels, H/32, W/32).

    channels: width of the stem, 64 in the published network.
    """

    def __init__(self, channels: int = 64):
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.outputs = 8 * channels
        widths = (channels, channels, 2 * channels, 4 * channels, 8 * channels)
        for number, (inputs, outputs) in enumerate(pairwise(widths), start=1):
            stride = 1 if number == 1 else 2
            layer = nn.Sequential(
                BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1)
            )
            self.add_module(f'layer{number}', layer)
