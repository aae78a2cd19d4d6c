# SPDX-License-Identifier: Apache-2.0
"""A small Lite-HRNet as SPPE: parallel branches of four resolutions made of shuffle units.

    crop ── stem (1/4) ──┬─ 40 channels, 1/4 ─ units ─┬──────┬ … ┬─ head: smallest up to 1/4
                         ├─ 80, 1/8 ─ units ──────────┤ fuse ├ … ┤
                         ├─ 160, 1/16 (from stage 2) ─┤      ├ … ┤
                         └─ 320, 1/32 (from stage 3) ─┴──────┴ … ┘  └─► heatmaps

The "wider naive" form of Lite-HRNet (Yu et al., CVPR 2021, sec. 3.1): plain shuffle units
(ShuffleNetV2, Ma et al., ECCV 2018, Fig. 3 c) in HRNet's branches (Wang et al., TPAMI 2020), with
the iterative head of UDP. It is PP-TinyPose's network; `importing.tinypose` fills it with those
weights. Batch norm is folded into the convolutions, as it is published.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEM = 32
# Modules of each stage; the first has two branches, each further one more.
MODULES = (2, 4, 2)
UNITS = 2
# Pixels that a cell of the smallest branch spans: the stem divides by 4, each stage by 2.
STEP = 4 * 2 ** len(MODULES)
# The photos that the published weights have seen were normalised by ImageNet's statistics.
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)


class DepthwiseConv(nn.Conv2d):
    """A 3×3 convolution of each channel on its own, padded by one."""

    def __init__(self, channels: int, stride: int = 1):
        super().__init__(channels, channels, 3, stride, 1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.stride[0] == 2 and torch.is_grad_enabled():
            # On CPUs the gradient of a strided depthwise convolution costs up to five times that
            # of the dense one, of whose rows and columns this takes every second.
            dense = F.conv2d(x, self.weight, self.bias, padding=1, groups=self.groups)
            return dense[:, :, ::2, ::2]
        return super().forward(x)


def pointwise(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1)


def separable(inputs: int, outputs: int, stride: int = 1, *, relu: bool = True) -> nn.Sequential:
    """Depthwise 3×3, pointwise 1×1, and a ReLU unless what follows is a sum."""
    layers: list[nn.Module] = [DepthwiseConv(inputs, stride), pointwise(inputs, outputs)]
    return nn.Sequential(*layers, nn.ReLU()) if relu else nn.Sequential(*layers)


def shuffle(x: Tensor) -> Tensor:
    """Interleave the two halves of the channels (ShuffleNet, sec. 3.1, with two groups)."""
    count, channels, height, width = x.shape
    x = x.reshape(count, 2, channels // 2, height, width).transpose(1, 2)
    return x.reshape(count, channels, height, width)


class ShuffleUnit(nn.Module):
    """ShuffleNetV2's unit: half of the channels passes, the other half is filtered, then both are
    shuffled. (N, C, h, w) → the same shape.
    """

    def __init__(self, channels: int):
        super().__init__()
        half = channels // 2
        self.filter = nn.Sequential(pointwise(half, half), nn.ReLU(), *separable(half, half))

    def forward(self, x: Tensor) -> Tensor:
        passing, filtered = x.chunk(2, dim=1)
        return shuffle(torch.cat([passing, self.filter(filtered)], dim=1))


class Stem(nn.Module):
    """(N, 3, H, W) → (N, 32, H/4, W/4): a strided convolution and a strided shuffle unit, of which
    both halves are filtered (ShuffleNetV2, Fig. 3 d).
    """

    def __init__(self) -> None:
        super().__init__()
        half = STEM // 2
        self.first = nn.Sequential(nn.Conv2d(3, STEM, 3, 2, 1), nn.ReLU())
        self.left = separable(half, half, 2)
        self.right = nn.Sequential(pointwise(half, STEM), nn.ReLU(), *separable(STEM, half, 2))

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.first(x).chunk(2, dim=1)
        return shuffle(torch.cat([self.left(left), self.right(right)], dim=1))


class Fusion(nn.Module):
    """Every branch takes in every other one: upwards a 1×1 convolution and nearest neighbours,
    downwards strided separable convolutions, then a sum and a ReLU (HRNet, Fig. 3).

    The published network differs from the paper in two ways that its weights rely on: what comes
    from the largest branch counts twice, and the other branches see that one as fused, before its
    ReLU.
    """

    def __init__(self, channels: tuple[int, ...]):
        super().__init__()
        self.paths = nn.ModuleList(
            nn.ModuleList(self._path(channels, source, target) for source in range(len(channels)))
            for target in range(len(channels))
        )

    @staticmethod
    def _path(channels: tuple[int, ...], source: int, target: int) -> nn.Module:
        if source == target:
            return nn.Identity()
        if source > target:
            up = nn.Upsample(scale_factor=float(2 ** (source - target)))
            return nn.Sequential(pointwise(channels[source], channels[target]), up)
        inputs = channels[source]
        steps = [separable(inputs, inputs, 2) for _ in range(target - source - 1)]
        return nn.Sequential(*steps, separable(inputs, channels[target], 2, relu=False))

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        sources = list(branches)
        fused = []
        for target, paths in enumerate(self.paths):
            assert isinstance(paths, nn.ModuleList)
            parts = [path(x) for path, x in zip(paths, sources, strict=True)]
            total = 2 * parts[0]
            for part in parts[1:]:
                total = total + part
            if target == 0:
                sources[0] = total
            fused.append(F.relu(total))
        return fused


class Module(nn.Module):
    """Shuffle units in each branch, then the fusion of all."""

    def __init__(self, channels: tuple[int, ...]):
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(ShuffleUnit(count) for _ in range(UNITS))) for count in channels
        )
        self.fusion = Fusion(channels)

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        return self.fusion([units(x) for units, x in zip(self.branches, branches, strict=True)])


class BranchStage(nn.Module):
    """Modules of as many branches as `channels`; the smallest one starts here, from `inputs`
    channels of the map before it.
    """

    def __init__(self, channels: tuple[int, ...], modules: int, inputs: int):
        super().__init__()
        self.start = separable(inputs, channels[-1], 2)
        self.fused = nn.ModuleList(Module(channels) for _ in range(modules))

    def forward(self, branches: list[Tensor], smallest: Tensor) -> list[Tensor]:
        branches = [*branches, self.start(smallest)]
        for module in self.fused:
            branches = module(branches)
        return branches


class IterativeHead(nn.Module):
    """From the smallest branch up: filter, enlarge twice, add to the next larger branch; the last
    map has the channels of the largest branch.
    """

    def __init__(self, channels: tuple[int, ...]):
        super().__init__()
        ends = (*channels[:1], *channels[:-1])
        self.steps = nn.ModuleList(
            separable(inputs, outputs)
            for inputs, outputs in zip(reversed(channels), reversed(ends), strict=True)
        )

    def forward(self, branches: list[Tensor]) -> Tensor:
        smallest, *larger = reversed(branches)
        x = self.steps[0](smallest)
        for step, branch in zip(self.steps[1:], larger, strict=True):
            x = F.interpolate(x, scale_factor=2.0, mode='bilinear', align_corners=True)
            x = step(branch + x)
        return x


class LiteHrnet(nn.Module):
    """The branches: (N, 3, H, W) in [-1, 1] → one map each, at strides 4, 8, 16, 32, largest first.

    width: channels of the largest branch; each smaller one has twice as many. H and W are multiples
    of 32, the largest stride. Raises ValueError when they are not.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, width: int = 40):
        super().__init__()
        self.channels = tuple(width * 2**branch for branch in range(len(MODULES) + 1))
        mean, deviation = torch.tensor(MEAN), torch.tensor(DEVIATION)
        # From [-1, 1] to ImageNet's units: (x / 2 + 1 / 2 - mean) / deviation.
        scale, shift = 0.5 / deviation, (0.5 - mean) / deviation
        self.register_buffer('scale', scale.reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer('shift', shift.reshape(1, 3, 1, 1), persistent=False)
        self.stem = Stem()
        self.largest = separable(STEM, width)
        inputs = (STEM, *self.channels[1:])
        self.stages = nn.ModuleList(
            BranchStage(self.channels[: index + 2], modules, inputs[index])
            for index, modules in enumerate(MODULES)
        )

    def freeze(self, blocks: int) -> None:
        """Keep the first blocks as they are: 1 is the stem, 2 the first stage with it, and so on.
        Their filters for edges and colours suit any photo, and their gradients, at the largest
        maps, are much of the work.
        """
        if blocks:
            self.stem.requires_grad_(False)
            self.largest.requires_grad_(False)
            self.stages[: blocks - 1].requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        height, width = x.shape[-2:]
        if not torch.jit.is_tracing() and (height % STEP or width % STEP):
            raise ValueError(
                f'a Lite-HRNet halves its maps until a cell spans {STEP} pixels: crops of '
                f'{height}×{width} do not fit, height and width must be multiples of {STEP}'
            )
        stem = self.stem(x * self.scale + self.shift)
        branches, smallest = [self.largest(stem)], stem
        for stage in self.stages:
            branches = stage(branches, smallest)
            smallest = branches[-1]
        return branches


class LiteHrnetSppe(nn.Module):
    """Single-person pose estimator: (N, 3, H, W) in [-1, 1] → heatmaps (N, K, H/4, W/4), of which
    cell i is centred on pixel 4·i.

    The maps are Gaussians of height 1, as squared error has taught them, not logits.
    """

    gaussian = True

    def __init__(self, joints: int, *, width: int = 40):
        super().__init__()
        self.encoder = LiteHrnet(width)
        self.head = IterativeHead(self.encoder.channels)
        self.heatmaps = nn.Conv2d(width, joints, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """One map a supervised stage (an hourglass has several, this has one)."""
        return [self.heatmaps(self.head(self.encoder(x)))]
