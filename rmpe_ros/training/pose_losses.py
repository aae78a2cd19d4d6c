# SPDX-License-Identifier: Apache-2.0
"""What the pose stages descend: heatmaps of the SPPE alone, of SSTN and parallel SPPE (RMPE sec.
3.1), and θ itself.

A network whose maps are Gaussians learns by squared error, one whose maps are logits by
cross-entropy.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rmpe_ros.networks.decode import GAUSSIAN_STRIDE
from rmpe_ros.networks.sstn_sppe import (
    SstnSppe,
    detransform_gaussians,
    detransform_heatmaps,
    normalise_crops,
)
from rmpe_ros.networks.targets import (
    gaussian_maps,
    gaussian_targets,
    heatmap_cross_entropy,
    probability_cross_entropy,
    squared_error,
)
from rmpe_ros.training.batches import Batch

Loss = Callable[[SstnSppe, Batch], dict[str, Tensor]]

# Weight of the teacher's map against a label's, for joints that have no label and for those that
# have one: enough there to remember, too little to repeat the teacher's errors.
TEACHER_UNLABELLED, TEACHER_LABELLED = 0.5, 0.15
# Where smooth-L1 turns from squares to lengths: a shift of 2 % of half a side.
_THETA_BEND = 0.02


def sppe_loss(
    network: SstnSppe,
    batch: Batch,
    *,
    teacher: nn.Module | None = None,
    teacher_share: float = 0.4,
) -> dict[str, Tensor]:
    """Stage 1: the heatmaps of every supervised stage, no transformer.

    teacher: a frozen SPPE with Gaussian maps of the first joints, whose maps the network is to
    keep to: on all of the crop's joints without a label, and a little on the others. It looks at
    the first `teacher_share` of a batch, since looking takes time.
    """
    crops = normalise_crops(batch['crops'])
    stages = network.sppe(crops)
    losses = [_map_loss(network, maps, batch['joints'], batch['weights']) for maps in stages]
    loss = torch.stack(losses).sum()
    if teacher is None:
        return {'loss': loss}
    looked = max(1, round(teacher_share * len(crops)))
    with torch.no_grad():
        taught = teacher(crops[:looked])[-1]
    joints = taught.shape[1]
    labelled = batch['weights'][:looked, :joints] > 0
    weights = torch.where(labelled, TEACHER_LABELLED, TEACHER_UNLABELLED)
    kept = squared_error(stages[-1][:looked, :joints], taught, weights) * weights.mean()
    return {'labels': loss.detach(), 'teacher': kept.detach(), 'loss': loss + kept}


def sstn_loss(
    network: SstnSppe, batch: Batch, *, parallel_weight: float = 0.5
) -> dict[str, Tensor]:
    """Stage 2: the main branch through the SDTN against the crop's labels, the parallel one against
    centred labels.
    """
    output = network(normalise_crops(batch['crops']))
    losses = [_detransformed_loss(network, maps, output.theta, batch) for maps in output.logits]
    main = torch.stack(losses).sum()
    values = {'main': main.detach(), 'loss': main}
    if output.parallel is not None:
        centred = network.as_centred(batch['centred'])
        height, width = network.sppe_size
        seen = (centred >= 0) & (centred <= centred.new_tensor([width - 1, height - 1]))
        weights = batch['centred_weights'] * seen.all(dim=2)
        parallel = _map_loss(network, output.parallel, centred, weights)
        values |= {'parallel': parallel.detach(), 'loss': main + parallel_weight * parallel}
    return values


def localisation_loss(network: SstnSppe, batch: Batch) -> dict[str, Tensor]:
    """The STN alone, before the SSTN stage: smooth-L1 between θ and the map from the perturbed
    crop to that of the true box, on log zoom and shift.

    An STN does not find its way from the identity by the parallel SPPE's loss alone in the crops
    that one can afford; this does most of it in minutes.
    """
    assert network.localisation is not None
    theta = network.localisation(normalise_crops(batch['crops']))
    difference = zoom_and_shift(theta) - zoom_and_shift(batch['theta'])
    loss = F.smooth_l1_loss(difference, torch.zeros_like(difference), beta=_THETA_BEND)
    return {'loss': loss, 'off': difference.detach().abs().mean()}


def zoom_and_shift(theta: Tensor) -> Tensor:
    """(N, 4) logarithms of the zooms along x and y, and the shift, of θ (N, 2, 3)."""
    zooms = torch.stack([theta[:, 0, 0], theta[:, 1, 1]], dim=1).clamp_min(1e-3).log()
    return torch.cat([zooms, theta[:, :, 2]], dim=1)


def taught_by(teacher: nn.Module) -> Loss:
    """`sppe_loss` with a teacher, which is frozen."""
    return partial(sppe_loss, teacher=teacher.eval().requires_grad_(False))


def _map_loss(network: SstnSppe, maps: Tensor, joints: Tensor, weights: Tensor) -> Tensor:
    cells = (maps.shape[-2], maps.shape[-1])
    if network.gaussian:
        return squared_error(maps, gaussian_maps(joints, cells), weights)
    return heatmap_cross_entropy(maps, gaussian_targets(joints, network.sppe_size, cells), weights)


def _detransformed_loss(network: SstnSppe, maps: Tensor, theta: Tensor, batch: Batch) -> Tensor:
    if network.gaussian:
        of_crop = (network.size[0] // GAUSSIAN_STRIDE, network.size[1] // GAUSSIAN_STRIDE)
        target = gaussian_maps(batch['joints'], of_crop)
        return squared_error(detransform_gaussians(maps, theta, of_crop), target, batch['weights'])
    cells = (maps.shape[-2], maps.shape[-1])
    probability = detransform_heatmaps(maps, theta)
    target = gaussian_targets(batch['joints'], network.size, cells)
    return probability_cross_entropy(probability, target, batch['weights'])
