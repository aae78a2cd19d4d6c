# SPDX-License-Identifier: Apache-2.0
"""Joints that a published network does not know, started from the features that it has.

From nothing, the two rows of a 1×1 convolution take longer than a fine-tuning lasts; but of
features that are there already the best rows are the solution of a linear system.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from rmpe_ros.networks.backbones.lite_hrnet import LiteHrnetSppe
from rmpe_ros.networks.sstn_sppe import normalise_crops
from rmpe_ros.networks.targets import gaussian_maps
from rmpe_ros.training.batches import Batch

# Against features that say the same: a share of each one's square.
_RIDGE = 1e-4


def fit_new_joints(sppe: LiteHrnetSppe, batches: Iterable[Batch], joints: slice) -> None:
    """Set the rows of `joints` in the last convolution to the least-squares fit of their Gaussian
    maps by the features of labelled people. Rows that nobody in `batches` labels stay.
    """
    rows = range(*joints.indices(sppe.heatmaps.out_channels))
    inputs = sppe.heatmaps.in_channels + 1  # with the bias
    squares = torch.zeros(len(rows), inputs, inputs, dtype=torch.float64)
    products = torch.zeros(len(rows), inputs, dtype=torch.float64)
    for batch in batches:
        with torch.no_grad():
            features = sppe.head(sppe.encoder(normalise_crops(batch['crops'])))
        cells = (features.shape[-2], features.shape[-1])
        features = (
            torch.cat([features, torch.ones_like(features[:, :1])], dim=1).flatten(2).double()
        )
        target = gaussian_maps(batch['joints'][:, joints], cells).flatten(2).double()
        weights = batch['weights'][:, joints].double()
        squares += torch.einsum('nk,nis,njs->kij', weights, features, features).cpu()
        products += torch.einsum('nk,nis,nks->ki', weights, features, target).cpu()
    with torch.no_grad():
        for number, row in enumerate(rows):
            sizes = squares[number].diagonal()
            if sizes.max() == 0:
                continue
            # A feature that is always off has no row to find.
            ridge = torch.diag(_RIDGE * sizes + (sizes == 0))
            solution = torch.linalg.solve(squares[number] + ridge, products[number])
            sppe.heatmaps.weight[row] = solution[:-1].reshape(-1, 1, 1)
            assert sppe.heatmaps.bias is not None
            sppe.heatmaps.bias[row] = solution[-1]
