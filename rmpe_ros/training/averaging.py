# SPDX-License-Identifier: Apache-2.0
"""Averages of weights: of a network over its last steps, which is what is validated and shipped,
and of several networks.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from rmpe_ros.core.skeletons import COCO17
from rmpe_ros.networks.backbones.lite_hrnet import LiteHrnetSppe

Weights = Mapping[str, Tensor]


class AveragedWeights:
    """Follows `network`, which has to stay on its device. average: a network like it."""

    def __init__(self, network: nn.Module, decay: float):
        self.average = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        pairs = list(
            zip(self.average.state_dict().values(), network.state_dict().values(), strict=True)
        )
        # Counters, such as batch norm's, cannot be averaged.
        self._floating = [pair for pair in pairs if pair[0].dtype.is_floating_point]
        self._others = [pair for pair in pairs if not pair[0].dtype.is_floating_point]

    def follow(self, step: int) -> None:
        """Take in the weights after step number `step`, 1 for the first."""
        # Early on the average follows closely, or it would remember the start for long.
        average = get_ema_multi_avg_fn(min(self.decay, step / (step + 10)))
        kept, current = zip(*self._floating, strict=True)
        average(kept, current, None)
        for counter, value in self._others:
            counter.copy_(value)


def mean_weights(networks: Sequence[Weights], shares: Sequence[float]) -> dict[str, Tensor]:
    """The weighted mean of networks of the same names and shapes; counters are the first one's.

    Networks that learned from the same start lie in one basin of the loss, and their mean is often
    better than each: Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022, and
    "Model soups", ICML 2022. A parallel SPPE is left out. Raises ValueError when they differ.
    """
    first, *others = (
        {k: v for k, v in each.items() if not k.startswith('parallel.')} for each in networks
    )
    for other in others:
        differing = sorted(
            name
            for name in first.keys() | other.keys()
            if name not in first or name not in other or first[name].shape != other[name].shape
        )
        if differing:
            raise ValueError(
                f'these are different networks: {", ".join(differing[:3])} differ; only trainings '
                'of one network can be averaged'
            )
    total = sum(shares)
    mean = {name: value.clone() for name, value in first.items()}
    for name, value in mean.items():
        if value.is_floating_point():
            value *= shares[0] / total
            for other, share in zip(others, shares[1:], strict=True):
                value += other[name] * (share / total)
    return mean


def with_tinypose(weights: Weights, path: Path) -> dict[str, Tensor]:
    """A pose network with the published weights of PP-TinyPose in an ONNX file; what that does not
    have, joints beyond COCO's among it, stays as `weights` has it. Raises ValueError when the file
    or `weights` are of another network.
    """
    from rmpe_ros.importing.tinypose import load_tinypose

    if 'sppe.heatmaps.weight' not in weights:
        raise ValueError('PP-TinyPose is the pose network of lite and standard; this is neither')
    own = {k.removeprefix('sppe.'): v for k, v in weights.items() if k.startswith('sppe.')}
    joints, width = own['heatmaps.weight'].shape[:2]
    sppe = LiteHrnetSppe(joints, width=width)
    sppe.load_state_dict(own)
    load_tinypose(sppe, path)
    published = sppe.state_dict()
    for name in ('heatmaps.weight', 'heatmaps.bias'):
        published[name][COCO17.num_keypoints :] = own[name][COCO17.num_keypoints :]
    return {**weights, **{f'sppe.{name}': value for name, value in published.items()}}
