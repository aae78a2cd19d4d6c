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
