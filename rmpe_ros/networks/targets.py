# SPDX-License-Identifier: Apache-2.0
"""Training targets and losses on heatmaps: where the joint is, as a distribution over the crop."""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import Tensor

from rmpe_ros.networks.decode import GAUSSIAN_STRIDE

SIGMA = 1.5  # heatmap cells, of a distribution
# Of Gaussian maps, and the sum of one's squares: a map that stays empty then costs 1.
GAUSSIAN_SIGMA = 2.0
_ENERGY = math.pi * GAUSSIAN_SIGMA**2


def gaussian_targets(
    joints: Tensor, size: tuple[int, int], cells: tuple[int, int], sigma: float = SIGMA
) -> Tensor:
    """Distributions (N, K, h, w), each summing to 1, around joints (N, K, 2) in pixels of a
    (height, width) crop.
    """
    (height, width), (rows, columns) = size, cells
    x = (joints[..., 0] + 0.5) * (columns / width) - 0.5
    y = (joints[..., 1] + 0.5) * (rows / height) - 0.5
    along_x, along_y = _hill(x, columns, sigma), _hill(y, rows, sigma)
    along_x = along_x / along_x.sum(-1, keepdim=True).clamp_min(1e-6)
    along_y = along_y / along_y.sum(-1, keepdim=True).clamp_min(1e-6)
    return along_y.unsqueeze(-1) * along_x.unsqueeze(-2)


def gaussian_maps(joints: Tensor, cells: tuple[int, int]) -> Tensor:
    """Gaussians of height 1 (N, K, h, w) around joints (N, K, 2) in crop pixels, cell i being
    centred on pixel 4·i.
    """
    x, y = (joints / GAUSSIAN_STRIDE).unbind(-1)
    along_x, along_y = _hill(x, cells[1], GAUSSIAN_SIGMA), _hill(y, cells[0], GAUSSIAN_SIGMA)
    return along_y.unsqueeze(-1) * along_x.unsqueeze(-2)


def _hill(middle: Tensor, count: int, sigma: float) -> Tensor:
    """(N, K, count) a Gaussian of height 1 over cells, around the middles (N, K)."""
    cells = torch.arange(count, device=middle.device)
    return torch.exp(-((cells - middle.unsqueeze(-1)) ** 2) / (2 * sigma**2))


def squared_error(maps: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Squared error of maps (N, K, h, w), 1 for a joint not found at all; weights (N, K)."""
    return weighted_mean((maps.float() - target).square().sum((2, 3)) / _ENERGY, weights)


def weighted_mean(per_joint: Tensor, weights: Tensor) -> Tensor:
    """Mean of (N, K) values over joints that carry loss."""
    return (per_joint * weights).sum() / shared_total(weights.sum())


def shared_total(total: Tensor) -> Tensor:
    """What to divide a loss by that is summed over weights that come to `total`, at least 1.

    Where several processes share a batch, this is their mean `total`: the mean of their losses,
    which is what they descend, is then the loss of the whole batch, however the weights fell.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return total.clamp_min(1.0)
    total = total.detach().clone()
    dist.all_reduce(total)
    return total.clamp_min(1.0) / dist.get_world_size()


def heatmap_cross_entropy(logits: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Spatial cross-entropy of logits (N, K, h, w) against distributions; weights (N, K). It leaves
    the plateau that squared error on heatmaps sits on when there is little data.
    """
    log_probability = torch.log_softmax(logits.float().flatten(2), dim=2)
    return weighted_mean(-(target.flatten(2) * log_probability).sum(2), weights)


def probability_cross_entropy(probability: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """The same for maps that are probabilities already, such as the SDTN's; what left the map costs
    as much as 1e-6.
    """
    return weighted_mean(-(target * torch.log(probability.clamp_min(1e-6))).sum((2, 3)), weights)
