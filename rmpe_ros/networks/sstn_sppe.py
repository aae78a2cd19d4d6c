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
    says so by an attribute `gaussian`. size: (h, w) of what it sees. sstn: without it this is a
    plain SPPE, the paper's ablation: the crop is what the SPPE sees. localisation: makes the STN's
    network for crops of a size. growth: by how much a person's box is grown in what the SPPE
    sees of it. zoom: the share of a crop's sides that an STN shows to the SPPE when it finds the
    box right, so that it can find the way back where it is not: crops are 1 / zoom as large.
    Theta maps what the SPPE sees to the crop.
    """

    def __init__(
        self,
        sppe: nn.Module,
        size: tuple[int, int],
        *,
        sstn: bool = True,
        localisation: Callable[[tuple[int, int]], nn.Module] = LocalisationNetwork,
        growth: float = BOX_GROWTH,
        zoom: float = 1.0,
    ):
        super().__init__()
        self.sppe = sppe
        self.sppe_size = size
        self.sppe_growth = growth
        self.zoom = zoom if sstn else 1.0
        self.gaussian: bool = getattr(sppe, 'gaussian', False)
        if self.zoom != 1 and not self.gaussian:
            # Probabilities do not tell of how many pixels they are, as covariances need to know.
            raise ValueError(f'zoom {zoom}: only for networks whose maps are Gaussians')
        self.localisation = localisation(self.size) if sstn else None
        self.parallel: ParallelSppe | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the crops."""
        height, width = self.sppe_size
        return round(height / self.zoom), round(width / self.zoom)

    @property
    def growth(self) -> float:
        """By how much boxes are grown before they are cropped."""
        return round((1 + self.sppe_growth) / self.zoom - 1, 6)

    def attach_parallel(self, sppe: nn.Module | None = None) -> None:
        """Give training its parallel branch: a frozen copy of `sppe`, a trained and maybe smaller
        network for the same joints and crops, or else of this one's own SPPE as it is now.
        """
        self.parallel = ParallelSppe(self.sppe if sppe is None else sppe)

    def forward(self, crops: Tensor) -> SstnOutput:
        if self.localisation is None:
            identity = torch.eye(2, 3, device=crops.device).expand(crops.shape[0], 2, 3)
            return SstnOutput(identity, self.sppe(crops), None)
        theta = zoomed(self.localisation(crops), self.zoom)
        # Beyond the crop it is as black as crops are beyond the photo: -1.
        transformed = transform(crops.float() + 1, theta, self.sppe_size) - 1
        parallel = (
            self.parallel(transformed) if self.parallel is not None and self.training else None
        )
        return SstnOutput(theta, self.sppe(transformed), parallel)

    def predict(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keypoints in crop pixels (N, K, 2), peak mass or height (N, K) and θ (N, 2, 3)."""
        output = self(crops)
        points, mass = self.decode(output.logits[-1])
        points = map_points(points, output.theta, self.sppe_size, self.size)
        return points, mass, output.theta

    def as_centred(self, points: Tensor) -> Tensor:
        """Points (N, K, 2) in the crop of a person's true box, as pixels of what the SPPE sees
        when the STN does well.
        """
        zoomed_in = zoomed(torch.eye(2, 3, device=points.device)[None], 1 / self.zoom)
        return map_points(points, zoomed_in, self.size, self.sppe_size)

    def decode(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        """Keypoints in pixels of what the SPPE saw (N, K, 2), and how sure it is of each (N, K)."""
        if self.gaussian:
            return decode_gaussians(heatmaps)
        return decode_heatmaps(heatmaps, self.sppe_size)


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


def zoomed(theta: Tensor, zoom: float) -> Tensor:
    """Theta (N, 2, 3) of what is seen `zoom` as large about the same middle."""
    return torch.cat([theta[:, :, :2] * zoom, theta[:, :, 2:]], dim=2)


def detransform_gaussians(
    heatmaps: Tensor, theta: Tensor, cells: tuple[int, int] | None = None
) -> Tensor:
    """The SDTN on Gaussian maps (N, K, h, w): resampled into the crop's own frame by γ, zero where
    the transformed crop does not reach. Heights stay as they are. cells: (rows, columns) of the
    crop's maps, as many as before when None.

    Cell i of such maps is centred on pixel 4·i, not on the middle of its share of the crop as the
    sampler has it; θ is moved by that.
    """
    own = (heatmaps.shape[-2], heatmaps.shape[-1])
    # The sampler's cell i lies at pixel 4·i + 1.5: all is seen that far to the right and below.
    off, crop_off = (
        theta.new_tensor([0.75 / columns, 0.75 / rows]) for rows, columns in (own, cells or own)
    )
    shift = theta[:, :, 2] + (theta[:, :, :2] @ -off) + crop_off
    shifted = torch.cat([theta[:, :, :2], shift.unsqueeze(2)], dim=2)
    return transform(heatmaps.float(), invert_affine(shifted), cells)


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
