# SPDX-License-Identifier: Apache-2.0
"""The mobile family: a MobileNetV2 encoder and a feature pyramid to stride 4, half an hourglass.

RMPE works around any single-person pose estimator (Fang et al., ICCV 2017, sec. 3.1). This one is
small enough for a CPU. Batch norm is folded into the convolutions, so that the networks can start
from MoveNet's features (Google, Apache-2.0), which are published folded; `load_movenet` copies them
in.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# MobileNetV2, Table 2: expansion, channels at width 1.0, repeats, stride of the first (Sandler et
# al., CVPR 2018).
INVERTED_RESIDUALS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# Blocks whose output feeds the pyramid, as in MoveNet: strides 4, 8 and 16.
LATERAL_BLOCKS = (2, 5, 9)


def scaled_channels(channels: int, width: float) -> int:
    """Channels at a width multiplier: a multiple of 8, never rounded down by more than 10 %."""
    rounded = max(8, int(channels * width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels * width else rounded


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME: the odd row and column below and right."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        bias: bool = True,
    ):
        padding = 0 if stride == 2 else kernel // 2
        super().__init__(inputs, outputs, kernel, stride, padding, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride[0] == 1:
            return super().forward(x)
        if self.training and self.groups > 1:
            # On CPUs the gradient of a strided depthwise convolution costs up to five times that
            # of the dense one, of whose rows and columns this takes every second.
            dense = F.conv2d(x, self.weight, self.bias, padding=1, groups=self.groups)
            return dense[:, :, 1::2, 1::2]
        return super().forward(F.pad(x, (0, 1, 0, 1)))


class InvertedResidual(nn.Module):
    """Expand, filter depthwise, project; added to the input where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int):
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [SameConv(inputs, hidden, 1), nn.ReLU6(inplace=True)]
        layers += [
            SameConv(hidden, hidden, 3, stride, groups=hidden),
            nn.ReLU6(inplace=True),
            SameConv(hidden, outputs, 1),
        ]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


class MobileNetV2(nn.Module):
    """The encoder: (N, 3, H, W) in [-1, 1] → features at strides 4, 8, 16 and 32.

    H and W are multiples of 32. `channels` lists the four feature widths.
    """

    def __init__(self, width: float = 1.0, *, stem: int | None = None, last: int | None = None):
        super().__init__()
        channels = stem or scaled_channels(32, width)
        self.stem = nn.Sequential(SameConv(3, channels, 3, 2), nn.ReLU6(inplace=True))
        blocks: list[nn.Module] = []
        taps: list[int] = []
        for expansion, outputs, repeats, stride in INVERTED_RESIDUALS:
            outputs = scaled_channels(outputs, width)
            for repeat in range(repeats):
                blocks.append(
                    InvertedResidual(channels, outputs, expansion, stride if repeat == 0 else 1)
                )
                channels = outputs
                if len(blocks) - 1 in LATERAL_BLOCKS:
                    taps.append(channels)
        self.blocks = nn.ModuleList(blocks)
        top = last or max(1280, scaled_channels(1280, width))
        self.top = nn.Sequential(SameConv(channels, top, 1), nn.ReLU6(inplace=True))
        self.channels = (*taps, top)

    def freeze(self, blocks: int) -> None:
        """Keep the stem and the first `blocks` blocks as they are: their filters for edges and
        colours suit any photo, and their gradients, at the largest maps, are half of the work.
        """
        self.stem.requires_grad_(False)
        self.blocks[:blocks].requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        features = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in LATERAL_BLOCKS:
                features.append(x)
        return [*features, self.top(x)]


