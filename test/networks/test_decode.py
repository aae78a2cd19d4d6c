# SPDX-License-Identifier: Apache-2.0
"""Decoding finds the joint that the target was made from, between the cells too."""

import pytest

torch = pytest.importorskip('torch')

from rmpe_ros.networks.decode import decode_heatmaps, smooth_about
from rmpe_ros.networks.targets import gaussian_targets, heatmap_cross_entropy

SIZE, CELLS = (256, 192), (64, 48)


def test_decoding_a_target_gives_the_joint():
    joints = (
        torch.rand(5, 19, 2, generator=torch.Generator().manual_seed(0))
        * torch.tensor([160.0, 220.0])
        + 16
    )
    points, mass = decode_heatmaps(torch.log(gaussian_targets(joints, SIZE, CELLS) + 1e-12), SIZE)
    assert (points - joints).abs().max() < 1.0
    assert mass.min() > 0.7


def test_an_undecided_map_has_little_mass():
    _, mass = decode_heatmaps(torch.zeros(1, 1, *CELLS), SIZE)
    assert mass.item() <= 25 / (64 * 48) + 1e-6


def test_noise_hardly_moves_a_joint_between_tied_cells():
    """A ridge of equal cells, as a forearm seen end to end: any of them may be the largest."""
    cells = torch.full((1, 1, *CELLS), -12.0)
    cells[0, 0, 30:34, 20] = 0.0
    noise = 0.01 * torch.randn(50, 1, *CELLS, generator=torch.Generator().manual_seed(0))
    points, _ = decode_heatmaps(cells + noise, SIZE)
    steady, _ = decode_heatmaps(cells, SIZE)
    assert (points - steady).abs().max() < 0.2
    assert steady[0, 0].tolist() == pytest.approx([20.5 * 4 - 0.5, 32 * 4 - 0.5], abs=1e-3)


def test_mass_tells_one_place_from_two():
    cells = torch.full((1, 1, *CELLS), -30.0)
    cells[0, 0, 10, 10] = 0.0
    _, sure = decode_heatmaps(cells, SIZE)
    cells[0, 0, 50, 30] = -0.5
    points, torn = decode_heatmaps(cells, SIZE)
    assert sure.item() == pytest.approx(1, abs=1e-4)
    assert torn.item() == pytest.approx(1 / (1 + 0.6065), abs=1e-3)
    assert points[0, 0].tolist() == pytest.approx([41.5, 41.5], abs=1e-3)


def test_top_left_cell_is_at_its_own_centre():
    logits = torch.full((1, 1, *CELLS), -50.0)
    logits[0, 0, 0, 0] = 50.0
    points, _ = decode_heatmaps(logits, SIZE)
    assert points[0, 0].tolist() == pytest.approx([1.5, 1.5])  # the middle of pixels 0 to 3


def test_targets_are_distributions_even_at_the_edge():
    joints = torch.tensor([[[0.0, 0.0], [191.0, 255.0], [90.0, 100.0]]])
    assert gaussian_targets(joints, SIZE, CELLS).sum((2, 3)).flatten().tolist() == pytest.approx(
        [1, 1, 1], abs=1e-5
    )


def test_joints_without_weight_carry_no_loss():
    logits = torch.zeros(1, 2, 8, 6, requires_grad=True)
    target = gaussian_targets(torch.tensor([[[3.0, 3.0], [20.0, 20.0]]]), (32, 24), (8, 6))
    heatmap_cross_entropy(logits, target, torch.tensor([[1.0, 0.0]])).backward()
    assert logits.grad[0, 0].abs().max() > 0
    assert logits.grad[0, 1].abs().max() == 0


def test_smoothing_about_peaks_is_smoothing_of_whole_maps():
    """At every cell, those at the borders included, against the filter over the whole map."""
    rows, columns = 6, 5
    maps = torch.rand(rows * columns, 2, rows, columns, generator=torch.Generator().manual_seed(1))
    cells = torch.arange(rows * columns)[:, None].expand(-1, 2)
    y, x = cells // columns, cells % columns
    weights = torch.tensor([1.0, 4, 6, 4, 1]) / 16
    kernel = (weights[:, None] * weights).expand(2, 1, 5, 5)
    whole = torch.nn.functional.conv2d(maps, kernel, padding=2, groups=2)
    whole = torch.nn.functional.pad(whole, (1, 1, 1, 1), mode='replicate')
    expected = torch.stack(
        [whole[i, :, y[i, 0] : y[i, 0] + 3, x[i, 0] : x[i, 0] + 3] for i in range(rows * columns)]
    ).flatten(2)
    torch.testing.assert_close(smooth_about(maps, x, y), expected)
