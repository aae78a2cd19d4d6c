# SPDX-License-Identifier: Apache-2.0
"""Spatial transformer network and its inverse, the STN and SDTN of RMPE (Fang et al., ICCV 2017,
sec. 3.1, Eqs. 1-6).

θ maps target (transformed) coordinates to source (input) coordinates, both normalised to [-1, 1]
over the picture's edges (`align_corners=False`), so one θ denotes the same field of view on the
crop and on its smaller heatmaps. Everything here stays float32, in mixed-precision training too:
float16 moves a 256-pixel grid by up to a quarter of a pixel, bfloat16 by more than one.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rmpe_ros.networks.backbones.resnet import ResNet18

IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
SMALLEST_DETERMINANT = 1e-6


def full_precision(tensor: Tensor) -> AbstractContextManager:
    """The context in which mixed-precision training leaves `tensor`'s arithmetic as it is."""
    device = tensor.device.type
    if not torch.amp.is_autocast_available(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)


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
    with full_precision(theta):
        grid = theta @ base_grid(height, width, like=theta)
    return grid.transpose(1, 2).reshape(-1, height, width, 2)


def transform(image: Tensor, theta: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Resample (N, C, H, W) by θ with the bilinear sampler; zeros outside. size: (height, width) of
    the result, as before when None.
    """
    height, width = size or (image.shape[-2], image.shape[-1])
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
    with full_precision(theta):
        return torch.cat([inverse, -inverse @ theta[:, :, 2:]], dim=2)


def map_points(
    points: Tensor, theta: Tensor, size: tuple[int, int], source_size: tuple[int, int] | None = None
) -> Tensor:
    """Points found in the transformed picture, back in the source: the SDTN on coordinates instead
    of heatmaps.

    points: (N, K, 2) pixels (x, y), (0, 0) the centre of the top-left pixel. theta: (N, 2, 3), the
    θ that made the transformed picture. size: its (height, width); source_size: the source's, the
    same when None. Returns (N, K, 2).
    """
    extent = points.new_tensor(size[::-1])
    source_extent = extent if source_size is None else points.new_tensor(source_size[::-1])
    normalised = (points * 2 + 1) / extent - 1
    with full_precision(theta):
        mapped = normalised @ theta[:, :, :2].transpose(1, 2) + theta[:, :, 2].unsqueeze(1)
    return ((mapped + 1) * source_extent - 1) / 2


class ThetaHead(nn.Linear):
    """The last layer of a localisation network: features (N, C) → θ (N, 2, 3), exactly the identity
    before training.

    Offsets from the identity are bounded by tanh, which keeps det θ away from zero: scale 1 ± 0.45,
    shear ± 0.3, shift ± 0.45, hence det ≥ 0.55² - 0.3² > 0.2.
    """

    BOUNDS = ((0.45, 0.3, 0.45), (0.3, 0.45, 0.45))
    identity: Tensor
    bounds: Tensor

    def __init__(self, inputs: int):
        super().__init__(inputs, 6)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)
        self.register_buffer('identity', torch.tensor(IDENTITY), persistent=False)
        self.register_buffer('bounds', torch.tensor(self.BOUNDS), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        with full_precision(features):
            offset = super().forward(features.float()).reshape(-1, 2, 3)
            return self.identity + self.bounds * torch.tanh(offset)


class LocalisationNetwork(nn.Module):
    """Estimates θ from the crop: (N, 3, H, W) → (N, 2, 3).

    A few strided convolutions on a picture a quarter the size: the transformation is coarse, its
    cost should be too. size: (H, W) of the crops.
    """

    def __init__(self, size: tuple[int, int]):
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        height, width = size[0] // 4, size[1] // 4
        for outputs in (16, 24, 32, 48):
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.ReLU(inplace=True)]
            inputs = outputs
            height, width = (height + 1) // 2, (width + 1) // 2
        self.features = nn.Sequential(*layers)
        self.hidden = nn.Linear(inputs * height * width, 64)
        self.theta = ThetaHead(64)

    def forward(self, image: Tensor) -> Tensor:
        # Flattened, not averaged: where things are is what this network is about.
        features = self.features(F.avg_pool2d(image, 4)).flatten(1)
        return self.theta(F.relu(self.hidden(features)))


class ResNetLocalisation(nn.Module):
    """The paper's localisation network (sec. 4.2): a ResNet-18 on the whole crop, its features
    averaged, one linear layer. (N, 3, H, W) → (N, 2, 3). channels: as of `ResNet18`.
    """

    def __init__(self, channels: int = 64):
        super().__init__()
        self.features = ResNet18(channels)
        self.theta = ThetaHead(self.features.outputs)

    def forward(self, image: Tensor) -> Tensor:
        return self.theta(self.features(image).mean((2, 3)))
