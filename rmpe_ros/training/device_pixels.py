# SPDX-License-Identifier: Apache-2.0
"""Crops cut and distorted for a whole batch at once on the training's device, as `crop_people` and
`rmpe_ros.training.distortions.distort` do one by one on the host.

Pixels are rounded to uint8 where the host's are, so that both make the same picture but for how
they interpolate: a few grey levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rmpe_ros.training.distortions import (
    LONGEST_BLUR,
    MOST_PATCHES,
    Distortion,
    Patch,
    color_tables,
)


@dataclass(frozen=True)
class PixelStore:
    """P pictures of any size, one after the other.

    pixels: (total, 3) uint8 RGB. starts: (P,) int64, the first pixel of each. heights, widths: (P,)
    int64.
    """

    pixels: Tensor
    starts: Tensor
    heights: Tensor
    widths: Tensor

    @staticmethod
    def upload(pictures: Sequence[NDArray[np.uint8]], device: torch.device) -> PixelStore:
        """Pictures (H, W, 3) on the device."""
        shapes = np.array([picture.shape[:2] for picture in pictures], np.int64).reshape(-1, 2)
        counts = shapes.prod(axis=1)
        starts = np.cumsum(counts) - counts
        pixels = torch.empty((int(counts.sum()), 3), dtype=torch.uint8, device=device)
        for picture, start, count in zip(pictures, starts, counts, strict=True):
            flat = torch.from_numpy(np.ascontiguousarray(picture).reshape(-1, 3))
            pixels[start : start + count] = flat.to(device)
        heights, widths = torch.from_numpy(shapes).to(device).unbind(1)
        return PixelStore(pixels, torch.from_numpy(starts).to(device), heights, widths)

    @property
    def nbytes(self) -> int:
        """Device memory that the pixels take."""
        return self.pixels.numel()

    def crop(
        self, which: NDArray[np.integer], transforms: NDArray[np.float64], size: tuple[int, int]
    ) -> Tensor:
        """Crops (N, height, width, 3) uint8 of the pictures `which` (N,), black beyond their edges.

        transforms: (N, 2, 3), crop → picture in pixel centres. Where a crop shrinks its picture
        twofold or more, each of its pixels is the mean of samples no further apart than pixels.
        """
        crops = torch.empty((len(which), *size, 3), dtype=torch.uint8, device=self.pixels.device)
        scale = np.sqrt(np.abs(np.linalg.det(transforms[:, :, :2])))
        shrink = np.where(scale < 2, 1, np.ceil(scale - 1e-6)).astype(int)
        for k in np.unique(shrink).tolist():
            part = np.flatnonzero(shrink == k)
            samples = self._sample(which[part], transforms[part], size, k)
            if len(part) == len(which):
                return samples
            crops[self._to_device(part)] = samples
        return crops

    def _sample(
        self,
        which: NDArray[np.integer],
        transforms: NDArray[np.float64],
        size: tuple[int, int],
        k: int,
    ) -> Tensor:
        height, width = size
        device = self.pixels.device
        index = self._to_device(which)
        starts, heights, widths = (
            each[index].view(-1, 1, 1) for each in (self.starts, self.heights, self.widths)
        )
        maps = self._to_device(transforms.astype(np.float32)).view(-1, 6, 1, 1)
        total: Tensor | None = None
        for i in range(k * k):
            # k x k points spread evenly over a crop pixel; its centre when k is 1.
            dy, dx = ((each + 0.5) / k - 0.5 for each in divmod(i, k))
            y = (torch.arange(height, device=device) + dy).view(1, -1, 1)
            x = (torch.arange(width, device=device) + dx).view(1, 1, -1)
            u = maps[:, 0] * x + maps[:, 1] * y + maps[:, 2]
            v = maps[:, 3] * x + maps[:, 4] * y + maps[:, 5]
            value = self._bilinear(u, v, starts, heights, widths)
            total = value if total is None else total.add_(value)
        assert total is not None
        return total.div_(k * k).round_().to(torch.uint8)

    def _bilinear(
        self, u: Tensor, v: Tensor, starts: Tensor, heights: Tensor, widths: Tensor
    ) -> Tensor:
        """(N, h, w, 3) float32 at pixel-centre coordinates (N, h, w); neighbours that do not exist
        are black.
        """
        left, top = u.floor(), v.floor()
        right_share, bottom_share = u - left, v - top
        left, top = left.long(), top.long()
        total: Tensor | None = None
        for row, row_share in ((top, 1 - bottom_share), (top + 1, bottom_share)):
            row_start = starts + row.clamp_min(0).minimum(heights - 1) * widths
            row_share = row_share * ((row >= 0) & (row < heights))
            for column, share in ((left, 1 - right_share), (left + 1, right_share)):
                share = share * row_share * ((column >= 0) & (column < widths))
                index = row_start + column.clamp_min(0).minimum(widths - 1)
                value = self.pixels[index] * share.unsqueeze(-1)
                total = value if total is None else total.add_(value)
        assert total is not None
        return total

    def _to_device(self, values: NDArray) -> Tensor:
        return torch.from_numpy(values).to(self.pixels.device)


def hide_beyond(crops: Tensor, edges: NDArray[np.float64]) -> None:
    """Blacken what lies beyond each crop's edge (N, 3), see `augment.View`, in place."""
    which = np.flatnonzero(edges.any(axis=1))
    if not len(which):
        return
    index = torch.from_numpy(which).to(crops.device)
    a, b, c = torch.from_numpy(edges[which]).to(crops.device).view(-1, 3, 1, 1).unbind(1)
    x = torch.arange(crops.shape[2], device=crops.device)
    y = torch.arange(crops.shape[1], device=crops.device).unsqueeze(1)
    hidden = a * x + b * y + c < 0
    crops[index] = crops[index].masked_fill(hidden.unsqueeze(-1), 0)


