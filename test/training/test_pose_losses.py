# SPDX-License-Identifier: Apache-2.0
"""The losses of the pose stages on Gaussian maps, and the perfect STN's answer."""

import numpy as np
import pytest

torch = pytest.importorskip('torch')

from rmpe_ros.core.skeletons import BODY19
from rmpe_ros.networks.backbones.lite_hrnet import LiteHrnetSppe
from rmpe_ros.networks.decode import decode_gaussians
from rmpe_ros.networks.localisation import ZoomLocalisation
from rmpe_ros.networks.sstn_sppe import SstnSppe, detransform_gaussians
from rmpe_ros.networks.stn import invert_affine, map_points
from rmpe_ros.networks.targets import gaussian_maps, squared_error
from rmpe_ros.training.augment import NO_AUGMENTATION, Augmentation, draw_view, place_person
from rmpe_ros.training.datasets import LabelledPerson
from rmpe_ros.training.pose_losses import (
    localisation_loss,
    sppe_loss,
    sstn_loss,
    zoom_and_shift,
)

SIZE, CELLS = (128, 96), (32, 24)


def scattered_joints(count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(count, 19, 2, generator=generator) * torch.tensor([60.0, 90.0]) + 16


def test_decoding_finds_what_the_targets_say():
    joints = scattered_joints()
    points, height = decode_gaussians(gaussian_maps(joints, CELLS))
    assert (points - joints).abs().max() < 0.02  # pixels; a cell has four
    assert height.min() > 0.9


def test_a_target_at_a_cell_is_that_cell():
    points, _ = decode_gaussians(gaussian_maps(torch.tensor([[[40.0, 60.0]]]), CELLS))
    assert points.flatten().tolist() == pytest.approx([40, 60], abs=1e-3)


@pytest.mark.parametrize('value', [0.0, -1.0, 3.0])
def test_flat_maps_decode_to_something_inside(value):
    points, height = decode_gaussians(torch.full((1, 2, *CELLS), value))
    assert torch.isfinite(points).all() and points.min() >= -4 and points.max() <= 4 * 32
    assert 0 <= height.min() <= height.max() <= 1


def test_peaks_in_the_corners_stay_there():
    maps = gaussian_maps(torch.tensor([[[0.0, 0.0], [92.0, 124.0]]]), CELLS)
    points, _ = decode_gaussians(maps)
    assert (points - torch.tensor([[[0.0, 0.0], [92.0, 124.0]]])).abs().max() <= 4


def test_an_empty_map_costs_one_and_a_perfect_one_nothing():
    joints = torch.tensor([[[48.0, 64.0]]])
    target, one = gaussian_maps(joints, CELLS), torch.ones(1, 1)
    assert squared_error(torch.zeros_like(target), target, one).item() == pytest.approx(1, abs=0.01)
    assert squared_error(target, target, one).item() == 0
    assert squared_error(torch.zeros_like(target), target, 0 * one).item() == 0


def test_sdtn_on_gaussian_maps_agrees_with_the_sdtn_on_points():
    """γ on the maps and θ on the points found in them lead to the same place."""
    theta = torch.tensor([[[0.9, 0.0, 0.08], [0.0, 0.9, -0.05]]])
    joints = scattered_joints(1)
    back = detransform_gaussians(gaussian_maps(joints, CELLS), theta)
    points, _ = decode_gaussians(back)
    expected = map_points(joints, theta, SIZE)
    assert (points - expected).abs().max() < 0.35  # of a cell's 4 pixels; bilinear sampling


def labelled_person() -> LabelledPerson:
    rng = np.random.default_rng(1)
    box = np.array([40, 30, 140, 230], np.float32)
    joints = rng.uniform(box[:2] + 5, box[2:] - 5, (19, 2)).astype(np.float32)
    return LabelledPerson(None, box, joints, np.ones(19, np.float32), 'lsp')


@pytest.mark.parametrize('options', [NO_AUGMENTATION, Augmentation(cut=0, half_body=0)])
def test_theta_of_a_training_crop_centres_the_person(options):
    """θ maps joints in the true box's crop to the same joints in the perturbed crop."""
    person, rng = labelled_person(), np.random.default_rng(0)
    for _ in range(20):
        proposal = (person.box + rng.normal(0, 15, 4)).astype(np.float32)
        view = draw_view(person, options, rng, proposal=proposal)
        placed = place_person(person, view, SIZE)
        centred, theta = (torch.from_numpy(each)[None] for each in (placed.centred, placed.theta))
        found = map_points(centred, theta, SIZE).numpy()[0]
        assert np.abs(found - placed.joints).max() < 1e-3
    plain = place_person(person, draw_view(person, NO_AUGMENTATION, rng), SIZE)
    assert np.allclose(plain.theta, np.eye(2, 3), atol=1e-6)


def batch_of(joints: torch.Tensor, theta: torch.Tensor) -> dict[str, torch.Tensor]:
    count = len(joints)
    return {
        'crops': torch.randint(0, 256, (count, *SIZE, 3), dtype=torch.uint8),
        'joints': joints,
        'weights': torch.ones(count, 19),
        'centred': map_points(joints, invert_affine(theta), SIZE),
        'centred_weights': torch.ones(count, 19),
        'theta': theta,
    }


class SaysMaps(torch.nn.Module):
    """An SPPE that gives the same maps for every crop."""

    gaussian = True

    def __init__(self, maps: torch.Tensor):
        super().__init__()
        self.maps = torch.nn.Parameter(maps)

    def forward(self, crops):
        return [self.maps[: len(crops)]]


def test_stages_cost_nothing_where_the_maps_are_right():
    joints = scattered_joints()
    theta = torch.eye(2, 3).expand(2, 2, 3)
    network = SstnSppe(SaysMaps(gaussian_maps(joints, CELLS)), SIZE)
    assert sppe_loss(network, batch_of(joints, theta))['loss'].item() == 0
    network.attach_parallel()
    values = sstn_loss(network.train(), batch_of(joints, theta))
    assert values['loss'].item() == pytest.approx(0, abs=1e-4)


def test_the_teacher_holds_joints_without_a_label_most():
    joints = scattered_joints(1)
    truth = gaussian_maps(joints, CELLS)
    network = SstnSppe(SaysMaps(torch.zeros_like(truth)), SIZE, sstn=False)
    batch = batch_of(joints, torch.eye(2, 3).expand(1, 2, 3))
    teacher = SaysMaps(truth[:, :17])
    labelled = sppe_loss(network, batch, teacher=teacher)['teacher'].item()
    batch['weights'] = torch.zeros(1, 19)
    unlabelled = sppe_loss(network, batch, teacher=teacher)['teacher'].item()
    assert 0 < labelled < unlabelled
    agreeing = SstnSppe(SaysMaps(truth), SIZE, sstn=False)
    assert sppe_loss(agreeing, batch, teacher=teacher)['loss'].item() == 0


def test_localisation_learns_by_regression():
    torch.manual_seed(0)
    theta = torch.eye(2, 3).repeat(2, 1, 1)
    theta[0, 0, 2], theta[1, 1, 2] = 0.1, -0.1
    theta[:, 0, 0] = theta[:, 1, 1] = torch.tensor([1.1, 0.9])
    sppe = LiteHrnetSppe(BODY19.num_keypoints, width=8)
    network = SstnSppe(sppe, SIZE, localisation=ZoomLocalisation)
    batch = batch_of(scattered_joints(), theta)
    optimizer = torch.optim.Adam(network.localisation.parameters(), 1e-2)
    first = localisation_loss(network, batch)['loss'].item()
    for _ in range(30):
        loss = localisation_loss(network, batch)['loss']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2 * first
    assert zoom_and_shift(theta)[0].tolist() == pytest.approx([0.0953, 0.0953, 0.1, 0], abs=1e-3)
