# SPDX-License-Identifier: Apache-2.0
"""FastPose, the pose network of RMPE's authors after the hourglass: a residual network with squeeze
and excitation, and pixel shuffles up to heatmaps at stride 4.

Written from its description, with the parameter names and shapes of AlphaPose's checkpoints, so
that these load as they are. Both decoders are there: FastPose (a shuffle and two DUC blocks) and
FastPose-DUC (three stages of shuffle and convolutions), on ResNets of 50, 101 and 152 layers, with
deformable convolutions where they have them (FastPose-DCN).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rmpe_ros.networks.deformable import deformable_convolution

# Blocks per stage (He et al., CVPR 2016, Table 1).
DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
EXPANSION = 4


class FastPoseError(ValueError):
    """Weights that are none of a FastPose that can be built; says whose they may be."""


@dataclass(frozen=True)
class FastPoseArchitecture:
    """What distinguishes one FastPose from another; `read_architecture` finds it in the weights.

    joints: K. depth: layers of the ResNet. features: channels before the last convolution.
    convolutions: per stage of the DUC decoder, None for plain FastPose. base: channels of the first
    convolution. squeeze: the first block of each stage weighs its channels (Hu et al., CVPR 2018).
    unshuffle: stages halve the map by pixel unshuffle instead of a stride. offsets: channels that
    move the taps of the 3×3 convolutions of each stage: 18 in deformable ones, 27 in modulated
    ones, 0 in others.
    """

    joints: int
    depth: int = 50
    features: int = 128
    convolutions: tuple[int, int, int] | None = None
    base: int = 64
    squeeze: bool = True
    unshuffle: bool = False
    offsets: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def name(self) -> str:
        """As its authors call it."""
        decoder = 'FastPose' if self.convolutions is None else 'FastPose-DUC'
        decoder += '-DCN' if any(self.offsets) else ''
        return f'{decoder} on {"SE-" if self.squeeze else ""}ResNet-{self.depth}'


class SqueezeExcitation(nn.Module):
    """Weighs channels by what the whole map holds; without the usual bottleneck in between."""

    def __init__(self, channels: int):
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, channels),
            nn.ReLU(inplace=True),
            nn.Linear(channels, channels),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        weights = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return x * weights.unsqueeze(2).unsqueeze(3)


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 and the way around them; the 3×3 has the stride."""

    def __init__(
        self,
        inputs: int,
        width: int,
        stride: int,
        *,
        first: bool,
        squeeze: bool,
        unshuffle: bool,
        offsets: int,
    ):
        super().__init__()
        outputs = width * EXPANSION
        self.stride = stride
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2: nn.Module
        if unshuffle and stride > 1:
            gathered = width * stride * stride
            self.conv2 = nn.Sequential(
                nn.PixelUnshuffle(stride), nn.Conv2d(gathered, width, 3, padding=1, bias=False)
            )
        else:
            self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.conv2_offset = nn.Conv2d(width, offsets, 3, stride, padding=1) if offsets else None
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.se = SqueezeExcitation(outputs) if first and squeeze else None
        self.downsample: nn.Module | None = None
        if first:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        if self.conv2_offset is None:
            y = self.conv2(y)
        else:
            offsets = self.conv2_offset(y)
            y = deformable_convolution(y, offsets, self.conv2.get_parameter('weight'), self.stride)
        y = F.relu(self.bn2(y))
        y = self.bn3(self.conv3(y))
        if self.se is not None:
            y = self.se(y)
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """(N, 3, H, W) → features (N, 32 · base, H / 32, W / 32)."""

    def __init__(self, architecture: FastPoseArchitecture):
        super().__init__()
        base = architecture.base
        self.conv1 = nn.Conv2d(3, base, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(base)
        channels = base
        for index, blocks in enumerate(DEPTHS[architecture.depth]):
            width = base * 2**index
            stage = []
            for block in range(blocks):
                stage.append(
                    Bottleneck(
                        channels,
                        width,
                        2 if index > 0 and block == 0 else 1,
                        first=block == 0,
                        squeeze=architecture.squeeze,
                        unshuffle=architecture.unshuffle,
                        offsets=architecture.offsets[index],
                    )
                )
                channels = width * EXPANSION
            self.add_module(f'layer{index + 1}', nn.Sequential(*stage))

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, padding=1)
        for index in range(1, 5):
            x = self.get_submodule(f'layer{index}')(x)
        return x


