# SPDX-License-Identifier: Apache-2.0
"""Zooming by rows and columns is what the sampler does, and exports without it."""

from pathlib import Path

import onnx
import pytest
import torch
from torch.nn import functional as F

from rmpe_ros.networks.backbones.lite_hrnet import LiteHrnetSppe
from rmpe_ros.networks.export import export_pose, in_fewer_operations
from rmpe_ros.networks.localisation import DetectorFeatures, ZoomLocalisation, as_theta
from rmpe_ros.networks.sstn_sppe import SstnSppe
from rmpe_ros.networks.stn import transform
from rmpe_ros.networks.zooming import resampled

SIZE = (64, 32)


def of_detector(size: tuple[int, int]) -> ZoomLocalisation:
    features = DetectorFeatures()
    features.load_detector(Path(__file__).parents[2] / 'models' / 'detector.onnx')
    return ZoomLocalisation(size, features)


def sstn(joints: int = 5, localisation=ZoomLocalisation) -> SstnSppe:
    torch.manual_seed(1)
    network = SstnSppe(
        LiteHrnetSppe(joints, width=8), SIZE, localisation=localisation, zoom=0.8
    ).eval()
    torch.nn.init.normal_(network.localisation.offset.weight, std=0.3)
    return network


@pytest.mark.parametrize('seed', range(4))
def test_rows_and_columns_are_what_the_sampler_finds(seed):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(3, 2, 30, 20, generator=generator)
    theta = as_theta(torch.randn(3, 3, generator=generator) * 0.4)  # some look beyond the image
    rows = resampled(image, theta[:, 1, 1], theta[:, 1, 2], 24)
    both = resampled(rows.transpose(2, 3), theta[:, 0, 0], theta[:, 0, 2], 14).transpose(2, 3)
    torch.testing.assert_close(both, transform(image, theta, (24, 14)), rtol=1e-4, atol=1e-5)


def test_the_identity_leaves_an_image_alone():
    image = torch.rand(2, 3, 7, 5)
    one, none = torch.ones(2), torch.zeros(2)
    torch.testing.assert_close(resampled(image, one, none, 7), image, rtol=0, atol=1e-5)


@pytest.mark.parametrize('localisation', [ZoomLocalisation, of_detector])
def test_people_are_found_as_by_the_network_it_was_made_of(localisation):
    network = sstn(localisation=localisation)
    coarse = torch.rand(3, 3, 8, 4, generator=torch.Generator().manual_seed(2))
    crops = (F.interpolate(coarse, network.size, mode='bilinear') * 255).to(torch.uint8)
    crops = crops.permute(0, 2, 3, 1).contiguous()

    with torch.no_grad():
        expected = network.predict_bytes(crops)
        answer = in_fewer_operations(network).predict_bytes(crops)

    assert (expected[2] - expected[2][0]).abs().max() > 0.002  # each θ is another one
    for right, given in zip(expected, answer, strict=True):
        torch.testing.assert_close(given, right, rtol=1e-3, atol=2e-3)


@pytest.mark.usefixtures('shallow_lite')
def test_the_exported_graph_has_no_sampler(tmp_path):
    path = tmp_path / 'zoom.onnx'
    parity = export_pose(sstn(19), path, calibration=(1.0, 0.0), metadata={'rmpe.name': 'zoom'})
    assert parity.beyond <= 0.02
    assert 'GridSample' not in {node.op_type for node in onnx.load(path).graph.node}
