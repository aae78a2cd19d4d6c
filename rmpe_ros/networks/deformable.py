# SPDX-License-Identifier: Apache-2.0
"""Deformable convolution (Dai et al., ICCV 2017; modulated: Zhu et al., CVPR 2019) of bilinear
samples, so that it needs no compiled extension and exports as ONNX GridSample.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def deformable_convolution(x: Tensor, offsets: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
    """A convolution padded to its size, each of whose taps looks where `offsets` moves it.

    x: (N, C, H, W). weight: (O, C, k, k). offsets: (N, 2 k², h, w), for each tap in rows by how
    many cells it moves in y, then in x; modulated with k² more channels, the logit of each tap's
    share. (h, w) is the size of the result (N, O, h, w). Beyond its edges x is 0.
    """
    taps, side = weight.shape[2] * weight.shape[3], weight.shape[2]
    height, width = x.shape[2:]
    rows, columns = offsets.shape[2:]
    moved = offsets[:, : 2 * taps].reshape(-1, taps, 2, rows, columns)
    tap = torch.arange(side, device=x.device, dtype=x.dtype) - side // 2
    y = torch.arange(rows, device=x.device, dtype=x.dtype).reshape(1, 1, rows, 1) * stride
    x_at = torch.arange(columns, device=x.device, dtype=x.dtype) * stride
    y = y + tap.repeat_interleave(side).reshape(1, taps, 1, 1) + moved[:, :, 0]
    x_at = x_at + tap.repeat(side).reshape(1, taps, 1, 1) + moved[:, :, 1]
    # From cells to [-1, 1], the outer cells' centres being the ends.
    grid = torch.stack([x_at * (2 / max(width - 1, 1)) - 1, y * (2 / max(height - 1, 1)) - 1], 4)
    grid = grid.reshape(-1, taps * rows, columns, 2)
    seen = F.grid_sample(x, grid, mode='bilinear', padding_mode='zeros', align_corners=True)
    seen = seen.reshape(-1, x.shape[1], taps, rows, columns)
    if offsets.shape[1] > 2 * taps:
        seen = seen * offsets[:, None, 2 * taps :].sigmoid()
    seen = seen.reshape(-1, x.shape[1] * taps, rows, columns)
    return F.conv2d(seen, weight.reshape(len(weight), -1, 1, 1))
