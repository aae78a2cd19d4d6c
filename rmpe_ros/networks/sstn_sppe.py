# SPDX-License-Identifier: Apache-2.0
"""SSTN-SPPE: a symmetric spatial transformer around a single-person pose estimator (RMPE, sec. 3.1,
Figs. 3-4).

    crop ── STN(θ) ──► transformed crop ── SPPE ──► heatmaps ── SDTN(γ = θ⁻¹) ──► heatmaps of the
    crop
                              └─ parallel SPPE (frozen, training only) ──► centre-located heatmaps

At test time the SDTN maps the few points found, not the heatmaps: with θ itself, which takes target
to source.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rmpe_ros.networks.decode import decode_gaussians, decode_heatmaps, spatial_softmax
from rmpe_ros.networks.stn import LocalisationNetwork, invert_affine, map_points, transform


@dataclass
class SstnOutput:
    """What one training step needs.

    theta: (N, 2, 3). logits: per supervised stage (N, K, h, w) in the transformed frame, before the
    SDTN. parallel: the parallel branch's logits, or None without one.
    """

    theta: Tensor
    logits: list[Tensor]
    parallel: Tensor | None


BOX_GROWTH = 0.3  # RMPE sec. 4.2: proposals are extended by 30 % along height and width


class SstnSppe(nn.Module):
    """STN → SPPE → SDTN over crops in [-1, 1].

    sppe: any network (N, 3, H, W) → list of heatmaps: logits, or Gaussians of height 1 where it
    says so by an attribute `gaussian`. size: (H, W). sstn: without it θ is the
    identity and this is a plain SPPE, the paper's ablation. localisation: makes the STN's network
    for crops of that size. growth: by how much boxes are grown before they are cropped.
    """

    def __init__(
        self,
        sppe: nn.Module,
        size: tuple[int, int],
        *,
        sstn: bool = True,
        localisation: Callable[[tuple[int, int]], nn.Module] = LocalisationNetwork,
        growth: float = BOX_GROWTH,
    ):
        super().__init__()
        self.sppe = sppe
        self.size = size
        self.growth = growth
        self.gaussian: bool = getattr(sppe, 'gaussian', False)
        self.localisation = localisation(size) if sstn else None
        self.parallel: ParallelSppe | None = None

    def attach_parallel(self, sppe: nn.Module | None = None) -> None:
        """Give training its parallel branch: a frozen copy of `sppe`, a trained and maybe smaller
        network for the same joints and crops, or else of this one's own SPPE as it is now.
        """
        self.parallel = ParallelSppe(self.sppe if sppe is None else sppe)

    def forward(self, crops: Tensor) -> SstnOutput:
        if self.localisation is None:
            identity = torch.eye(2, 3, device=crops.device).expand(crops.shape[0], 2, 3)
            return SstnOutput(identity, self.sppe(crops), None)
        theta = self.localisation(crops)
        # Beyond the crop it is as black as crops are beyond the photo: -1.
        transformed = transform(crops.float() + 1, theta) - 1
        parallel = (
            self.parallel(transformed) if self.parallel is not None and self.training else None
        )
        return SstnOutput(theta, self.sppe(transformed), parallel)

    def predict(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keypoints in crop pixels (N, K, 2), peak mass or height (N, K) and θ (N, 2, 3)."""
        output = self(crops)
        points, mass = self.decode(output.logits[-1])
        return map_points(points, output.theta, self.size), mass, output.theta

    def decode(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        """Keypoints in pixels of what the SPPE saw (N, K, 2), and how sure it is of each (N, K)."""
        if self.gaussian:
            return decode_gaussians(heatmaps)
        return decode_heatmaps(heatmaps, self.size)


class ParallelSppe(nn.Module):
    """The training-only branch that keeps the STN honest: it shares the STN, has no SDTN, and never
    learns.

    Every parameter is frozen and every layer stays in evaluation mode, batch norm included (the
    released Torch code froze convolutions only). Gradients pass through it to θ.
    """

    def __init__(self, sppe: nn.Module):
        super().__init__()
        self.sppe = copy.deepcopy(sppe).eval()
        self.sppe.requires_grad_(False)

    def train(self, mode: bool = True) -> ParallelSppe:
        super().train(mode)
        self.sppe.eval()
        return self

    def forward(self, transformed: Tensor) -> Tensor:
        return self.sppe(transformed)[-1]


def normalise_crops(crops: Tensor) -> Tensor:
    """uint8 (N, h, w, 3) → float32 (N, 3, h, w) in [-1, 1]. Cast before the transpose: TensorRT
    wants it so.
    """
    return crops.float().permute(0, 3, 1, 2) / 127.5 - 1.0


def detransform_gaussians(heatmaps: Tensor, theta: Tensor) -> Tensor:
    """The SDTN on Gaussian maps (N, K, h, w): resampled into the crop's own frame by γ, zero where
    the transformed crop does not reach. Heights stay as they are.

    Cell i of such maps is centred on pixel 4·i, not on the middle of its share of the crop as the
    sampler has it; θ is moved by that.
    """
    rows, columns = heatmaps.shape[-2:]
    # The sampler's cell i lies at pixel 4·i + 1.5: all is seen that far to the right and below.
    off = theta.new_tensor([0.75 / columns, 0.75 / rows])
    shift = theta[:, :, 2] + (theta[:, :, :2] @ -off) + off
    return transform(
        heatmaps.float(), invert_affine(torch.cat([theta[:, :, :2], shift.unsqueeze(2)], dim=2))
    )


def detransform_heatmaps(logits: Tensor, theta: Tensor) -> Tensor:
    """The SDTN on logits: probabilities of the transformed crop resampled into the crop's own
    frame by γ.

    logits: (N, K, h, w). Returns probabilities of the same shape, zero where the transformed crop
    does not reach.
    """
    gamma = invert_affine(theta)
    # |det γ| keeps the maps densities: a stretched peak keeps its mass.
    density = torch.linalg.det(gamma[:, :, :2]).abs().reshape(-1, 1, 1, 1)
    return transform(spatial_softmax(logits), gamma) * density
