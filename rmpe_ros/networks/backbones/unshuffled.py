# SPDX-License-Identifier: Apache-2.0
"""A Lite-HRNet that answers the same in fewer operations: what is exported.

Splits, shuffles, doublings and sums at the largest maps move data and compute nothing; on one core
they are a third of the published graph's time. Here

- no channel is shuffled: maps keep the order in which they are made, `Layout` says which channel
  is where, and the filters after them are ordered alike;
- nothing is doubled: a channel that the network doubles is kept at half its value, and the
  filters after it are twice as large;
- what smaller branches add is summed on the smaller maps, and enlarged once by each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rmpe_ros.networks.backbones.lite_hrnet import (
    BranchStage,
    DepthwiseConv,
    Fusion,
    IterativeHead,
    LiteHrnet,
    LiteHrnetSppe,
    Module,
    ShuffleUnit,
    Stem,
)


@dataclass(frozen=True)
class Layout:
    """How a map keeps a network's channels: its i-th one is channel `order[i]`, divided by
    `scale[i]`. Both have one number a channel.
    """

    order: np.ndarray
    scale: np.ndarray

    @classmethod
    def plain(cls, channels: int) -> Layout:
        return cls(np.arange(channels), np.ones(channels))

    @classmethod
    def of(cls, parts: Sequence[Layout]) -> Layout:
        """Of maps one after the other."""
        return cls(
            np.concatenate([part.order for part in parts]),
            np.concatenate([part.scale for part in parts]),
        )

    def places(self, channels: np.ndarray) -> np.ndarray:
        """Where those channels are."""
        return np.argsort(self.order)[channels]

    def __getitem__(self, places: np.ndarray) -> Layout:
        return Layout(self.order[places], self.scale[places])


def refitted(layer: nn.Conv2d, inputs: Layout, outputs: Layout) -> nn.Conv2d:
    """The same convolution of a map that is laid out as `inputs`, to one laid out as `outputs`,
    of which any part may be asked for.
    """
    own = torch.from_numpy(outputs.order)
    rows = torch.from_numpy(1 / outputs.scale).float()
    assert layer.bias is not None
    weight, bias = layer.weight.detach()[own], layer.bias.detach()[own] * rows
    if layer.groups == 1:
        weight = weight[:, torch.from_numpy(inputs.order)]
        weight = weight * torch.from_numpy(inputs.scale).float()[:, None, None]
        weight = weight * rows[:, None, None, None]
    groups = 1 if layer.groups == 1 else len(own)
    kernel, stride, padding = layer.kernel_size[0], layer.stride[0], layer.padding[0]
    copy = nn.Conv2d(len(inputs.order), len(own), kernel, stride, padding, groups=groups)
    copy.load_state_dict({'weight': weight, 'bias': bias})
    return copy


def refitted_chain(layers: nn.Module, inputs: Layout, outputs: Layout) -> nn.Sequential:
    """As `refitted`, for convolutions and ReLUs after each other, nested or not."""
    flat = _layers(layers)
    last = max(i for i, each in enumerate(flat) if isinstance(each, nn.Conv2d))
    chain: list[nn.Module] = []
    for index, layer in enumerate(flat):
        if not isinstance(layer, nn.Conv2d):
            chain.append(nn.ReLU())
            continue
        if isinstance(layer, DepthwiseConv):
            after = inputs  # each channel on its own
        else:
            after = outputs if index == last else Layout.plain(layer.out_channels)
        chain.append(refitted(layer, inputs, after))
        inputs = after
    return nn.Sequential(*chain)


def _layers(layers: nn.Module) -> list[nn.Conv2d | nn.ReLU]:
    return [each for each in layers.modules() if isinstance(each, (nn.Conv2d, nn.ReLU))]


class _Pick(nn.Module):
    """Some channels of a map."""

    places: Tensor

    def __init__(self, places: np.ndarray):
        super().__init__()
        self.register_buffer('places', torch.from_numpy(places), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x.index_select(1, self.places)


class _Units(nn.Module):
    """Two shuffle units. Of the first one's halves, halves again go to the second's two halves."""

    def __init__(self, units: nn.Sequential, inputs: Layout):
        super().__init__()
        first, second = cast(list[ShuffleUnit], list(units))
        half = len(inputs.order) // 2
        quarter = half // 2
        channels = np.arange(half)
        kept, passed = inputs.places(channels[:quarter]), inputs.places(channels[quarter:])
        filtered = inputs.places(channels + half)
        self.kept, self.passed, self.filtered = _Pick(kept), _Pick(passed), _Pick(filtered)
        # Channel i of a unit's first half is its channel 2·i, of its second half 2·i + 1.
        picked = inputs[filtered]
        picked = Layout(picked.order - half, picked.scale)
        plain = Layout.plain(half)
        *start, end = _layers(first.filter)[:-1]
        assert isinstance(end, nn.Conv2d)
        self.first = refitted_chain(nn.Sequential(*start), picked, plain)
        self.first_kept = refitted(end, plain, plain[channels[:quarter]])
        self.first_passed = refitted(end, plain, plain[channels[quarter:]])
        passed_layout = Layout.of(
            [
                Layout(2 * (inputs[passed].order - quarter), inputs[passed].scale),
                Layout(2 * channels[:quarter] + 1, np.ones(quarter)),
            ]
        )
        self.second = refitted_chain(second.filter, passed_layout, plain)
        # What is kept are channels 2·i and 2·i + 1 of the first unit, twice that of the second.
        self.outputs = Layout.of(
            [
                Layout(4 * inputs[kept].order, inputs[kept].scale),
                Layout(4 * channels[:quarter] + 2, np.ones(quarter)),
                Layout(2 * channels + 1, np.ones(half)),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        filtered = self.first(self.filtered(x))
        first_kept = F.relu(self.first_kept(filtered))
        first_passed = F.relu(self.first_passed(filtered))
        second = self.second(torch.cat([self.passed(x), first_passed], dim=1))
        return torch.cat([self.kept(x), first_kept, second], dim=1)


class _Fusion(nn.Module):
    """Sums of all branches; those of smaller maps are summed there."""

    def __init__(self, fusion: Fusion, inputs: Sequence[Layout]):
        super().__init__()
        largest = Layout(inputs[0].order, 2 * inputs[0].scale)
        self.outputs = [largest, *inputs[1:]]
        self.up, self.down = nn.ModuleList(), nn.ModuleList()
        for target, (paths, output) in enumerate(zip(fusion.paths, self.outputs, strict=True)):
            assert isinstance(paths, nn.ModuleList)
            self.up.append(
                nn.ModuleList(
                    refitted_chain(paths[source], inputs[source], output)
                    for source in range(target + 1, len(inputs))
                )
            )
            # Beyond the largest map itself, what comes from it counts twice.
            twice = Layout(output.order, output.scale / 2)
            self.down.append(
                nn.ModuleList(
                    refitted_chain(
                        paths[source],
                        inputs[source] if source else largest,
                        output if source else twice,
                    )
                    for source in range(target)
                )
            )

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        sources = list(branches)
        fused = []
        for target, (up, down) in enumerate(zip(self.up, self.down, strict=True)):
            assert isinstance(up, nn.ModuleList)
            assert isinstance(down, nn.ModuleList)
            total = branches[target]
            for path, x in zip(down, sources, strict=False):
                total = path(x) + total
            smaller = None
            for path, x in reversed(list(zip(up, sources[target + 1 :], strict=True))):
                part = path(x)
                smaller = F.interpolate(part if smaller is None else part + smaller, scale_factor=2)
            if smaller is not None:
                total = total + smaller
            if target == 0:
                sources[0] = total
            fused.append(F.relu(total))
        return fused


class _Module(nn.Module):
    def __init__(self, module: Module, inputs: Sequence[Layout]):
        super().__init__()
        branches = [
            _Units(cast(nn.Sequential, units), layout)
            for units, layout in zip(module.branches, inputs, strict=True)
        ]
        self.fusion = _Fusion(module.fusion, [units.outputs for units in branches])
        self.outputs = self.fusion.outputs
        self.branches = nn.ModuleList(branches)

    forward = Module.forward


class _Stage(nn.Module):
    def __init__(self, stage: BranchStage, inputs: Sequence[Layout], smallest: Layout):
        super().__init__()
        first = Layout.plain(cast(nn.Conv2d, _layers(stage.start)[-2]).out_channels)
        self.start = refitted_chain(stage.start, smallest, first)
        self.outputs = [*inputs, first]
        self.fused = nn.ModuleList()
        for module in stage.fused:
            rewritten = _Module(cast(Module, module), self.outputs)
            self.outputs = rewritten.outputs
            self.fused.append(rewritten)

    forward = BranchStage.forward


class _Stem(nn.Module):
    def __init__(self, stem: Stem):
        super().__init__()
        first = stem.first[0]
        assert isinstance(first, nn.Conv2d)
        half = first.out_channels // 2
        channels, plain = np.arange(half), Layout.plain(half)
        colours = Layout.plain(first.in_channels)
        every = Layout.plain(first.out_channels)
        self.first_left = refitted(first, colours, every[channels])
        self.first_right = refitted(first, colours, every[channels + half])
        self.left = refitted_chain(stem.left, plain, plain)
        self.right = refitted_chain(stem.right, plain, plain)
        self.outputs = Layout.of(
            [Layout(2 * channels, plain.scale), Layout(2 * channels + 1, plain.scale)]
        )

    def forward(self, x: Tensor) -> Tensor:
        left, right = F.relu(self.first_left(x)), F.relu(self.first_right(x))
        return torch.cat([self.left(left), self.right(right)], dim=1)


class UnshuffledLiteHrnet(nn.Module):
    """The branches as `LiteHrnet` has them, each laid out as `layouts` tells. It holds a copy of
    the weights as they are.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, encoder: LiteHrnet):
        super().__init__()
        self.register_buffer('scale', encoder.scale.clone())
        self.register_buffer('shift', encoder.shift.clone())
        self.stem = _Stem(encoder.stem)
        layouts = [Layout.plain(encoder.channels[0])]
        self.largest = refitted_chain(encoder.largest, self.stem.outputs, layouts[0])
        smallest = self.stem.outputs
        self.stages = nn.ModuleList()
        for stage in encoder.stages:
            rewritten = _Stage(cast(BranchStage, stage), layouts, smallest)
            self.stages.append(rewritten)
            layouts, smallest = rewritten.outputs, rewritten.outputs[-1]
        self.layouts = layouts

    forward = LiteHrnet.forward


class _Head(nn.Module):
    def __init__(self, head: IterativeHead, layouts: Sequence[Layout]):
        super().__init__()
        ends = [*reversed(layouts[:-1]), Layout.plain(len(layouts[0].order))]
        self.steps = nn.ModuleList(
            refitted_chain(step, inputs, outputs)
            for step, inputs, outputs in zip(head.steps, reversed(layouts), ends, strict=True)
        )

    forward = IterativeHead.forward


class UnshuffledSppe(nn.Module):
    """As `LiteHrnetSppe`, of whose weights it holds a copy."""

    gaussian = True

    def __init__(self, sppe: LiteHrnetSppe):
        super().__init__()
        self.encoder = UnshuffledLiteHrnet(sppe.encoder)
        self.head = _Head(sppe.head, self.encoder.layouts)
        plain = Layout.plain(sppe.heatmaps.in_channels)
        self.heatmaps = refitted(sppe.heatmaps, plain, Layout.plain(sppe.heatmaps.out_channels))

    forward = LiteHrnetSppe.forward