class SeparableConv(nn.Sequential):
    """Depthwise 3×3, pointwise 1×1, ReLU."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(
            SameConv(inputs, inputs, 3, groups=inputs, bias=False),
            SameConv(inputs, outputs, 1),
            nn.ReLU(inplace=True),
        )


class FeaturePyramid(nn.Module):
    """The decoder: upsample, add the lateral feature, smooth; from stride 32 down to 4.

    widths: channels after the top projection and after each smoothing step (strides 16, 8, 4).
    """

    def __init__(self, channels: tuple[int, ...], widths: tuple[int, int, int, int]):
        super().__init__()
        c4, c8, c16, c32 = channels
        self.top = SameConv(c32, widths[0], 1)
        self.laterals = nn.ModuleList(
            SameConv(c, w, 1) for c, w in zip((c16, c8, c4), widths[:3], strict=True)
        )
        self.smooth = nn.ModuleList(SeparableConv(a, b) for a, b in pairwise(widths))

    def forward(self, features: list[Tensor]) -> Tensor:
        """Strides 4, 8, 16, 32 → one map at stride 4."""
        x = self.top(features[3])
        laterals = zip(self.laterals, self.smooth, reversed(features[:3]), strict=True)
        for lateral, smooth, feature in laterals:
            x = F.interpolate(x, scale_factor=2.0, mode='bilinear', align_corners=False)
            x = smooth(x + lateral(feature))
        return x


class MobileSppe(nn.Module):
    """Single-person pose estimator: (N, 3, H, W) in [-1, 1] → heatmap logits (N, K, H/4, W/4).

    A spatial softmax over each logit map is the joint's probability over the crop.
    """

    def __init__(
        self,
        joints: int,
        *,
        width: float = 1.0,
        pyramid: tuple[int, int, int, int] = (128, 96, 64, 64),
        head: int = 128,
        stem: int | None = None,
        last: int | None = None,
    ):
        super().__init__()
        self.encoder = MobileNetV2(width, stem=stem, last=last)
        self.pyramid = FeaturePyramid(self.encoder.channels, pyramid)
        self.head = SeparableConv(pyramid[-1], head)
        self.logits = nn.Conv2d(head, joints, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """One map a supervised stage (an hourglass has several, this has one)."""
        return [self.logits(self.head(self.pyramid(self.encoder(x))))]


def movenet_tensors(model: Path) -> dict[str, list[Tensor]]:
    """Weights of a MoveNet single-pose ONNX file in graph order, grouped: encoder, pyramid,
    kpt_heatmap, center.

    Raises ValueError when the graph is not MoveNet's.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(model)).graph
    arrays = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    groups: dict[str, list[Tensor]] = {
        'encoder': [],
        'pyramid': [],
        'kpt_heatmap': [],
        'center': [],
    }
    group = 'encoder'
    for node in graph.node:
        if node.op_type != 'Conv':
            continue
        name = node.output[0]
        # The encoder's depthwise outputs carry no telling names, but they all come before the
        # pyramid's first.
        if 'model_1/conv2d/' in name:
            group = 'pyramid'
        elif 'model_1/' not in name and group != 'encoder':
            group = next((g for g in ('kpt_heatmap', 'center') if f'{g}_0' in name), 'other')
        groups.setdefault(group, []).extend(
            torch.from_numpy(arrays[i].copy()) for i in node.input[1:]
        )
    if not groups['encoder'] or not groups['kpt_heatmap']:
        raise ValueError(
            f'{model} is no MoveNet single-pose graph: its encoder or heatmap head was not found'
        )
    return groups


def load_movenet(network: MobileSppe, model: Path) -> list[str]:
    """Start `network` from MoveNet's weights.

    Modules are filled in graph order. A wider tensor is filled in its leading channels, and its
    other inputs start at zero for those, so that a wider network begins with MoveNet's own
    features. The heatmap head's first 17 channels are COCO's joints, ours too. Returns the names of
    the parameters that were not filled at all.
    """
    groups = movenet_tensors(model)
    left: list[str] = []

    def fill(
        prefix: str, parameters: list[tuple[str, nn.Parameter]], tensors: list[Tensor]
    ) -> None:
        for (name, parameter), tensor in zip(parameters, tensors, strict=False):
            if not fill_leading_channels(parameter, tensor):
                left.append(f'{prefix}.{name}')
        left.extend(f'{prefix}.{name}' for name, _ in parameters[len(tensors) :])

    fill('encoder', list(network.encoder.named_parameters()), groups['encoder'])
    pyramid = network.pyramid
    ordered = list(pyramid.top.named_parameters('top'))
    for lateral, smooth in zip(pyramid.laterals, pyramid.smooth, strict=False):
        ordered += [*lateral.named_parameters('lateral'), *smooth.named_parameters('smooth')]
    fill('pyramid', ordered, groups['pyramid'])
    fill('head', list(network.head.named_parameters()), groups['kpt_heatmap'][:-2])
    fill('logits', list(network.logits.named_parameters()), groups['kpt_heatmap'][-2:])
    return left


def fill_leading_channels(parameter: nn.Parameter, tensor: Tensor) -> bool:
    """Copy `tensor` into the leading channels of a parameter at least as large; False when it does
    not fit.
    """
    if parameter.ndim != tensor.ndim:
        return False
    if any(p < t for p, t in zip(parameter.shape, tensor.shape, strict=True)):
        return False
    with torch.no_grad():
        if parameter.ndim > 1:
            parameter[: len(tensor), tensor.shape[1] :] = 0
        parameter[tuple(slice(0, n) for n in tensor.shape)] = tensor
    return True
