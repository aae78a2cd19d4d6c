# SPDX-License-Identifier: Apache-2.0
"""New joints get the maps that old features allow."""

import pytest

torch = pytest.importorskip('torch')

from rmpe_ros.networks.backbones.lite_hrnet import LiteHrnetSppe
from rmpe_ros.networks.sstn_sppe import normalise_crops
from rmpe_ros.networks.targets import squared_error
from rmpe_ros.training.new_joints import fit_new_joints


def test_rows_become_the_least_squares_fit_and_the_others_stay(monkeypatch):
    """Where the target is a mixture of features, the fit finds the mixture."""
    torch.manual_seed(0)
    sppe = LiteHrnetSppe(4, width=8).eval()
    for parameter in sppe.parameters():  # live features: the default start is nearly dead
        parameter.data.normal_(0, 0.4)
    crops = torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        features = sppe.head(sppe.encoder(normalise_crops(crops)))
    features_size = features.abs().amax()
    mixture = torch.rand(8)
    target = torch.einsum('nchw,c->nhw', features, mixture)[:, None] / features_size + 0.25
    monkeypatch.setattr('rmpe_ros.training.new_joints.gaussian_maps', lambda *_: target)
    monkeypatch.setattr('rmpe_ros.training.new_joints._RIDGE', 1e-12)
    batch = {
        'crops': crops,
        'joints': torch.zeros(3, 4, 2),
        'weights': torch.tensor([[1.0, 1.0, 1.0, 0.0]]).repeat(3, 1),
    }
    before = sppe.heatmaps.weight.clone()
    fit_new_joints(sppe, [batch], slice(2, 3))
    with torch.no_grad():
        maps = sppe(normalise_crops(crops))[0]
    assert squared_error(maps[:, 2:3], target, torch.ones(3, 1)).item() < 1e-6
    assert torch.equal(sppe.heatmaps.weight[[0, 1, 3]], before[[0, 1, 3]])
    fit_new_joints(sppe, [batch], slice(3, None))  # nobody labels it
    assert torch.equal(sppe.heatmaps.weight[3], before[3])