class DenseUpsampling(nn.Module):
    """DUC: four times the channels, shuffled into twice the height and width (Wang et al., WACV
    2018).
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(F.relu(self.bn(self.conv(x))), 2)


class FastPose(nn.Module):
    """Single-person pose estimator: (N, 3, H, W) → heatmaps (N, K, H/4, W/4).

    Input is RGB in [0, 1] less `MEAN`; H and W are multiples of 32. A joint's place is its map's
    highest cell, cell i being pixel 4 i.
    """

    # Trained with the means of B, G and R taken from R, G and B, and used so ever since.
    MEAN = (0.406, 0.457, 0.480)

    def __init__(self, architecture: FastPoseArchitecture):
        super().__init__()
        self.architecture = architecture
        base, features = architecture.base, architecture.features
        self.preact = ResNet(architecture)
        if architecture.convolutions is None:
            self.duc1: nn.Module = DenseUpsampling(8 * base, 16 * base)
            self.duc2: nn.Module = DenseUpsampling(4 * base, 4 * features)
        else:
            first, second, third = architecture.convolutions
            self.duc1 = shuffle_and_convolve(32 * base, 16 * base, first)
            self.duc2 = shuffle_and_convolve(16 * base, 8 * base, second)
            self.duc3 = shuffle_and_convolve(8 * base, features, third)
        self.conv_out = nn.Conv2d(features, architecture.joints, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.preact(x)
        if self.architecture.convolutions is None:
            return self.conv_out(self.duc2(self.duc1(F.pixel_shuffle(x, 2))))
        return self.conv_out(self.duc3(self.duc2(self.duc1(x))))


def shuffle_and_convolve(inputs: int, outputs: int, convolutions: int) -> nn.Sequential:
    """A stage of the DUC decoder: pixel shuffle, then 3×3 convolutions, the last of which changes
    the width.
    """
    layers: list[nn.Module] = [nn.PixelShuffle(2)]
    channels = inputs // 4
    for index in range(convolutions):
        width = outputs if index == convolutions - 1 else channels
        layers += [
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def fastpose_from_state(state: Mapping[str, Tensor]) -> FastPose:
    """The network that these weights are of, in evaluation mode.

    state: tensors by AlphaPose's names, with or without the prefix `module.` of several GPUs.
    Raises FastPoseError when they are of another network, or some are missing.
    """
    tensors = {name.removeprefix('module.'): tensor for name, tensor in state.items()}
    architecture = read_architecture({name: tuple(t.shape) for name, t in tensors.items()})
    # Weights come from the file: nothing is drawn at random first.
    with torch.device('meta'):
        network = FastPose(architecture)
    expected = network.state_dict()
    # Batch norm counts its batches since PyTorch 0.4.1; the count is of no use to inference.
    counters = {name for name in expected if name.endswith('.num_batches_tracked')}
    for name in counters - set(tensors):
        tensors[name] = torch.zeros((), dtype=torch.long)
    missing = sorted(set(expected) - set(tensors))
    unknown = sorted(set(tensors) - set(expected))
    wrong = [
        f'{name} is {list(tensors[name].shape)}, expected {list(tensor.shape)}'
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    faults = [
        f'{len(names)} {what}: {", ".join(names[:3])}{", …" if len(names) > 3 else ""}'
        for names, what in ((missing, 'missing'), (unknown, 'unknown'), (wrong, 'of another shape'))
        if names
    ]
    if faults:
        raise FastPoseError(
            f'it looks like {architecture.name} with {architecture.joints} joints, but its weights '
            f'do not fit; {"; ".join(faults)}'
        )
    network.load_state_dict(tensors, strict=True, assign=True)
    return network.float().eval()


def read_architecture(shapes: Mapping[str, tuple[int, ...]]) -> FastPoseArchitecture:
    """Which FastPose has parameters of these names and shapes.

    Raises FastPoseError for other networks, and for forms of FastPose that cannot be built.
    """
    _refuse_others(shapes)
    blocks = []
    for stage in range(1, 5):
        pattern = re.compile(rf'preact\.layer{stage}\.(\d+)\.')
        matches = (pattern.match(name) for name in shapes)
        blocks.append(len({match[1] for match in matches if match}))
    depths = [depth for depth, stages in DEPTHS.items() if stages == tuple(blocks)]
    if not depths or 'preact.layer1.0.conv3.weight' not in shapes:
        raise FastPoseError(
            f'its backbone has {", ".join(map(str, blocks))} blocks in the stages preact.layer1 to '
            f'4; FastPose is known on ResNets of '
            + ', '.join(f'{depth} layers {stages}' for depth, stages in DEPTHS.items())
        )
    first, second, third, fourth = (
        shapes.get(f'preact.layer{stage}.0.conv2_offset.weight', (0,))[0] for stage in range(1, 5)
    )
    offsets = (first, second, third, fourth)
    if not set(offsets) <= {0, 18, 27}:
        raise FastPoseError(
            f'its deformable convolutions have {max(offsets)} channels of offsets; only those of '
            'one group are supported, with 18 or 27'
        )
    joints, features = shapes['conv_out.weight'][:2]
    convolutions = None
    if 'duc1.conv.weight' not in shapes:
        first, second, third = (
            sum(len(s) == 4 for name, s in shapes.items() if name.startswith(f'duc{stage}.'))
            for stage in (1, 2, 3)
        )
        convolutions = (first, second, third)
    return FastPoseArchitecture(
        joints,
        depths[0],
        features,
        convolutions,
        base=shapes['preact.conv1.weight'][0],
        squeeze='preact.layer1.0.se.fc.0.weight' in shapes,
        unshuffle='preact.layer2.0.conv2.1.weight' in shapes,
        offsets=offsets,
    )


def _refuse_others(shapes: Mapping[str, tuple[int, ...]]) -> None:
    if any('.conv_offset.' in name for name in shapes):
        raise FastPoseError(
            'it has deformable convolutions behind a pixel unshuffle, which are not supported: '
            'take FastPose or FastPose-DCN'
        )
    if 'final_layer.weight' in shapes:
        raise FastPoseError(
            'it is a SimpleBaseline or HRNet (final_layer.weight), no FastPose: export it to ONNX '
            'with its own code, and import that with --format heatmap'
        )
    if any(name.startswith('duc_dense.') for name in shapes):
        raise FastPoseError('it is a FastPose with a second, dense decoder; not supported')
    needed = ('preact.conv1.weight', 'conv_out.weight')
    if not all(len(shapes.get(name, ())) == 4 for name in needed):
        raise FastPoseError(
            f'it has no {" and ".join(needed)}, which FastPose has; its parameters begin with '
            + (', '.join(list(shapes)[:3]) or 'nothing')
        )