def distort_batch(crops: Tensor, distortions: Sequence[Distortion]) -> Tensor:
    """Crops (N, h, w, 3) uint8 after a distortion each; changed in place and returned."""
    steps = (
        ([d.small is not None for d in distortions], _lower_resolution),
        ([d.blur is not None for d in distortions], _blur),
        ([d.color is not None for d in distortions], _change_color),
    )
    for wanted, change in steps:
        which = [i for i, yes in enumerate(wanted) if yes]
        if which:
            index = torch.tensor(which, device=crops.device)
            crops[index] = change(crops[index], [distortions[i] for i in which])
    for number in range(MOST_PATCHES):
        which = [i for i, d in enumerate(distortions) if len(d.patches) > number]
        if which:
            index = torch.tensor(which, device=crops.device)
            patches = [distortions[i].patches[number] for i in which]
            crops[index] = _cover(crops[index], patches)
    return crops


def _lower_resolution(crops: Tensor, distortions: Sequence[Distortion]) -> Tensor:
    """Reduced and enlarged again, which is one matrix for the rows and one for the columns."""
    height, width = crops.shape[1:3]
    sizes = [d.small for d in distortions if d.small is not None]
    rows, columns = (
        torch.from_numpy(np.stack([resampling_matrix(n, size[axis]) for size in sizes]))
        .to(crops.device)
        .unsqueeze(1)
        for axis, n in enumerate((height, width))
    )
    planes = crops.permute(0, 3, 1, 2).float()
    return _to_pixels(rows @ planes @ columns.transpose(2, 3)).permute(0, 2, 3, 1)


def _blur(crops: Tensor, distortions: Sequence[Distortion]) -> Tensor:
    height, width = crops.shape[1:3]
    half = LONGEST_BLUR // 2
    kernels = np.zeros((len(crops), LONGEST_BLUR, LONGEST_BLUR), np.float32)
    for kernel, distortion in zip(kernels, distortions, strict=True):
        blur = distortion.blur
        assert blur is not None
        start, length = half - len(blur) // 2, len(blur)
        kernel[start : start + length, start : start + length] = blur
    weights = torch.from_numpy(kernels).to(crops.device).repeat_interleave(3, dim=0).unsqueeze(1)
    planes = crops.permute(0, 3, 1, 2).float()
    padded = functional.pad(planes, (half,) * 4, mode='reflect').flatten(0, 1).unsqueeze(0)
    blurred = functional.conv2d(padded, weights, groups=len(weights))
    return _to_pixels(blurred.view(-1, 3, height, width)).permute(0, 2, 3, 1)


def _change_color(crops: Tensor, distortions: Sequence[Distortion]) -> Tensor:
    changes = [d.color for d in distortions if d.color is not None]
    tables = torch.from_numpy(color_tables(changes)).to(crops.device)
    saturation = torch.tensor(
        [change.saturation for change in changes], dtype=torch.float32, device=crops.device
    ).view(-1, 1, 1, 1)
    changed = tables.gather(1, crops.flatten(1, 2).long()).view(crops.shape).float()
    # ITU-R BT.601, as OpenCV's grey.
    grey = (changed @ changed.new_tensor([0.299, 0.587, 0.114])).round_().unsqueeze(3)
    return _to_pixels(changed.sub_(grey).mul_(saturation).add_(grey))


def _cover(crops: Tensor, patches: Sequence[Patch]) -> Tensor:
    height, width = crops.shape[1:3]
    top, left, rows, columns, from_top, from_left = torch.tensor(
        [(p.top, p.left, p.height, p.width, p.from_top, p.from_left) for p in patches],
        device=crops.device,
    ).T.unsqueeze(2)
    flat = np.array([p.color is not None for p in patches])
    colors = np.stack([np.zeros(3, np.uint8) if p.color is None else p.color for p in patches])
    is_flat = torch.from_numpy(flat).to(crops.device).view(-1, 1, 1, 1)
    color = torch.from_numpy(colors).to(crops.device).view(-1, 1, 1, 3)
    y, x = (torch.arange(n, device=crops.device).unsqueeze(0) for n in (height, width))
    covered = ((y >= top) & (y < top + rows)).unsqueeze(2) & (
        (x >= left) & (x < left + columns)
    ).unsqueeze(1)
    source_y = (y - top + from_top).clamp(0, height - 1).unsqueeze(2)
    source_x = (x - left + from_left).clamp(0, width - 1).unsqueeze(1)
    source = (source_y * width + source_x).flatten(1).unsqueeze(2).expand(-1, -1, 3)
    copied = crops.flatten(1, 2).gather(1, source).view(crops.shape)
    return torch.where(covered.unsqueeze(3), torch.where(is_flat, color, copied), crops)


@lru_cache(maxsize=1024)
def resampling_matrix(n: int, small: int) -> NDArray[np.float32]:
    """(n, n): `small` means over equal parts of n pixels, and n pixels linearly between these."""
    edges = np.arange(small + 1) * n / small
    pixel = np.arange(n)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    reduce = np.maximum(overlap, 0) * small / n
    at = np.clip((pixel + 0.5) * small / n - 0.5, 0, small - 1)
    enlarge = np.maximum(1 - np.abs(at[:, None] - np.arange(small)), 0)
    return np.asarray(enlarge @ reduce, np.float32)


def _to_pixels(values: Tensor) -> Tensor:
    return values.round_().clamp_(0, 255).to(torch.uint8)
