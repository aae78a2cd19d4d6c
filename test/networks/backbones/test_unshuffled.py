# SPDX-License-Identifier: Apache-2.0
"""A Lite-HRNet in fewer operations answers as the one that it was made of."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from rmpe_ros.networks.backbones.lite_hrnet import LiteHrnet, LiteHrnetSppe, pointwise
from rmpe_ros.networks.backbones.unshuffled import (
    Layout,
    UnshuffledLiteHrnet,
    UnshuffledSppe,
    refitted,
)
from rmpe_ros.networks.export import export_pose, in_fewer_operations
from rmpe_ros.networks.localisation import ZoomLocalisation
from rmpe_ros.networks.sstn_sppe import SstnSppe

SIZE = (64, 96)


def some_weights(network: nn.Module) -> nn.Module:
    """As `network`, with maps of ordinary size in all of its layers."""
    generator = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan = module.weight[0].numel()
            module.weight.data.normal_(0, (1.3 / fan) ** 0.5, generator=generator)
            if module.bias is not None:
                module.bias.data.normal_(0, 0.2, generator=generator)
    return network.eval()


@pytest.fixture
def crops() -> torch.Tensor:
    return torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(5)) * 2 - 1


def test_a_refitted_filter_takes_channels_where_they_are_and_as_large_as_they_are() -> None:
    layer = pointwise(2, 2)
    layer.weight.data = torch.tensor([[1.0, 10.0], [100.0, 1000.0]])[:, :, None, None]
    layer.bias.data = torch.tensor([3.0, 4.0])
    # The map holds channel 1 at half its value, then channel 0; only channel 1 is asked for, at
    # a quarter.
    inputs = Layout(np.array([1, 0]), np.array([2.0, 1.0]))
    outputs = Layout(np.array([1]), np.array([4.0]))

    answer = refitted(layer, inputs, outputs)(torch.tensor([7.0, 5.0])[None, :, None, None])

    # 100 · 5 + 1000 · (2 · 7) + 4 = 14,504.
    assert answer.flatten().tolist() == pytest.approx([14504 / 4])


def test_branches_are_those_of_the_network_in_another_order(crops: torch.Tensor) -> None:
    encoder = some_weights(LiteHrnet(8))
    unshuffled = UnshuffledLiteHrnet(encoder).eval()

    with torch.no_grad():
        expected, branches = encoder(crops), unshuffled(crops)

    for right, branch, layout in zip(expected, branches, unshuffled.layouts, strict=True):
        branch = branch * torch.from_numpy(layout.scale).float()[:, None, None]
        restored = branch[:, layout.places(np.arange(right.shape[1]))]
        torch.testing.assert_close(restored, right, rtol=0, atol=1e-5 * float(right.abs().max()))


def test_heatmaps_are_those_of_the_network(crops: torch.Tensor) -> None:
    sppe = some_weights(LiteHrnetSppe(5, width=8))

    with torch.no_grad():
        expected, answer = sppe(crops)[-1], UnshuffledSppe(sppe).eval()(crops)[-1]

    assert expected.std() > 0.01
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_a_whole_network_in_fewer_operations_finds_the_same(crops: torch.Tensor) -> None:
    network = SstnSppe(LiteHrnetSppe(5, width=8), SIZE, localisation=ZoomLocalisation, zoom=0.8)
    crops = torch.nn.functional.interpolate(crops, network.size)
    some_weights(network)
    network.localisation.offset.bias.data = torch.tensor([0.1, 0.05, -0.1])

    with torch.no_grad():
        expected, answer = network.predict(crops), in_fewer_operations(network).predict(crops)

    for right, given in zip(expected, answer, strict=True):
        torch.testing.assert_close(given, right, rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures('shallow_lite')
def test_an_exported_graph_neither_splits_nor_shuffles(tmp_path) -> None:
    network = some_weights(SstnSppe(LiteHrnetSppe(19), SIZE, sstn=False))
    path = tmp_path / 'lite.onnx'

    export_pose(network, path, calibration=(1.0, 0.0), metadata={'rmpe.name': 'lite'})

    # Only the crops are transposed, only what is decoded of nine cells is split.
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert kinds.count('Split') <= 1
    assert kinds.count('Transpose') <= 2
