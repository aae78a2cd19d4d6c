# SPDX-License-Identifier: Apache-2.0
"""STN and SDTN: identity, inverse, worked values, gradients, and heatmaps against points."""

import numpy as np
import pytest

torch = pytest.importorskip('torch')

from rmpe_ros.networks.sstn_sppe import detransform_heatmaps
from rmpe_ros.networks.stn import (
    LocalisationNetwork,
    ResNetLocalisation,
    affine_grid,
    invert_affine,
    map_points,
    transform,
)
from rmpe_ros.networks.targets import gaussian_targets


def random_theta(count: int, seed: int = 0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    spread = torch.tensor([[0.3, 0.2, 0.3], [0.2, 0.3, 0.3]], dtype=dtype)
    noise = torch.rand(count, 2, 3, generator=generator, dtype=dtype) * 2 - 1
    return torch.eye(2, 3, dtype=dtype) + spread * noise


def test_identity_leaves_a_picture_as_it_is():
    image = torch.rand(2, 3, 32, 24)
    identity = torch.eye(2, 3).expand(2, 2, 3)
    assert torch.allclose(transform(image, identity), image, atol=1e-5)


def test_inverse_matches_the_worked_value():
    # facts: theta = [[0.5, 0, 0.2], [0, 0.5, -0.1]] has gamma = [[2, 0, -0.4], [0, 2, 0.2]] (Eqs.
    # 3-4).
    theta = torch.tensor([[[0.5, 0.0, 0.2], [0.0, 0.5, -0.1]]])
    expected = torch.tensor([[[2.0, 0.0, -0.4], [0.0, 2.0, 0.2]]])
    assert torch.allclose(invert_affine(theta), expected)


def test_inverse_of_a_shear_is_not_its_transpose():
    theta = torch.tensor([[[1.0, 0.5, 0.0], [0.0, 1.0, 0.0]]])
    assert torch.allclose(invert_affine(theta)[0, :, :2], torch.tensor([[1.0, -0.5], [0.0, 1.0]]))


def test_inverse_twice_is_the_map_itself():
    theta = random_theta(50)
    assert torch.allclose(invert_affine(invert_affine(theta)), theta, atol=1e-10)


def test_stn_then_sdtn_takes_points_back():
    theta, points = random_theta(20, dtype=torch.float32), torch.rand(20, 7, 2) * 100
    there = map_points(points, invert_affine(theta), (128, 96))
    assert (map_points(there, theta, (128, 96)) - points).abs().max() < 1e-3


def test_singular_maps_are_refused():
    with pytest.raises(ValueError, match='singular'):
        invert_affine(torch.tensor([[[1.0, 2.0, 0.0], [0.5, 1.0, 0.0]]]))


def test_gradients_are_right():
    theta = random_theta(2).requires_grad_()
    image = torch.rand(2, 1, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(invert_affine, (theta,))
    assert torch.autograd.gradcheck(transform, (image, theta), eps=1e-7, atol=1e-4)
    assert torch.autograd.gradcheck(lambda t: affine_grid(t, 3, 4), (theta,))


def test_grid_agrees_with_torch():
    theta = random_theta(3, dtype=torch.float32)
    expected = torch.nn.functional.affine_grid(theta, [3, 1, 6, 5], align_corners=False)
    assert torch.allclose(affine_grid(theta, 6, 5), expected, atol=1e-6)


def test_a_shift_moves_the_picture_the_right_way():
    """θ maps target to source (Eq. 1): a positive shift in x looks further right, so things move
    left.
    """
    image = torch.zeros(1, 1, 8, 8)
    image[0, 0, 3, 5] = 1
    theta = torch.tensor([[[1.0, 0.0, 2 * 2 / 8], [0.0, 1.0, 0.0]]])  # 2 pixels of 8
    moved = transform(image, theta)
    assert moved[0, 0, 3, 3] == pytest.approx(1.0, abs=1e-5)
    found = torch.tensor([[[3.0, 3.0]]])
    assert torch.allclose(map_points(found, theta, (8, 8)), torch.tensor([[[5.0, 3.0]]]), atol=1e-5)


def test_a_part_of_a_picture_in_a_smaller_one():
    picture = torch.arange(64.0).reshape(1, 1, 8, 8)
    theta = torch.tensor([[[0.5, 0.0, 0.0], [0.0, 0.5, 0.0]]])
    assert torch.allclose(transform(picture, theta, (4, 4)), picture[:, :, 2:6, 2:6], atol=1e-5)
    corner = map_points(torch.tensor([[[0.0, 3.0]]]), theta, (4, 4), (8, 8))
    assert corner[0, 0].tolist() == pytest.approx([2.0, 5.0])


def test_heatmaps_through_the_sdtn_agree_with_mapped_points():
    """The two forms of the SDTN: heatmaps resampled by γ, and points mapped by θ."""
    size, cells = (256, 192), (64, 48)
    theta = random_theta(8, seed=3, dtype=torch.float32)
    inner = torch.tensor([[80.0, 110.0], [100.0, 140.0], [110.0, 120.0]]).expand(8, 3, 2)
    logits = torch.log(gaussian_targets(inner, size, cells, sigma=2.0) + 1e-12)
    by_point = map_points(inner, theta, size)
    back = detransform_heatmaps(logits, theta)
    rows, columns = torch.arange(64.0), torch.arange(48.0)
    mass = back.sum((2, 3))
    cell = (
        torch.stack([(back.sum(2) * columns).sum(2), (back.sum(3) * rows).sum(2)], dim=2)
        / mass[..., None]
    )
    by_heatmap = (cell + 0.5) * 4 - 0.5  # the mean of a distribution follows an affine map exactly
    whole = ((by_point > 40) & (by_point < torch.tensor([152.0, 216.0]))).all(dim=2)
    assert whole.sum() > 10
    assert (by_heatmap - by_point)[whole].norm(dim=1).max() < 0.1
    assert mass[whole].numpy() == pytest.approx(np.ones(int(whole.sum())), abs=0.02)


def test_mixed_precision_training_leaves_the_geometry_alone():
    """A bfloat16 grid of 256 pixels would be off by more than one of them."""
    theta, points = random_theta(4, dtype=torch.float32), torch.rand(4, 7, 2) * 200
    network = LocalisationNetwork((256, 192))
    torch.nn.init.normal_(network.theta.weight, std=1.0)
    features = torch.rand(4, 64).bfloat16()

    def compute():
        return (
            affine_grid(theta, 256, 192),
            invert_affine(theta),
            map_points(points, theta, (256, 192)),
            network.theta(features),
        )

    expected = compute()
    with torch.autocast('cpu', torch.bfloat16):
        found = compute()
    assert all(torch.equal(f, e) for f, e in zip(found, expected, strict=True))
    assert all(f.dtype == torch.float32 for f in found)


@pytest.mark.parametrize(
    'make', [lambda: LocalisationNetwork((64, 32)), lambda: ResNetLocalisation(8)]
)
def test_localisation_starts_at_the_identity_and_stays_invertible(make):
    torch.manual_seed(0)
    network = make()
    crops = torch.rand(4, 3, 64, 32) * 2 - 1
    assert torch.equal(network(crops), torch.eye(2, 3).expand(4, 2, 3))
    torch.nn.init.normal_(network.theta.weight, std=0.1)
    theta = network(crops)
    assert (theta[0] - theta[1]).abs().max() > 1e-4  # it looks at the crop
    torch.nn.init.normal_(network.theta.weight, std=50.0)
    theta = network(crops)
    determinant = torch.linalg.det(theta[:, :, :2])
    assert (theta - torch.eye(2, 3)).abs().max() > 0.2
    assert determinant.min() > 0.2
