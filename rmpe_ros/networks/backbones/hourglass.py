# SPDX-License-Identifier: Apache-2.0
"""The hourglass family: stacked hourglasses with intermediate supervision (Newell et al., ECCV
2016, sec. 3), the paper's own SPPE.

    crop ── stem (stride 4) ──┬─► hourglass ─► features ─► heatmaps   (supervised)
                              └──► + ◄── 1×1 of the features + 1×1 of the heatmaps
                                   └─► next hourglass ─► …

RMPE's main branch has 8 stacks of 256 channels and its parallel SPPE 4. With MPII's 16 joints, 8
stacks have 25.4 M parameters here and 25.1 M to 25.6 M in the literature.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

STEM_STRIDE = 4


class Residual(nn.Module):
    """Pre-activation bottleneck (Newell et al., Fig. 4 left): 1×1 to half of the channels, 3×3,
    1×1, each after batch norm and ReLU; added to the input, or to its 1×1 projection where the
    widths differ.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        half = outputs // 2
        self.layers = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(inputs, half, 1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(inplace=True),
            nn.Conv2d(half, half, 3, padding=1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(inplace=True),
            nn.Conv2d(half, outputs, 1),
        )
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.layers(x)


class Hourglass(nn.Module):
    """Down to half the resolution, an hourglass of one order less there, and up again; what the way
    down loses goes around it through the skip branch (Newell et al., Fig. 3).

    (N, C, H, W) → the same shape; H and W are multiples of 2^order.
    """

    def __init__(self, order: int, channels: int):
        super().__init__()
        self.skip = Residual(channels, channels)
        self.down = nn.Sequential(nn.MaxPool2d(2), Residual(channels, channels))
        self.inner = Hourglass(order - 1, channels) if order > 1 else Residual(channels, channels)
        self.up = nn.Sequential(Residual(channels, channels), nn.Upsample(scale_factor=2.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.up(self.inner(self.down(x)))


class Stack(nn.Module):
    """One hourglass and its prediction: (N, C, h, w) → features of the same shape and heatmap
    logits (N, K, h, w).
    """

    def __init__(self, joints: int, channels: int, order: int):
        super().__init__()
        self.features = nn.Sequential(
            Hourglass(order, channels),
            Residual(channels, channels),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )
        self.logits = nn.Conv2d(channels, joints, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(x)
        return features, self.logits(features)


class Remerge(nn.Module):
    """A stack's features and heatmaps, each through a 1×1 convolution, for the next stack to look
    at again (Newell et al., Fig. 4 right).
    """

    def __init__(self, joints: int, channels: int):
        super().__init__()
        self.features = nn.Conv2d(channels, channels, 1, bias=False)
        self.heatmaps = nn.Conv2d(joints, channels, 1)

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        return self.features(features) + self.heatmaps(logits)


class HourglassSppe(nn.Module):
    """Single-person pose estimator: (N, 3, H, W) in [-1, 1] → heatmap logits (N, K, H/4, W/4), one
    map a stack.

    H and W are multiples of 2^(order + 2), 64 for the published order 4. Raises ValueError when
    they are not.
    """

    def __init__(self, joints: int, *, stacks: int, channels: int = 256, order: int = 4):
        super().__init__()
        self.step = STEM_STRIDE * 2**order
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels // 4, 7, 2, 3, bias=False),
            nn.BatchNorm2d(channels // 4),
            nn.ReLU(inplace=True),
            Residual(channels // 4, channels // 2),
            nn.MaxPool2d(2),
            Residual(channels // 2, channels // 2),
            Residual(channels // 2, channels),
        )
        self.stacks = nn.ModuleList(Stack(joints, channels, order) for _ in range(stacks))
        # Nobody looks again at what the last stack found.
        self.remerges = nn.ModuleList(Remerge(joints, channels) for _ in range(stacks - 1))

    def forward(self, x: Tensor) -> list[Tensor]:
        """One map a supervised stage; the last is the best."""
        height, width = x.shape[-2:]
        if not torch.jit.is_tracing() and (height % self.step or width % self.step):
            raise ValueError(
                f'an hourglass halves its maps until a cell spans {self.step} pixels: crops of '
                f'{height}×{width} do not fit, height and width must be multiples of {self.step}'
            )
        x = self.stem(x)
        maps = []
        for number, stack in enumerate(self.stacks):
            features, logits = stack(x)
            maps.append(logits)
            if number < len(self.remerges):
                x = x + self.remerges[number](features, logits)
        return maps
