# SPDX-License-Identifier: Apache-2.0
"""SSTN-SPPE: what the parallel branch may and may not do, and what the whole gives."""

import copy

import pytest

torch = pytest.importorskip('torch')

from rmpe_ros.networks.backbones.lite_hrnet import LiteHrnetSppe
from rmpe_ros.networks.sstn_sppe import ParallelSppe, SstnSppe
from rmpe_ros.training.pose_losses import sstn_loss

SIZE = (64, 32)


class NormalisedSppe(torch.nn.Module):
    """A small SPPE with batch norm, whose statistics would drift if it were not frozen."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, 4, 1),
            torch.nn.BatchNorm2d(8),
            torch.nn.ReLU(),
            torch.nn.Conv2d(8, 19, 1),
        )

    def forward(self, x):
        return [self.layers(x)]


def training_batch(count: int = 4):
    generator = torch.Generator().manual_seed(1)
    joints = torch.rand(count, 19, 2, generator=generator) * torch.tensor([31.0, 63.0])
    return {
        'crops': torch.randint(0, 256, (count, *SIZE, 3), dtype=torch.uint8, generator=generator),
        'joints': joints,
        'weights': torch.ones(count, 19),
        'centred': joints * 0.8 + 5,
        'centred_weights': torch.ones(count, 19),
    }


def test_parallel_branch_is_bit_identical_after_training():
    torch.manual_seed(0)
    network = SstnSppe(NormalisedSppe(), SIZE)
    network.attach_parallel()
    before = copy.deepcopy(network.parallel.state_dict())
    main_before = copy.deepcopy(network.sppe.state_dict())
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1)
    for _ in range(5):
        network.train()
        optimizer.zero_grad()
        sstn_loss(network, training_batch())['loss'].backward()
        optimizer.step()
    assert all(torch.equal(v, before[k]) for k, v in network.parallel.state_dict().items())
    moved = [k for k, v in network.sppe.state_dict().items() if not torch.equal(v, main_before[k])]
    assert {'layers.0.weight', 'layers.1.running_mean'} <= set(moved)


def test_parallel_branch_passes_gradients_to_theta_only():
    torch.manual_seed(0)
    network = SstnSppe(NormalisedSppe(), SIZE).train()
    network.attach_parallel()
    output = network(torch.rand(2, 3, *SIZE) * 2 - 1)
    output.parallel.logsumexp((2, 3)).sum().backward()
    assert network.localisation.theta.weight.grad.abs().max() > 0
    assert all(p.grad is None for p in network.parallel.parameters())
    assert all(p.grad is None for p in network.sppe.parameters())


def test_parallel_branch_pulls_towards_the_centred_pose():
    """With the main loss switched off by weight, θ moves so that the transformed crop is the
    centred one.
    """
    torch.manual_seed(0)
    network = SstnSppe(NormalisedSppe(), SIZE)
    network.attach_parallel()
    values = sstn_loss(network.train(), training_batch(), parallel_weight=0.5)
    assert values['loss'].item() == pytest.approx(
        values['main'].item() + 0.5 * values['parallel'].item(), rel=1e-5
    )


def test_parallel_branch_is_silent_at_test():
    network = SstnSppe(NormalisedSppe(), SIZE)
    network.attach_parallel()
    assert network.eval()(torch.zeros(1, 3, *SIZE)).parallel is None


def test_parallel_sppe_stays_in_evaluation_mode():
    branch = ParallelSppe(NormalisedSppe()).train()
    assert not any(module.training for module in branch.sppe.modules())


def test_without_sstn_it_is_the_plain_sppe():
    torch.manual_seed(0)
    sppe = LiteHrnetSppe(19, width=8)
    crops = torch.rand(2, 3, 64, 32) * 2 - 1
    plain, with_sstn = SstnSppe(sppe, SIZE, sstn=False).eval(), SstnSppe(sppe, SIZE).eval()
    with torch.no_grad():
        a, mass, theta = plain.predict(crops)
        b, _, _ = with_sstn.predict(crops)
    assert a.shape == (2, 19, 2) and mass.shape == (2, 19)
    assert torch.equal(theta, torch.eye(2, 3).expand(2, 2, 3))
    assert torch.allclose(a, b, atol=0.05)  # the identity transform at the start


class BlobSppe(torch.nn.Module):
    """Sees a bright blob: its maps are the picture's brightness at every fourth pixel."""

    gaussian = True

    def __init__(self):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return [((x[:, :1, ::4, ::4] + 1) / 2 + self.bias).expand(-1, 19, -1, -1)]


