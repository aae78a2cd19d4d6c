# SPDX-License-Identifier: Apache-2.0
"""An SSTN whose transformer only zooms and shifts, in fewer operations: what is exported.

Such a θ moves rows as wholes and columns as wholes. So the sampler, which run-times work through
point by point, becomes four gathers of whole rows, of the picture and of its transpose: a third of
the time on one core. Bytes become numbers in [-1, 1] only where they are seen.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from rmpe_ros.networks.localisation import SHRINK, ZoomLocalisation
from rmpe_ros.networks.sstn_sppe import SstnSppe, as_unit, zoomed
from rmpe_ros.networks.stn import map_points


class ZoomingSstn(SstnSppe):
    """`SstnSppe` of a `ZoomLocalisation`, of whose modules it makes use. For inference."""

    localisation: ZoomLocalisation

    def __init__(self, network: SstnSppe, sppe: torch.nn.Module):
        super().__init__(sppe, network.sppe_size, sstn=False, growth=network.sppe_growth)
        assert isinstance(network.localisation, ZoomLocalisation)
        self.localisation, self.zoom = network.localisation, network.zoom

    def predict_bytes(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `SstnSppe.predict_bytes`."""
        crops = crops.float().permute(0, 3, 1, 2)
        shrunk = as_unit(F.avg_pool2d(crops, SHRINK))
        theta = zoomed(self.localisation.of_shrunk(shrunk), self.zoom)
        height, width = self.sppe_size
        rows = resampled(crops, theta[:, 1, 1], theta[:, 1, 2], height)
        columns = resampled(rows.transpose(2, 3), theta[:, 0, 0], theta[:, 0, 2], width)
        points, mass = self.decode(self.sppe(as_unit(columns.transpose(2, 3)))[-1])
        return map_points(points, theta, self.sppe_size, self.size), mass, theta


def resampled(image: Tensor, scale: Tensor, shift: Tensor, rows: int) -> Tensor:
    """(N, C, H, W) → (N, C, rows, W): row r is what lies at scale · y(r) + shift, linear between
    two rows, 0 beyond the first and the last. scale, shift: (N,) in [-1, 1], as of θ.
    """
    channels, height, width = (int(each) for each in image.shape[1:])
    middles = (torch.arange(rows, device=image.device, dtype=torch.float32) * 2 + 1) / rows - 1
    at = ((scale[:, None] * middles + shift[:, None] + 1) * height - 1) / 2  # (N, rows)
    first = torch.floor(at)
    part = at - first
    maps = torch.arange(image.shape[0] * channels, device=image.device).reshape(-1, channels, 1)
    flat = image.reshape(-1, width)

    def weighted(row: Tensor, weight: Tensor) -> Tensor:
        weight = weight * ((row >= 0) & (row <= height - 1)).float()
        places = maps * height + row.clamp(0, height - 1).long()[:, None]
        picked = flat.index_select(0, places.flatten()).reshape(-1, channels, rows, width)
        return picked * weight[:, None, :, None]

    return weighted(first, 1 - part) + weighted(first + 1, part)
