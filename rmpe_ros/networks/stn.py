# SPDX-License-Identifier: Apache-2.0
"""Spatial transformer network and its inverse, the STN and SDTN of RMPE (Fang et al., ICCV 2017,
sec. 3.1, Eqs. 1-6).

θ maps target (transformed) coordinates to source (input) coordinates, both normalised to [-1, 1]
over the picture's edges (`align_corners=False`), so one θ denotes the same field of view on the
crop and on its smaller heatmaps. Everything here stays float32: half precision moves a 256-pixel
grid by up to a quarter of a pixel.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
SMALLEST_DETERMINANT = 1e-6


def base_grid(height: int, width: int, *, like: Tensor) -> Tensor:
    """Homogeneous pixel centres of a picture, (3, height·width), in normalised coordinates, row by
    row.
    """
    y = (torch.arange(height, dtype=torch.float64) * 2 + 1) / height - 1
    x = (torch.arange(width, dtype=torch.float64) * 2 + 1) / width - 1
    rows, columns = torch.meshgrid(y, x, indexing='ij')
    return torch.stack(
        [columns.flatten(), rows.flatten(), torch.ones(height * width, dtype=torch.float64)]
    ).to(like)


def affine_grid(theta: Tensor, height: int, width: int) -> Tensor:
    """Sampling grid of Eq. 1, (N, height, width, 2): where in the source each target pixel looks.

    Written as one matrix product: TensorRT parses that, and not the AffineGrid operator.
    """
    grid = theta @ base_grid(height, width, like=theta)
    return grid.transpose(1, 2).reshape(-1, height, width, 2)


def transform(image: Tensor, theta: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Resample (N, C, H, W) by θ with the bilinear sampler; zeros outside. size: (height, width) of
    the result.
    """
    height, width = size or image.shape[-2:]
    return F.grid_sample(
        image,
        affine_grid(theta, height, width),
        mode='bilinear',
        padding_mode='zeros',
        align_corners=False,
    )


def invert_affine(theta: Tensor) -> Tensor:
    """Inverse 2×3 affine maps, the SDTN of RMPE (Eqs. 3-4): γ with γ(θ(p)) = p.

    theta: (N, 2, 3), target → source in normalised coordinates. Returns γ of the same shape.
    Closed form, because TensorRT has no Inverse. Raises ValueError when a map is singular (|det| <
    1e-6).
    """
    a, b, c, d = theta[:, 0, 0], theta[:, 0, 1], theta[:, 1, 0], theta[:, 1, 1]
    determinant = a * d - b * c
    if not torch.jit.is_tracing() and bool((determinant.abs() < SMALLEST_DETERMINANT).any()):
        raise ValueError(
            f'singular affine map: |det| = {determinant.abs().min():.1e}, '
            f'at least {SMALLEST_DETERMINANT:.0e} wanted'
        )
    inverse = torch.stack([d, -b, -c, a], dim=1).reshape(-1, 2, 2) / determinant.reshape(-1, 1, 1)
    return torch.cat([inverse, -inverse @ theta[:, :, 2:]], dim=2)


def map_points(points: Tensor, theta: Tensor, size: tuple[int, int]) -> Tensor:
    """Points found in the transformed picture, back in the source: the SDTN on coordinates instead
    of heatmaps.

    points: (N, K, 2) pixels (x, y), (0, 0) the centre of the top-left pixel. theta: (N, 2, 3), the
    θ that made the transformed picture. size: (height, width), the same before and after. Returns
    (N, K, 2).
    """
    height, width = size
    extent = points.new_tensor([width, height])
    normalised = (points * 2 + 1) / extent - 1
    mapped = normalised @ theta[:, :, :2].transpose(1, 2) + theta[:, :, 2].unsqueeze(1)
    return ((mapped + 1) * extent - 1) / 2


class LocalisationNetwork(nn.Module):
    """Estimates θ from the crop: (N, 3, H, W) → (N, 2, 3); exactly the identity before training.

    A few strided convolutions on a picture a quarter the size: the transformation is coarse, its
    cost should be too. (The paper's is a ResNet-18.) Offsets from the identity are bounded by tanh,
    which keeps det θ away from zero: scale 1 ± 0.45, shear ± 0.3, shift ± 0.45, hence det ≥ 0.55² -
    0.3² > 0.2. size: (H, W) of the crops.
    """

    BOUNDS = ((0.45, 0.3, 0.45), (0.3, 0.45, 0.45))

    def __init__(self, size: tuple[int, int], channels: tuple[int, ...] = (16, 24, 32, 48)):
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        height, width = size[0] // 4, size[1] // 4
        for outputs in channels:
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.ReLU(inplace=True)]
            inputs = outputs
            height, width = (height + 1) // 2, (width + 1) // 2
        self.features = nn.Sequential(*layers)
        self.hidden = nn.Linear(inputs * height * width, 64)
        self.theta = nn.Linear(64, 6)
        nn.init.zeros_(self.theta.weight)
        nn.init.zeros_(self.theta.bias)
        self.register_buffer('identity', torch.tensor(IDENTITY), persistent=False)
        self.register_buffer('bounds', torch.tensor(self.BOUNDS), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        # Flattened, not averaged: where things are is what this network is about.
        features = self.features(F.avg_pool2d(image, 4)).flatten(1)
        offset = self.theta(F.relu(self.hidden(features))).reshape(-1, 2, 3)
        return (self.identity + self.bounds * torch.tanh(offset)).float()