class FixedLocalisation(torch.nn.Module):
    """The same θ for every crop."""

    def __init__(self, theta):
        super().__init__()
        self.theta = torch.nn.Parameter(torch.tensor([theta]))

    def forward(self, image):
        return self.theta.expand(len(image), -1, -1)


def blob(size, x, y):
    """(1, 3, h, w) in [-1, 1]: a Gaussian of two cells about (x, y)."""
    rows, columns = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing='ij')
    brightness = torch.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 8.0**2))
    return (brightness * 2 - 1).expand(1, 3, -1, -1)


def zooming(theta=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))):
    network = SstnSppe(BlobSppe(), (64, 32), growth=0.1, zoom=0.5)
    network.localisation = FixedLocalisation(theta)
    return network.eval()


def test_the_stn_shows_the_middle_of_a_larger_crop():
    network = zooming()
    assert network.size == (128, 64)
    assert network.growth == pytest.approx(1.1 / 0.5 - 1)
    crop = blob(network.size, 30.0, 70.0)
    seen = crop[:, :, 32:96, 16:48]
    plain, plain_height = network.decode(network.sppe(seen)[-1])
    points, height, theta = network.predict(crop)
    assert theta[0].tolist() == [[0.5, 0, 0], [0, 0.5, 0]]
    assert torch.allclose(points, plain + torch.tensor([16.0, 32.0]), atol=1e-3)
    assert torch.allclose(height, plain_height, atol=1e-5)
    assert (points[0, 0] - torch.tensor([30.0, 70.0])).abs().max() < 0.3


def test_who_is_beside_the_middle_is_seen_when_the_stn_finds_her():
    # θ is moved down by half of half a side, 32 pixels, and sees 1.25 as much: rows 56 to 136.
    network = zooming(((1.25, 0.0, 0.0), (0.0, 1.25, 0.5)))
    points, height, _ = network.predict(blob(network.size, 32.0, 108.0))
    assert (points[0, 0] - torch.tensor([32.0, 108.0])).abs().max() < 0.3
    assert height[0, 0] > 0.9
    assert zooming().predict(blob(network.size, 32.0, 108.0))[1][0, 0] < 0.6


def test_a_network_that_sees_all_has_no_loss_and_learns_where_to_look():
    network = zooming(((1.1, 0.0, 0.1), (0.0, 1.1, -0.1)))
    network.attach_parallel()
    joints = torch.tensor([30.0, 70.0]).expand(1, 19, 2)
    crop = ((blob(network.size, 30.0, 70.0) + 1) * 127.5).round().to(torch.uint8)
    batch = {
        'crops': crop.permute(0, 2, 3, 1),
        'joints': joints,
        'weights': torch.ones(1, 19),
        'centred': joints,
        'centred_weights': torch.ones(1, 19),
    }
    values = sstn_loss(network.train(), batch)
    elsewhere = sstn_loss(network, {**batch, 'joints': joints + 8})
    assert values['main'] < 0.02 * elsewhere['main']
    values['loss'].backward()
    assert network.localisation.theta.grad.abs().max() > 0
    # What the SPPE should see of her: the middle half, whose corner is at (16, 32).
    assert network.as_centred(joints)[0, 0].tolist() == pytest.approx([14.0, 38.0])
    assert values['parallel'] > 0
    outside = {**batch, 'centred': torch.tensor([8.0, 70.0]).expand(1, 19, 2)}
    assert sstn_loss(network, outside)['parallel'] == 0


def test_only_gaussian_maps_can_be_zoomed():
    with pytest.raises(ValueError, match='Gaussians'):
        SstnSppe(NormalisedSppe(), SIZE, zoom=0.8)
    assert SstnSppe(NormalisedSppe(), SIZE, sstn=False, zoom=0.8).size == SIZE
