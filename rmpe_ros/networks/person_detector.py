# SPDX-License-Identifier: Apache-2.0
"""The person detector: RTMDet's network at its nano size, for one class (Lyu et al., 2022).

A CSPNeXt backbone, a PAFPN neck and a separate head for each of the strides 8, 16 and 32: per cell
one person logit and four distances to the box's sides. Written from the paper's description, with
batch norm folded into the convolutions so that it can start from published weights (OpenMMLab's
RTMDet-nano person detector, Apache-2.0), which `load_rtmdet` copies in. It has no NMS: several
boxes a person are welcome, RMPE's pose NMS chooses among their poses.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STRIDES = (8, 16, 32)
# Of RGB values 0-255, as the published weights expect (they take BGR; `load_rtmdet` turns them).
MEAN = (123.675, 116.28, 103.53)
DEVIATION = (58.395, 57.12, 57.375)

# Boxes that a model hands on. No NMS is inside: of fewer, large people would take all.
QUERIES = 400


class ConvAct(nn.Sequential):
    """Convolution and SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1):
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups)
        super().__init__(conv, nn.SiLU(inplace=True))


class SeparableAct(nn.Sequential):
    """Depthwise and pointwise convolution, SiLU after each."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1):
        super().__init__(
            ConvAct(inputs, inputs, kernel, stride, groups=inputs), ConvAct(inputs, outputs, 1)
        )


class ChannelAttention(nn.Module):
    """Channels weighted by a hard sigmoid of their means."""

    def __init__(self, channels: int):
        super().__init__()
        self.weights = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * F.hardsigmoid(self.weights(x.mean((2, 3), keepdim=True)))


class NextBlock(nn.Module):
    """3×3 and 5×5 separable convolutions; large kernels are what CSPNeXt is about."""

    def __init__(self, channels: int, *, residual: bool):
        super().__init__()
        self.layers = nn.Sequential(
            SeparableAct(channels, channels, 3), SeparableAct(channels, channels, 5)
        )
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


class CspLayer(nn.Module):
    """Half the channels pass the blocks, half go round them (CSPNet)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        blocks: int,
        *,
        residual: bool = False,
        attention: bool = False,
    ):
        super().__init__()
        half = outputs // 2
        self.short = ConvAct(inputs, half, 1)
        self.main = ConvAct(inputs, half, 1)
        self.blocks = nn.Sequential(*(NextBlock(half, residual=residual) for _ in range(blocks)))
        self.attention = ChannelAttention(outputs) if attention else nn.Identity()
        self.final = ConvAct(outputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        short = self.short(x)
        return self.final(self.attention(torch.cat([self.blocks(self.main(x)), short], dim=1)))


class PyramidPooling(nn.Module):
    """Maxima over 5, 9 and 13 cells beside the features themselves."""

    def __init__(self, channels: int):
        super().__init__()
        self.reduce = ConvAct(channels, channels // 2, 1)
        self.expand = ConvAct(channels * 2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduce(x)
        pooled = [F.max_pool2d(x, kernel, 1, kernel // 2) for kernel in (5, 9, 13)]
        return self.expand(torch.cat([x, *pooled], dim=1))


class Backbone(nn.Module):
    """CSPNeXt: features at strides 8, 16 and 32 with 4, 8 and 16 times `width` channels."""

    def __init__(self, width: int):
        super().__init__()
        w = width
        self.stem = nn.Sequential(
            ConvAct(3, w // 2, 3, 2), ConvAct(w // 2, w // 2, 3), ConvAct(w // 2, w, 3)
        )
        stages = []
        for index, (outputs, blocks) in enumerate(
            ((2 * w, 1), (4 * w, 2), (8 * w, 2), (16 * w, 1))
        ):
            last = index == 3
            layers: list[nn.Module] = [SeparableAct(outputs // 2, outputs, 3, 2)]
            if last:
                layers.append(PyramidPooling(outputs))
            layers.append(CspLayer(outputs, outputs, blocks, residual=not last, attention=True))
            stages.append(nn.Sequential(*layers))
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.stages[0](self.stem(x))
        c3 = self.stages[1](x)
        c4 = self.stages[2](c3)
        return c3, c4, self.stages[3](c4)


class Neck(nn.Module):
    """PAFPN: from coarse to fine and back, every level with `outputs` channels in the end."""

    def __init__(self, width: int, outputs: int):
        super().__init__()
        c3, c4, c5 = 4 * width, 8 * width, 16 * width
        self.reduce5 = ConvAct(c5, c4, 1)
        self.merge4 = CspLayer(2 * c4, c4, 1)
        self.reduce4 = ConvAct(c4, c3, 1)
        self.merge3 = CspLayer(2 * c3, c3, 1)
        self.down3 = SeparableAct(c3, c3, 3, 2)
        self.out4 = CspLayer(2 * c3, c4, 1)
        self.down4 = SeparableAct(c4, c4, 3, 2)
        self.out5 = CspLayer(2 * c4, c5, 1)
        self.outputs = nn.ModuleList(SeparableAct(c, outputs, 3) for c in (c3, c4, c5))

    def forward(self, features: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
        c3, c4, c5 = features
        p5 = self.reduce5(c5)
        p4 = self.merge4(torch.cat([F.interpolate(p5, scale_factor=2.0), c4], dim=1))
        p4 = self.reduce4(p4)
        n3 = self.merge3(torch.cat([F.interpolate(p4, scale_factor=2.0), c3], dim=1))
        n4 = self.out4(torch.cat([self.down3(n3), p4], dim=1))
        n5 = self.out5(torch.cat([self.down4(n4), p5], dim=1))
        return [layer(x) for layer, x in zip(self.outputs, (n3, n4, n5), strict=True)]


class Head(nn.Module):
    """Person logit and distances of one level."""

    def __init__(self, channels: int):
        super().__init__()
        self.person = nn.Sequential(
            SeparableAct(channels, channels, 3), SeparableAct(channels, channels, 3)
        )
        self.logit = nn.Conv2d(channels, 1, 1)
        assert self.logit.bias is not None
        self.box = nn.Sequential(
            SeparableAct(channels, channels, 3), SeparableAct(channels, channels, 3)
        )
        self.distances = nn.Conv2d(channels, 4, 1)
        nn.init.constant_(self.logit.bias, -4.6)  # one cell in a hundred is a person at the start

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.logit(self.person(x)), self.distances(self.box(x))


class DetectorNetwork(nn.Module):
    """(N, 3, H, W) normalised RGB, H and W multiples of 32 → logits (N, P), boxes (N, P, 4).

    P counts the cells of all levels, fine to coarse, row by row. Boxes are x1, y1, x2, y2 in edge
    pixels of the input.
    """

    def __init__(self, *, width: int = 16, channels: int = 64):
        super().__init__()
        self.backbone = Backbone(width)
        self.neck = Neck(width, channels)
        self.heads = nn.ModuleList(Head(channels) for _ in STRIDES)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits, boxes = [], []
        for head, stride, feature in zip(
            self.heads, STRIDES, self.neck(self.backbone(image)), strict=True
        ):
            logit, distances = head(feature)
            logits.append(logit.float().flatten(1))
            boxes.append(decode_boxes(distances.float() * stride, stride))
        return torch.cat(logits, dim=1), torch.cat(boxes, dim=1)


def decode_boxes(distances: Tensor, stride: int) -> Tensor:
    """Distances left, top, right, bottom (N, 4, h, w) in pixels to boxes (N, h·w, 4).

    A cell's point is its top-left corner, as in the published weights.
    """
    rows, columns = distances.shape[-2:]
    y = (torch.arange(rows, device=distances.device) * float(stride)).reshape(1, rows, 1)
    x = (torch.arange(columns, device=distances.device) * float(stride)).reshape(1, 1, columns)
    left, top, right, bottom = distances.unbind(1)
    return torch.stack([x - left, y - top, x + right, y + bottom], dim=3).flatten(1, 2)


def normalise_image(image: Tensor) -> Tensor:
    """uint8 (N, H, W, 3) RGB → the network's (N, 3, H, W).

    Cast first: TensorRT wants it so. Channels first, then the arithmetic: with the three colours
    innermost, ONNX Runtime took a fifth of the detector's whole time for it.
    """
    shape = (1, 3, 1, 1)
    mean = image.new_tensor(MEAN, dtype=torch.float32).reshape(shape)
    deviation = image.new_tensor(DEVIATION, dtype=torch.float32).reshape(shape)
    return (image.float().permute(0, 3, 1, 2) - mean) / deviation


class DetectorGraph(nn.Module):
    """The contract: uint8 (1, H, W, 3) RGB → boxes (1, Q, 4) in input pixels, scores (1, Q).

    Best first, no NMS inside; the `queries` best cells are kept so that Q is fixed.
    """

    def __init__(self, network: DetectorNetwork, queries: int = QUERIES):
        super().__init__()
        self.network = network
        self.queries = queries

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits, boxes = self.network(normalise_image(image))
        scores, cells = torch.topk(torch.sigmoid(logits), self.queries, dim=1)
        return torch.gather(boxes, 1, cells.unsqueeze(2).expand(-1, -1, 4)), scores


def load_rtmdet(network: DetectorNetwork, model: Path) -> None:
    """Start from an RTMDet-nano ONNX file's weights, copied in the graph's order; the published
    one's, or those of a detector that `rmpe export` has made.

    Raises ValueError when its convolutions are not this network's.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(model)).graph
    arrays = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    exported = 'network.backbone.stem.0.0.weight' in arrays
    arrays |= {
        node.output[0]: numpy_helper.to_array(node.attribute[0].t)
        for node in graph.node
        if node.op_type == 'Constant' and node.attribute[0].name == 'value'
    }
    tensors = [
        torch.from_numpy(arrays[name].copy())
        for node in graph.node
        if node.op_type == 'Conv'
        for name in node.input[1:]
    ]
    parameters = list(network.parameters())
    if [p.shape for p in parameters] != [t.shape for t in tensors]:
        raise ValueError(f'{model} is no RTMDet of this size: its convolutions have other shapes')
    if not exported:
        tensors[0] = tensors[0].flip(1)  # the published network takes BGR
    with torch.no_grad():
        for parameter, tensor in zip(parameters, tensors, strict=True):
            parameter.copy_(tensor)
        if exported:  # exporting folds the strides into the filters
            for head, stride in zip(network.heads, STRIDES, strict=True):
                assert isinstance(head, Head) and head.distances.bias is not None
                head.distances.weight /= stride
                head.distances.bias /= stride
