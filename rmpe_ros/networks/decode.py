# SPDX-License-Identifier: Apache-2.0
"""From heatmap logits to keypoints: the spatial softmax's peak, refined by the mean of its
neighbourhood.
"""

from __future__ import annotations

import torch
from torch import Tensor

NEIGHBOURHOOD = (
    2  # cells each side of the peak: wide enough for the training target's sigma of 1.5 cells
)


def spatial_softmax(logits: Tensor) -> Tensor:
    """(N, K, h, w) logits → probabilities of the same shape that sum to 1 over each map."""
    return torch.softmax(logits.float().flatten(2), dim=2).reshape(logits.shape)


def decode_heatmaps(logits: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Keypoints and their peak mass.

    logits: (N, K, h, w). size: (height, width) of the network's input in pixels.
    Returns points (N, K, 2) in input pixels, (0, 0) the centre of the top-left one, and mass (N, K)
    in [0, 1]: the probability inside the peak's 5×5 cells, which is high when the network is sure
    of one place. Only arithmetic, ArgMax and comparisons, so that every engine runs it.
    """
    height, width = logits.shape[-2:]
    probability = spatial_softmax(logits)
    peak = probability.flatten(2).argmax(dim=2)
    peak_y = torch.div(peak, width, rounding_mode='floor')
    peak_x = peak - peak_y * width
    rows = torch.arange(height, device=logits.device, dtype=torch.float32)
    columns = torch.arange(width, device=logits.device, dtype=torch.float32)
    near_y = ((rows - peak_y.float().unsqueeze(-1)).abs() <= NEIGHBOURHOOD).float()
    near_x = ((columns - peak_x.float().unsqueeze(-1)).abs() <= NEIGHBOURHOOD).float()
    local = probability * near_y.unsqueeze(-1) * near_x.unsqueeze(-2)
    by_column, by_row = local.sum(dim=2), local.sum(dim=3)
    mass = by_row.sum(dim=2)
    x = (by_column * columns).sum(dim=2) / mass
    y = (by_row * rows).sum(dim=2) / mass
    stride_x, stride_y = size[1] / width, size[0] / height
    points = torch.stack([(x + 0.5) * stride_x - 0.5, (y + 0.5) * stride_y - 0.5], dim=2)
    return points, mass
